"""A report in a notebook: small, escaped, and no more than it says."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import pytest

from systolith.equality import Equality
from systolith.flows.flow import Report
from systolith.steps.notebook import ENTRIES, WIDTH, as_table
from systolith.steps.values import hidden


@dataclass(frozen=True, kw_only=True)
class SomeReport(Report):
    verb: ClassVar[str] = "some"
    file: Path
    equalities: tuple[Equality, ...]
    kept: Any = field(default="for Python alone", metadata=hidden())


def rows(table: str) -> dict[str, list[str]]:
    """By heading, the lines of the cell beside it."""
    found = {}
    for row in ElementTree.fromstring(table).iter("tr"):
        heading, cell = row
        found[heading.text or ""] = list(cell.itertext())
    return found


def test_a_report_is_its_verdict_and_the_fields_of_its_json() -> None:
    equalities = (Equality("a = b", 1200, 0), Equality("c = d", 4, 1, "[0] expected <1>, found 2"))
    report = SomeReport(holds=False, verdict="c < d & more", file=Path("a<b>.txt"), equalities=equalities)
    table = report._repr_html_()
    assert ElementTree.fromstring(table).findtext("caption/b") == "c < d & more"
    assert rows(table) == {
        "file": ["a<b>.txt"],
        "equalities": [
            "a = b: 1,200 of 1,200 equal",
            "c = d: 3 of 4 equal; first difference: [0] expected <1>, found 2",
        ],
    }
    assert "<b>.txt" not in table


@pytest.mark.parametrize(("holds", "mark"), [(True, "\u2713 "), (False, "\u2717 "), (None, None)])
def test_what_holds_is_marked_and_what_was_not_compared_is_not(holds: bool | None, mark: str | None) -> None:
    assert ElementTree.fromstring(as_table(holds, "said", {})).findtext("caption") == (mark or "")


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (1234567, ["1,234,567"]),
        (True, ["yes"]),
        (0, ["0"]),
        (0.123456, ["0.1235"]),
        ((3, 3), ["(3, 3)"]),
        (("cat", "dog"), ["cat, dog"]),
        (["a" * 70, "b" * 70], ["a" * 70, "b" * 70]),
        ({"a": 1, "b": {}, "c": [1, 2]}, ["a 1, c (1, 2)"]),
        ({"a": {"x": 1}, "b": {"y": False}}, ["a: x 1", "b: y no"]),
        ([{"x": 1}, {"x": 2}], ["x 1", "x 2"]),
        ({"a": [{"x": 1}, {"x": 2}]}, ["a 2 entries"]),
        (np.zeros((2, 3), np.int8), ["int8 (2, 3)"]),
    ],
)
def test_a_value_takes_a_line_or_a_line_an_entry(value: Any, lines: list[str]) -> None:
    assert rows(as_table(True, "", {"it": value})) == {"it": lines}


def test_long_ones_are_cut_and_say_so() -> None:
    many = rows(as_table(True, "", {"it": [{"x": i} for i in range(ENTRIES + 2)]}))["it"]
    assert many == [*(f"x {i}" for i in range(ENTRIES)), "... and 2 more"]
    (long,) = rows(as_table(True, "", {"it": "x" * (WIDTH + 1)}))["it"]
    assert long == "x" * (WIDTH - 3) + "..."


@pytest.mark.parametrize("value", [None, "", (), [], {}])
def test_what_is_empty_has_no_row(value: Any) -> None:
    assert rows(as_table(True, "", {"it": value})) == {}
