"""Every convolution of a shipped network on two arrays, every psum and output against loops over tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from systolith.array import ArraySpec, Mapping, run_layer
from systolith.frontends.torch import recover
from systolith.models import Vgg16, load_pretrained
from systolith.network import Conv
from systolith.pictures import read_picture
from systolith.quant import QuantConv2d, quant_layers
from systolith.requests.option import quiet
from systolith.requests.shared import Array
from systolith.steps.layers import layers_of
from systolith.store import ASSETS
from systolith.timing import Schedule, observe
from systolith.vectors import verify_bundle, write_bundle

pytestmark = pytest.mark.slow
LAYERS = [f"features.{i}" for i in (0, 3, 7, 10, 14, 17, 20, 24, 27, 29, 33, 36, 39)]


@pytest.fixture(scope="module")
def model() -> Vgg16:
    return load_pretrained("vgg16-w4a4-s8")


def naive_block(conv: Conv, act: np.ndarray, rows: range, cols: range, ki: int, kj: int) -> np.ndarray:
    """Psums (nij, col) of one pass, in int64: the weight tile times every position of the padded map."""
    padded = np.pad(act.astype(np.int64), ((0, 0), (conv.padding[0],) * 2, (conv.padding[1],) * 2))
    block = np.zeros((padded[0].size, len(cols)), dtype=np.int64)
    for at, oc in enumerate(cols):
        if oc >= conv.out_channels:
            continue
        for ic in rows:
            if ic < conv.in_channels:
                block[:, at] += padded[ic].reshape(-1) * int(conv.weight[oc, ic, ki, kj])
    return block


def naive_outputs(conv: Conv, act: np.ndarray) -> np.ndarray:
    """int64 outputs by windows and one integer product, a different way than the array's."""
    padded = np.pad(act.astype(np.int64), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    _, oh, ow, _, _ = windows.shape
    flat = windows.transpose(1, 2, 0, 3, 4).reshape(oh * ow, -1)
    product = flat @ conv.weight.reshape(conv.out_channels, -1).astype(np.int64).T
    return product.T.reshape(conv.out_channels, oh, ow)


def test_the_layers_are_all_there(model: Vgg16) -> None:
    assert [n for n, m in quant_layers(model).items() if isinstance(m, QuantConv2d)] == LAYERS


@pytest.mark.parametrize("size", [8, 32])
@pytest.mark.parametrize("layer", LAYERS)
def test_every_psum_and_output(model: Vgg16, layer: str, size: int) -> None:
    recovered = recover(model, layer, read_picture(ASSETS / "cat.png")[0])
    assert recovered.match.holds
    conv, act = recovered.conv, recovered.act[0]
    spec = ArraySpec(size, size, act_bits=8 if layer == "features.0" else 4, psum_bits=20)
    result = run_layer(conv, act, spec)
    kw = conv.kernel[1]
    compared = 0
    for ic_tile, oc_tile, kij in np.ndindex(*result.psum.shape[:3]):
        rows = range(ic_tile * size, (ic_tile + 1) * size)
        cols = range(oc_tile * size, (oc_tile + 1) * size)
        expected = naive_block(conv, act, rows, cols, kij // kw, kij % kw)
        assert (result.psum[ic_tile, oc_tile, kij] == expected).all(), (ic_tile, oc_tile, kij)
        compared += expected.size
    assert compared == result.psum.size
    assert (result.out == naive_outputs(conv, act)).all()
    assert (result.out == recovered.network_acc[0]).all()
    assert (result.out == recovered.acc[0]).all()


@pytest.mark.parametrize("layer", ["features.0", "features.17", "features.24"])
def test_bundles_of_tiled_layers(model: Vgg16, layer: str, tmp_path: Path) -> None:
    recovered = recover(model, layer, read_picture(ASSETS / "cat.png")[0])
    spec = ArraySpec(8, 8, act_bits=8 if layer == "features.0" else 4, psum_bits=20)
    result = run_layer(recovered.conv, recovered.act[0], spec)
    write_bundle(result, tmp_path / "b")
    equalities = verify_bundle(tmp_path / "b")
    assert all(e.holds for e in equalities)
    mapping = Mapping(recovered.conv, spec, *recovered.act.shape[2:])
    assert equalities[0].compared == mapping.passes * mapping.nijs * 8


@pytest.mark.parametrize(("array", "schedule"), [("8x8", Schedule()), ("7x5", Schedule(useful=False, drained=True))])
def test_every_register_of_every_layer_is_where_it_was_predicted(array: str, schedule: Schedule) -> None:
    found = list(layers_of("vgg16-w4a4-s8", "all", [], None, None, Array(array=array), "test", quiet))
    assert len(found) == 14
    for one in found:
        seen = observe(Mapping(one.conv, one.spec, *one.act.shape[1:]), one.act, schedule)
        assert seen.holds, (one.conv.name, seen)
