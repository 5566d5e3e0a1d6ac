"""`explore --plots`: the front, the shapes of the arrays, the layers' clocks, and the roofs, as pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from systolith.flows.explore import ExploreReport
from systolith.report.designs import (
    Design,
    axis_of,
    by_model,
    columns_of,
    layer_parts,
    ported_bits,
    roofs,
    shapes,
    size_of,
    stairs,
    value_of,
)
from systolith.report.explore import differing
from systolith.report.scales import Scale, short
from systolith.steps.common import require_extra
from systolith.store import atomic_file

MOST_LABELS, MOST_CELLS, MOST_BARS, MOST_PARTS, MOST_MARKS = 16, 150, 40, 20, 5_000
"""Steps with their arrays' names, cells with their numbers, bars, layers of a bar; beyond so many, marks are pixels."""
_ACROSS = 3  # panels beside one another
_FAINT = {"s": 12, "color": "tab:gray", "alpha": 0.35, "linewidths": 0}


def require_plots() -> None:
    """Raise `BadInput` now for what could not be drawn when everything is done."""
    require_extra("matplotlib", "explore", "explore --plots")


def plot_designs(report: ExploreReport, folder: Path) -> list[Path]:
    """Draw front.svg, layers.svg, roofline.svg and shape.svg into `folder`, which is made where it is missing.

    Text in them is text, and the same report gives the same bytes.

    Returns:
        The files; without shape.svg, which is then removed, where all arrays have as many rows, or as many columns.

    Raises:
        BadInput: matplotlib is not installed, or `folder` cannot be written.
    """
    require_plots()
    import matplotlib

    drawn: dict[str, Callable[[ExploreReport], Any]]
    drawn = {"front.svg": _front, "layers.svg": _layers, "roofline.svg": _roofline}
    rows, cols, _ = shapes(report.able, report.minimize[0])
    if len(rows) > 1 and len(cols) > 1:
        drawn["shape.svg"] = _shape
    else:
        (folder / "shape.svg").unlink(missing_ok=True)
    for name, draw in drawn.items():
        with (
            matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.size": 9}),
            atomic_file(folder / name) as temporary,
        ):
            draw(report).savefig(temporary, format="svg", metadata={"Date": None})
    return [folder / name for name in drawn]


def _panels(models: Sequence[str], wide: float = 6, high: float = 4.5) -> tuple[Any, dict[str, Any]]:
    """A figure, and in it axes for each model, with its name above where there are several."""
    from matplotlib.figure import Figure

    across = min(_ACROSS, len(models))
    down = -(-len(models) // across)
    figure = Figure(figsize=(wide * across, high * down), layout="constrained")
    every = figure.subplots(down, across, squeeze=False).flat
    found = dict(zip(models, every, strict=False))
    for name, axes in found.items():
        axes.set_title(name)
    for axes in list(every)[len(models) :]:
        axes.remove()
    return figure, found


def _front(report: ExploreReport) -> Any:
    """All designs faintly; those on the front, joined as steps."""
    across, up = columns_of(report.minimize)
    figure, panels = _panels(list(report.models))
    for model, designs in by_model(report.able).items():
        axes = panels[model]
        _scatter(axes, designs, across, up, "designs", label=f"{len(designs):,} designs", **_FAINT)
        front = [one for one in designs if one["pareto"]]
        _scatter(axes, front, across, up, "front", s=24, color="tab:blue", label=f"{len(front):,} on the front")
        joined = stairs(designs, across, up)
        xs, ys = ([value_of(one, name) for one in joined] for name in (across, up))
        axes.plot(xs, ys, drawstyle="steps-post", color="tab:blue", linewidth=1, gid="steps")
        if len(joined) <= MOST_LABELS:
            for one, x, y in zip(joined, xs, ys, strict=True):
                axes.annotate(size_of(one), (x, y), xytext=(4, 4), textcoords="offset points", gid="label")
        for name, column in (("x", across), ("y", up)):
            _scaled(axes, name, Scale.of(value_of(one, column) for one in designs), axis_of(column)[0])
        axes.legend()
    return figure


def _scaled(axes: Any, name: str, scale: Scale, label: str) -> None:
    """Give the axis "x" or "y" one of our scales."""
    how: dict[str, Any] = {"scale": "log" if scale.log else "linear", "lim": (scale.low, scale.high), "label": label}
    how |= {"ticks": scale.ticks, "ticklabels": [short(tick) for tick in scale.ticks]}
    axes.set(**{name + what: value for what, value in how.items()})
    axes.minorticks_off()


def _scatter(axes: Any, designs: Sequence[Design], across: str, up: str, gid: str, **how: Any) -> None:
    xs, ys = ([value_of(one, name) for one in designs] for name in (across, up))
    axes.scatter(xs, ys, gid=gid, rasterized=len(designs) > MOST_MARKS, **how)


def _shape(report: ExploreReport) -> Any:
    """Arrays by rows and columns, each with the best that the other axes give."""
    from matplotlib.colors import LogNorm

    column = report.minimize[0]
    figure, panels = _panels(list(report.models))
    for model, designs in by_model(report.able).items():
        axes = panels[model]
        rows, cols, least = shapes(designs, column)
        grid = [[least.get((r, c), float("nan")) for c in cols] for r in rows]
        positive = min(least.values()) > 0
        many = len(least) > MOST_MARKS
        norm = LogNorm() if positive else None
        mesh = axes.pcolormesh(grid, norm=norm, cmap="viridis_r", edgecolors="face", gid="cells", rasterized=many)
        for ticks, values in ((axes.set_xticks, cols), (axes.set_yticks, rows)):
            every = -(-len(values) // 16)
            ticks([at + 0.5 for at in range(0, len(values), every)], labels=[str(one) for one in values[::every]])
        if len(least) <= MOST_CELLS:
            for (r, c), value in least.items():
                dark = mesh.norm(value) > 0.5  # the reversed map's dark end
                at = cols.index(c) + 0.5, rows.index(r) + 0.5
                axes.text(*at, short(value), ha="center", va="center", size=6, color="w" if dark else "k")
        axes.set_xlabel("columns of the array")
        axes.set_ylabel("rows of the array")
        figure.colorbar(mesh, ax=axes, label=f"{axis_of(column)[0]}, the least over all other axes")
    return figure


def _layers(report: ExploreReport) -> Any:
    """A bar of clocks for each of the best designs, by layer."""
    from matplotlib import colormaps

    found = by_model(report.top)
    most = max(min(len(designs), MOST_BARS) for designs in found.values())
    figure, panels = _panels(list(found), 8, 2.5 + 0.3 * most)
    differ = differing(report)
    for model, designs in found.items():
        axes, shown = panels[model], designs[:MOST_BARS]
        if len(shown) < len(designs):
            axes.set_title(f"{model}: the first {len(shown)} of {len(designs):,}")
        parts = layer_parts([report.layers[one["point"]] for one in shown], MOST_PARTS)
        left = [0] * len(shown)
        for number, (name, widths) in enumerate(parts.items()):
            axes.barh(range(len(shown)), widths, left=left, color=colormaps["tab20"](number), label=name)
            left = [before + width for before, width in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(shown)), labels=[_called(one, differ) for one in shown])
        axes.invert_yaxis()
        axes.set_xlabel("clocks of all layers, pictures of a batch together")
        axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _called(design: Design, differ: dict[str, str]) -> str:
    """A design by its array and by what else tells it from the others."""
    others = [f"{name} {design[key]}" for name, key in differ.items() if name not in ("model", "rows", "cols")]
    return ", ".join([size_of(design), *others])


def _roofline(report: ExploreReport) -> Any:
    """Operations a clock over operations a bit, below the roofs of the best design."""
    figure, panels = _panels(list(report.models))
    for model, designs in by_model(report.able).items():
        axes, best = panels[model], min(designs, key=lambda one: (not one["pareto"], one[report.minimize[0]]))
        bits = [2 * one["macs"] / ported_bits(one) for one in designs]
        clocks = [2 * one["macs"] / one["clocks"] for one in designs]
        many = len(designs) > MOST_MARKS
        axes.scatter(bits, clocks, gid="designs", rasterized=many, label=f"{len(designs):,} designs", **_FAINT)
        mine = [2 * best["macs"] / ported_bits(best)], [2 * best["macs"] / best["clocks"]]
        axes.scatter(*mine, gid="best", s=24, color="tab:blue", label=f"the best: {_called(best, differing(report))}")
        flat, slope = roofs(best)
        axes.axhline(flat, color="tab:red", linewidth=1, gid="flat", label=f"its array: {flat:,} operations a clock")
        ridge = [] if slope is None else [flat / slope]
        scale = Scale(min([*bits, *ridge]) / 3, max([*bits, *ridge]) * 3, True)
        if slope is None:
            axes.plot([], [], " ", label="no slope: not all of its ports have a limit")
        else:
            ends = scale.low, flat / slope
            label = f"its ports: {slope:,} bits a clock"
            axes.plot(ends, [slope * x for x in ends], color="tab:orange", linewidth=1, gid="slope", label=label)
        _scaled(axes, "x", scale, "operations a bit that the ports move")
        _scaled(axes, "y", Scale(min(clocks) / 3, flat * 3, True), "operations a clock")
        axes.legend(fontsize=7)
    return figure
