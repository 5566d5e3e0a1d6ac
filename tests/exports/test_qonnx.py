"""QONNX: our importer reads the network again, bits and all; so does qonnx's own executor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from exports.lined import lined_network
from exports.test_qdq import NO_LINE, SEEDS, job, noise, one_conv
from systolith.exports.floats import integers_of, tensor_of
from systolith.exports.qonnx import to_qonnx
from systolith.formats import BadInput, IntFormat
from systolith.network import IntegerNetwork
from systolith.network.file import load_network
from systolith.network.reference import run
from systolith.steps.exporting import export_network
from systolith.store import shipped_models


def formats(network: IntegerNetwork) -> list[tuple[str, str]]:
    return [(str(layer.act_format), str(layer.weight_format)) for layer in network.layers.values()]


def again(network: IntegerNetwork, path: Path) -> IntegerNetwork:
    """Written, proved equal, and imported."""
    from systolith.frontends.lowering import lower
    from systolith.importers.importing import import_onnx

    done = export_network(job(network), "qonnx", path, False)
    assert done.holds, done.verdict
    foreign = import_onnx(path)
    assert foreign.kind == "QONNX"
    return lower(foreign.model, foreign.size).network


@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_of_lines(seed: int, tmp_path: Path) -> None:
    network = lined_network(seed)
    assert formats(again(network, tmp_path / "net.onnx")) == formats(network)


@pytest.mark.parametrize("seed", NO_LINE[:3])
def test_a_channel_that_is_no_line_is_named(seed: int) -> None:
    with pytest.raises(
        BadInput, match=r"^[\w>#]+, channel \d+: its thresholds are not those of a line rounded in fp32"
    ):
        to_qonnx(lined_network(seed))


def test_the_shipped_network(tmp_path: Path) -> None:
    network = load_network(shipped_models()["vgg16-w4a4-s8"])
    assert formats(again(network, tmp_path / "net.onnx")) == formats(network)


@pytest.mark.parametrize("bits", [1, 2, 4, 9])
@pytest.mark.parametrize("signed", [False, True])
def test_formats(bits: int, signed: bool, tmp_path: Path) -> None:
    network = one_conv(IntFormat(bits, signed)).network("pool", "conv")
    again(network, tmp_path / "net.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "net.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS[:10])
def test_in_the_executor_of_qonnx(seed: int) -> None:
    pytest.importorskip("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    network = lined_network(seed)
    model = ModelWrapper(to_qonnx(network))
    pixels = noise(network, 1)
    model.set_tensor_shape("pixels", list(pixels.shape))
    model = model.transform(InferShapes())
    found = execute_onnx(model, {"pixels": pixels.astype(np.float32) / np.float32(255)}, return_full_exec_context=True)
    expected = run(network, pixels, *(step.name for step in network.steps))
    for name in (*network.requantizes, *network.outputs):
        values = found[tensor_of(network, name)]
        assert np.array_equal(integers_of(network, name, values), expected[name]), name
