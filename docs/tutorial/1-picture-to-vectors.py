# %% [markdown]
# # 1. A picture to golden vectors
#
# A picture goes through a trained 4-bit network. One layer of it goes onto an
# 8x8 systolic array. Out come text files that a testbench reads, and every step
# between is compared, element by element.
#
# For this you need no data set: a network and a picture come with the package.

# %%
import systolith as sl
from systolith.store import ASSETS

pixels, _ = sl.read_picture(ASSETS / "cat.png")
print("pixels", pixels.dtype, pixels.shape, pixels.min(), "to", pixels.max())

# %% [markdown]
# ## The network sees a cat
#
# `vgg16-w4a4-s8` is a VGG16 that was trained with 4-bit weights and 4-bit
# activations. Its layer `features.27` was squeezed to 8 channels in and 8 out,
# so that it fills an 8x8 array exactly. The answer of the network is the
# largest of ten numbers.

# %%
import torch

from systolith.pictures import CIFAR10_CLASSES

model = sl.load("vgg16-w4a4-s8")
with torch.no_grad():
    logits = model(torch.from_numpy(pixels)[None])[0]
print(CIFAR10_CLASSES[int(logits.argmax())])
assert CIFAR10_CLASSES[int(logits.argmax())] == "cat"

# %% [markdown]
# ## The integers of one layer
#
# A *code* is the small integer that a quantizer makes of a real number; a
# *scale* is what one code is worth. The hardware sees codes only. `recover`
# takes them from the layer itself, while the picture passes through it:

# %%
layer = sl.recover(model, "features.27", pixels)
print(
    "activations",
    layer.conv.act_format,
    layer.act[0].shape,
    "from",
    layer.act.min(),
    "to",
    layer.act.max(),
)
print("weights    ", layer.conv.weight_format, layer.conv.weight.shape)
print("\nthe first channel of the activations:")
print(layer.act[0, 0])

# %% [markdown]
# Are these the network's integers, or only near them? Take the accumulators,
# which are sums of products of codes, through ReLU, times the scale: that must
# be what the next layer receives in the network, bit for bit. `match` compares
# the two.

# %%
print(layer.match)
assert layer.match.holds
assert layer.max_difference == 0

# %% [markdown]
# ## Onto the array
#
# The array has a row for each input channel and a column for each output
# channel. A 3x3 kernel has nine positions, `kij`. For each of them the weights
# of that position stay in the array while the whole padded map, `nij`, streams
# through. What a column puts out for one nij is a *psum*.

# %%
result = sl.run_layer(layer.conv, layer.act[0], sl.ArraySpec(rows=8, cols=8))
print("psums (ic_tile, oc_tile, kij, nij, col):", result.psum.shape)
print("outputs (channel, row, column):         ", result.out.shape)

# %% [markdown]
# One psum by hand. Position `nij` 14 of the padded 6x6 map is its row 2, column
# 2, which is row 1, column 1 of the map itself. The psum of `kij` 4 (the middle
# of the kernel) in column 3 of the array is a sum over the eight rows:

# %%
by_hand = sum(
    int(layer.act[0, row, 1, 1]) * int(layer.conv.weight[3, row, 1, 1])
    for row in range(8)
)
print(by_hand, "=", result.psum[0, 0, 4, 14, 3])
assert by_hand == result.psum[0, 0, 4, 14, 3]

# %% [markdown]
# An output is the sum of nine psums, one from each pass, each at the position
# that its kernel position needs:

# %%
i, j = 1, 1
nine = [
    int(result.psum[0, 0, kij, (i + kij // 3) * 6 + j + kij % 3, 3])
    for kij in range(9)
]
print(" + ".join(map(str, nine)), "=", sum(nine), "=", result.out[3, i, j])
assert sum(nine) == result.out[3, i, j]

# %% [markdown]
# That was one. `check_psums` and `check` compare all of them, the other way
# round: from the weights before they were tiled.

# %%
print(result.check_psums())
print(result.check())
assert result.check_psums().holds
assert result.check().holds

# %% [markdown]
# ## The files
#
# `write_bundle` writes them in a *layout*, a description of a testbench's
# format. `course` is the usual one.

# %%
from pathlib import Path

sl.write_bundle(result, "golden", layout="course")
print(*sorted(path.name for path in Path("golden").iterdir()), sep="\n")

# %% [markdown]
# A word is a line: the lane of the highest index first, each lane's most
# significant bit first. The three header lines have no blanks, so that a
# testbench skips them with three `%s`.

# %%
lines = Path("golden/activation_tile0.txt").read_text().splitlines()
print(*(line[:60] for line in lines[:3]), sep="\n")
print(lines[3 + 14], " nij 14")
lanes = [int(lines[3 + 14][4 * lane : 4 * lane + 4], 2) for lane in range(8)]
print(lanes, " row 7 to row 0")
assert lanes[::-1] == layer.act[0, :, 1, 1].tolist()

# %% [markdown]
# The files are read back from disk and compared with what they were made from:

# %%
for check in sl.verify_bundle("golden"):
    print(f"{check.name}: {check}")
    assert check.holds

# %% [markdown]
# ## All of it at once
#
# `run` does the above and compares more: the whole network in integers beside
# the trained one. It is what `make run` and `systolith run` do. The report
# shows itself:

# %%
report = sl.run(
    "vgg16-w4a4-s8",
    layer="features.27",
    array="8x8",
    layout="course",
    out="again",
)
assert report.holds
same = [
    (Path("again") / path.name).read_bytes() == path.read_bytes()
    for path in Path("golden").glob("*.txt")
]
assert same == [True] * 20
report

# %% [markdown]
# In a terminal: `systolith run --layer features.27 --array 16x16`, `systolith
# run --image my.png`. What each word of each file means stands in [The files,
# word by word](../vectors.md), what is compared with what in
# [Numbers](../numbers.md). Next: [your testbench's
# format](2-your-testbench.md).
