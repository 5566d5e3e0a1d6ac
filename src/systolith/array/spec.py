"""What the array is: its size, its lanes, its accumulator."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from systolith.formats import BadInput, IntFormat
from systolith.network.graph import Conv

DATAFLOWS = ("ws", "os")
OVERFLOWS = ("error", "wrap", "saturate")


@dataclass(frozen=True)
class ArraySpec:
    """A systolic array.

    Attributes:
        rows: input-channel lanes.
        cols: output-channel lanes.
        act_bits, weight_bits: width of a lane. The sign of the activation lane is the layer's own.
        psum_bits: width of the signed accumulator, in the array and behind it.
        dataflow: "ws" (weight stationary) or "os" (output stationary).
        overflow: what an accumulator does with a value that does not fit: "error" refuses it here,
            "wrap" and "saturate" do as such hardware would.
        simd: the most codes of as many input channels that an activation lane carries, each of the same bits; a
            processing element holds a weight for each and adds their products. 1, 2, 4 or 8, a divisor of act_bits.

    Examples:
        >>> import systolith as sl
        >>> str(sl.ArraySpec(rows=8, cols=16, psum_bits=20))
        '8x16'
    """

    rows: int = 8
    cols: int = 8
    act_bits: int = 4
    weight_bits: int = 4
    psum_bits: int = 16
    dataflow: str = "ws"
    overflow: str = "error"
    simd: int = 1

    def __post_init__(self) -> None:
        if self.rows < 1 or self.cols < 1:
            raise BadInput(f"array {self.rows}x{self.cols}: expected at least one row and one column")
        if self.rows > 1024 or self.cols > 1024:
            raise BadInput(f"array {self.rows}x{self.cols}: expected at most 1024 rows and columns")
        for name in ("act_bits", "weight_bits"):
            if not 1 <= getattr(self, name) <= 16:
                raise BadInput(f"{name} {getattr(self, name)}: expected 1 to 16")
        if not 2 <= self.psum_bits <= 48:
            raise BadInput(f"psum_bits {self.psum_bits}: expected 2 to 48")
        if self.dataflow not in DATAFLOWS:
            raise BadInput(f"dataflow {self.dataflow!r}: expected ws (weight stationary) or os (output stationary)")
        if self.simd not in (1, 2, 4, 8) or self.act_bits % self.simd:
            raise BadInput(f"simd {self.simd}: expected 1, 2, 4 or 8 codes in a lane of {self.act_bits} bits, evenly")
        if self.overflow not in OVERFLOWS:
            raise BadInput(f"overflow {self.overflow!r}: expected one of {', '.join(OVERFLOWS)}")

    @property
    def psum_format(self) -> IntFormat:
        return IntFormat(self.psum_bits, signed=True)

    @property
    def weight_format(self) -> IntFormat:
        """The weight lane."""
        return IntFormat(self.weight_bits, signed=True)

    def act_format(self, conv: Conv) -> IntFormat:
        """The activation lane, with the sign of the layer's activations."""
        return IntFormat(self.act_bits, conv.act_format.signed)

    def simd_of(self, conv: Conv) -> int:
        """Codes of a lane: the most that a layer's are narrow enough for."""
        return next((n for n in (8, 4, 2) if n <= self.simd and conv.act_format.bits * n <= self.act_bits), 1)

    def __str__(self) -> str:
        return f"{self.rows}x{self.cols}"


def parse_size(text: str) -> tuple[int, int]:
    """ "8x16" to (8, 16): rows, columns. `BadInput` for anything else."""
    match = re.fullmatch(r"(-?\d{1,6})x(-?\d{1,6})", text.strip().lower())
    if not match:
        raise BadInput(f"array {text!r}: expected ROWSxCOLS, such as 8x8")
    return int(match[1]), int(match[2])


def lane_misfits(conv: Conv, spec: ArraySpec) -> tuple[str, ...]:
    """The flags that would make the lanes wide enough for the layer; empty if they are."""
    flags = []
    if conv.act_format.bits > spec.act_bits:
        flags.append(f"--act-bits {conv.act_format.bits}")
    if conv.weight_format.bits > spec.weight_bits:
        flags.append(f"--weight-bits {conv.weight_format.bits}")
    return tuple(flags)


def widened(conv: Conv, spec: ArraySpec) -> ArraySpec:
    """The array with lanes that take the layer: its own, or as wide as the layer's formats."""
    act_bits, weight_bits = conv.act_format.bits, conv.weight_format.bits
    return replace(spec, act_bits=max(spec.act_bits, act_bits), weight_bits=max(spec.weight_bits, weight_bits))


def require_lanes(conv: Conv, spec: ArraySpec) -> None:
    """Raise `BadInput` naming the layer if its formats exceed the array's lanes."""
    flags = lane_misfits(conv, spec)
    if flags:
        raise BadInput(
            f"{conv.name} has {conv.act_format.bits}-bit activations and {conv.weight_format.bits}-bit weights, "
            f"wider than the array's lanes of {spec.act_bits} and {spec.weight_bits}; {' '.join(flags)} would take it"
        )
