# %% [markdown]
# # 3. A network of your own
#
# A network that was trained in floats becomes one of small integers: quantize,
# calibrate, train a little, lower, verify. For an RTL engineer: a network is
# trained by showing it pictures whose answer is known, and moving its weights
# so that the answers come nearer. Nothing else is needed here.
#
# Take your network and your pictures in place of these. The pictures here are
# drawn: shapes of four classes, in noise.

# %%
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = ("cross", "disc", "ring", "square")


def draw(shape: str, rng: np.random.Generator) -> Image.Image:
    """A shape somewhere, of some size and colour, in noise."""
    picture = Image.fromarray(rng.integers(0, 140, (32, 32, 3), dtype=np.uint8))
    size, (x, y) = int(rng.integers(6, 10)), rng.integers(10, 22, 2).tolist()
    colour, box = (
        tuple(rng.integers(130, 256, 3).tolist()),
        (x - size, y - size, x + size, y + size),
    )
    pen = ImageDraw.Draw(picture)
    if shape == "cross":
        pen.line((x - size, y, x + size, y), colour, 3)
        pen.line((x, y - size, x, y + size), colour, 3)
    elif shape == "square":
        pen.rectangle(box, colour)
    else:
        pen.ellipse(box, colour if shape == "disc" else None, colour, 3)
    return picture


for split, count in (("train", 150), ("test", 50)):
    for number, shape in enumerate(CLASSES):
        folder = Path("shapes") / split / shape
        folder.mkdir(parents=True)
        for i in range(count):
            draw(shape, np.random.default_rng([count, number, i])).save(
                folder / f"{i}.png"
            )
print(sum(1 for _ in Path("shapes").rglob("*.png")), "pictures")

# %% [markdown]
# ## In floats
#
# A small network of torch's own layers, and the usual way of training it.
# Pixels are divided by 255, and a mean and a deviation taken out.

# %%
import torch
from torch import nn

import systolith as sl
from systolith.training.data import load_data

torch.manual_seed(0)
train, test = load_data("shapes", "train"), load_data("shapes", "test")
pixels = torch.from_numpy(train.images)
labels = torch.from_numpy(train.labels).long()


def block(ins: int, outs: int) -> list[nn.Module]:
    conv = nn.Conv2d(ins, outs, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outs), nn.ReLU(), nn.MaxPool2d(2)]


layers = [*block(3, 8), *block(8, 16), *block(16, 16)]
mine = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 4 * 4, 4))
optimizer = torch.optim.Adam(mine.parameters(), lr=5e-3)
for _ in range(10):
    for batch in torch.randperm(len(pixels)).split(50):
        answers = mine((pixels[batch] / 255 - 0.5) / 0.25)
        nn.functional.cross_entropy(answers, labels[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()
mine.eval()

# %% tags=["varies"]
shown = torch.from_numpy(test.images)
known = torch.from_numpy(test.labels).long()
with torch.no_grad():
    right = (mine((shown / 255 - 0.5) / 0.25).argmax(1) == known).float().mean()
print(f"in floats: {right:.1%} of {len(shown)} pictures")
assert right > 0.7  # by chance, 25%

# %% [markdown]
# ## Quantize
#
# `quantize` makes the same network of layers that compute in codes, with the
# weights that it has, and says what it did. The normalization is folded in: the
# network takes pixels as they are.
#
# The layers between the first and the last get 2 bits here. With 4 bits such
# easy pictures would hardly show what quantization costs.

# %%
net, said = sl.quantize(
    mine, weight_bits=2, act_bits=2, normalization=([0.5] * 3, [0.25] * 3)
)
print(said)

# %% [markdown]
# ## Calibrate
#
# An activation of 2 bits has 4 codes for all values up to its *clip value*;
# what is larger becomes 3. `calibrate` looks at some pictures and sets the clip
# values of all layers. This is post-training quantization; it costs accuracy.

# %% tags=["varies"]
sl.calibrate(net, pixels[:256], keep_norms=True)
calibrated = sl.evaluate(net, data="shapes")
print("quantized, calibrated:", calibrated.verdict)

# %% [markdown]
# ## Train a little
#
# Training goes on with the quantizers in place, so the weights learn to live
# with them (quantization-aware training). It starts from the weights that are
# there:

# %% tags=["varies"]
run = sl.train(
    net,
    "shapes",
    "runs/mine",
    holdout=0,
    changes=["epochs=8", "batch=50", "lr=0.005"],
)
trained = sl.evaluate(net, data="shapes")
print("trained further:", trained.verdict)
assert trained.accuracy > 0.7

# %% [markdown]
# ## Lower
#
# `lower` makes integers of it, from pixel to class. Between two layers there
# are no floats left: batch norm, ReLU, scales and quantizer have become
# *thresholds*, integers that an accumulator is compared with; the code is how
# many of them it reaches. They are found by bisecting the network's own
# function, and proved.

# %% tags=["varies"]
network = sl.lower(net, out="mine.safetensors").network
print(network)

# %% [markdown]
# ## Verify
#
# The integer network beside the trained one: thresholds proved, then every code
# of every layer of every test picture compared. No weight here is the shipped
# one, and the numbers of training are your machine's own; what is equal is
# equal all the same.

# %% tags=["varies"]
report = sl.verify(net, network="mine.safetensors", data="shapes")
assert report.holds
assert report.different == 0
assert report.images == 200
report

# %% [markdown]
# The file of integers answers as the trained network does, picture by picture:

# %%
from_file = sl.evaluate("mine.safetensors", data="shapes")
assert (from_file.confusion == trained.confusion).all()
print(from_file.total, "answers compared")

# %% [markdown]
# ## Its vectors
#
# The file stands wherever a command takes a model. The second convolution onto
# an 8x8 array, and the files for it:

# %%
from systolith.flows.vectors import vectors

files = vectors(
    "mine.safetensors",
    layer="4",
    array="8x8",
    out="golden",
    image=["shapes/test/ring/0.png"],
)
checks = sl.verify_bundle("golden")
for check in checks:
    print(f"{check.name}: {check}")
    assert check.holds

# %% [markdown]
# A recipe for a real network and its training: [Training](../training.md). What
# has an integer form, and what is refused: [Your own network in
# torch](../bring-torch.md). Next: [the array, clock by
# clock](4-clock-by-clock.md).
