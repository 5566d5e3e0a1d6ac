"""Networks for the tests of lowering: a random one by seed, and what a model's own quantizers see in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from systolith.frontends.lowering import Lowered, lower
from systolith.frontends.verify import by_onnx, by_plan, by_reference, compare_pictures, prove
from systolith.network import reference
from systolith.network.execute import answer, plan
from systolith.network.graph import Add, AvgPool, Conv, Linear, sides
from systolith.quant import (
    ActQuantizer,
    ExactBatchNorm1d,
    ExactBatchNorm2d,
    QuantAdd,
    QuantAvgPool2d,
    QuantConv2d,
    QuantIdentity,
    QuantLinear,
    calibrate,
)


def noise(count: int, *size: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """uint8 pictures (count, channels, *size)."""
    return np.random.default_rng(seed).integers(0, 256, (count, channels, *size), dtype=np.uint8)


@torch.no_grad()
def scramble(model: nn.Module, pixels: np.ndarray, seed: int = 0) -> nn.Module:
    """Random batch norms (negative gains, exactly zero ones), biases, and clip values of a calibration batch; in eval.

    The statistics are those of the batch, times and plus noise.
    """
    gen = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (ExactBatchNorm1d, ExactBatchNorm2d)):
            module.momentum = 1.0
            module.weight.copy_(torch.randn(module.num_features, generator=gen))
            module.weight[seed % module.num_features] = 0
            module.weight[(seed + 1) % module.num_features] = -1
            module.bias.copy_(torch.randn(module.num_features, generator=gen))
        if isinstance(module, QuantLinear) and module.bias is not None:
            module.bias.copy_(torch.randn(module.out_features, generator=gen))
    calibrate(model, torch.from_numpy(pixels).float())
    for module in model.modules():
        if isinstance(module, (ExactBatchNorm1d, ExactBatchNorm2d)):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.add_(0.1 * torch.randn(module.num_features, generator=gen))
            module.running_var.mul_(0.5 + torch.rand(module.num_features, generator=gen))
    return model.eval()


def seen_by_quantizers(model: nn.Module, pixels: np.ndarray) -> tuple[dict[str, list[np.ndarray]], list[np.ndarray]]:
    """The codes that each layer's own quantizer makes of what the model brings to it, by layer (NAME#2 of a second
    call), and the model's outputs.

    Taken by hooks from a plain call of the model: nothing of the lowering is involved.
    """
    seen: dict[str, list[np.ndarray]] = {}

    def look(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            operands = (*inputs, *named.values())
            calls = sum(key.split("#")[0] == name for key in seen)
            called = f"{name}#{calls + 1}" if calls else name
            seen[called] = [module.act_quant.codes(x).numpy().astype(np.int64) for x in operands]

        return hook

    hooks = [
        module.register_forward_pre_hook(look(name), with_kwargs=True)
        for name, module in model.named_modules()
        if hasattr(module, "act_quant")
    ]
    with torch.no_grad():
        result = model(torch.from_numpy(pixels))
    for handle in hooks:
        handle.remove()
    results = [result] if isinstance(result, Tensor) else list(result.values() if isinstance(result, dict) else result)
    return seen, [one.numpy() for one in results]


def without_padding(node: Any, layer: Any, codes: np.ndarray) -> np.ndarray:
    """What a layer took, less the zeros that stood around it and are now the integer layer's own padding."""
    if not isinstance(node, Conv) or not isinstance(layer, QuantConv2d):
        return codes
    own = sides(layer.padding)  # type: ignore[arg-type]
    top, bottom, left, right = (a - b for a, b in zip(node.pads, own, strict=True))
    inside = codes[:, :, top : codes.shape[2] - bottom, left : codes.shape[3] - right]
    assert np.count_nonzero(codes) == np.count_nonzero(inside)
    return inside


def require_equal(model: nn.Module, pixels: np.ndarray, size: tuple[int, ...] | None = None) -> Lowered:
    """Lower `model` and assert that both executors give its codes in front of every layer, and its outputs."""
    lowered = lower(model, pixels.shape[2:] if size is None else size)
    network = lowered.network
    for proof in prove(lowered, network):
        assert proof.holds, f"{proof.name}: {proof}"

    expected, outputs = seen_by_quantizers(model, pixels)
    by_numpy: dict[str, np.ndarray] = reference.run(network, pixels, *(step.name for step in network.steps))
    by_torch: dict[str, np.ndarray] = {}
    planned = plan(network)
    answers = answer(
        planned, torch.from_numpy(pixels), lambda name, x: by_torch.update({name: x.numpy().astype(np.int64)})
    )
    modules = dict(model.named_modules())
    layers = [s for s in network.steps if isinstance(s.node, (Conv, Linear, Add, AvgPool)) and s.name in expected]
    alone = {name for name in expected if isinstance(modules[name.split("#")[0]], QuantIdentity)}
    assert {step.name for step in layers} == set(expected) - alone
    for step in layers:
        for codes in (by_numpy, by_torch):
            assert len(step.inputs) == len(expected[step.name])
            for name, seen in zip(step.inputs, expected[step.name], strict=True):
                taken = without_padding(step.node, modules[step.name.split("#")[0]], seen)
                assert np.array_equal(codes[name], taken), f"{step.name} takes {name}"
    for name in alone:
        made = by_numpy[lowered.quantized[name]]
        assert np.array_equal(made.reshape(len(pixels), -1), expected[name][0].reshape(len(pixels), -1))

    # The outputs are integers: fp32(integer * s) is what the model answers.
    assert len(network.outputs) == len(outputs)
    for name, value in zip(network.outputs, outputs, strict=True):
        assert np.array_equal(answers[name].numpy(), by_numpy[name])
        integers = torch.from_numpy(by_numpy[name])
        assert np.array_equal(lowered.outputs[name].dequantize(integers).detach().numpy(), value)
        last: Any = modules.get(name)
        if isinstance(last, QuantLinear):
            scale = last.scale().detach().numpy().astype(np.float64)
            assert np.array_equal((by_numpy[name] * scale).astype(np.float32), value)
    classes = [(len(pixels), 0)] * network.classifies
    if network.classifies:
        assert np.array_equal(by_numpy[network.steps[-1].name], outputs[0].argmax(1))

    counted = len(pixels) * sum(int(np.prod(network.values[name].shape)) for name in network.requantizes)
    for executor in (by_plan(planned), by_reference(network), by_onnx(network)):
        found = compare_pictures(lowered, network, executor, pixels)
        sizes = [(e.compared, e.different) for e in found.equalities()]
        assert sizes == [(counted, 0), (sum(one.size for one in outputs), 0), *classes], found.first
        assert found.first == ""
        if network.classifies:
            assert np.array_equal(np.concatenate(found.trained), outputs[0].argmax(1))
            assert np.array_equal(np.concatenate(found.integer), outputs[0].argmax(1))
    return lowered


class RandomNet(nn.Module):
    """A random graph of everything that can be lowered: operations on earlier results, until one is classified.

    It is made on a batch of pictures, each quantizer and batch norm set by what reaches it (batch norms with noise,
    negative and zero gains); operations that the last result does not need are dropped.
    """

    def __init__(self, seed: int, pixels: np.ndarray) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        self.relu = nn.ReLU()  # one module, called in many places
        self.layers = nn.ModuleDict()
        self.program: list[tuple[Callable[..., Tensor] | None, tuple[int, ...]]] = []
        self.offset = int(self.rng.choice([0, 128]))
        # What each result is: pixels, a map, a pooled map (no batch norm there any more), or a vector.
        self.kinds, self.results = ["pixels"], [torch.from_numpy(pixels)]
        self.eval()
        with torch.no_grad():
            self.conv()
            for _ in range(int(self.rng.integers(8, 20))):
                self.makers()[int(self.rng.integers(len(self.makers())))]()
            self.classify()
        self.drop_unused()
        del self.results, self.rng

    def makers(self) -> tuple[Callable[[], None], ...]:
        return (self.conv, self.conv, self.norm, self.rectify, self.pool, self.average, self.add, self.same)

    def forward(self, x: Tensor) -> Any:
        results = {0: x}
        for at, (operation, taken) in enumerate(self.program, 1):
            if operation is not None:
                results[at] = operation(*(results[i] for i in taken))
        return results[at]

    def put(self, operation: Callable[..., Tensor], *taken: int, kind: str | None = None) -> None:
        operands = [self.results[i] for i in taken]
        if isinstance(operation, nn.Module):
            self.layers[f"{type(operation).__name__}{len(self.layers)}"] = operation.eval()
        quantizer: Any = getattr(operation, "act_quant", None)
        if isinstance(quantizer, ActQuantizer):
            quantizer.initialize(torch.cat([x.float().flatten() for x in operands]))
        self.program.append((operation, taken))
        self.results.append(operation(*operands))
        self.kinds.append(kind or self.kinds[taken[0]])

    def pick(self, *kinds: str) -> int:
        """One of the results of these kinds, the late ones more often."""
        fit = [i for i, kind in enumerate(self.kinds) if kind in kinds]
        return fit[int(len(fit) * self.rng.random() ** 0.25)]

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return int(self.rng.integers(low, high + 1)), int(self.rng.integers(low, high + 1))

    def bits(self) -> int:
        return int(self.rng.choice([2, 3, 4, 8]))

    def fits(self, at: int, reach: tuple[int, ...]) -> bool:
        height, width = self.results[at].shape[2:]
        return reach[0] <= height and reach[1] <= width

    def conv(self) -> None:
        at = self.pick("pixels", "map", "pooled")
        kernel, dilation, padding = self.pair(1, 3), self.pair(1, 2), self.pair(0, 2)
        if not self.fits(at, tuple(dilation[d] * (kernel[d] - 1) + 1 - 2 * padding[d] for d in (0, 1))):
            kernel = (1, 1)
        layer = QuantConv2d(
            self.results[at].shape[1],
            int(self.rng.choice([2, 4, 8])),
            kernel,
            self.pair(1, 2),
            padding,
            dilation,
            weight_bits=self.bits(),
            act_bits=self.bits(),
            per_channel=bool(self.rng.integers(2)),
            pixels=self.offset if at == 0 else None,
        )
        self.put(layer, at, kind="map")
        if self.rng.random() < 0.6:
            self.norm(len(self.results) - 1)

    def norm(self, at: int | None = None) -> None:
        at = self.pick("map") if at is None else at
        value = self.results[at]
        channels = value.shape[1]
        layer: Any = ExactBatchNorm2d(channels)
        layer.running_mean.copy_(value.mean((0, 2, 3)) + 0.2 * torch.randn(channels))
        layer.running_var.copy_(value.var((0, 2, 3)) * (0.5 + torch.rand(channels)))
        layer.weight.copy_(torch.randn(channels) * (torch.rand(channels) > 0.15))
        layer.bias.copy_(torch.randn(channels))
        self.put(layer, at)
        if self.rng.random() < 0.5:
            self.rectify(len(self.results) - 1)

    def rectify(self, at: int | None = None) -> None:
        ways = self.relu, F.relu, torch.relu, lambda x: x.relu()
        self.put(ways[int(self.rng.integers(4))], self.pick("map", "pooled") if at is None else at)

    def pool(self) -> None:
        at, kernel, stride = self.pick("map", "pooled"), self.pair(1, 3), self.pair(1, 3)
        padding = kernel[0] // 2 * int(self.rng.integers(2)), kernel[1] // 2 * int(self.rng.integers(2))
        ways = nn.MaxPool2d(kernel, stride, padding), lambda x: F.max_pool2d(x, kernel, stride, padding)
        if self.fits(at, kernel):
            self.put(ways[int(self.rng.integers(2))], at, kind="pooled")

    def average(self) -> None:
        at, kernel, stride = self.pick("map", "pooled"), self.pair(1, 3), self.pair(1, 2)
        bits, signed = self.bits(), bool(self.rng.integers(2))
        window = kernel if self.fits(at, kernel) and self.rng.random() < 0.7 else None
        layer = QuantAvgPool2d(window, stride if window else None, act_bits=bits, signed=signed)
        self.put(layer, at, kind="map")

    def add(self) -> None:
        at = self.pick("map", "pooled")
        shape = self.results[at].shape
        others = [
            i for i, x in enumerate(self.results) if x.shape == shape and self.kinds[i] not in ("pixels", "padded")
        ]
        self.put(QuantAdd(self.bits()), at, int(self.rng.choice(others)), kind="map")

    def same(self) -> None:
        self.put(nn.Identity() if self.rng.random() < 0.5 else nn.Dropout(), self.pick("map", "pooled"))

    def classify(self) -> None:
        ways = nn.Flatten(), lambda x: x.flatten(1), lambda x: torch.flatten(x, start_dim=1)
        self.put(ways[int(self.rng.integers(3))], len(self.results) - 1, kind="vector")
        if self.rng.random() < 0.5:
            self.rectify(len(self.results) - 1)
        for out in self.rng.integers(3, 9, int(self.rng.integers(3))):
            self.linear(int(out), self.bits(), self.bits())
            if self.rng.random() < 0.7:
                self.rectify(len(self.results) - 1)
        self.linear(5, 8, 8)

    def linear(self, out: int, weight_bits: int, act_bits: int) -> None:
        layer = QuantLinear(self.results[-1].shape[1], out, weight_bits=weight_bits, act_bits=act_bits)
        layer.bias.copy_(torch.randn(out))
        self.put(layer, len(self.results) - 1)

    def drop_unused(self) -> None:
        needed = set(getattr(self, "answers", ())) or {len(self.program)}
        for at in range(len(self.program), 0, -1):
            _, taken = self.program[at - 1]
            if at in needed:
                needed.update(taken)
                continue
            self.program[at - 1] = (None, ())
        used = {id(operation) for operation, _ in self.program}
        for name in [name for name, module in self.layers.items() if id(module) not in used]:
            del self.layers[name]
