"""What an accelerator dumped, against the golden vectors: the first wrong word, and the mistake that makes it.

Here the "accelerator" is our array, once right and once with its weights transposed.
"""

import dataclasses

import systolith as sl
from systolith.flows.vectors import vectors

vectors("vgg16-w4a4-s8", out="build/golden", force=True)
print("the dump as it should be:", sl.check("build/golden", "build/golden").verdict)

right, _ = sl.read_bundle("build/golden")
layer = right.mapping.conv
mistaken = dataclasses.replace(layer, weight=layer.weight.transpose(1, 0, 2, 3))
sl.write_bundle(sl.run_layer(mistaken, right.act, right.mapping.spec), "build/dump", layout="course", force=True)

report = sl.check("build/golden", "build/dump")
print("a dump that is wrong:", report.verdict)
print("its first wrong word:", report.first)
