# %% [markdown]
# # 5. The course notebook, redone
#
# Courses on systolic arrays hand out a notebook that quantizes VGG16 to 4 bits,
# squeezes one layer to 8 channels, and prints that layer's integers into text
# files for a testbench. This is that notebook, step by step, in our calls.
#
# Its file is not here. Its accuracy is quoted. Everything else is its
# arithmetic, floats all through, written again under *theirs* ([its
# quantizer](../bring-checkpoint.md#that-quantizer)): it runs here, beside ours,
# on the same weights and the same picture.
#
# | step | the notebook | here |
# |---|---|---|
# | data | CIFAR-10, normalized | any of [four forms](../training.md#data), pixels as they are |
# | model | VGG16 of quantized layers | `vgg16-w4a4`, or `sl.quantize` of a network of yours |
# | squeeze | 8 channels in and out, no batch norm | `squeeze(model, "features.27", 8)` |
# | training settings | SGD, 1e-2, momentum 0.9, weight decay 2e-4, 120 epochs | the recipe `seed`; or `vgg16-w4a4-s8` |
# | evaluation | prints its accuracy, 90.04 % | `sl.evaluate`; the shipped network has 92.90 % |
# | a layer's input | a forward hook that keeps it | `sl.recover` |
# | integers | divide by the step: floats near integers | the codes that the layer itself used |
# | recovered psum | a difference, printed | an equality, counted |
# | tiles, psums, SFP | loops over small `nn.Linear`s | `sl.run_layer` |
# | files | loops that write characters | `sl.write_bundle(..., layout="seed")` |

# %% [markdown]
# ## Data
#
# The notebook takes CIFAR-10. Ours reads CIFAR-10 from wherever it lies; to go
# without it, here is a data set of one picture, the one that is shipped.

# %%
import shutil
from pathlib import Path

import numpy as np
import torch

import systolith as sl
from systolith.store import ASSETS, load_model_file, shipped_models
from systolith.training.data import load_data

Path("pictures/test/cat").mkdir(parents=True)
shutil.copy(ASSETS / "cat.png", "pictures/test/cat")
data = load_data("pictures", "test")
pixels = torch.from_numpy(data.images)
print(data.source, pixels.dtype, tuple(pixels.shape))

# %% [markdown]
# ## Model and squeeze
#
# *Theirs*: in the list of layers, `features.24` gets 8 outputs, `features.27` 8
# inputs and 8 outputs, the convolution behind it 8 inputs, and the batch norm
# behind `features.27` goes, so that what the array computes is what the next
# layer receives. *Ours* is a call; the modules of the result are those of the
# shipped network.

# %%
from systolith.models import Vgg16, VggConfig, squeeze

squeezed = squeeze(Vgg16(VggConfig()), "features.27", channels=8)
model = sl.load("vgg16-w4a4-s8")
for name in ("features.24", "features.27", "features.28", "features.29"):
    print(f"{name}: {model.get_submodule(name)}")
assert [name for name, _ in squeezed.named_modules()] == [
    name for name, _ in model.named_modules()
]
assert isinstance(
    model.get_submodule("features.28"), torch.nn.ReLU
)  # no batch norm between

# %% [markdown]
# ## Training settings
#
# The notebook's settings are the recipe `seed`, to compare with: `systolith
# train seed --data DATA --out DIR`. The shipped network was trained by
# `vgg16-w4a4-s8`, which starts from an unsqueezed network and is taught by it.

# %%
from systolith.training.recipes import RECIPES

seed = RECIPES["seed"]
print(seed.optimizer, "for", seed.epochs, "epochs, learning rate", seed.lr)
print("momentum", seed.momentum, "and weight decay", seed.weight_decay)
assert (seed.optimizer, seed.epochs, seed.lr) == ("sgd", 120, 1e-2)
assert (seed.momentum, seed.weight_decay) == (0.9, 2e-4)

# %% [markdown]
# ## Evaluation
#
# *Theirs* printed 90.04 %, on the 10,000 test pictures. *Ours* is in the
# metadata of the model's file, as its run measured it; `systolith evaluate
# vgg16-w4a4-s8 --data DATA` measures it again. Here it sees its one picture:

# %%
run = load_model_file(shipped_models()["vgg16-w4a4-s8"]).run
correct, total = run["test_correct"], run["test_total"]
print(f"theirs 90.04%, ours {correct / total:.2%} ({correct:,} of {total:,})")
report = sl.evaluate("vgg16-w4a4-s8", data="pictures")
print(report.verdict)
assert report.correct == 1

# %% [markdown]
# ## The layer's input
#
# *Theirs*: a hook that keeps what each layer is given. The same hook works
# here, as these are torch modules:

# %%
layer, kept = model.get_submodule("features.27"), {}
hooks = [
    model.get_submodule(name).register_forward_pre_hook(
        lambda _, inputs, name=name: kept.update({name: inputs[0].clone()})
    )
    for name in ("features.27", "features.29")
]
with torch.no_grad():
    model(pixels)
for hook in hooks:
    hook.remove()
print({name: tuple(value.shape) for name, value in kept.items()})

# %% [markdown]
# *Ours* is a call, which keeps the layer's integers beside:

# %%
ours = sl.recover(model, "features.27", data.images[0])
print(ours.conv.name, ours.act.shape, ours.act.dtype)

# %% [markdown]
# ## Integers
#
# *Theirs*: quantize in floats, then divide by the step, `x_alpha/(2**4 - 1)`,
# to get the integers back.

# %%
x_bit = w_bit = 4
x_alpha = layer.act_quant.alpha.detach()
w_alpha = layer.weight_quant.scale().detach() * (2 ** (w_bit - 1) - 1)
x_delta, w_delta = x_alpha / (2**x_bit - 1), w_alpha / (2 ** (w_bit - 1) - 1)

x = (kept["features.27"] / x_alpha).clamp(max=1)
x_q = x.mul(2**x_bit - 1).round().div(2**x_bit - 1) * x_alpha
w_q = layer.weight_codes().detach() / (2 ** (w_bit - 1) - 1) * w_alpha
x_int, w_int = x_q / x_delta, w_q / w_delta
torch.set_printoptions(precision=8)
print("theirs:", x_int[0, 2, 3])
print("ours:  ", ours.act[0, 2, 3])
for name, value in (("activations", x_int), ("weights", w_int)):
    broken = int((value != value.round()).sum())
    print(f"theirs: {broken} of {value.numel()} {name} are not whole")
assert (x_int.round().numpy() == ours.act).all()
assert (w_int.round().numpy() == ours.conv.weight).all()

# %% [markdown]
# Rounded they are the same integers. Not rounded, a 2.9999998 that is cut
# becomes a 2 in a file. *Ours* never divides: the codes are what the layer
# multiplied with in the first place.
#
# ## The recovered psum
#
# *Theirs*: convolve the integers, multiply by both steps, take the ReLU, and
# print the difference from what the next layer receives.

# %% tags=["varies"]
conv_int = torch.nn.Conv2d(8, 8, kernel_size=3, padding=1, bias=False)
conv_int.weight = torch.nn.Parameter(w_int, requires_grad=False)
output_int = conv_int(x_int)
output_recovered = torch.relu(output_int * x_delta * w_delta)
difference = abs(kept["features.29"] - output_recovered)
print(f"theirs: sum {difference.sum():.3g}, mean {difference.mean():.3g}")
print(f"theirs: {int((difference != 0).sum())} of {difference.numel()} differ")

# %% [markdown]
# A small mean says that nothing is very wrong. It does not say that nothing is
# wrong. *Ours*: the whole numbers of the accumulator times one scale are what
# the network itself handed on, so `==` will do.

# %%
print("ours:  ", ours.match)
assert ours.match.compared == 128
assert ours.match.holds

# %% [markdown]
# ## Tiles
#
# *Theirs*: pad the map, and cut channels into tiles as large as the array. With
# 8 channels there is one tile each way.

# %%
size = 8
a_int, w_tensor = ours.act[0], ours.conv.weight
a_pad = np.zeros((8, 6 * 6), int)
for i in range(4):
    for j in range(4):
        a_pad[:, (i + 1) * 6 + (j + 1)] = a_int[:, i, j]
a_tile = np.zeros((1, size, 36), int)
for ic_tile in range(1):
    a_tile[ic_tile] = a_pad[ic_tile * size : (ic_tile + 1) * size]
w_tile = np.zeros((1, size, size, 9), int)
for oc_tile in range(1):
    own = w_tensor[oc_tile * size : (oc_tile + 1) * size]
    w_tile[oc_tile] = own.reshape(size, size, 9)

result = sl.run_layer(ours.conv, ours.act[0], sl.ArraySpec(rows=8, cols=8))
act_tiles = result.mapping.act_tiles(result.act)
weight_tiles = result.mapping.weight_tiles()
assert (a_tile[0] == act_tiles[0].T).all()
assert (weight_tiles[0, 0].transpose(1, 2, 0) == w_tile[0]).all()
print("ours, (ic_tile, nij, row):               ", act_tiles.shape)
print("ours, (ic_tile, oc_tile, kij, col, row): ", weight_tiles.shape)

# %% [markdown]
# ## Psums
#
# *Theirs*: for each kernel position and each position of the map a small
# `nn.Linear`, which does what the array does in a clock.

# %%
psum = torch.zeros(9, 36, size)
for kij in range(9):
    for nij in range(36):
        linear = torch.nn.Linear(size, size, bias=False)
        weight = torch.tensor(w_tile[0, :, :, kij]).float()
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        psum[kij, nij] = linear(
            torch.tensor(a_tile[0, :, nij]).float()
        ).detach()
assert (psum.numpy() == result.psum[0, 0]).all()
print(result.psum.size, "psums equal ours")

# %% [markdown]
# *Ours* is one matrix product a tile. `python -m benchmarks.mapping` times
# both.
#
# ## SFP
#
# *Theirs*: for each output position add nine psums, each found `kij` further on
# in the padded map, then the ReLU.

# %%
out = np.zeros((16, size), int)
for o_nij in range(16):
    for kij in range(9):
        nij = int(o_nij / 4) * 6 + o_nij % 4 + int(kij / 3) * 6 + kij % 3
        out[o_nij] += psum[kij, nij].int().numpy()
sfp_out = np.maximum(out, 0)
assert (sfp_out == np.maximum(result.out, 0).reshape(8, 16).T).all()
assert (out == ours.network_acc[0].reshape(8, 16).T).all()
print(out.size, "sums equal ours, and those that the network made itself")

# %% [markdown]
# ## The four kinds of files
#
# *Theirs*: loops that write a character at a time, `activation.txt`,
# `weight_0.txt` to `weight_8.txt`, `psum.txt`, `output.txt`. Three lines of
# header come first. A weight file has a line for each *input* channel, although
# its header says otherwise: that is the transposed weight which is found three
# days later. `psum.txt` is all kernel positions one after another.


# %%
def word(values: np.ndarray, bits: int) -> str:
    """Lane 7 first, each lane its most significant bit first."""
    text = ""
    for value in reversed(values.tolist()):
        for bit in reversed(range(bits)):
            text += "1" if (value >> bit) & 1 else "0"
    return text


def file(line: str, lane: str, words: list[str]) -> str:
    """Three lines of header, without a blank, and a line a word."""
    times = []
    for at in (0, 1):
        lanes = (f"{line}{at}{lane}{i}[msb-lsb]" for i in reversed(range(8)))
        times.append(f"#{','.join(lanes)}#")
    return "\n".join([*times, "#................#", *words]) + "\n"


acts = [word(a_tile[0, :, nij], 4) for nij in range(36)]
outs = [word(sfp_out[o_nij], 16) for o_nij in range(16)]
psums = []
for kij in range(9):
    psums += [word(psum[kij, nij].int().numpy(), 16) for nij in range(36)]
theirs = {
    "activation.txt": file("time", "row", acts),
    "psum.txt": file("time", "col", psums),
    "output.txt": file("time", "col", outs),
}
for kij in range(9):
    weights = [word(w_tile[0, :, row, kij], 4) for row in range(8)]
    theirs[f"weight_{kij}.txt"] = file("col", "row", weights)

# %% [markdown]
# *Ours*, layout `seed`:

# %%
sl.write_bundle(result, "seed", layout="seed")
for name, text in sorted(theirs.items()):
    assert text == Path("seed", name).read_text()
    print(f"{name:<15}{len(text.splitlines()) - 3:>4} words, equal")

# %% [markdown]
# The same files by the shortest way, and for your own testbench in its own
# format:
#
#     systolith run --layout seed --out build/seed
#     systolith convert build/seed --from seed --channels 8x8 --input 4x4 --to mine.toml --out build/mine
#
# What the notebook has no step for: [is my RTL's dump right, and if not,
# why](2-your-testbench.md); the rest of the network [in
# integers](../integers.md); [the clocks](4-clock-by-clock.md). A checkpoint
# that the notebook left: [A course checkpoint](../bring-checkpoint.md).
