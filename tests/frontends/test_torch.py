from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from conftest import pictures
from systolith.formats import BadInput
from systolith.frontends.torch import recover
from systolith.models import Vgg16, load_pretrained
from systolith.quant import QuantConv2d, quant_layers


@pytest.fixture(scope="module")
def model() -> Vgg16:
    return load_pretrained()


def test_the_squeezed_layer_is_what_the_next_layer_receives(model: Vgg16) -> None:
    recovered = recover(model, "features.27", pictures(3))
    assert recovered.match.name == "relu(psum)*scale = what features.29 receives"
    assert recovered.match.holds
    assert recovered.match.compared == 3 * 8 * 4 * 4
    assert (recovered.max_difference, recovered.mean_difference) == (0, 0)
    assert np.issubdtype(recovered.act.dtype, np.integer)
    assert np.issubdtype(recovered.conv.weight.dtype, np.integer)
    assert recovered.act.shape == (3, 8, 4, 4)


def test_every_layer_recovers_exactly(model: Vgg16) -> None:
    batch = pictures(2)
    for name in quant_layers(model):
        recovered = recover(model, name, batch)
        assert recovered.match.holds, name
        assert recovered.max_difference == 0
        assert (recovered.acc == recovered.network_acc).all(), name


def test_recovered_codes_are_those_of_a_forward_pass_written_out(random_model_file: Path) -> None:
    # Independent of hooks: run the modules one after another up to the layer.
    model = load_pretrained(str(random_model_file))
    x = torch.from_numpy(pictures(2))
    recovered = recover(model, "features.10", pictures(2))
    with torch.no_grad():
        for module in list(model.features)[:10]:
            x = module(x)
        codes = model.features[10].act_quant.codes(x)  # type: ignore[union-attr,operator]
    assert (recovered.act == codes.numpy()).all()


def test_a_checkpoint_recovers_like_the_model_file(random_model_file: Path) -> None:
    a = recover(load_pretrained(str(random_model_file)), "features.24", pictures(2))
    b = recover(load_pretrained(str(random_model_file.with_name("last.pt"))), "features.24", pictures(2))
    assert (a.acc == b.acc).all()
    assert (a.conv.weight == b.conv.weight).all()


def test_a_model_in_training_is_put_back() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(QuantConv2d(3, 4, 3, padding=1, pixels=128), nn.ReLU(), QuantConv2d(4, 2, 3, stride=2)).train()
    recovered = recover(net, "0", pictures(1)[:, :, :9, :7])
    assert net.training
    assert recovered.match.holds
    assert recovered.act.min() < 0
    assert recovered.conv.act_format.signed
    assert recover(net, "2", pictures(1)[:, :, :9, :7]).match.name == "psum*scale = the layer's own output"


def test_only_a_direct_relu_in_one_sequential_leads_to_the_next_layer() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = QuantConv2d(3, 4, 3, padding=1, pixels=0)
            self.relu = nn.ReLU()
            self.second = QuantConv2d(4, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.relu(self.first(x))
            out: torch.Tensor = self.second(torch.nn.functional.avg_pool2d(y + y, 2))
            return out

    torch.manual_seed(0)
    recovered = recover(Doubled().eval(), "first", pictures(1)[:, :, :8, :8])
    assert recovered.match.name == "psum*scale = the layer's own output"
    assert recovered.match.holds


def test_a_module_that_was_in_eval_stays_there() -> None:
    net = nn.Sequential(QuantConv2d(3, 4, 3, pixels=0), nn.BatchNorm2d(4)).train()
    net[1].eval()
    recover(net, "0", pictures(1))
    assert net[0].training
    assert not net[1].training


def test_a_wrong_weight_shows(model: Vgg16, monkeypatch: pytest.MonkeyPatch) -> None:
    from systolith.frontends import torch as frontend

    right = frontend.layer_to_conv

    def wrong(name: str, layer: QuantConv2d) -> object:
        conv = right(name, layer)
        conv.weight[0, 0, 1, 1] += 1 if conv.weight[0, 0, 1, 1] < 7 else -1
        return conv

    monkeypatch.setattr(frontend, "layer_to_conv", wrong)
    # Strong activations, so that the changed weight meets a non-zero code.
    recovered = recover(model, "features.0", pictures(1))
    assert not recovered.match.holds
    assert recovered.max_difference > 0


def test_bad_layers_and_batches(model: Vgg16) -> None:
    with pytest.raises(BadInput, match=r"no layer 'features\.99'"):
        recover(model, "features.99", pictures(1))
    with pytest.raises(BadInput, match=r"features\.1' is a ExactBatchNorm2d, which is not quantized"):
        recover(model, "features.1", pictures(1))
    with pytest.raises(BadInput, match="expected uint8 pictures"):
        recover(model, "features.0", pictures(1).astype(np.float32))  # type: ignore[arg-type]
