"""Golden vectors of one layer of a trained network, in the format that a testbench reads. No torch needed.

Give a layout of your own instead of "course": `systolith layout new --out mine.toml --transposed` makes one.
"""

import systolith as sl
from systolith.flows.vectors import vectors

report = vectors("vgg16-w4a4-s8", layer="features.27", array="8x8", layout="course", out="build/vectors", force=True)
print(report.verdict)

checks = sl.verify_bundle("build/vectors")
print("files = recomputed:", all(check.holds for check in checks))
