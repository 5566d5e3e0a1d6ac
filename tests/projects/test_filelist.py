"""File lists as simulators take them, and names of other file systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from systolith.formats import BadInput
from systolith.projects.filelist import read_list, spelled


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("rtl/a.v", "rtl/sub dir/B.sv", "sim/tb.v", "inc/d.vh"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    return tmp_path


def test_a_list_with_everything(tree: Path) -> None:
    (tree / "sim" / "more.f").write_text("-v ../rtl/a.v\n")
    (tree / "sim" / "list.f").write_text(
        "// the design\n-f more.f /* and\n more */\n# also a comment\n+incdir+../inc+../rtl\n+define+SIM+N=4\n"
        '"../rtl/sub dir/B.sv"\nsim/tb.v // from where it is called\n'
    )
    named = read_list(tree, "sim/list.f", tree)
    assert named.sources == ("rtl/a.v", "rtl/sub dir/B.sv", "sim/tb.v")
    assert named.include == ("inc", "rtl")
    assert named.defines == {"SIM": "", "N": "4"}
    assert named.notes == ()


def test_another_case_is_found_and_said(tree: Path) -> None:
    (tree / "list.f").write_text("RTL\\A.V\n")
    named = read_list(tree, "list.f", tree)
    assert named.sources == ("rtl/a.v",)
    assert named.notes == ("RTL/A.V is spelled rtl/a.v here",)
    assert spelled(tree, "Rtl/Sub Dir/b.SV", "here") == "rtl/sub dir/B.sv"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rtl/none.v", "rtl/none.v: no such file in"),
        ("+incdir+none", "+incdir+none: no such folder in"),
        ("--binary rtl/a.v", "'--binary': expected files, +incdir+, +define+, -v, -f or comments"),
        ("-f list.f", "names itself"),
        ('"rtl/a.v', "cannot be read as a file list"),
    ],
)
def test_what_is_wrong_with_a_list(text: str, said: str, tree: Path) -> None:
    (tree / "list.f").write_text(text + "\n")
    with pytest.raises(BadInput) as caught:
        read_list(tree, "list.f", tree)
    assert said in str(caught.value)


def test_two_that_differ_in_case_alone_are_not_chosen_between(tree: Path) -> None:
    (tree / "rtl" / "A.V").write_text("")
    with pytest.raises(BadInput, match=r"rtl/A\.v: no such file"):
        spelled(tree, "rtl/A.v", "here")
