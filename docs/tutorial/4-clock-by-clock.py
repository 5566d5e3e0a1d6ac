# %% [markdown]
# # 4. The array, clock by clock
#
# What is in each register of a systolic array in each clock, how many clocks a
# layer takes, and where they go. First an array so small that all of it fits on
# the page; then the real layer, stepped, and simulated in SystemVerilog. For a
# model person: a *register* holds a number from one clock to the next; hardware
# does all its work between two of them.

# %%
import numpy as np

import systolith as sl
from systolith.array import Mapping
from systolith.timing import Schedule
from systolith.timing.machine import REGISTERS, machine

conv = sl.Conv.of(
    np.array([[[[1, 2]], [[3, 4]]], [[[5, 6]], [[7, -1]]]])
)  # 2 -> 2 channels, a kernel of 1x2
act = np.array([[[1, 2, 3]], [[4, 5, 6]]])  # 2 channels, 1x3
spec = sl.ArraySpec(rows=2, cols=2)
mapping, schedule = Mapping(conv, spec, 1, 3), Schedule()
print(mapping.passes, "passes,", mapping.onijs, "output positions")

# %% [markdown]
# Row r of the array takes input channel r, column c makes output channel c. In
# a pass the weights of one kernel position come in first, from the west, one
# beat a column. They stay. Then the activations stream through, west to east,
# one register a clock, and the sums of products go south.
#
# `machine` steps a model of these registers. Below, a line is a clock; clock 0
# is that in which the first weight enters. For each processing element (row,
# col) it shows what that multiplies, weight x activation. What enters row 0 in
# a clock is multiplied in its first element in the next one.

# %%
blocks = list(machine(mapping, act, schedule, trace=True))
beats = np.concatenate([block.beats for block in blocks])
held = {
    name: np.concatenate([block.registers[name] for block in blocks], axis=-1)
    for name in REGISTERS
}
first = blocks[0].begin  # the memories are read before clock 0
entering = ("", "weights", "activations")
elements = [(row, col) for row in range(2) for col in range(2)]


def cell(row: int, col: int, at: int) -> str:
    """What a processing element multiplies, weight x activation."""
    here = row, col, at
    busy = held["stream"][here]
    return f"{held['weight'][here]:>2} x {held['code'][here]}" if busy else ""


names = "  ".join(f"PE {row},{col}" for row, col in elements)
print(f"{'clock':>5}  {'entering':<11}  {names}")
for at in range(-first, -first + schedule.clocks(mapping)):
    shown = "  ".join(f"{cell(row, col, at):<6}" for row, col in elements)
    print(f"{first + at:>5}  {entering[beats[at]]:<11}  {shown}".rstrip())

# %% [markdown]
# Each element is a clock behind its neighbour in the west and its neighbour in
# the north: that is the wave which gives the systolic array its name. Sums that
# leave the bottom row:

# %%
psum_clocks = np.concatenate([block.psum for block in blocks])
psums = np.concatenate([block.psums for block in blocks])
for clock, word in zip(psum_clocks, psums, strict=True):
    print(f"clock {clock:>2}: psums {word}")
passes = [(kij, onij) for kij in (0, 1) for onij in (0, 1)]
by_hand = [
    conv.weight[:, :, 0, kij] @ act[:, 0, kij + onij] for kij, onij in passes
]
assert (psums == by_hand).all()

# %% [markdown]
# Behind the array the SFP adds the psums of the two passes. That makes the
# outputs:

# %%
out_clocks = np.concatenate([block.out for block in blocks])
outs = np.concatenate([block.outs for block in blocks])
for clock, word in zip(out_clocks, outs, strict=True):
    print(f"clock {clock:>2}: outputs {word}")
assert (outs == psums[:2] + psums[2:]).all()
assert (outs.T.reshape(2, 1, 2) == sl.run_layer(conv, act, spec).out).all()

# %% [markdown]
# ## Every clock is predicted
#
# The machine knows no formula. The formula knows no registers. With P passes, C
# columns, R rows and N positions a pass:

# %%
passes, rows, cols, positions = 2, 2, 2, 2
formula = passes * (1 + cols + positions) + rows + cols - 2
print(formula, "clocks from the first weight to the last psum")
last = max(block.last for block in blocks if block.last is not None)
assert formula == schedule.clocks(mapping) == last + 1
events = schedule.events(mapping, 0)
assert events.psum.tolist() == psum_clocks.tolist()
assert events.out.tolist() == out_clocks.tolist()
print("psums leave in clocks", *events.psum)
print("outputs leave in clocks", *events.out)

# %% [markdown]
# ## The real layer
#
# The same for the squeezed layer of the shipped VGG16, with the activations
# that the shipped picture gives it. `simulate` predicts every event, steps
# every register, and compares.

# %%
report = sl.simulate("vgg16-w4a4-s8", layer="features.27")
assert report.holds
assert report.total.clocks == 9 * (1 + 8 + 16) + 8 + 8 - 2 == 239
report

# %% [markdown]
# In each clock exactly one thing enters row 0. So clocks can be counted by what
# they are for, and the parts make the whole:

# %%
parts = report.total.split
print(parts)
assert (
    parts.load
    + parts.useful
    + parts.padding
    + parts.turnaround
    + parts.drain
    + parts.stalls
    == 239
)

# %% [markdown]
# Weights of 8 columns take 8 beats, 16 positions take 16: almost a third of the
# time goes into loading. Streaming the whole padded map, as simple testbenches
# do, or waiting for each pass to drain costs more:

# %%
for how, drained in (
    ("useful", False),
    ("useful", True),
    ("whole", False),
    ("whole", True),
):
    total = sl.simulate(
        "vgg16-w4a4-s8",
        layer="features.27",
        schedule=how,
        drained=drained,
        values=False,
    ).total
    positions = 16 if how == "useful" else 36
    period = 1 + 8 + positions
    counted = 9 * (period + 14) if drained else 9 * period + 14
    assert total.clocks == counted
    waits, used = "drained" if drained else "pipelined", total.utilisation
    print(f"{how:<7}{waits:<10}{total.clocks:>4} clocks, {used:.1%} in use")

# %% [markdown]
# ## The whole network on arrays of several sizes
#
# Prediction alone takes no time. Four times the multipliers are not four times
# as fast, where maps become small:

# %%
for size in ("4x4", "8x8", "16x16", "32x32"):
    total = sl.simulate("vgg16-w4a4-s8", array=size, values=False).total
    print(
        f"{size:>6}{total.clocks:>12,} clocks, {total.utilisation:.1%} in use"
    )

# %% [markdown]
# ## In SystemVerilog
#
# The package holds a core in SystemVerilog. `cosim` simulates it with the
# layer's integers in Icarus Verilog or Verilator, and compares every word that
# it makes, and the clock in which it makes it, with the prediction:

# %% tags=["varies"]
rtl = sl.cosim("vgg16-w4a4-s8", layer="features.27", sim="icarus")
assert rtl.holds
assert rtl.clocks == rtl.predicted == 239
rtl

# %% [markdown]
# So three descriptions that know nothing of each other, a formula, a machine of
# registers and RTL, agree in every event. The contract in full: [Where the
# clocks go](../clocks.md). The core: [Layers on RTL](../core.md). Next: [the
# course notebook, redone](5-the-course-notebook.md).
