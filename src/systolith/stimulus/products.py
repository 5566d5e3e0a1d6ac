"""A number as a sum of few products of small codes: how an accumulator is brought to an exact value."""

from __future__ import annotations

Product = tuple[int, int]


def sum_of_products(target: int, count: int, most_x: int, most_y: int) -> list[Product] | None:
    """At most `count` products x*y that sum to `target`, with 1 <= x <= most_x and 1 <= y <= most_y.

    Both x and y fall along the list where that is possible: then no other pairing of the same x and y sums to more, so
    an output whose window is shifted stays below.

    Returns:
        the pairs (x, y); None if there are none. Where `target` is within one product of `count` largest ones, that is
        found out only for largest products up to 2^16 (lanes of 8 bits); above, None may mean not found.
    """
    largest = most_x * most_y
    full, rest = divmod(target, largest)
    if full + (rest > 0) > count:
        return None
    products = [(most_x, most_y)] * full
    if rest == 0:
        return products
    single = next((y for y in range(most_y, 0, -1) if rest % y == 0 and rest // y <= most_x), None)
    if single is not None:
        return [*products, (rest // single, single)]
    if full + 2 <= count:
        x, y = divmod(rest, most_y)
        return [*products, (x, most_y), (1, y)]
    return _spread(largest - rest, count, most_x, most_y) if largest <= 1 << 16 else None


def _spread(deficit: int, count: int, most_x: int, most_y: int) -> list[Product] | None:
    """`count` products that fall short of `count` largest ones by `deficit` in all: the fewest that are not largest."""
    largest = most_x * most_y
    short = {largest - x * y: (x, y) for x in range(1, most_x + 1) for y in range(1, most_y + 1)}
    coins = [d for d in short if 0 < d <= deficit]
    # Bit d of reached[n]: n products can fall short by d in all.
    reached, mask = [1], (2 << deficit) - 1
    while not reached[-1] >> deficit & 1:
        more = reached[-1]
        for coin in coins:
            more |= reached[-1] << coin & mask
        if more == reached[-1] or len(reached) > count:
            return None
        reached.append(more)
    products = []
    for before in reversed(reached[:-1]):
        coin = next(c for c in coins if c <= deficit and before >> (deficit - c) & 1)
        deficit -= coin
        products.append(short[coin])
    return [(most_x, most_y)] * (count - len(products)) + sorted(products, reverse=True)
