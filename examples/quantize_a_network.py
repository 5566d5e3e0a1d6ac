"""Take a float network of torch's own layers, turn it into one of low-bit layers, and that into integers.

The network here has random weights and the pictures are noise; take yours. Needs `pip install 'systolith[torch]'`.
"""

import torch
from torch import nn

import systolith as sl
from systolith.frontends.lowering import lower

torch.manual_seed(0)
layers = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(4)]
layers += [nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
mine = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 10)).eval()

# It was trained on pixels/255 with this mean and this deviation taken out.
net, report = sl.quantize(mine, weight_bits=4, act_bits=4, normalization=([0.5] * 3, [0.25] * 3))
print(report)
pictures = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
sl.calibrate(net, pictures, keep_norms=True)

answers = net(pictures).argmax(1)
same = (mine((pictures / 255 - 0.5) / 0.25).argmax(1) == answers).float().mean()
print(f"the answer of the float network: {same:.0%}")
print(f"from pixel to class in integers: {len(lower(net).network.steps)} nodes")
