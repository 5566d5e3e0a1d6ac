"""The text of `run`: one screen, README's."""

from __future__ import annotations

from systolith.array import Mapping
from systolith.flows.run import RunReport
from systolith.report.parts import Part, Rows, equal_rows


def text(report: RunReport) -> list[Part]:
    """What was taken where, and every equality."""
    mapping, run, layer = report.result.mapping, report.model["run"], report.layer
    spec, bundle = mapping.spec, report.bundle
    trained = f", {run['test_accuracy']:.2%} on {run['test_data']}" if "test_accuracy" in run else ""
    low = {name: f"{a}..{b}" for name, (a, b) in report.ranges.items()}
    size = f"{_by(layer.input)} map, padded {_by(layer.padded)}"
    written = f"{bundle['bytes'] / 1e6:.2f} MB" if bundle["bytes"] >= 1e6 else f"{bundle['bytes'] / 1e3:.0f} kB"
    recovered = " and ".join(report.equalities[3].name.split(" = "))
    used, times, least, off = report.utilisation, report.clocks, report.least_psum_bits, report.recovered
    rows = [
        ("model", f"{report.model['name']}{trained}"),
        ("picture", report.picture["source"]),
        ("trained", f"the trained network sees {report.prediction.name} (second: {report.prediction.second})"),
        (
            "integers",
            f"the integer network sees {report.integer_prediction.name} (second: {report.integer_prediction.second})",
        ),
        (
            "layer",
            f"{layer.name}: {layer.in_channels} -> {layer.out_channels} channels, {_by(layer.kernel)} kernel, {size}",
        ),
        ("formats", f"activations {layer.act_format}, weights {layer.weight_format}"),
        (
            "array",
            f"{spec} weight stationary, {spec.act_bits}-bit activation and {spec.weight_bits}-bit weight lanes, "
            f"{spec.psum_bits}-bit psums (overflow: {spec.overflow})",
        ),
        ("passes", f"{mapping.passes:,} = {_tiles(mapping)} x {mapping.kijs} kij"),
        ("ranges", f"activations {low['act']}, weights {low['weight']}, psums {low['psum']}, outputs {low['out']}"),
        (
            "psum width",
            f"least safe: {least['pass']} bits a pass, {least['accumulated']} accumulated; given: {spec.psum_bits}",
        ),
        (
            "recovered",
            f"max |difference| {off['max_difference']:g}, mean {off['mean_difference']:g}, of {recovered}",
        ),
        ("clocks", f"{times['whole_map']:,} streaming the whole padded map, {times['useful']:,} only the useful nij"),
        ("utilisation", f"{used['whole_map']:.1%} of the multipliers, {used['useful']:.1%} with useful nij"),
        *equal_rows(report.equalities),
        (
            "files",
            f"{bundle['files']} in {bundle['folder']}, {bundle['words']:,} words, {written}, layout {report.layout}",
        ),
        ("verdict", report.verdict),
    ]
    return [Rows(rows)]


def _tiles(mapping: Mapping) -> str:
    """Input and output tiles, and of how many pairs passes are made where not of all."""
    some = "" if mapping.made.all() else f"{int(mapping.made.sum()):,} of "
    return f"{some}{mapping.ic_tiles} ic x {mapping.oc_tiles} oc tiles"


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
