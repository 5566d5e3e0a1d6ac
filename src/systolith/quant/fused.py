"""Fake quantization on a CPU in one pass over memory each way, by `kernels.cpp`.

As PyTorch's operations it takes some ten passes, and passes are what it costs: a fifth of a training step. A compiler
is all that this needs. Without one, or elsewhere than on a CPU, `functional.py` has the same values from those
operations.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

SOURCE = Path(__file__).with_name("kernels.cpp")
# Contracted products and sums would be rounded once where PyTorch rounds twice.
FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")
NAMES = {torch.bfloat16: "bf16", torch.float32: "fp32"}
KINDS = ("bf16_bf16", "fp32_fp32", "fp32_bf16", "normal_fp32_fp32", "normal_fp32_bf16")
"""What the kernels take and give: the dtypes of x and of its fake-quantized values, of normalized weights too."""


class _Range(ctypes.Structure):
    _fields_ = (("low", ctypes.c_float), ("high", ctypes.c_float), ("up", ctypes.c_int32))


@functools.cache
def kernels() -> ctypes.CDLL | None:
    """The kernels, compiled for this processor at their first use in a process (half a second); None if that fails.

    The compiler is `$CXX`, or g++.
    """
    with tempfile.TemporaryDirectory(prefix="systolith-") as folder:
        library = Path(folder) / "kernels.so"
        # PyTorch's own OpenMP, where it brings one: two pools of threads would wait for the same cores.
        threads = [*map(str, (Path(torch.__file__).parent / "lib").glob("libgomp*")), "-Wl,--as-needed", "-fopenmp"]
        command = [*shlex.split(os.environ.get("CXX", "g++")), *FLAGS, "-shared", "-fPIC", str(SOURCE), *threads]
        try:
            subprocess.run([*command, "-o", str(library)], check=True, capture_output=True)
            found = ctypes.CDLL(str(library))
        except (OSError, subprocess.CalledProcessError):
            return None
    pointer, size, number = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    shape = (size, size, number)
    found.chunk_size.restype = size
    found.moments.argtypes = (pointer, pointer, pointer, *shape)
    for kind in KINDS:
        getattr(found, f"forward_{kind}").argtypes = (*[pointer] * 4, *shape)
        getattr(found, f"backward_{kind}").argtypes = (*[pointer] * 6, *shape)
    return found


def takes(x: Tensor, dtype: torch.dtype, normalize: bool = False) -> bool:
    """Whether there is a kernel from `x` to values of `dtype`, and it could be compiled."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, nn.Parameter)  # neither traced nor faked
        and x.device.type == "cpu"
        and x.numel() > 0
        and _kind(x.dtype, dtype, normalize) in KINDS
        and kernels() is not None
    )


def _kind(x: torch.dtype, y: torch.dtype, normalize: bool) -> str:
    return f"{'normal_' if normalize else ''}{NAMES.get(x)}_{NAMES.get(y)}"


def _call(function: str, *arguments: Tensor | _Range | None, groups: int, size: int) -> None:
    def address(a: Tensor | _Range | None) -> int | None:
        return a.data_ptr() if isinstance(a, Tensor) else None if a is None else ctypes.addressof(a)

    getattr(kernels(), function)(*map(address, arguments), groups, size, torch.get_num_threads())


def _parts(groups: int, size: int) -> Tensor:
    """float64 (groups, chunks): where the kernels leave the sums of each chunk."""
    return torch.empty(groups, -(-size // kernels().chunk_size()), dtype=torch.float64)  # type: ignore[union-attr]


def _is_dense(x: Tensor) -> bool:
    """Without gaps in memory, the first dimension outermost."""
    return x.is_contiguous() or (x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last))


def moments(weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and deviation, fp32 (groups,), of each of the equal parts of a dense fp32 tensor.

    As `functional.normalize_weight` has them: float64 sums, rounded once; 1 where there is no spread.
    """
    size = weight.numel() // groups
    parts = _parts(groups, size)
    _call("moments", weight, None, parts, groups=groups, size=size)
    middle = parts.sum(1) / size
    _call("moments", weight, middle, parts, groups=groups, size=size)
    std = (parts.sum(1) / max(1, size - 1)).sqrt().float()
    return middle.float(), torch.where(std > 0, std, torch.ones_like(std))


class FusedQuant(torch.autograd.Function):
    """`functional._FakeQuant` of `x`, or of `x` normalized: the same values and gradient of `x`, bit for bit.

    The gradient of alpha is summed in fp32, in chunks that no number of threads changes.

    Args:
        x: that `takes` says yes to.
        alpha: fp32, one element, or one of each of the equal parts that `x` falls into along its first dimension.
        largest, low, rounding: as there.
        dtype: of the values.
        normalize: by the mean and the deviation of each part.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        alpha: Tensor,
        largest: int,
        low: float,
        rounding: str,
        dtype: torch.dtype,
        normalize: bool,
    ) -> Tensor:
        x = x if _is_dense(x) else x.contiguous()
        clip = alpha.reshape(-1)
        groups = clip.numel()
        own = [a.to(x.dtype).float() for a in (largest / clip, clip / largest, clip)]
        mean, std = moments(x, groups) if normalize else (torch.zeros(groups), torch.ones(groups))
        each = torch.stack([mean, std, *own], 1)
        codes = _Range(low * largest, largest, rounding == "up")
        kind = _kind(x.dtype, dtype, normalize)
        y = torch.empty_like(x, dtype=dtype)
        _call(f"forward_{kind}", x, y, each, codes, groups=groups, size=x.numel() // groups)
        ctx.save_for_backward(x, alpha, each)
        ctx.kind, ctx.codes = kind, codes
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, alpha, each = ctx.saved_tensors
        (grad,) = grads
        groups, size = len(each), x.numel() // len(each)
        if grad.stride() != x.stride():
            grad = torch.empty_like(x, dtype=grad.dtype).copy_(grad)
        d_x, parts = torch.empty_like(x), _parts(groups, size)
        _call(f"backward_{ctx.kind}", x, grad, d_x, parts, each, ctx.codes, groups=groups, size=size)
        # Inside code/L - x/alpha is (y - x)/alpha; outside y is alpha or low*alpha: (y - 0)/alpha is the gradient.
        d_alpha = (parts.sum(1).float() / alpha.reshape(-1)).reshape(alpha.shape)
        return d_x, d_alpha, None, None, None, None, None
