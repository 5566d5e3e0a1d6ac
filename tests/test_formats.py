from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from systolith.formats import (
    BadInput,
    IntFormat,
    from_bits,
    least_signed_bits,
    pack_codes,
    require_fit,
    to_bits,
    unpack_codes,
)


def test_ranges() -> None:
    assert (IntFormat(4, True).lo, IntFormat(4, True).hi) == (-8, 7)
    assert (IntFormat(4, False).lo, IntFormat(4, False).hi) == (0, 15)
    assert str(IntFormat(16, True)) == "int16"
    with pytest.raises(BadInput, match="1 to 64 bits, not 0"):
        IntFormat(0, True)


@pytest.mark.parametrize(
    ("lo", "hi", "bits"),
    # n bits hold -2^(n-1) .. 2^(n-1)-1
    [(0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-8, 7, 4), (-9, 7, 5), (-8, 8, 5), (-32768, 32767, 16)],
)
def test_least_signed_bits(lo: int, hi: int, bits: int) -> None:
    assert least_signed_bits(lo, hi) == bits


def test_bits_are_written_most_significant_first() -> None:
    assert to_bits(np.array([5, -1, -8]), 4).tolist() == [[0, 1, 0, 1], [1, 1, 1, 1], [1, 0, 0, 0]]


@given(st.integers(1, 64), st.booleans(), st.data())
def test_bits_round_trip(bits: int, signed: bool, data: st.DataObject) -> None:
    fmt = IntFormat(min(bits, 63) if not signed else bits, signed)
    values = np.array(data.draw(st.lists(st.integers(fmt.lo, fmt.hi), max_size=20)), dtype=np.int64)
    text = to_bits(values, fmt.bits)
    for value, row in zip(values.tolist(), text, strict=True):
        assert "".join(map(str, row)) == format(value % (1 << fmt.bits), f"0{fmt.bits}b")
    assert (from_bits(text, signed) == values).all()
    assert (unpack_codes(pack_codes(values, fmt), fmt, values.shape) == values).all()


def test_packed_codes_are_back_to_back() -> None:
    # 1 = 0001, -1 = 1111, 7 = 0111, then zeros
    assert pack_codes(np.array([1, -1, 7]), IntFormat(4, True)).tolist() == [0x1F, 0x70]
    with pytest.raises(BadInput, match="4 values of 4 bits need 2 bytes, found 3"):
        unpack_codes(np.zeros(3, np.uint8), IntFormat(4, True), (4,))


def test_a_misfit_names_tensor_index_value_and_range() -> None:
    values = np.zeros((2, 3), dtype=np.int64)
    values[1, 2] = 16
    with pytest.raises(BadInput, match=r"act\[i 1, j 2\] is 16, outside the range 0..15 of 4 unsigned bits"):
        require_fit("act", values, IntFormat(4, False), ("i", "j"))
    with pytest.raises(BadInput, match="act: expected integers, found dtype timedelta64"):
        require_fit("act", values.astype("m8[s]"), IntFormat(4, False))
    with pytest.raises(BadInput, match="act: expected integers, found dtype float64"):
        require_fit("act", values / 1, IntFormat(4, False))
    require_fit("act", values, IntFormat(5, False))


def test_an_axis_that_repeats_one_element_is_looked_at_once() -> None:
    # 2^60 elements, of which two are in memory: looking at each would take years.
    values = np.broadcast_to(np.array([3, 16], np.int8)[:, None], (1 << 29, 2, 1 << 30))
    require_fit("weight", values, IntFormat(5, False))
    with pytest.raises(BadInput, match=r"weight\[oc 0, ic 1, 0\] is 16, outside the range 0..15"):
        require_fit("weight", values, IntFormat(4, False), ("oc", "ic"))
    require_fit("weight", np.broadcast_to(np.int8(16), (0, 3)), IntFormat(4, False))
