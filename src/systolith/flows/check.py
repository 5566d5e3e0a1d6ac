"""`check`: what RTL dumped against the golden vectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar

from systolith.flows.flow import Report, flow
from systolith.formats import BadInput
from systolith.requests.verbs import CheckRequest
from systolith.steps.common import require_extra
from systolith.steps.values import called, hidden
from systolith.vectors import find_layout, read_bundle
from systolith.vectors.layout_file import layout_from
from systolith.verdict.judge import WrongMap, judge
from systolith.verdict.words import RADIXES, WAVEFORMS, How


@dataclass(frozen=True)
class LevelCount:
    """Of a level (psum, sfp, output): golden words, and how many of them the dump has differently."""

    words: int
    different: int


@dataclass(frozen=True)
class Alternative:
    """What the first wrong word would be under a known mistake, and how many words that mistake gets right."""

    value: str
    words: int


@dataclass(frozen=True, kw_only=True)
class CheckReport(Report):
    """What a dump holds beside the golden words.

    Attributes:
        levels: by level, in the order of the layout.
        first: the first wrong word, explained; where none is wrong, the first of `counts`; or "".
        expected: what that word should be.
        suspects: the known mistakes that give every word of the dump.
        matched, words: how many words the best explanation gives, of how many.
        closest: the mistakes that come nearest, where none gives every word.
        would_be: what the first wrong word would be, by mistake.
        counts: of each file, log or signal with words missing or too many, which they are.
        assumed: what was taken for granted to read the dump, such as a radix that is not the layout's.
        maps: of each dumped file, which words are wrong.
    """

    verb: ClassVar[str] = "check"
    bundle: Path
    against: Path
    levels: Mapping[str, LevelCount]
    first: str
    expected: str = field(metadata=hidden())
    suspects: tuple[str, ...]
    matched: int
    words: int
    closest: tuple[str, ...]
    alternatives: Mapping[str, Alternative] = field(metadata=called("would_be"))
    counts: tuple[str, ...]
    assumed: tuple[str, ...]
    maps: tuple[WrongMap, ...] = field(metadata=hidden(), repr=False)


@flow(CheckRequest)
def check(request: CheckRequest) -> CheckReport:
    """Compare what RTL dumped with a bundle's golden psums and outputs; explain the first wrong word.

    Returns:
        Words equal by level, the first wrong word down to its products, and the known mistake (weights transposed, ReLU
        left out, ...) that would make exactly this dump.

    Raises:
        BadInput: the bundle or the dump cannot be read, or is of another layer.

    Examples:
        >>> import systolith as sl
        >>> report = sl.run(out="build/doc-check", force=True)
        >>> sl.check("build/doc-check", "build/doc-check").verdict
        'all equal: 340 words'
    """
    if request.radix not in (None, *RADIXES):
        raise BadInput(f"--radix {request.radix!r}: expected one of {', '.join(RADIXES)}")
    bundle, against = Path(request.bundle), Path(request.against)
    if against.suffix.lower() in WAVEFORMS:
        require_extra("pywellen", "waves", f"check of a {against.suffix} file")
    result, manifest = read_bundle(bundle)
    own = f"{bundle}/manifest.json: layout"
    layout = find_layout(request.layout) if request.layout else layout_from(manifest["layout"], own)
    how = How(**{each.name: getattr(request, each.name) for each in fields(How)})
    found = judge(result, layout, against, how)
    matched, words = found.matched
    return CheckReport(
        holds=found.holds,
        verdict=found.sentence,
        bundle=bundle,
        against=against,
        levels={level.name: LevelCount(level.words, level.different) for level in found.levels},
        first=found.first,
        expected=found.expected,
        suspects=tuple(found.suspects),
        matched=matched,
        words=words,
        closest=tuple(one.name for one in found.closest),
        alternatives={one.name: Alternative(one.value, one.words) for one in found.alternatives},
        counts=found.counts,
        assumed=found.assumed,
        maps=found.maps,
    )
