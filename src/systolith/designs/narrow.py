"""Which of a design's accumulators may overflow, and how they add: all that a network's answers depend on."""

from __future__ import annotations

from collections.abc import Sequence

from systolith.array import ArraySpec
from systolith.array.overflow import Adding
from systolith.designs.point import Design
from systolith.designs.results import Rows
from systolith.designs.space import Point
from systolith.designs.work import Work
from systolith.timing.mapper import WAYS


def addings(point: Point, works: Sequence[Work], rows: Rows) -> dict[str, Adding] | None:
    """The layers whose accumulators are narrower than their weights need.

    Where two designs have equal ones, a network answers the same on both: what does not change a sum is left out.

    Args:
        point: the design.
        works: its network's layers.
        rows: what was found for them: their schedules and chunks.

    Returns:
        By layer how its products are added; none, if nothing can overflow. None of a shape alone, and where a layer
        does not fit.
    """
    bits, array = point["psum_bits"], Design.of(point).array
    if not all(row["fits"] for row in rows) or any(work.least_bits is None for work in works):
        return None
    found: dict[str, Adding] = {}
    for work, row in zip(works, rows, strict=True):
        if bits == "auto" or bits >= (work.least_bits or 0):
            continue
        act, weight = work.formats(0, 0)
        plain = ArraySpec(1, 1, act.bits, weight.bits, bits, overflow=array.overflow)
        if array.overflow == "wrap":  # in any order the same
            found[work.name] = Adding(plain)
            continue
        way = WAYS[row["schedule"]]
        stationary, simd = way.dataflow == "os", array.simd_of(work.conv(act.bits, weight.bits))
        size = 1 if stationary else array.rows, array.cols if work.groups > 1 else 1
        spec = ArraySpec(*size, simd * act.bits, weight.bits, bits, way.dataflow, array.overflow, simd)
        found[work.name] = Adding(spec, way.packed, int(row["chunks"].split("x")[1]))
    return found
