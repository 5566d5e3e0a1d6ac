"""The text of `info`."""

from __future__ import annotations

from systolith.flows.info import InfoReport, LayerOnArray
from systolith.report.parts import Part, Rows, Table
from systolith.steps.common import NODE_HEADINGS


def text(report: InfoReport) -> list[Part]:
    """A line a model, a row a layer, or a row a node."""
    if report.model is None:
        return [Rows(list(report.about.items())), "systolith info MODEL lists the layers."]
    if report.nodes is not None:
        return [Table(NODE_HEADINGS, [tuple(node.values()) for node in report.nodes])]
    act_bits, weight_bits = report.lanes
    integers = "none in this file; `systolith lower` adds it"
    if report.integer_network:
        counts = report.integer_network
        integers = f"{counts['nodes']} nodes, thresholds for {counts['channels']:,} channels (--nodes lists them)"
    facts = [*report.about.items(), ("array", f"{report.array}, {act_bits}/{weight_bits}-bit lanes")]
    headings = (
        "layer",
        "in",
        "out",
        "kernel",
        "activations",
        "weights",
        "tiles ic x oc",
        "passes",
        "used",
        "on the array",
    )
    rows = [
        (
            *(layer.name, str(layer.in_channels), str(layer.out_channels), "x".join(map(str, layer.kernel))),
            *(layer.act_format, layer.weight_format, _tiles(layer)),
            *(f"{layer.passes:,}", f"{layer.utilisation:.1%}", layer.fits),
        )
        for layer in report.layers or ()
    ]
    return [Rows([*facts, ("integers", integers)]), Table(headings, rows, ("in", "out", "passes", "used"))]


def _tiles(layer: LayerOnArray) -> str:
    """Input by output tiles, and of how many pairs passes are made where not of all."""
    tiles = f"{layer.ic_tiles} x {layer.oc_tiles}"
    return tiles if layer.tiles == layer.ic_tiles * layer.oc_tiles else f"{layer.tiles} of {tiles}"
