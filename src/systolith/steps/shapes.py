"""A layer's shape out of the options that describe it."""

from __future__ import annotations

import re
from typing import Any

from systolith.array import ArraySpec
from systolith.formats import BadInput, IntFormat
from systolith.network.graph import Pair, Sides, paired
from systolith.requests.shared import Geometry
from systolith.vectors.shape import Shape

_REQUIRED = {"channels": ("--channels", "INxOUT", "x"), "size": ("--input", "HxW", "x")}
_DEFAULTS = {"kernel": "3x3", "stride": "1", "dilation": "1"}


def given_geometry(request: Geometry) -> dict[str, Any]:
    """The options that say a layer's shape, by flag."""
    return {
        **{"--channels": request.channels, "--input": request.size, "--kernel": request.kernel},
        **{"--padding": request.padding, "--stride": request.stride, "--dilation": request.dilation},
        "--groups": request.groups,
        "--signed-act": request.signed_act,
    }


def shape_of(
    request: Geometry,
    spec: ArraySpec,
    owner: str,
    act_range: str | None = None,
    weight_range: str | None = None,
    most_negative: bool = False,
) -> Shape:
    """The layer that the options describe.

    Args:
        owner: who needs it, for the message.
        act_range, weight_range: LO..HI, of the codes.
        most_negative: weights down to the lane's least code, instead of a range.

    Raises:
        BadInput: an option is missing or malformed.
    """
    missing = [f"{flag} {form}" for name, (flag, form, _) in _REQUIRED.items() if getattr(request, name) is None]
    if missing:
        raise BadInput(f"{owner}: expected {' and '.join(missing)} with it")
    if most_negative and weight_range is not None:
        raise BadInput("--most-negative is a weight range of its own: it goes without --weight-range")
    acts = _pair("--act-range", act_range, "..", "LO..HI") if act_range else None
    weights = _pair("--weight-range", weight_range, "..", "LO..HI") if weight_range else None
    if most_negative:
        weights = spec.weight_format.lo, spec.weight_format.hi
    channels, size = (_pair(flag, getattr(request, name), x, form) for name, (flag, form, x) in _REQUIRED.items())
    kernel, stride, dilation = (
        _pair(f"--{name}", getattr(request, name) or default, "x", "a number or AxB")
        for name, default in _DEFAULTS.items()
    )
    act = IntFormat(spec.act_bits // spec.simd, request.signed_act)
    padding = _padding(request.padding or "1")
    groups = 1 if request.groups is None else request.groups
    return Shape(*channels, size, kernel, padding, stride, dilation, act, spec.weight_format, acts, weights, groups)


def _padding(text: str) -> Pair | Sides:
    """ "1" or "1x2" as `_pair`, and "0x1x0x1" to all four sides."""
    if re.fullmatch(r"-?\d{1,6}(x-?\d{1,6}){3}", text.strip().lower()):
        return paired("--padding", tuple(map(int, text.strip().lower().split("x"))))
    return _pair("--padding", text, "x", "a number, AxB or TOPxBOTTOMxLEFTxRIGHT")


def _pair(flag: str, text: str, between: str, expected: str) -> tuple[int, int]:
    """ "3x5" to (3, 5), and "3" to (3, 3) where `expected` allows a number; `BadInput` for anything else."""
    number = r"(-?\d{1,6})"
    match = re.fullmatch(f"{number}(?:{re.escape(between)}{number})?", str(text).strip().lower())
    if not match or (match[2] is None and "a number" not in expected):
        raise BadInput(f"{flag} {text!r}: expected {expected}")
    return int(match[1]), int(match[1] if match[2] is None else match[2])
