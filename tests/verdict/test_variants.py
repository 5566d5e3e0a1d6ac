"""Files of an unknown layout: which are consistent with a layout, and in what they differ from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import INT4, UINT4
from systolith.array import ArrayResult, ArraySpec, run_layer
from systolith.formats import BadInput
from systolith.network import Conv
from systolith.vectors import find_layout, write_bundle
from systolith.vectors.layout import Layout
from systolith.vectors.read import geometry_of
from systolith.verdict.variants import CHANGES, changed, consistent, kij_major, transpose


def layer(seed: int = 0) -> ArrayResult:
    """Square, so that a transposed weight tile has the same shape."""
    rng = np.random.default_rng(seed)
    conv = Conv("layer", rng.integers(-7, 8, (8, 8, 3, 3)), UINT4, INT4, padding=(1, 1))
    return run_layer(conv, rng.integers(0, 16, (8, 4, 4)), ArraySpec())


def differences(tmp_path: Path, layout: Layout, asked: str) -> list[tuple[str, ...]]:
    write_bundle(layer(), tmp_path / "b", layout)
    return [c.differences for c in consistent(tmp_path / "b", find_layout(asked), geometry_of(layer()))]


def test_a_layout_is_consistent_with_itself(tmp_path: Path) -> None:
    write_bundle(layer(), tmp_path / "b", "course")
    (found,) = consistent(tmp_path / "b", find_layout("course"), geometry_of(layer()))
    assert found.differences == ()
    assert found.compared == 9 * 36 * 8 + 16 * 8  # psums and outputs


# Reading a row the other way round in both activations and weights is the same computation: those need both or none.
CASES = [(tensor, name) for tensor, changes in CHANGES.items() for name, _ in changes]


@pytest.mark.parametrize(("tensor", "name"), CASES)
def test_each_difference_is_named(tmp_path: Path, tensor: str, name: str) -> None:
    change = dict(CHANGES[tensor])[name]
    mutant = changed(find_layout("course"), tensor, change)
    expected = [()] if mutant == find_layout("course") else [(name,)]
    found = differences(tmp_path, mutant, "course")
    if name == "weight lines reversed":  # as if the psum and output lanes were: outputs in the other order
        assert (name,) in found
        assert len(found[0]) == 1
    elif name in ("activation lanes reversed", "weight lanes reversed"):  # the rows in the other order
        assert sorted(found) == [("activation lanes reversed",), ("weight lanes reversed",)]
    else:
        assert found == expected


def test_two_differences_at_once(tmp_path: Path) -> None:
    mutant = changed(find_layout("course"), "weight", transpose)
    mutant = changed(mutant, "act", dict(CHANGES["act"])["activations without padding"])
    assert differences(tmp_path, mutant, "course") == [("activations without padding", "weights transposed")]


def test_files_that_no_reading_explains(tmp_path: Path) -> None:
    write_bundle(layer(), tmp_path / "b", "course")
    other = layer(1)
    write_bundle(other, tmp_path / "o", "course")
    (tmp_path / "b" / "out.txt").write_bytes((tmp_path / "o" / "out.txt").read_bytes())
    assert consistent(tmp_path / "b", find_layout("course"), geometry_of(layer())) == []
    with pytest.raises(BadInput, match=r"activation\.txt: cannot be read"):
        consistent(tmp_path / "b", find_layout("seed"), geometry_of(layer()))
    with pytest.raises(BadInput, match="layout npz: has no activations or no weights"):
        consistent(tmp_path / "b", find_layout("npz"), geometry_of(layer()))


def test_kij_major_is_one_file(tmp_path: Path) -> None:
    mine = changed(find_layout("course"), "weight", kij_major)
    write_bundle(layer(), tmp_path / "b", mine)
    words = (tmp_path / "b" / "weight_itile0_otile0.txt").read_text().split()[3:]
    assert len(words) == 72
    write_bundle(layer(), tmp_path / "c", "course")
    assert words[8:16] == (tmp_path / "c" / "weight_itile0_otile0_kij1.txt").read_text().split()[3:]
