"""Multiply-accumulates written out, and as published."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from systolith.formats import BadInput
from systolith.network.file import load_network
from systolith.store import shipped_models
from systolith.topologies import BUILT_IN, Topology, built_in, of_network
from systolith.topologies.topology import Layer


def layer(topology: Topology, name: str) -> Layer:
    return next(layer for layer in topology.layers if layer.name == name)


def vgg(size: int) -> Iterator[int]:
    before = 3
    for widths in ([64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3):
        for width in widths:
            yield size * size * 9 * before * width
            before = width
        size //= 2


def test_vgg16_as_shipped() -> None:
    mine, shipped = built_in("vgg16"), of_network(load_network(shipped_models()["vgg16-w4a4"]), "shipped")
    for one, other in zip(mine.layers, shipped.layers, strict=True):
        shapes = [(x.name, x.conv.weight.shape, x.conv.pads, x.height, x.width, x.kind, x.macs) for x in (one, other)]
        assert shapes[0] == shapes[1]
    assert mine.macs == sum(vgg(32)) + 512 * 10 == 313_201_664


def test_what_follows_what() -> None:
    def leaving(name: str) -> list[str]:
        """Layers that read anything but what the one before them leaves to them alone."""
        return [layer.name for layer in built_in(name).layers if not layer.follows]

    shipped = of_network(load_network(shipped_models()["vgg16-w4a4"]), "shipped")
    assert [x.follows for x in shipped.layers] == [x.follows for x in built_in("vgg16").layers]
    assert leaving("vgg16") == leaving("vgg16-imagenet") == ["features.0"]
    # In a block conv2 (and conv3) alone read what is before them; all else reads or is a residual sum.
    follow = [layer.name for layer in built_in("resnet18").layers if layer.follows]
    assert follow == [x.name for x in built_in("resnet18").layers if x.name.endswith("conv2")]
    # Figure 4 of MobileNetV2: sums behind the second block of a stage, so a stage of one block gives the next its own.
    names = [f"stage{n}.0.expand" for n in (3, 4, 5, 6, 7)]
    repeated = ["stage2.1.expand", "stage3.1-2.expand", "stage4.1-3.expand", "stage5.1-2.expand", "stage6.1-2.expand"]
    assert set(leaving("mobilenetv2")) == {"stem", *names, *repeated}
    assert leaving("llama-block") == [layer.name for layer in built_in("llama-block").layers]


def test_vgg16_for_imagenet() -> None:
    # torchvision: 15.47 GMACs
    full = 512 * 7 * 7 * 4096 + 4096 * 4096 + 4096 * 1000
    assert built_in("vgg16-imagenet").macs == sum(vgg(224)) + full == 15_470_264_320


def test_resnet18() -> None:
    stem, classifier = 112 * 112 * 49 * 3 * 64, 512 * 1000
    # Four 3x3 convolutions a stage; each later one's first has half the inputs, and its shortcut is 1x1.
    same = 9 * 64 * 64 * 56 * 56  # the same in every stage: twice the channels in and out, a quarter of the positions
    stages = 4 * same + 3 * (same // 2 + 3 * same + same // 18)
    # torchvision: 1.814 GMACs
    assert built_in("resnet18").macs == stem + stages + classifier == 1_814_073_344
    assert layer(built_in("resnet18"), "layer1.0-1.conv2").count == 2


def test_resnet50_with_the_stride_in_its_3x3() -> None:
    total, before, size = 112 * 112 * 49 * 3 * 64 + 2048 * 1000, 64, 56
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            into, step = (before, stride) if block == 0 else (4 * width, 1)
            small = size // step
            total += size**2 * into * width + small**2 * (9 * width * width + width * 4 * width)
            total += small**2 * into * 4 * width if block == 0 else 0
            size = small
        before = 4 * width
    # torchvision: 4.089 GMACs ("v1.5"; 3.8 in the paper, whose stride is in the first 1x1)
    assert built_in("resnet50").macs == total == 4_089_184_256
    assert layer(built_in("resnet50"), "layer2.0.conv2").conv.stride == (2, 2)
    assert layer(built_in("resnet50"), "layer3.1-5.conv2").count == 5


def test_mobilenetv2() -> None:
    total, before, size = 112 * 112 * 9 * 3 * 32 + 7 * 7 * 320 * 1280 + 1280 * 1000, 32, 112
    for t, c, n, s in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ):
        for block in range(n):
            wide, small = t * before, size // (s if block == 0 else 1)
            total += size**2 * before * wide * (t > 1) + small**2 * (9 * wide + wide * c)
            before, size = c, small
    # Paper, table 4: 300 million; torchvision: 0.301 GMACs
    assert built_in("mobilenetv2").macs == total == 300_774_272
    depthwise = layer(built_in("mobilenetv2"), "stage4.1-3.depthwise")
    assert (depthwise.conv.groups, depthwise.conv.in_channels, depthwise.count) == (384, 384, 3)


def test_vit_b16() -> None:
    tokens, hidden = 14 * 14 + 1, 768
    block = tokens * (4 * hidden * hidden + 2 * hidden * 3072) + 2 * tokens * tokens * hidden
    # torchvision: 17.56 GMACs
    total = 14 * 14 * 16 * 16 * 3 * hidden + 12 * block + hidden * 1000
    assert built_in("vit-b16").macs == total == 17_563_828_224


def test_bert_base() -> None:
    linear = 12 * (4 * 768 * 768 + 2 * 768 * 3072) * 128
    attention = 12 * 12 * 2 * 128 * 128 * 64
    assert built_in("bert-base").macs == linear + attention == 11_173_625_856
    scores, context = layer(built_in("bert-base"), "block.scores"), layer(built_in("bert-base"), "block.context")
    assert scores.count == context.count == 12 * 12
    assert (scores.height, scores.conv.in_channels, scores.conv.out_channels) == (128, 64, 128)
    assert (context.height, context.conv.in_channels, context.conv.out_channels) == (128, 128, 64)


@pytest.mark.parametrize(
    ("name", "tokens", "seen", "total"),
    [("llama-block", 512, 512, 105_763_569_664), ("llama-block-decode", 1, 513, 206_577_664)],
)
def test_a_block_of_llama(name: str, tokens: int, seen: int, total: int) -> None:
    weights = 4 * 4096 * 4096 + 3 * 4096 * 11008  # of 32 such blocks: 6.48 of the 6.74 billion of the whole model
    assert built_in(name).macs == tokens * weights + 32 * 2 * tokens * seen * 128 == total
    assert all(layer.height == tokens for layer in built_in(name).layers)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in(name: str) -> None:
    topology = built_in(name, act_bits=3, weight_bits=5)
    assert topology.name == name
    assert topology.source == "built in"
    assert topology.notes
    for one in topology.layers:
        assert one.is_shape
        assert (one.conv.act_format.bits, one.conv.weight_format.bits) == (3, 5)
    assert topology.macs == built_in(name).macs


def test_another_name() -> None:
    with pytest.raises(BadInput, match="no built-in topology 'vgg19': expected one of vgg16, vgg16-imagenet, resnet18"):
        built_in("vgg19")
