"""Mutants of our core that no test could kill and no proof of ours shows equivalent: each with the reason."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from systolith.mutation.mutants import Mutant

Key = tuple[str, str, str]
"""File, line without the white space around it, change."""


@cache
def reasons() -> Mapping[Key, str]:
    """The reasons in `equivalents.toml`, which a test holds against the sources."""
    with Path(__file__).with_name("equivalents.toml").open("rb") as file:
        groups = tomllib.load(file)["equivalent"]
    return {
        (group["file"], group["line"], change): " ".join(group["why"].split())
        for group in groups
        for change in group["changes"]
    }


def reason(mutant: Mutant) -> str:
    """Why a mutant is equivalent, "" if it is not listed."""
    return reasons().get((mutant.file, mutant.context, mutant.change), "")
