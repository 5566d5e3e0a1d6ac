"""Windows, padding and resizing as ONNX writes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from systolith.formats import BadInput
from systolith.importers.onnx_file import name_of
from systolith.network.graph import Pair, Sides


def pads_of(name: str, given: dict[str, Any]) -> Sides:
    """Top, bottom, left, right; ONNX has top, left, bottom, right."""
    if given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise BadInput(f"{name}: expected explicit padding, found auto_pad {given['auto_pad']}")
    pads = list(given.get("pads", (0, 0, 0, 0)))
    if len(pads) != 4 or min(pads) < 0:
        raise BadInput(f"{name}: expected four sides of padding, found {pads}")
    return (pads[0], pads[2], pads[1], pads[3])


def window_of(name: str, given: dict[str, Any]) -> tuple[Pair, Pair, Sides, Pair]:
    """Kernel, stride, padding, dilation of a pool."""
    kernel = tuple(given["kernel_shape"])
    if len(kernel) != 2:
        raise BadInput(f"{name}: expected a window of two axes, found {kernel}")
    stride, dilation = tuple(given.get("strides", (1, 1))), tuple(given.get("dilations", (1, 1)))
    return kernel, stride, pads_of(name, given), dilation


def resized(node: Any, given: dict[str, Any], values: list[Any]) -> Pair:
    """(down, right): whole factors of a nearest Resize or Upsample."""
    name = name_of(node)
    mode, how = given.get("mode", "nearest"), given.get("coordinate_transformation_mode", "half_pixel")
    at = 1 if node.op_type == "Upsample" else 2
    scales = values[at] if len(values) > at else None
    if mode != "nearest" or how not in ("asymmetric", "half_pixel", "pytorch_half_pixel") or scales is None:
        raise BadInput(f"{name}: only resizing to the nearest neighbour by scales can be taken, found {mode}, {how}")
    factors = np.asarray(scales).tolist()
    if len(factors) != 4 or factors[:2] != [1, 1] or any(f != int(f) or f < 1 for f in factors):
        raise BadInput(f"{name}: only resizing of maps by whole factors can be taken, found {factors}")
    return int(factors[2]), int(factors[3])
