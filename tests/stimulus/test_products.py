from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systolith.stimulus.products import sum_of_products

SMALL = st.integers(1, 6)


def reachable(count: int, most_x: int, most_y: int, target: int) -> bool:
    """By trying every sum."""
    products = {x * y for x in range(1, most_x + 1) for y in range(1, most_y + 1)}
    sums = {0}
    for _ in range(count):
        sums |= {s + p for s in sums for p in products if s + p <= target}
    return target in sums


@given(st.integers(1, 150), st.integers(1, 8), SMALL, SMALL)
def test_found_exactly_where_there_is_one(target: int, count: int, most_x: int, most_y: int) -> None:
    found = sum_of_products(target, count, most_x, most_y)
    assert (found is not None) == reachable(count, most_x, most_y, target)
    if found is not None:
        assert len(found) <= count
        assert all(1 <= x <= most_x and 1 <= y <= most_y for x, y in found)
        assert sum(x * y for x, y in found) == target


def test_one_product_short_of_the_largest_is_spread_over_many() -> None:
    # 2*105 + 1 of three: 105 + 105 + 1 is one product each.
    assert sum_of_products(211, 3, 15, 7) == [(15, 7), (15, 7), (1, 1)]
    # 61 is prime and larger than 15: two products where there is room, two others where there is none.
    assert sum_of_products(105 + 61, 3, 15, 7) == [(15, 7), (8, 7), (1, 5)]
    two = sum_of_products(105 + 61, 2, 15, 7)
    assert two is not None
    assert len(two) == 2
    assert sum(x * y for x, y in two) == 166
    assert sum_of_products(209, 2, 15, 7) is None  # 1 short of two largest: the smallest step is 7


@pytest.mark.parametrize("target", [2**31 - 1, 2**31, 2**47 - 1, 2**47])
def test_wide_lanes(target: int) -> None:
    found = sum_of_products(target, 70000, 65535, 32767)
    assert found is not None
    assert sum(x * y for x, y in found) == target
    assert sum_of_products(2**47, 70000 - 4465, 65535, 32767) is None  # 65,541 at least
