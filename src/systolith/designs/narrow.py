"""Which of a design's accumulators may overflow, and in what order these add: all that a network's answers depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from systolith.array import ArraySpec
from systolith.designs.point import Design
from systolith.designs.results import Rows
from systolith.designs.space import Point
from systolith.designs.work import Work
from systolith.timing.mapper import WAYS


def cuts(point: Point, works: Sequence[Work], rows: Rows) -> dict[str, tuple[ArraySpec, bool]] | None:
    """The layers whose accumulators are narrower than their weights need.

    Where two designs have equal ones, a network answers the same on both: what does not change a sum is left out.

    Args:
        point: the design.
        works: its network's layers.
        rows: what was found for them: their schedules and chunks.

    Returns:
        By layer the array, and whether kernel positions are packed into its rows; none, if nothing can overflow. None
        where it is not known: a shape alone, a layer that does not fit, sums that saturate in chunks of input channels.
    """
    bits, array = point["psum_bits"], Design.of(point).array
    if not all(row["fits"] for row in rows) or any(work.least_bits is None for work in works):
        return None
    found: dict[str, tuple[ArraySpec, bool]] = {}
    for work, row in zip(works, rows, strict=True):
        if bits == "auto" or bits >= (work.least_bits or 0):
            continue
        act, weight = work.formats(0, 0)
        plain = ArraySpec(1, 1, act.bits, weight.bits, bits, overflow=array.overflow)
        if array.overflow == "wrap":  # in any order the same
            found[work.name] = plain, False
            continue
        if row["chunks"].split("x")[1] != "1":
            return None
        way = WAYS[row["schedule"]]
        stationary, simd = way.dataflow == "os", array.simd_of(work.conv(act.bits, weight.bits))
        lanes = {"rows": 1 if stationary else array.rows, "cols": array.cols if work.groups > 1 else 1}
        spec = replace(plain, **lanes, act_bits=simd * act.bits, simd=simd, dataflow=way.dataflow)
        found[work.name] = spec, way.packed
    return found
