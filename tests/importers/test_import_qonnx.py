"""QONNX: what Brevitas computes is what the integer network computes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from cli.calling import call, refuse
from importers.brevitas_nets import NETS, codes_of, exported, settled
from systolith.formats import BadInput
from systolith.frontends.lowering import lower
from systolith.frontends.verify import by_onnx, by_plan, by_reference, compare_pictures, prove
from systolith.importers.foreign import Foreign
from systolith.importers.importing import import_onnx
from systolith.importers.original import compare_with_onnxruntime
from systolith.network import reference
from systolith.network.execute import plan
from systolith.quant.foreign import ROUNDINGS
from systolith.store import ASSETS

SIZE = 16
PIXELS = np.random.default_rng(0).integers(0, 256, (256, 3, SIZE, SIZE), dtype=np.uint8)


@pytest.mark.parametrize("name", NETS)
def test_brevitas_codes_of_256_pictures(name: str, tmp_path: Path) -> None:
    model = settled(name)
    foreign = import_onnx(exported(model, tmp_path / "net.onnx"))
    assert foreign.kind == "QONNX"
    lowered = lower(foreign.model, foreign.size)
    results = reference.run(lowered.network, PIXELS, *(step.name for step in lowered.network.steps))
    expected, answer = codes_of(model, PIXELS)
    assert len(expected) == len(foreign.quantizers)
    compared = 0
    for module, codes in zip(foreign.quantizers, expected, strict=True):
        found = results[lowered.quantized[module]]
        assert np.array_equal(found, codes), (module, int((found != codes).sum()))
        assert len(np.unique(codes)) > 2
        compared += codes.size
    assert compared > 500_000
    # The answer is accumulators: its float bias is an integer here, half a step off at most.
    (output,) = lowered.outputs
    step = float(lowered.outputs[output].dequantize(torch.ones(1, 10)).detach().abs().max())
    values = lowered.outputs[output].dequantize(torch.from_numpy(results[output])).detach().numpy()
    assert np.abs(values - answer).max() <= step / 2 + 1e-4
    second, first = np.sort(answer, axis=1)[:, -2:].T
    clear = first - second > step + 2e-4
    assert clear.mean() > 0.9
    assert np.array_equal(results["class"][clear], answer.argmax(1)[clear])
    assert any("float bias becomes integers" in note for note in foreign.notes)

    assert all(proof.holds for proof in prove(lowered, lowered.network))
    for executor in (by_plan(plan(lowered.network)), by_reference(lowered.network), by_onnx(lowered.network)):
        found_now = compare_pictures(lowered, lowered.network, executor, PIXELS[:16])
        assert all(e.holds for e in found_now.equalities()), found_now.first


def test_brevitas_qdq_file_of_the_same_network(tmp_path: Path) -> None:
    """A Clip between quantizing and dequantizing says the bits; the integers are those of its QONNX file."""
    from brevitas.export import export_onnx_qcdq

    model = settled("4 bits")
    export_onnx_qcdq(model, torch.rand(8, 3, SIZE, SIZE), export_path=str(tmp_path / "qdq.onnx"))
    other = lower(import_onnx(exported(model, tmp_path / "qonnx.onnx")).model, (SIZE, SIZE)).network
    foreign = import_onnx(tmp_path / "qdq.onnx")
    lowered = lower(foreign.model, foreign.size)
    for ours, theirs in zip(lowered.network.layers.values(), other.layers.values(), strict=True):
        assert (ours.act_format, ours.weight_format) == (theirs.act_format, theirs.weight_format)
        assert np.array_equal(ours.weight, theirs.weight)
    for one, two in zip(lowered.network.requantizes.values(), other.requantizes.values(), strict=True):
        assert one.format == two.format
    found = compare_with_onnxruntime(tmp_path / "qdq.onnx", foreign, lowered, PIXELS)
    assert found.holds, found.unexplained
    assert sum(compared for compared, _ in found.counts.values()) > 500_000


def test_every_command_takes_the_file(tmp_path: Path) -> None:
    path = exported(settled("depthwise"), tmp_path / "net.onnx")
    first = next(iter(lower(import_onnx(path).model, (16, 16)).network.layers))
    for words in (
        ("verify", path, "--limit", 4),
        ("run", "--model", path, "--layer", first, "--act-bits", 8),
        ("vectors", path, "--layer", "all", "--psum-bits", "auto"),
        ("cosim", path, "--layer", "all", "--sim", "icarus"),
        ("simulate", path, "--layer", "all"),
        ("info", path),
        ("lower", path, "--out", tmp_path / "lowered.safetensors"),
        ("import", path, "--out", tmp_path / "imported.safetensors", "--limit", 4),
        ("info", tmp_path / "imported.safetensors", "--nodes"),
    ):
        out = ("--out", tmp_path / f"out-{words[0]}") if words[0] in ("run", "vectors") else ()
        done = call(*words, *out)
        assert done.returncode == 0, (words, done.stderr)


def test_pictures_of_another_size(tmp_path: Path) -> None:
    path = exported(settled("4 bits"), tmp_path / "net.onnx")
    for split in ("train", "test"):
        (tmp_path / "data" / split / "cat").mkdir(parents=True)
        shutil.copy(ASSETS / "cat.png", tmp_path / "data" / split / "cat")
    done = call("import", path, "--out", tmp_path / "net.safetensors", "--limit", 2)
    assert done.returncode == 0, done.stderr
    for model in (path, tmp_path / "net.safetensors"):
        wanted = "expected pictures of 3x16x16, which the network takes, found 3x32x32"
        refuse(call("evaluate", model, "--data", tmp_path / "data"), wanted)
    refuse(call("verify", path, "--data", tmp_path / "data"), "has pictures of 3x32x32, the network takes 3x16x16")


class File:
    """A QONNX file by hand."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def quant(self, name: str, source: str, scale: Any, zero: float, bits: float, **given: Any) -> str:
        names = [self.constant(f"{name}_{k}", v) for k, v in (("s", scale), ("z", zero), ("b", bits))]
        given = {"signed": 0, "narrow": 0, "rounding_mode": "ROUND", **given}
        node = helper.make_node(
            "Quant", [source, *names], [f"{name}_out"], name, domain="qonnx.custom_op.general", **given
        )
        self.nodes.append(node)
        return f"{name}_out"

    def node(self, op: str, name: str, *inputs: str, domain: str = "", **given: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, domain=domain, **given))
        return f"{name}_out"

    def weight(self, name: str, *shape: int, bits: int = 4, **given: Any) -> str:
        values = np.random.default_rng(0).normal(size=shape)
        return self.quant(name, self.constant(f"{name}_w", values), 0.2, 0, bits, signed=1, narrow=1, **given)

    def save(self, path: Path, *outputs: str, shape: tuple[Any, ...] = (1, 3, 8, 8)) -> Path:
        taken = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", taken, given, self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("zero", [0, 3])
def test_rounding_modes_and_zero_points(rounding: str, zero: int, tmp_path: Path) -> None:
    """Every code against the definition of Quant, in float64 on exact multiples."""
    f = File()
    x = f.quant("q", "x", 1 / 16, zero, 6, rounding_mode=rounding, signed=1)
    acc = f.node("Conv", "conv", x, f.weight("w", 5, 3, 1, 1))
    path = f.save(tmp_path / "n.onnx", f.quant("r", acc, 0.25, zero, 4, rounding_mode=rounding))
    foreign = import_onnx(path)
    lowered = lower(foreign.model, foreign.size)
    pixels = np.arange(3 * 64, dtype=np.uint8).reshape(1, 3, 8, 8)
    results = reference.run(lowered.network, pixels, "input", *lowered.network.outputs)
    ratio = pixels / 255 * 16 + zero
    by_hand = {
        "ROUND": np.rint(ratio),
        "HALF_EVEN": np.rint(ratio),
        "CEIL": np.ceil(ratio),
        "FLOOR": np.floor(ratio),
        "DOWN": np.trunc(ratio),
        "ROUND_TO_ZERO": np.trunc(ratio),
        "UP": np.ceil(ratio),
        "HALF_UP": np.floor(ratio + 0.5),
        "HALF_DOWN": np.ceil(ratio - 0.5),
    }[rounding]
    assert np.array_equal(results["input"], np.clip(by_hand, -32, 31) - zero)
    assert [proof for proof in prove(lowered, lowered.network) if not proof.holds] == []
    compared = compare_pictures(lowered, lowered.network, by_reference(lowered.network), PIXELS[:4, :, :8, :8])
    assert all(e.holds for e in compared.equalities())


def test_bipolar_weights(tmp_path: Path) -> None:
    f = File()
    x = f.quant("q", "x", 1 / 255, 0, 8)
    values, scale = np.random.default_rng(0).normal(size=(4, 3, 3, 3)), f.constant("ws", 0.5)
    w = f.node("BipolarQuant", "w", f.constant("ww", values), scale, domain="qonnx.custom_op.general")
    path = f.save(tmp_path / "n.onnx", f.quant("r", f.node("Conv", "conv", x, w, pads=[1, 1, 1, 1]), 0.1, 0, 4))
    foreign = import_onnx(path)
    lowered = lower(foreign.model, foreign.size)
    assert np.array_equal(lowered.network.layers["conv"].weight, np.where(values >= 0, 1, -1))
    compared = compare_pictures(lowered, lowered.network, by_reference(lowered.network), PIXELS[:4, :, :8, :8])
    assert all(e.holds for e in compared.equalities())


def test_a_softmax_at_the_end_is_left_out(tmp_path: Path) -> None:
    f = File()
    x = f.node("Flatten", "flat", f.quant("q", "x", 1 / 255, 0, 8))
    path = f.save(
        tmp_path / "n.onnx", f.node("Softmax", "soft", f.node("Gemm", "fc", x, f.weight("w", 5, 192), transB=1))
    )
    foreign = import_onnx(path)
    assert foreign.notes == ("soft: the Softmax is left out, the largest stays the largest",)
    assert lower(foreign.model, foreign.size).network.outputs == ("fc",)


def body(name: str) -> Any:
    """Files with one odd node, by what is odd."""

    def build(f: File) -> str:
        x = f.quant("q", "x", 1 / 255, 0, 8)
        match name:
            case "softmax":
                return f.quant("r", f.node("Softmax", "odd", x), 0.1, 0, 4)
            case "sigmoid":
                return f.node("Sigmoid", "odd", x)
            case "bipolar activations":
                return f.node("BipolarQuant", "odd", x, f.constant("s", 1.0), domain="qonnx.custom_op.general")
            case "rounding":
                return f.quant("odd", x, 0.1, 0, 4, rounding_mode="STOCHASTIC")
            case "bits":
                return f.quant("odd", x, 0.1, 0, 4.5)
            case "scale a channel":
                return f.quant("odd", x, np.full((1, 3, 1, 1), 0.1), 0, 4)
            case "negative scale":
                return f.quant("odd", x, -0.1, 0, 4)
            case "weights with a zero point":
                w = f.quant("odd", f.constant("w", np.ones((4, 3, 1, 1))), 0.1, 2, 4)
                return f.node("Conv", "conv", x, w)
            case "wide weights":
                w = f.quant("odd", f.constant("w", np.ones((4, 3, 1, 1))), 0.001, 0, 12, signed=1)
                return f.node("Conv", "conv", x, w)
            case "float weights":
                return f.node("Conv", "odd", x, f.constant("w", np.ones((4, 3, 1, 1))))
            case "not quantized":
                a = f.node("Conv", "conv", x, f.weight("w", 4, 3, 1, 1))
                return f.node("Conv", "odd", a, f.weight("v", 4, 4, 1, 1))
            case "float add":
                a = f.node("Conv", "conv", x, f.weight("w", 3, 3, 1, 1))
                return f.node("Add", "odd", a, x)
            case "product":
                return f.node("Mul", "odd", x, x)
            case "auto_pad":
                return f.node("Conv", "odd", x, f.weight("w", 4, 3, 3, 3), auto_pad="SAME_UPPER")
            case "reshape":
                return f.node("Reshape", "odd", x, f.constant("shape", [1, 3, 64]))
            case "linear resize":
                return f.node("Resize", "odd", x, "", f.constant("s", [1, 1, 2, 2]), mode="linear")
            case "weights first":
                return f.node("MatMul", "odd", f.weight("w", 4, 3), x)
        raise AssertionError(name)

    return build


REFUSED = {
    "softmax": "odd: Softmax inside a network cannot be taken; as its last operation it is left out",
    "sigmoid": "odd: Sigmoid cannot be taken into an integer network",
    "bipolar activations": "odd: BipolarQuant of activations cannot be taken",
    "rounding": "odd: rounding mode STOCHASTIC: expected one of ROUND, HALF_EVEN",
    "bits": "odd: expected one whole bit width of 1 to 32, found [4.5]",
    "scale a channel": "odd: activations are quantized by one scale and one whole zero point for all channels",
    "negative scale": "odd: expected positive scales",
    "weights with a zero point": "odd: weights with a zero point cannot be taken",
    "wide weights": "odd: weights of 12 bits: expected at most 8",
    "float weights": "odd: its weights are not quantized",
    "not quantized": "odd: what it takes is not quantized: a quantizer must stand before it",
    "float add": "odd: what it takes is not quantized",
    "product": "odd: Mul of two activations cannot be taken",
    "auto_pad": "odd: expected explicit padding, found auto_pad SAME_UPPER",
    "reshape": "odd: only flattening of all but the batch can be taken",
    "linear resize": "odd: only resizing to the nearest neighbour by scales can be taken, found linear",
    "weights first": "odd: expected activations times weights, found weights times activations",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_odd_is_refused_by_the_name_of_its_node(name: str, tmp_path: Path) -> None:
    f = File()
    path = f.save(tmp_path / "n.onnx", body(name)(f))
    with pytest.raises(BadInput, match=re.escape(f"{path}: {REFUSED[name]}")) as error:
        import_onnx(path)
    assert "\n" not in str(error.value)


def good(path: Path) -> Path:
    f = File()
    x = f.quant("q", "x", 1 / 255, 0, 8)
    return f.save(path, f.quant("r", f.node("Conv", "conv", x, f.weight("w", 4, 3, 3, 3)), 0.1, 0, 4))


def test_damaged_and_malicious_files(tmp_path: Path) -> None:
    path = good(tmp_path / "good.onnx")
    assert isinstance(import_onnx(path), Foreign)
    whole = path.read_bytes()
    for share in (0, 0.2, 0.7, 0.99):
        (tmp_path / "cut.onnx").write_bytes(whole[: int(len(whole) * share)])
        refuse(call("import", tmp_path / "cut.onnx"), "cut.onnx: ")
    model = onnx.load(path)
    tensor = next(t for t in model.graph.initializer if t.name == "w_w")

    def external(place: str) -> Path:
        other = onnx.ModelProto()
        other.CopyFrom(model)
        moved = next(t for t in other.graph.initializer if t.name == "w_w")
        moved.ClearField("raw_data")
        moved.data_location = TensorProto.EXTERNAL
        moved.external_data.add(key="location", value=place)
        (tmp_path / "external.onnx").write_bytes(other.SerializeToString())
        return tmp_path / "external.onnx"

    (tmp_path.parent / "secret").write_bytes(tensor.raw_data)
    for place in ("../secret", str(tmp_path.parent / "secret"), "a/../../secret", ""):
        refuse(call("import", external(place)), "'w_w' points to", "outside the file's folder: not read")
    (tmp_path / "link").symlink_to(tmp_path.parent / "secret")
    refuse(call("import", external("link")), "outside the file's folder: not read")
    (tmp_path / "inside").write_bytes(tensor.raw_data)
    assert isinstance(import_onnx(external("inside")), Foreign)

    large = onnx.ModelProto()
    large.CopyFrom(model)
    one = next(t for t in large.graph.initializer if t.name == "w_w")
    one.ClearField("dims")
    one.dims.extend([1 << 14, 1 << 14, 1, 1])
    (tmp_path / "large.onnx").write_bytes(large.SerializeToString())
    refuse(call("import", tmp_path / "large.onnx"), "'w_w' has 1,073,741,824 bytes: expected at most 536,870,912")
    with (tmp_path / "huge.onnx").open("wb") as file:
        file.truncate(1 << 30)
    refuse(call("import", tmp_path / "huge.onnx"), "huge.onnx has 1,073,741,824 bytes: expected at most")
    refuse(call("import", tmp_path / "none.onnx"), "none.onnx")
    assert not list(tmp_path.glob("*.safetensors"))


def test_shapes_that_are_open_are_refused(tmp_path: Path) -> None:
    f = File()
    x = f.quant("q", "x", 1 / 255, 0, 8)
    path = f.save(tmp_path / "n.onnx", x, shape=("N", 3, "H", "W"))
    refuse(call("import", path), "input 'x' has shape Nx3xHxW: expected a batch of pictures (N, C, H, W) of known size")
    plain = File()
    plain.node("Relu", "r", "x")
    refuse(call("import", plain.save(tmp_path / "p.onnx", "r_out")), "holds no quantizers: expected QONNX")
