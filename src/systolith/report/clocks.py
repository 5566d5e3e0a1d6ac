"""Where the clocks of each layer go, as stacked bars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from systolith.formats import BadInput
from systolith.steps.common import require_extra
from systolith.store import atomic_file
from systolith.timing.account import Split

FORMATS = (".svg", ".png")
_COLOURS = ("tab:orange", "tab:blue", "lightsteelblue", "tab:gray", "tab:green", "tab:red")


def require_drawable(picture: Path) -> None:
    """Raise `BadInput` now for what could not be drawn when everything is done."""
    if picture.suffix.lower() not in FORMATS:
        raise BadInput(f"--plot {picture}: expected a name that ends in {' or '.join(FORMATS)}")
    require_extra("matplotlib", "train", "simulate --plot")


def plot_clocks(splits: Mapping[str, Split], title: str, picture: Path) -> None:
    """Draw a bar of clocks for each layer, by what they are for, into `picture` (.svg or .png).

    Raises:
        BadInput: another suffix, or matplotlib is not installed.
    """
    require_drawable(picture)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1.2 + 0.35 * len(splits)), layout="constrained")
    axes = figure.subplots()
    places = range(len(splits))
    begin = [0] * len(splits)
    for field, colour in zip(fields(Split), _COLOURS, strict=True):
        widths = [getattr(split, field.name) for split in splits.values()]
        axes.barh(places, widths, left=begin, color=colour, label=field.name)
        begin = [b + w for b, w in zip(begin, widths, strict=True)]
    axes.set_yticks(places, labels=list(splits))
    axes.invert_yaxis()
    axes.set_xlabel("clocks")
    axes.set_title(title)
    axes.legend()
    with atomic_file(picture) as temporary:
        figure.savefig(temporary, format=picture.suffix[1:].lower(), dpi=120)
