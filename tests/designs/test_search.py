from __future__ import annotations

from collections.abc import Sequence

from systolith.designs.results import pareto
from systolith.designs.search import search
from systolith.designs.space import Space, space_of


def space(points: int, seed: int = 0) -> Space:
    axes = {"model": ["a", "b"], "rows": list(range(1, 41)), "cols": list(range(1, 41)), "batch": [1, 2, 4]}
    return space_of(axes, {"kind": "optuna", "points": points, "seed": seed})


def costs(found: Space, numbers: Sequence[int]) -> list[tuple[float, float]]:
    """Best at the largest rows and cols, or the smallest; batch 2 and model b are better than others."""
    made = []
    for point in map(found.at, numbers):
        worse = (point["batch"] != 2) + (point.model != "b")
        made.append((1000 / point["rows"] / point["cols"] + worse, point["rows"] * point["cols"] + 100.0 * worse))
    return made


def test_a_search_looks_at_each_design_once_and_is_the_same_again() -> None:
    asked: list[int] = []

    def evaluate(numbers: Sequence[int]) -> list[tuple[float, float]]:
        asked.extend(numbers)
        return costs(space(200), numbers)

    found = search(space(200), evaluate, 2)
    assert len(found) == len(set(asked)) == len(asked) == 200
    assert found == sorted(asked)
    assert search(space(200), lambda numbers: costs(space(200), numbers), 2) == found
    assert search(space(200, seed=1), lambda numbers: costs(space(200), numbers), 2) != found


def test_a_search_finds_a_better_front_than_as_many_designs_drawn_at_random() -> None:
    """By the area that the front leaves under a corner that all designs are below."""
    found = space(400)
    searched = costs(found, search(found, lambda numbers: costs(found, numbers), 2))
    random = space_of(
        {"model": ["a", "b"], "rows": list(range(1, 41)), "cols": list(range(1, 41)), "batch": [1, 2, 4]},
        {"kind": "random", "points": 400, "seed": 0},
    )
    drawn = [(point.model, point["rows"], point["cols"], point["batch"]) for point in random]
    numbers = [n for n in range(found.size) if _place(found, n) in set(drawn)]
    assert len(numbers) == 400
    assert _area(searched) > _area(costs(found, numbers))


def _place(found: Space, number: int) -> tuple[str, int, int, int]:
    point = found.at(number)
    return point.model, point["rows"], point["cols"], point["batch"]


def _area(values: list[tuple[float, float]]) -> float:
    front = sorted({value for value, there in zip(values, pareto(values), strict=True) if there})
    corner, area, above = (1002.0, 1800.0), 0.0, 1800.0
    for one, other in front:
        area += (corner[0] - one) * (above - other)
        above = other
    return area


def test_a_small_space_is_seen_whole() -> None:
    found = space_of({"rows": [2, 4], "cols": [2, 4]}, {"kind": "optuna", "points": 50})
    assert search(found, lambda numbers: [(float(n),) for n in numbers], 1) == [0, 1, 2, 3]
