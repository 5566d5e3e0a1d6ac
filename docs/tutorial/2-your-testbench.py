# %% [markdown]
# # 2. Your testbench's format, and the first wrong word
#
# Your testbench reads files in its own way. Say that way once, and every
# command writes and reads it. Then, when your RTL's dump differs, be told
# where, and why. No torch is loaded in this notebook: the shipped network holds
# its integers.

# %%
from pathlib import Path

import systolith as sl
from systolith.flows.vectors import vectors

report = vectors(
    "vgg16-w4a4-s8",
    layer="features.27",
    array="8x8",
    layout="course",
    out="course",
)
assert report.holds
report

# %% [markdown]
# ## A layout is data
#
# Say that your testbench has no header lines, wants all weights in one file,
# one kernel position (`kij`) after another, each line an *input* channel (the
# weights are transposed), in hexadecimal, and only those psums that an output
# needs. A layout says for each file which axes of the tensor go over its lines,
# and which over the lanes of a word:

# %%
Path("mine.toml").write_text("""
name = "mine"
about = "no header, one weight file, hexadecimal"

[[files]]
tensor = "act"
name = "act.hex"
lines = ["nij"]
lanes = ["row"]
radix = "hex"

[[files]]
tensor = "weight"
name = "weight.hex"
lines = ["kij", "row"]
lanes = ["col"]
radix = "hex"

[[files]]
tensor = "psum"
name = "psum_{kij}.hex"
lines = ["onij"]
lanes = ["col"]
radix = "hex"

[[files]]
tensor = "out"
name = "out.hex"
lines = ["onij"]
lanes = ["col"]
radix = "hex"
relu = true
""")
golden, _ = sl.read_bundle("course")
sl.write_bundle(golden, "mine", layout="mine.toml")
print(*sorted(path.name for path in Path("mine").glob("*.hex")), sep="\n")

# %% [markdown]
# The first weight word is kernel position 0, input channel 0, output channels 7
# to 0; -1 in four bits is `f`:

# %%
words = Path("mine/weight.hex").read_text().split()
weight = golden.mapping.conv.weight
print(words[0], "is", weight[::-1, 0, 0, 0])
by_hand = [
    "".join(
        f"{int(weight[col, row, kij // 3, kij % 3]) % 16:x}"
        for col in range(7, -1, -1)
    )
    for kij in range(9)
    for row in range(8)
]
assert words == by_hand
print(len(words), "words, equal to those made by hand")

# %% [markdown]
# A value that does not fit its lane is never cut. It is refused, by name:

# %%
text = Path("mine.toml").read_text()
Path("narrow.toml").write_text(
    text.replace('name = "out.hex"', 'name = "out.hex"\nbits = 8')
)
try:
    sl.write_bundle(golden, "narrow", layout="narrow.toml")
except sl.BadInput as error:
    said = str(error)
print(said)
assert not Path("narrow").exists()

# %% [markdown]
# ## Your RTL's dump
#
# The RTL writes psums and outputs in the same format, into a folder of its own.
# Here the "RTL" is our array, with a mistake that is made often: it takes the
# weights transposed, rows for columns.

# %%
import dataclasses

mistaken = dataclasses.replace(
    golden.mapping.conv, weight=weight.transpose(1, 0, 2, 3)
)
sl.write_bundle(
    sl.run_layer(mistaken, golden.act, golden.mapping.spec),
    "dump",
    layout="mine.toml",
)
report = sl.check("mine", "dump")
assert not report.holds
assert report.suspects == ("weights transposed",)
report

# %% [markdown]
# `check` found the mistake that gives every word of this dump, and explains the
# first wrong word:

# %%
print(report.first)

# %% [markdown]
# ## One wrong bit
#
# A mistake that nobody knows is located all the same. Here one bit of one psum
# is wrong, as a broken wire may make it:

# %%
import shutil

shutil.rmtree("dump")
shutil.copytree("mine", "dump")
path = Path("dump/psum_4.hex")
lines = path.read_text().splitlines()
lines[5] = f"{int(lines[5], 16) ^ 1 << 16 * 3 + 6:032x}"  # column 3, bit 6
path.write_text("\n".join(lines) + "\n")
report = sl.check("mine", "dump")
print(report.verdict)
print(report.first)
assert report.levels["psum"].different == 1
assert report.levels["output"].different == 0

# %% [markdown]
# Position `onij` 5 of the output is row 1, column 1, so the psum of the
# kernel's middle takes the activations there. The sum in the explanation, by
# hand:

# %%
products = [
    int(golden.act[row, 1, 1]) * int(weight[3, row, 1, 1]) for row in range(8)
]
print(products, "make", sum(products), "and not", sum(products) ^ 1 << 6)
assert str(sum(products)) in report.first

# %% [markdown]
# ## Would your vectors reveal a broken array?
#
# An array that passes the vectors may be wrong all the same, where they do not
# look. `grade` breaks the array in many ways, stuck bits, swapped rows, a wrong
# ReLU, and counts which of these faults the files reveal:

# %%
report = sl.grade("mine", faults=400)
print(report.verdict)
print("not revealed:", next(iter(report.survivors)))
assert not report.holds

# %% [markdown]
# One picture does not reach everything. Integers made for the purpose do:

# %%
vectors(
    stimulus="corner",
    array="8x8",
    channels="8x8",
    size="4x4",
    layout="mine.toml",
    out="corner",
)
report = sl.grade("corner", faults=400)
print(report.verdict)
assert report.holds

# %% [markdown]
# More on all of it: [Use it with your testbench](../testbench.md). Your whole
# core in the loop, by one command: [Your core](../loop.md). Next: [a network of
# your own](3-your-network.md).
