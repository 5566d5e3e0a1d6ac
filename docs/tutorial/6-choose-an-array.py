# %% [markdown]
# # 6. Choose an array
#
# Which array runs a network fast, with how much memory, at what energy? That
# is a question before any RTL is written; here it is asked of a trained
# network, and answered by closed forms that are exact against RTL.

# %%
import systolith as sl

report = sl.explore(
    axis=["rows=4,8,16,32", "cols=4,8,16,32", "batch=1,4"],
    out="build/explored",
)
print(report.verdict)
model = report.models["vgg16-w4a4-s8"]
print(f"{model.macs:,} multiply-accumulates a picture")
print(f"{model.zero_products:.1%} of the products have a zero operand")

# %% [markdown]
# Zero products were *counted*, on the shipped picture, as its codes go through
# the layers. A design is a row. Those that no other one beats in clocks and
# energy are the *front*:

# %%
front = [row for row in report.rows if row["pareto"]]
for row in sorted(front, key=lambda row: row["clocks_per_picture"]):
    size = f"{row['rows']}x{row['cols']}, {row['batch']} pictures"
    energy = row["energy_high_pj_per_picture"] / 1e6
    print(
        f"{size:<19} {row['clocks_per_picture']:>11,.0f} clocks"
        f" {energy:>7.0f} uJ at most, used {row['utilisation']:.1%}"
    )
assert all(row["batch"] == 4 for row in front)

# %% [markdown]
# The energy is an estimate, by a table whose numbers have sources:

# %%
print(f"{report.table['name']}: {report.table['source']}")

# %% [markdown]
# All of the front takes four pictures together. Why? Layers of 2x2 maps have
# four positions, and loading eight rows of weights takes eight clocks: with
# one picture the array waits. Look at such a layer on one design, alone and
# with a batch. `layers.csv` has a row for each layer of each design:

# %%
import csv

with open("build/explored/layers.csv") as file:
    layers = list(csv.DictReader(file))
clocks = {}
for row in report.rows:
    if (row["rows"], row["cols"]) == (8, 8):
        (layer,) = (
            one
            for one in layers
            if one["point"] == str(row["point"])
            and one["layer"] == "features.36"
        )
        each = int(layer["clocks"]) / row["batch"]
        clocks[row["batch"]] = int(layer["clocks"])
        print(
            f"{row['batch']} pictures: {each:,.0f} clocks each,"
            f" {layer['schedule']}, used {float(layer['utilisation']):.1%}"
        )
# Four pictures take hardly longer than two would alone.
assert clocks[4] < 2 * clocks[1] * 1.01

# %% [markdown]
# Are these clocks true? `simulate` steps every register of the array through
# that layer, with the picture's codes, and counts:

# %%
stepped = sl.simulate(layer="features.36", array="8x8", schedule="auto")
print(stepped.verdict)
assert stepped.holds
assert stepped.total.clocks == clocks[1]

# %% [markdown]
# Networks need not be trained to be explored: a shape is enough for clocks,
# traffic and memories. Which of two arrays of 256 elements does better on a
# network of matrix products, and on one of depthwise convolutions?

# %%
shapes = sl.explore(
    model="vit-b16,mobilenetv2",
    array="16x16,8x32,32x8",
    axis=["act_bits=8", "weight_bits=8"],
    out="build/explored-shapes",
)
for row in sorted(
    shapes.rows, key=lambda row: (row["model"], row["clocks_per_picture"])
):
    size = f"{row['rows']}x{row['cols']}"
    print(
        f"{row['model']:<12} {size:<6} {row['clocks']:>12,} clocks,"
        f" used {row['utilisation']:.1%}"
    )

# %% [markdown]
# The best for MobileNetV2, and how much of its time depthwise layers take:

# %%
best = min(
    (row for row in shapes.rows if row["model"] == "mobilenetv2"),
    key=lambda row: row["clocks"],
)
deep = [
    row["clocks"]
    for row in shapes.layers[best["point"]]
    if "depthwise" in row["layer"]
]
share = sum(deep) / best["clocks"]
print(f"{best['rows']}x{best['cols']}: {share:.1%} of the clocks are depthwise")
assert (best["rows"], best["cols"]) == (32, 8)

# %% [markdown]
# Depthwise layers have few channels a group: many rows take kernel positions,
# and few columns stay idle.
#
# More: [Choose an array in ten minutes](../explore.md), with what each number
# is counted from and where the energies come from, [networks as
# shapes](../topologies.md), [which dataflow when](../dataflows.md).
