"""A model in one line, and how a layer of it sits on an array."""

from __future__ import annotations

from dataclasses import dataclass, replace

from systolith.array import ArraySpec, Mapping
from systolith.array.spec import lane_misfits
from systolith.network import Conv, IntegerNetwork
from systolith.store import ModelFile


@dataclass(frozen=True)
class LayerOnArray:
    """A layer and how it sits on the array.

    Attributes:
        ic_tiles, oc_tiles: of its channels.
        tiles: pairs of the two of which passes are made: all, or of a grouped layer those that hold a weight.
        utilisation: the share of the multipliers that have a weight, over all passes, 0..1; what clocks between
            positions take is not in it.
        fits: "one tile", "tiled", or the options that it needs.
    """

    name: str
    in_channels: int
    out_channels: int
    kernel: tuple[int, int]
    act_format: str
    weight_format: str
    ic_tiles: int
    oc_tiles: int
    passes: int
    groups: int
    tiles: int
    utilisation: float
    fits: str


def layer_on_array(name: str, file: ModelFile, network: IntegerNetwork | None, spec: ArraySpec) -> LayerOnArray:
    """The layer `name` of a file; `network`: its integer network, where it has one."""
    codes = file.codes[name]
    weight = codes.values if codes.values.ndim == 4 else codes.values[:, :, None, None]
    node = network.layers.get(name) if network is not None else None
    groups = node.groups if isinstance(node, Conv) else 1  # the weights alone do not say them
    conv = Conv(name, weight, codes.act_format, codes.format, groups=groups)
    flags = lane_misfits(conv, spec)
    # How it is tiled does not depend on the lanes, nor on the map.
    mapping = Mapping(conv, replace(spec, act_bits=16, weight_bits=16), *conv.kernel)
    one = mapping.ic_tiles == mapping.oc_tiles == 1
    fits = f"needs {' '.join(flags)}" if flags else "one tile" if one else "tiled"
    formats, tiles = (str(conv.act_format), str(conv.weight_format)), (mapping.ic_tiles, mapping.oc_tiles)
    used = weight.size / (mapping.passes * spec.rows * spec.cols)
    sits = *formats, *tiles, mapping.passes, groups, int(mapping.made.sum()), used, fits
    return LayerOnArray(name, conv.in_channels, conv.out_channels, conv.kernel, *sits)


def in_one_line(file: ModelFile) -> str:
    """Architecture, layers, weights, epochs, accuracy."""
    run, weights = file.run, sum(c.values.size for c in file.codes.values())
    accuracy = f", {run['test_accuracy']:.2%} on {run['test_data']}" if "test_accuracy" in run else ""
    size = f"{len(file.codes)} layers, {weights:,} weights"
    return f"{file.config.get('arch', 'integers only')}, {size}, {run.get('epochs', '?')} epochs{accuracy}"
