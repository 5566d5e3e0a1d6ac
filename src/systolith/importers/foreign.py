"""What reading somebody's file gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True, eq=False)
class Foreign:
    """Somebody's model.

    Attributes:
        kind: "QONNX", "QDQ" or "checkpoint".
        model: in eval, of our layers; it takes uint8 pictures.
        size: (H, W) of them; () for vectors.
        quantizers: of an ONNX file, its tensors by the modules that make them.
        notes: what was changed, a sentence each.
    """

    kind: str
    model: nn.Module
    size: tuple[int, ...]
    quantizers: dict[str, str]
    notes: tuple[str, ...]
