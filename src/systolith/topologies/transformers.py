"""Transformers by their papers' tables: ViT-B/16, BERT-base, a block of Llama 2.

Every function yields matrix products of 8-bit codes, in order, once for all blocks: `count` is the number of blocks, of
products of attention that of heads in all of them. Query, key and value are one product, since they take the same
operand. A streams and B is held: in the scores QK^T the keys, in the context PV the values.
"""

from __future__ import annotations

from collections.abc import Iterator

from systolith.topologies.topology import Layer, convolution, gemm


def vit_b16() -> Iterator[Layer]:
    """ViT-B/16 for 224x224 pictures and 1000 classes.

    Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, table 1: 12 layers, hidden 768, MLP 3072, 12 heads;
    14 * 14 patches and the class token.
    """
    yield convolution("patches", (3, 768), (224, 224), (16, 16), (16, 16), (0, 0))
    tokens = 14 * 14 + 1
    yield from attention(tokens, tokens, 768, heads=12, blocks=12)
    yield gemm("block.up", tokens, 768, 3072, count=12)
    yield gemm("block.down", tokens, 3072, 768, count=12, follows=True)
    yield gemm("classifier", 1, 768, 1000)


def bert_base(tokens: int) -> Iterator[Layer]:
    """The encoder of BERT-base.

    Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", NAACL 2019, section 3: L = 12, H = 768,
    A = 12, feed-forward 4H.

    Args:
        tokens: of the sequence.
    """
    yield from attention(tokens, tokens, 768, heads=12, blocks=12)
    yield gemm("block.up", tokens, 768, 3072, count=12)
    yield gemm("block.down", tokens, 3072, 768, count=12, follows=True)


def llama_block(tokens: int, cached: int) -> Iterator[Layer]:
    """One of the 32 blocks of Llama 2 7B: a feed-forward network with a gate (SwiGLU), every head with its own keys.

    Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023, section 2.2 and table 2 (hidden 4096,
    32 heads), kept by "Llama 2", 2023, section 2.2. Feed-forward: 2/3 * 4 * 4096, up to a multiple of 256: 11008.

    Args:
        tokens: computed together.
        cached: tokens before them, whose keys and values are there already.
    """
    yield from attention(tokens, cached + tokens, 4096, heads=32, blocks=1)
    yield gemm("block.gate", tokens, 4096, 11008)
    yield gemm("block.up", tokens, 4096, 11008)
    yield gemm("block.down", tokens, 11008, 4096)


def attention(tokens: int, seen: int, hidden: int, heads: int, blocks: int) -> Iterator[Layer]:
    """Multi-head attention of `tokens` to `seen` tokens, in equal blocks.

    Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.2.
    """
    width = hidden // heads
    yield gemm("block.qkv", tokens, hidden, 3 * hidden, count=blocks)
    yield gemm("block.scores", tokens, width, seen, count=blocks * heads)
    yield gemm("block.context", tokens, seen, width, count=blocks * heads)
    yield gemm("block.projection", tokens, hidden, hidden, count=blocks)
