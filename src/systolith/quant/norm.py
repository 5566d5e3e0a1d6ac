"""Batch norms whose eval result does not depend on the machine."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def affine(y: Tensor, gain: Tensor, offset: Tensor) -> Tensor:
    """`fp32(f64(y)*f64(gain) + offset)` a channel: y (N, C, ...), gain fp32 (C,), offset float64 (C,)."""
    shape = (1, -1, *[1] * (y.ndim - 2))
    return torch.addcmul(offset.view(shape), y.float().double(), gain.double().view(shape)).float()


class _Exact(nn.modules.batchnorm._BatchNorm):
    """A batch norm whose eval is `z = fp32(f64(y)*f64(A) + B)`.

    `A = fp32(gamma / sqrt(var + eps))` and `B = beta - mean*A` come from float64. The product of two
    24-bit significands is exact in float64, so fused multiply-add, vector width and compilers cannot
    change a bit; torch's own kernel does change with the CPU. Training uses torch's kernel.
    """

    def affine_terms(self) -> tuple[Tensor, Tensor]:
        """(A, B): A fp32 (C,), B float64 (C,)."""
        assert self.running_var is not None
        assert self.running_mean is not None
        gain = (self.weight.double() / (self.running_var.double() + self.eps).sqrt()).float()
        return gain, self.bias.double() - self.running_mean.double() * gain.double()

    def forward(self, y: Tensor) -> Tensor:
        """(N, C, ...) to the same shape; fp32 in eval."""
        if self.training:
            return super().forward(y)
        return affine(y, *self.affine_terms())


class ExactBatchNorm2d(_Exact, nn.BatchNorm2d):
    """`nn.BatchNorm2d` of maps (N, C, H, W), exact in eval."""


class ExactBatchNorm1d(_Exact, nn.BatchNorm1d):
    """`nn.BatchNorm1d` of vectors (N, C), exact in eval."""
