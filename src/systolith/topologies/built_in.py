"""The topologies that come with the package, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from systolith.formats import BadInput
from systolith.topologies import convnets, transformers
from systolith.topologies.topology import BITS, Layer, Topology, with_bits

_NO_CONV = "left out: pooling, batch norms, activations and residual sums, which have no products of their own"
_NO_ATTENTION = "left out: embeddings, norms, softmax, activations and residual sums, which no array computes"
_CAUSAL = "scores and context are counted whole: what a causal mask drops is computed too"

BUILT_IN: dict[str, tuple[Callable[[], Iterable[Layer]], tuple[str, ...]]] = {
    "vgg16": (lambda: convnets.vgg16(32, hidden=0, classes=10), (_NO_CONV,)),
    "vgg16-imagenet": (lambda: convnets.vgg16(224, hidden=4096, classes=1000), (_NO_CONV,)),
    "resnet18": (lambda: convnets.resnet(convnets.basic, (2, 2, 2, 2)), (_NO_CONV,)),
    "resnet50": (lambda: convnets.resnet(convnets.bottleneck, (3, 4, 6, 3)), (_NO_CONV,)),
    "mobilenetv2": (convnets.mobilenetv2, (_NO_CONV,)),
    "vit-b16": (transformers.vit_b16, (_NO_ATTENTION,)),
    "bert-base": (lambda: transformers.bert_base(tokens=128), (_NO_ATTENTION, "a sequence of 128 tokens")),
    "llama-block": (
        lambda: transformers.llama_block(tokens=512, cached=0),
        (_NO_ATTENTION, "one of 32 blocks, the prefill of 512 tokens", _CAUSAL),
    ),
    "llama-block-decode": (
        lambda: transformers.llama_block(tokens=1, cached=512),
        (_NO_ATTENTION, "one of 32 blocks, one token that sees 512 cached ones and itself"),
    ),
}
"""By name: what yields the layers, and notes."""


def built_in(name: str, act_bits: int = BITS, weight_bits: int = BITS) -> Topology:
    """A built-in topology.

    Args:
        name: one of `BUILT_IN`.
        act_bits, weight_bits: of a code.

    Raises:
        BadInput: another name.

    Examples:
        >>> from systolith.topologies import built_in
        >>> f"{built_in('resnet50').macs / 1e9:.3f} GMACs"
        '4.089 GMACs'
    """
    if name not in BUILT_IN:
        raise BadInput(f"no built-in topology {name!r}: expected one of {', '.join(BUILT_IN)}")
    layers, notes = BUILT_IN[name]
    return with_bits(Topology(name, tuple(layers()), "built in", notes), act_bits, weight_bits)
