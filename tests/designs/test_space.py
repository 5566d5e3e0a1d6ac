from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from systolith.designs.space import AXES, read_space, space_of
from systolith.formats import BadInput


def test_a_grid_has_every_point_once_the_last_axis_fastest() -> None:
    space = space_of({"model": ["a", "b"], "rows": [2, 4], "cols": {"from": 1, "to": 5, "step": 2}, "batch": 3})
    points = list(space)
    assert (space.size, space.count, len(points), len(set(points))) == (12, 12, 12, 12)
    assert [(p.model, p["rows"], p["cols"]) for p in points[:4]] == [("a", 2, 1), ("a", 2, 3), ("a", 2, 5), ("a", 4, 1)]
    assert (points[-1].model, points[-1]["rows"], points[-1]["cols"], points[-1]["batch"]) == ("b", 4, 5, 3)
    assert all(point["schedule"] == "auto" and point["psum_bits"] == "auto" for point in points)


@given(st.integers(1, 60), st.integers(0, 5))
def test_points_drawn_at_random_are_of_the_grid_each_once_and_the_same_again(points: int, seed: int) -> None:
    axes = {"rows": list(range(1, 11)), "act_bits": [2, 4, 8, 16]}
    space = space_of(axes, {"kind": "random", "points": points, "seed": seed})
    drawn, grid = list(space), list(space_of(axes))
    assert len(set(drawn)) == len(drawn) == min(points, 40)
    assert [point for point in grid if point in set(drawn)] == drawn
    assert list(space_of(axes, {"kind": "random", "points": points, "seed": seed})) == drawn


def test_arrays_are_one_axis_of_pairs(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text('[axes]\narray = ["4x8", "16x2"]\nlatency = [0, 3]\n[search]\nkind = "grid"\n')
    points = list(read_space(path))
    assert [(point["array"], point["latency"]) for point in points] == [
        ("4x8", 0),
        ("4x8", 3),
        ("16x2", 0),
        ("16x2", 3),
    ]


@pytest.mark.parametrize(
    ("axes", "search", "said"),
    [
        ({"row": [1]}, {}, "no axis 'row': expected model, array, rows"),
        ({"rows": []}, {}, "rows: expected at least one value, found none"),
        ({"rows": {"from": 9, "to": 3}}, {}, "rows: expected at least one value, found none"),
        ({"rows": {"from": 1}}, {}, "rows: a range is from, to and perhaps step, found from"),
        ({"rows": {"from": 1, "to": 3, "step": 0}}, {}, "its step at least 1"),
        ({"rows": [0]}, {}, "rows 0: expected 1 to 1,024"),
        ({"rows": [True]}, {}, "rows: expected numbers or words, found True"),
        ({"rows": [4, 4]}, {}, "rows: 4 stands there twice"),
        ({"array": ["4by4"]}, {}, "array '4by4': expected ROWSxCOLS"),
        ({"array": ["4x2000"]}, {}, "array 4x2000: cols 2000: expected 1 to 1,024"),
        ({"array": ["4x4"], "rows": [4]}, {}, "array is rows and cols: expected it without them"),
        ({"schedule": ["fast"]}, {}, "schedule 'fast': expected useful or whole or double"),
        ({"psum_bits": ["wide"]}, {}, "psum_bits 'wide': expected 2 to 48 or auto"),
        ({"model": [3]}, {}, "model: expected names, found [3]"),
        (
            {"rows": {"from": 1, "to": 1000}, "cols": {"from": 1, "to": 1000}, "batch": {"from": 1, "to": 1000}},
            {},
            "1,000,000,000 points: expected at most 10,000,000; kind random takes some",
        ),
        ({}, {"kind": "walk"}, "search kind 'walk': expected grid, random or optuna"),
        ({}, {"kind": "random"}, "search points 0: expected a number of at least 1"),
        ({}, {"sort": 1}, "search 'sort': expected kind, points, seed"),
    ],
)
def test_a_wrong_space_gets_one_sentence(axes: dict[str, Any], search: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput) as error:
        space_of(axes, search)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_wrong_file_gets_one_sentence_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    for text, said in (
        ("[axes", "not a readable TOML"),
        ("[axis]\n", "expected tables [axes] and"),
        ("[axes]\nrows=0", "rows 0"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=str(path)) as error:
            read_space(path)
        assert said in str(error.value)
    with pytest.raises(BadInput, match="not a readable TOML file"):
        read_space(tmp_path / "none.toml")


def test_every_default_is_allowed() -> None:
    assert [name for name, axis in AXES.items() if axis.problem(axis.default)] == []
