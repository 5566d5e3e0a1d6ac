"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_MODEL, DEFAULT_LAYER = "vgg16-w4a4-s8", "features.27"

ModelName = Annotated[str, typer.Option("--model", help="A shipped model, a model file, or a checkpoint of a run.")]
LayerName = Annotated[str, typer.Option("--layer", help="The layer to map, such as features.27.")]
Image = Annotated[Path | None, typer.Option("--image", help="A picture file. [default: the shipped cat]")]
Data = Annotated[str | None, typer.Option("--data", help="A data set (folder or hub name) to take the picture from.")]
Index = Annotated[int | None, typer.Option("--index", help="Which picture of the test split. [default: 0]")]
Array = Annotated[str, typer.Option("--array", help="Size of the array, ROWSxCOLS.")]
ActBits = Annotated[int, typer.Option("--act-bits", help="Width of an activation lane.")]
WeightBits = Annotated[int, typer.Option("--weight-bits", help="Width of a weight lane.")]
PsumBits = Annotated[str, typer.Option("--psum-bits", help="Width of the accumulator, or `auto`: the least safe one.")]
Overflow = Annotated[str, typer.Option("--overflow", help="What an accumulator does: error, wrap or saturate.")]
LayoutName = Annotated[
    str, typer.Option("--layout", help="Format of the vector files: a name (systolith layout show) or a .toml file.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Streamed = Annotated[
    str, typer.Option("--schedule", help="What streams: `useful` positions, or the `whole` padded map.")
]
Drained = Annotated[
    bool, typer.Option("--drained", help="A pass waits until the array is empty; else it follows at once.")
]
