"""Other people's files: how long their import takes, and how fast the integers then are beside onnxruntime.

    pip install brevitas==0.13.4 onnx onnxruntime
    python -m benchmarks.doors [import] [resnet] [vgg16] [--threads N] [--quick]

import: a 4-bit VGG16 of Brevitas' layers, random weights, scales set by a few batches, from its QONNX file to proved
integers; export is Brevitas' own and shown apart. Then the same network in onnxruntime, from the QDQ file that Brevitas
exports of it, beside our executor on the integers. resnet, vgg16: a network quantized to 8 bits by onnxruntime's own
quantize_static, for which no aim is set. onnxruntime runs with its default optimisations, both sides take the same
pictures and as many threads (1: what else a machine does then slows both alike), one after the other in each round; the
figures are medians over the rounds. quick: small networks, whose figures say nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systolith.frontends.lowered import Lowered
from systolith.frontends.lowering import lower
from systolith.frontends.verify import prove
from systolith.importers.importing import import_onnx
from systolith.network.execute import Plan, execute, plan

MOST_SECONDS = 10
PLAN = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")


class Block(nn.Module):
    """Two convolutions and what went into them; the first of a stage halves the map."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.BatchNorm2d(outs)
        self.c2, self.b2 = nn.Conv2d(outs, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs)
        down = nn.Sequential(nn.Conv2d(ins, outs, 1, stride, bias=False), nn.BatchNorm2d(outs))
        self.down = nn.Identity() if (ins, stride) == (outs, 1) else down

    def forward(self, x: Tensor) -> Tensor:
        """The sum, rectified."""
        y = self.b2(self.c2(F.relu(self.b1(self.c1(x)))))
        return F.relu(y + self.down(x))


def resnet(quick: bool) -> nn.Module:
    """ResNet20 for 32x32 pictures; quick: a block a stage."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    ins = 16
    for outs in (16, 32, 64):
        for _ in range(1 if quick else 3):
            layers.append(Block(ins, outs, 1 if ins == outs else 2))
            ins = outs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(ins, 10))


def vgg16(quick: bool) -> nn.Sequential:
    """VGG16 for 32x32 pictures; quick: an eighth of its width."""
    layers: list[nn.Module] = []
    ins = 3
    for item in PLAN:
        if isinstance(item, str):
            layers.append(nn.MaxPool2d(2))
            continue
        outs = item // 8 if quick else item
        layers += [nn.Conv2d(ins, outs, 3, 1, 1, bias=False), nn.BatchNorm2d(outs), nn.ReLU()]
        ins = outs
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(ins, 10))


def brevitas_vgg16(quick: bool) -> nn.Module:
    """The same of Brevitas' layers: 4-bit weights and activations, 8-bit pixels and classifier."""
    import brevitas.nn as qnn

    layers: list[nn.Module] = [qnn.QuantIdentity(bit_width=8, return_quant_tensor=True)]
    for module in vgg16(quick):
        if isinstance(module, nn.Conv2d):
            sizes = module.in_channels, module.out_channels, 3
            layers.append(qnn.QuantConv2d(*sizes, padding=1, bias=False, weight_bit_width=4))
        elif isinstance(module, nn.ReLU):
            layers.append(qnn.QuantReLU(bit_width=4, return_quant_tensor=True, collect_stats_steps=2))
        elif isinstance(module, nn.Linear):
            layers.append(qnn.QuantLinear(module.in_features, 10, bias=True, weight_bit_width=8))
        else:
            layers.append(module)
    return nn.Sequential(*layers)


def settled(model: nn.Module, batches: int = 3) -> nn.Module:
    """In eval, after a few batches that set scales and batch norms."""
    model.train()
    with torch.no_grad():
        for _ in range(batches):
            model(torch.rand(32, 3, 32, 32))
    return model.eval()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters say."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


def brevitas(quick: bool, folder: Path) -> bool:
    """Print what the import of Brevitas' file takes, and how fast the integers are beside onnxruntime; whether both
    aims are met."""
    with quiet():
        from brevitas.export import export_onnx_qcdq, export_qonnx
    torch.manual_seed(0)
    model, file = settled(brevitas_vgg16(quick)), folder / "vgg16.onnx"
    clock = time.perf_counter
    begin = clock()
    with quiet():
        export_qonnx(model, torch.rand(1, 3, 32, 32), export_path=str(file))
    made = clock()
    foreign = import_onnx(file)
    read = clock()
    lowered = lower(foreign.model, foreign.size)
    integers = clock()
    proofs = prove(lowered, lowered.network)
    proved = clock()
    assert all(proof.holds for proof in proofs)
    print(
        f"import of Brevitas' VGG16, 4 bits, {len(lowered.network.layers)} layers, {file.stat().st_size / 1e6:.0f} MB"
    )
    for what, spent in (("reading", read - made), ("lowering", integers - read), ("proving", proved - integers)):
        print(f"  {what:10s} {spent:6.2f} s")
    total = proved - made
    verdict = "aim met" if total < MOST_SECONDS else "NOT MET"
    print(f"{verdict}: {total:.2f} s together (aim {MOST_SECONDS} s); Brevitas' export took {made - begin:.2f} s")
    batch = 8 if quick else 32
    with quiet():
        export_onnx_qcdq(model, torch.rand(batch, 3, 32, 32), export_path=str(folder / "qdq.onnx"))
    pixels = np.random.default_rng(0).integers(0, 256, (4 * batch, 3, 32, 32), dtype=np.uint8)
    ratio = beside_onnxruntime(
        "Brevitas' VGG16, 4 bits", lowered, folder / "qdq.onnx", pixels, batch, 2 if quick else 9
    )
    print(f"{'aim met' if ratio >= 1 else 'NOT MET'}: ours is {ratio:.2f}x as fast as onnxruntime (aim 1x)")
    return total < MOST_SECONDS and ratio >= 1


def qdq_file(model: nn.Module, pixels: np.ndarray[Any, Any], folder: Path) -> Path:
    """What onnxruntime's static quantizer makes of a float network: uint8 activations, int8 weights a channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pictures(CalibrationDataReader):
        left: Iterator[Any] = iter([(pixels[i : i + 16] / 255).astype(np.float32) for i in range(0, 64, 16)])

        def get_next(self) -> Any:
            pictures = next(self.left, None)
            return None if pictures is None else {"x": pictures}

    taken, made = folder / "float.onnx", folder / "qdq.onnx"
    with quiet():
        torch.onnx.export(
            model, (torch.rand(1, 3, 32, 32),), taken, input_names=["x"], dynamic_axes={"x": {0: "N"}}, dynamo=False
        )
        kinds = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(taken, made, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True, **kinds)
    return made


def onnxruntime_session(file: Path) -> Any:
    """onnxruntime on the processor, default optimisations, as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def beside_onnxruntime(
    name: str, lowered: Lowered, file: Path, pixels: np.ndarray[Any, Any], batch: int, rounds: int
) -> float:
    """Print images/s of onnxruntime on the QDQ file and of our integers; how many times as fast ours is."""
    planned: Plan = plan(lowered.network, batch)
    session = onnxruntime_session(file)
    taken = session.get_inputs()[0].name
    parts = torch.from_numpy(pixels).split(batch)
    floats = [(part.float() / 255).numpy() for part in parts]
    sides: dict[str, Callable[[], object]] = {
        "ours, imported integers": lambda: [execute(planned, part) for part in parts],
        "onnxruntime, the QDQ file": lambda: [session.run(None, {taken: part}) for part in floats],
    }
    rates: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds + 1):
        for side, work in sides.items():
            begin = time.perf_counter()
            work()
            rates[side].append(len(pixels) / (time.perf_counter() - begin))
    print(f"{name}, QDQ, batch {batch}, threads {torch.get_num_threads()}; kernels: {planned}")
    for side, found in rates.items():
        print(f"  {side:28s} {statistics.median(found[1:]):7.0f} images/s")
    return statistics.median(ours / theirs for ours, theirs in zip(*(r[1:] for r in rates.values()), strict=True))


def eight_bits(name: str, quick: bool, folder: Path) -> None:
    """Print the same of a network that onnxruntime's own quantizer made, to 8 bits."""
    batch, count, rounds = (8, 16, 2) if quick else (32, 128 if name == "vgg16" else 256, 9)
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (max(count, 64), 3, 32, 32), dtype=np.uint8)
    file = qdq_file(settled({"resnet": resnet, "vgg16": vgg16}[name](quick)), pixels, folder)
    foreign = import_onnx(file)
    ratio = beside_onnxruntime(
        f"{name}, 8 bits", lower(foreign.model, foreign.size), file, pixels[:count], batch, rounds
    )
    print(f"ours is {ratio:.2f}x as fast as onnxruntime")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all or those that are named; exit code 1 if an aim is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doors")
    parser.add_argument("what", nargs="*", default=["import", "resnet", "vgg16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    met = True
    for name in given.what:
        with tempfile.TemporaryDirectory() as folder:
            if name == "import":
                met &= brevitas(given.quick, Path(folder))
            else:
                eight_bits(name, given.quick, Path(folder))
    if not met:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
