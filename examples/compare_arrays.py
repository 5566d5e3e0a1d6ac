"""One network on arrays of several sizes: clocks of its layers and how busy the multipliers are. No torch needed."""

import systolith as sl

for size in ("4x4", "8x8", "8x16", "16x16"):
    # Without `values=False` every register is stepped with a picture's codes, and compared with the prediction.
    report = sl.simulate("vgg16-w4a4-s8", array=size, values=False)
    total = report.total
    loading = total.split.load / total.clocks
    print(f"{size:>6} {total.clocks:>12,} clocks, {total.utilisation:6.1%} of the multipliers, {loading:5.1%} loading")
