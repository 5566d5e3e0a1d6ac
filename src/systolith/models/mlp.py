"""A network of linear layers alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from systolith.formats import BadInput
from systolith.models import parts
from systolith.models.parts import Net, NetConfig
from systolith.quant import ExactBatchNorm1d


@dataclass(frozen=True)
class MlpConfig(NetConfig):
    """Everything that fixes the shape and the formats of the network.

    `hidden`: features of each hidden layer. `inputs`: numbers of a picture, channels by height by width.
    """

    arch: ClassVar[str] = "mlp"
    hidden: tuple[int, ...] = (512, 512)
    inputs: int = 3 * 32 * 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.hidden, default=0) < 1:
            raise BadInput(f"hidden: expected the features of one hidden layer or more, found {self.hidden}")
        if self.inputs < 1:
            raise BadInput(f"inputs: expected 1 or more, found {self.inputs}")


class Mlp(Net):
    """Linear layers with batch norm and ReLU between (`layers.1`, `layers.4`, ...), then `classifier`.

    Input: uint8 pictures (N, C, H, W) of `inputs` numbers, no normalization: the first batch norm absorbs it. Output:
    (N, classes).
    """

    def __init__(self, config: MlpConfig) -> None:
        super().__init__(config)
        layers: list[nn.Module] = [nn.Flatten()]
        before = config.inputs
        for at, out in enumerate(config.hidden):
            layers += [parts.hidden_linear(config, before, out, first=at == 0), ExactBatchNorm1d(out)]
            layers.append(parts.relu(config))
            before = out
        self.layers = nn.Sequential(*layers)
        self.classifier = parts.classifier(config, before)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.layers(x))
        return out
