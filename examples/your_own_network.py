"""Train a network on pictures of your own, turn it into integers, and have it proved.

The pictures here are a few squares of noise in folders, train/CLASS/*.png and test/CLASS/*.png; give --data a folder of
yours. Needs `pip install 'systolith[train]'`.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import systolith as sl

for split in ("train", "test"):
    for number, name in enumerate(("dark", "light")):
        folder = Path("build/pictures") / split / name
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(8):
            noise = np.random.default_rng(i).integers(0, 128, (32, 32, 3), dtype=np.uint8) + 127 * number
            Image.fromarray(noise.astype(np.uint8)).save(folder / f"{i}.png")

# Enough to see it work; `systolith train vgg16-w4a4-s8` has the settings for a real one.
settings = ["epochs=1", "batch=8"]
going_on = Path("build/own/last.pt").exists()
run = sl.train("smoke", "build/pictures", "build/own", holdout=0, changes=settings, resume=going_on)
print(run.verdict)
print(sl.verify("build/own/model.safetensors", limit=8).verdict)
