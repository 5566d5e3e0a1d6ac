"""Convolutional networks by their papers' tables: VGG16, ResNet-18 and -50, MobileNetV2.

Every function yields layers with products, in order, of 8-bit codes. Blocks of one shape that follow one another are
there once, `count` says how many: "layer3.1-5.conv2" is one layer of five blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from systolith.network.graph import Pair
from systolith.topologies.topology import Layer, convolution, gemm

_VGG = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
_WIDTHS = (64, 128, 256, 512)
_MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
Block = Callable[[str, int, int, int, int, int], Iterator[Layer]]
"""Of (name, channels in, width, size of the map, stride, count)."""


def vgg16(size: int, hidden: int, classes: int) -> Iterator[Layer]:
    """VGG16, named as torchvision numbers its modules.

    Simonyan & Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, table 1,
    configuration D.

    Args:
        size: of the picture: 224, or 32 for CIFAR-10.
        hidden: features of two hidden fully connected layers; 0 for a classifier alone and batch norms behind the
            convolutions, as our shipped models have it.
        classes: answers.
    """
    module, before = 0, 3
    for widths in _VGG:
        for width in widths:
            yield convolution(f"features.{module}", (before, width), (size, size), follows=module > 0)
            module, before = module + (2 if hidden else 3), width  # ReLU, and batch norm
        module, size = module + 1, size // 2
    features = before * size * size
    for name, into, out in ("0", features, hidden), ("3", hidden, hidden), ("6", hidden, classes):
        if hidden:
            yield gemm(f"classifier.{name}", 1, into, out, follows=True)
    if not hidden:
        yield gemm("classifier", 1, features, classes, follows=True)


def resnet(block: Block, blocks: tuple[int, ...]) -> Iterator[Layer]:
    """A ResNet for 224x224 pictures and 1000 classes.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.

    Args:
        block: `basic` or `bottleneck`.
        blocks: of each of four stages: (2, 2, 2, 2) for ResNet-18, (3, 4, 6, 3) for ResNet-50.
    """
    yield convolution("conv1", (3, 64), (224, 224), (7, 7), (2, 2))
    size, before, expansion = 56, 64, 4 if block is bottleneck else 1  # behind the max pool
    for stage, (width, count) in enumerate(zip(_WIDTHS, blocks, strict=True)):
        stride, out = 2 if stage else 1, width * expansion
        first = int(stride > 1 or before != out)
        if first:
            yield from block(f"layer{stage + 1}.0", before, width, size, stride, 1)
        size, before = size // stride, out
        yield from block(f"layer{stage + 1}.{_span(first, count - 1)}", before, width, size, 1, count - first)
    yield gemm("fc", 1, before, 1000)


def basic(name: str, before: int, width: int, size: int, stride: int, count: int) -> Iterator[Layer]:
    """The block of ResNet-18 (figure 5, left)."""
    small = size // stride
    yield convolution(f"{name}.conv1", (before, width), (size, size), stride=(stride, stride), count=count)
    yield convolution(f"{name}.conv2", (width, width), (small, small), count=count, follows=True)
    yield from _shortcut(name, (before, width), size, stride, count)


def bottleneck(name: str, before: int, width: int, size: int, stride: int, count: int) -> Iterator[Layer]:
    """The block of ResNet-50 (figure 5, right), with the stride in its 3x3 ("v1.5", as torchvision has it)."""
    out, small = width * 4, size // stride
    yield convolution(f"{name}.conv1", (before, width), (size, size), (1, 1), count=count)
    strides = (stride, stride)
    yield convolution(f"{name}.conv2", (width, width), (size, size), stride=strides, count=count, follows=True)
    yield convolution(f"{name}.conv3", (width, out), (small, small), (1, 1), count=count, follows=True)
    yield from _shortcut(name, (before, out), size, stride, count)


def _shortcut(name: str, channels: Pair, size: int, stride: int, count: int) -> Iterator[Layer]:
    """The 1x1 convolution of a shortcut between maps of different shape."""
    if stride > 1 or channels[0] != channels[1]:
        yield convolution(f"{name}.downsample", channels, (size, size), (1, 1), (stride, stride), count=count)


def mobilenetv2() -> Iterator[Layer]:
    """MobileNetV2 of width 1.0 for 224x224 pictures and 1000 classes; a depthwise convolution has a group a channel.

    Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2: rows of expansion t,
    channels c, blocks n, stride s of the first.
    """
    yield convolution("stem", (3, 32), (224, 224), stride=(2, 2))
    size, before, alone = 112, 32, True
    for row, (expansion, width, blocks, stride) in enumerate(_MOBILE, 1):
        yield from _inverted(f"stage{row}.0", before, width, expansion, size, stride, 1, alone)
        size, before, alone = size // stride, width, blocks == 1  # else what is next reads a residual sum
        if blocks > 1:
            yield from _inverted(f"stage{row}.{_span(1, blocks - 1)}", before, width, expansion, size, 1, blocks - 1)
    yield convolution("head", (before, 1280), (size, size), (1, 1), follows=alone)
    yield gemm("classifier", 1, 1280, 1000, follows=True)


def _inverted(
    name: str, before: int, width: int, expansion: int, size: int, stride: int, count: int, alone: bool = False
) -> Iterator[Layer]:
    """An inverted residual block (table 1): 1x1 to `expansion` times the channels, 3x3 depthwise, 1x1.

    `alone`: it alone reads what the layer before it leaves.
    """
    wide, small = before * expansion, size // stride
    if expansion > 1:
        yield convolution(f"{name}.expand", (before, wide), (size, size), (1, 1), count=count, follows=alone)
        alone = True
    strides, depth = (stride, stride), f"{name}.depthwise"
    yield convolution(depth, (wide, wide), (size, size), stride=strides, groups=wide, count=count, follows=alone)
    yield convolution(f"{name}.project", (wide, width), (small, small), (1, 1), count=count, follows=True)


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
