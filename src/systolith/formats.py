"""Integer formats: bits, signedness, range, and the packing of lanes into words.

Ground floor: imports nothing of the package. It also holds `BadInput`, the one exception that
the commands turn into a sentence and exit code 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class BadInput(Exception):
    """Something the user gave cannot be used; the message says what, where, expected and found.

    Examples:
        >>> import systolith as sl
        >>> sl.find_layout("mine")
        Traceback (most recent call last):
        systolith.formats.BadInput: no layout 'mine': expected one of ...
    """


@dataclass(frozen=True)
class IntFormat:
    """A two's-complement (`signed`) or plain binary integer of `bits` bits."""

    bits: int
    signed: bool

    def __post_init__(self) -> None:
        most = 64 if self.signed else 63  # what int64 holds
        if not 1 <= self.bits <= most:
            raise BadInput(f"an integer format has 1 to {most} bits, not {self.bits}")

    @property
    def lo(self) -> int:
        """The smallest value: -2^(bits-1), or 0 when unsigned."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """The largest value: 2^(bits-1)-1, or 2^bits-1 when unsigned."""
        return (1 << (self.bits - 1)) - 1 if self.signed else (1 << self.bits) - 1

    def __str__(self) -> str:
        return f"{'int' if self.signed else 'uint'}{self.bits}"


def require_integers(name: str, values: NDArray) -> None:
    """Raise `BadInput` unless `values` has an integer dtype (a float such as 2.9999 is never rounded here)."""
    if values.dtype.kind not in "iu":
        raise BadInput(f"{name}: expected integers, found dtype {values.dtype}")


def require_fit(name: str, values: NDArray, fmt: IntFormat, axes: Sequence[str] = (), first: int = 0) -> None:
    """Raise `BadInput` naming the tensor, the index, the value and the range of the first misfit.

    `axes` names the dimensions in the message; the first of them counts from `first`.
    """
    require_integers(name, values)
    # Along an axis of stride 0 the first element stands for all: broadcast weights of any shape cost nothing.
    values = values[tuple(slice(None if stride else 1) for stride in values.strides)]
    if values.size == 0 or (int(values.min()) >= fmt.lo and int(values.max()) <= fmt.hi):
        return
    index = np.unravel_index(int(np.argmax((values < fmt.lo) | (values > fmt.hi))), values.shape)
    counted = [int(i) + (first if d == 0 else 0) for d, i in enumerate(index)]
    where = ", ".join(f"{axes[d]} {i}" if d < len(axes) else str(i) for d, i in enumerate(counted))
    raise BadInput(
        f"{name}[{where}] is {int(values[index])}, outside the range {fmt.lo}..{fmt.hi} of {fmt.bits} "
        f"{'signed' if fmt.signed else 'unsigned'} bits"
    )


def wrapped(values: NDArray, fmt: IntFormat) -> NDArray:
    """What a register of `fmt` holds of the lowest bits of `values`."""
    return ((values - fmt.lo) & ((1 << fmt.bits) - 1)) + fmt.lo


def least_signed_bits(lo: int, hi: int) -> int:
    """The smallest n with -2^(n-1) <= lo and hi <= 2^(n-1)-1 (at least 1)."""
    return max((-1 - lo).bit_length() if lo < 0 else 0, hi.bit_length() if hi > 0 else 0) + 1


def least_sum_bits(count: int, one: tuple[int, int], other: tuple[int, int]) -> int:
    """The least width, at least 2, of an accumulator that no `count` products overflow; operands are lo..hi each."""
    products = [a * b for a in one for b in other]
    return max(2, least_signed_bits(count * min(products), count * max(products)))


def to_bits(values: NDArray, bits: int) -> NDArray[np.uint8]:
    """Bits of every value, most significant first.

    Args:
        values: integers of any shape; negative ones in two's complement. They must fit (`require_fit`).
        bits: 1 to 64.

    Returns:
        uint8 zeros and ones, shape `values.shape + (bits,)`.
    """
    container = next(n for n in (8, 16, 32, 64) if bits <= n)
    big_endian = np.ascontiguousarray(values.astype(f">i{container // 8}"))
    raw = big_endian.view(np.uint8).reshape(*values.shape, container // 8)
    return np.unpackbits(raw, axis=-1)[..., container - bits :]


def from_bits(bits: NDArray[np.uint8], signed: bool) -> NDArray[np.int64]:
    """The inverse of `to_bits`: uint8 zeros and ones (..., n), most significant first, to int64 (...)."""
    n = bits.shape[-1]
    container = next(width for width in (8, 16, 32, 64) if n <= width)
    full = np.empty((*bits.shape[:-1], container), dtype=np.uint8)
    full[..., container - n :] = bits
    full[..., : container - n] = bits[..., :1] if signed else 0
    packed = np.packbits(full, axis=-1).view(f">{'i' if signed else 'u'}{container // 8}")
    return packed[..., 0].astype(np.int64)


def pack_codes(values: NDArray, fmt: IntFormat) -> NDArray[np.uint8]:
    """Codes in C order, `fmt.bits` bits each, back to back, most significant bit first; the last byte zero-filled."""
    require_fit("codes", values, fmt)
    return np.packbits(to_bits(values.reshape(-1), fmt.bits).reshape(-1))


def unpack_codes(packed: NDArray[np.uint8], fmt: IntFormat, shape: Sequence[int]) -> NDArray[np.int64]:
    """The inverse of `pack_codes`; `BadInput` if the byte count is not the one that `shape` needs."""
    count = int(np.prod(shape, dtype=np.int64))
    if packed.dtype != np.uint8 or packed.ndim != 1 or packed.size != -(-count * fmt.bits // 8):
        raise BadInput(
            f"packed codes: {count} values of {fmt.bits} bits need {-(-count * fmt.bits // 8)} bytes, "
            f"found {packed.size} of dtype {packed.dtype}"
        )
    if fmt.bits > 8:
        bits = np.unpackbits(packed)[: count * fmt.bits].reshape(count, fmt.bits)
        return from_bits(bits, fmt.signed).reshape(tuple(shape))
    # Eight values of b bits are b bytes: one word, shifted eight times; spreading millions of bits takes seconds.
    words = np.zeros((-(-count // 8), fmt.bits), dtype=np.uint8)
    words.reshape(-1)[: packed.size] = packed
    word = np.zeros(len(words), dtype=np.uint64)
    for column in words.T:
        word = (word << np.uint64(8)) | column
    shifts = np.arange(7, -1, -1, dtype=np.uint64) * np.uint64(fmt.bits)
    values = ((word[:, None] >> shifts) & np.uint64((1 << fmt.bits) - 1)).astype(np.int64).reshape(-1)[:count]
    if fmt.signed:
        values -= (values > fmt.hi) * np.int64(1 << fmt.bits)
    return values.reshape(tuple(shape))
