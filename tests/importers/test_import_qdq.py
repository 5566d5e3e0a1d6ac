"""QDQ: onnxruntime's codes, or a tie that is shown by position and explained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from cli.calling import call, one_object, refuse
from importers.qdq_files import Qdq, residual
from systolith.formats import BadInput
from systolith.frontends.lowering import lower
from systolith.frontends.verify import by_onnx, by_plan, by_reference, compare_pictures, prove
from systolith.importers.importing import import_onnx
from systolith.importers.original import compare_with_onnxruntime
from systolith.network.execute import plan

PIXELS = np.random.default_rng(0).integers(0, 256, (256, 3, 32, 32), dtype=np.uint8)


class Block(nn.Module):
    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs)
        self.c2, self.b2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs)
        down = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))
        self.down = nn.Identity() if (ins, stride) == (outs, 1) else down

    def forward(self, x: Tensor) -> Tensor:
        y = self.b2(self.c2(F.relu(self.b1(self.c1(x)))))
        return F.relu(y + self.down(x))


def resnet() -> nn.Module:
    stem = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(
        *stem, Block(8, 8, 1), Block(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


def separable(ins: int, outs: int, stride: int) -> nn.Module:
    depth = nn.Conv2d(ins, ins, 3, stride, 1, groups=ins, bias=False), nn.BatchNorm2d(ins), nn.ReLU6()
    return nn.Sequential(*depth, nn.Conv2d(ins, outs, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU6())


def mobilenet() -> nn.Module:
    stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()
    tail = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    return nn.Sequential(*stem, separable(8, 16, 1), separable(16, 16, 2), *tail)


class Pictures(CalibrationDataReader):
    def __init__(self) -> None:
        self.left: Iterator[Any] = iter([(PIXELS[i : i + 1] / 255).astype(np.float32) for i in range(16)])

    def get_next(self) -> Any:
        picture = next(self.left, None)
        return None if picture is None else {"x": picture}


def quantized(model: nn.Module, folder: Path) -> Path:
    """By onnxruntime's own static quantizer: uint8 activations with zero points, int8 weights a channel."""
    model.train()
    for _ in range(5):
        model(torch.rand(32, 3, 32, 32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model.eval(),
            (torch.rand(1, 3, 32, 32),),
            folder / "float.onnx",
            input_names=["x"],
            dynamic_axes={"x": {0: "N"}},
            dynamo=False,
        )
    kinds: dict[str, Any] = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    path = folder / "qdq.onnx"
    quantize_static(folder / "float.onnx", path, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True, **kinds)
    return path


@pytest.mark.parametrize("make", [resnet, mobilenet])
def test_onnxruntimes_codes_of_256_pictures(make: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = quantized(make(), tmp_path)
    foreign = import_onnx(path)
    lowered = lower(foreign.model, foreign.size)
    assert foreign.kind == "QDQ"
    formats = {str(node.format) for node in lowered.network.requantizes.values()}
    assert "int9" in formats  # a zero point makes codes of both signs, one bit wider
    found = compare_with_onnxruntime(path, foreign, lowered, PIXELS)
    assert found.holds, found.unexplained
    compared, different = (sum(counts[i] for counts in found.counts.values()) for i in (0, 1))
    assert compared > 2_000_000
    assert different == len(found.ties) < compared / 100_000
    for tie in found.ties:
        # Half way between the two codes, but for what sums of floats may be off.
        assert abs(tie.value - (tie.expected + tie.found) / 2) <= tie.error < 0.01
        assert abs(tie.expected - tie.found) == 1
        assert str(tie).startswith(f"{tie.tensor} [")
    assert all(proof.holds for proof in prove(lowered, lowered.network))
    for executor in (by_plan(plan(lowered.network)), by_reference(lowered.network), by_onnx(lowered.network)):
        alike = compare_pictures(lowered, lowered.network, executor, PIXELS[:16])
        assert all(e.holds for e in alike.equalities()), alike.first


def pt2e(folder: Path) -> Path:
    """By torchao's PT2E, and torch's own exporter."""
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    stem = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)
    tail = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    model = nn.Sequential(*stem, nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), *tail).eval()
    batch = (torch.rand(4, 3, 16, 16),)
    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_pt2e(torch.export.export(model, batch).module(), quantizer)
        for _ in range(4):
            prepared(torch.rand(4, 3, 16, 16))
        torch.onnx.export(convert_pt2e(prepared), batch, folder / "pt2e.onnx", dynamo=True, verbose=False)
    return folder / "pt2e.onnx"


def test_a_pt2e_export(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = pt2e(tmp_path)
    foreign = import_onnx(path)
    lowered = lower(foreign.model, foreign.size)
    found = compare_with_onnxruntime(path, foreign, lowered, PIXELS[:255, :, :16, :16])  # batches of 4
    assert found.holds, found.unexplained
    assert sum(compared for compared, _ in found.counts.values()) == 255 * (3 * 256 + 8 * 256 + 8 * 64 + 8)
    # The last layer has a scale a channel: its accumulators are answers, and name no class.
    assert not lowered.network.classifies


def test_a_wrong_network_is_no_tie(tmp_path: Path) -> None:
    onnx.save(residual(), tmp_path / "n.onnx")
    onnx.save(residual(seed=1), tmp_path / "other.onnx")
    foreign = import_onnx(tmp_path / "n.onnx")
    found = compare_with_onnxruntime(tmp_path / "other.onnx", foreign, lower(foreign.model, foreign.size), PIXELS[:2])
    assert not found.holds
    assert found.unexplained
    assert any(not e.holds for e in found.equalities)


def test_import_says_what_was_compared(tmp_path: Path) -> None:
    onnx.save(residual(), tmp_path / "n.onnx")
    out = tmp_path / "n.safetensors"
    value = one_object(call("import", tmp_path / "n.onnx", "--out", out, "--limit", 8, "--json"))
    assert value["holds"] is True
    assert value["kind"] == "QDQ"
    assert [e["name"] for e in value["runtime"]] == [f"q{n}_out" for n in ("x", "a", "b", "s", "m", "f")]
    assert sum(e["compared"] for e in value["runtime"]) == 8 * (3 * 1024 + 3 * 4 * 1024 + 4 + 5)
    assert value["files"] == [str(out)]
    refuse(call("import", tmp_path / "n.onnx", "--out", out), "exists already; --force replaces a file")
    again = one_object(call("info", out, "--nodes", "--json"))["nodes"]
    assert [row["node"] for row in again] == [row["node"] for row in value["steps"]]
    (add,) = [row for row in value["steps"] if row["node"] == "Add"]
    assert add["detail"].startswith("gains ")


def test_an_adds_two_scales_become_whole_gains(tmp_path: Path) -> None:
    onnx.save(residual(), tmp_path / "n.onnx")
    foreign = import_onnx(tmp_path / "n.onnx")
    lowered = lower(foreign.model, foreign.size)
    (add,) = [s.node for s in lowered.network.steps if type(s.node).__name__ == "Add"]
    one, two = add.gains  # type: ignore[union-attr]
    assert one * np.float64(np.float32(0.011)) == two * np.float64(np.float32(0.019))


ODD: dict[str, tuple[Any, str]] = {
    "a scale a channel": (
        lambda q: q.node(
            *("QuantizeLinear", "odd", "x", q.constant("s", np.full(3, 0.1, np.float32))),
            *(q.constant("z", np.zeros(3, np.uint8)),),
        ),
        "odd: activations are quantized by one scale and one zero point for all channels",
    ),
    "two different pairs": (
        lambda q: q.node(
            *("DequantizeLinear", "odd", q.node("QuantizeLinear", "a", "x", q.constant("s", np.float32(0.1)))),
            *(q.constant("t", np.float32(0.2)),),
        ),
        "odd: expected the scale and zero point of the QuantizeLinear before it",
    ),
    "not quantized": (
        lambda q: q.node("Conv", "odd", "x", q.weight("w", 4, 3, 3, 3)),
        "odd: what it takes is not quantized",
    ),
    "weights with zero points": (
        lambda q: q.node(
            *("Conv", "odd", q.quantized("q", "x", 0.1, 0)),
            q.node(
                *("DequantizeLinear", "w", q.constant("c", np.ones((4, 3, 1, 1), np.uint8))),
                *(q.constant("s", np.ones(4, np.float32)), q.constant("z", np.arange(4, dtype=np.uint8))),
                axis=0,
            ),
        ),
        "w: weights with a zero point cannot be taken",
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_is_refused_by_the_name_of_its_node(name: str, tmp_path: Path) -> None:
    build, message = ODD[name]
    q = Qdq()
    onnx.save(q.model(build(q), 3, 8, 8), tmp_path / "n.onnx")
    with pytest.raises(BadInput) as error:
        import_onnx(tmp_path / "n.onnx")
    assert str(error.value).startswith(f"{tmp_path / 'n.onnx'}: {message}"), str(error.value)
