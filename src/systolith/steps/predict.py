"""What answers pictures with classes: a trained model, or integers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.formats import BadInput
from systolith.steps.common import stored_network
from systolith.store import load_model_file, model_path

FLOAT = "float"


def predictor(model: Any) -> tuple[Callable[[Any], NDArray[np.int64]], int, Mapping[str, Any], str]:
    """uint8 pictures to classes, how many there are, the run's metadata, and how it computes."""
    import torch

    from systolith.importers.loading import load_any
    from systolith.quant import quant_layers
    from systolith.training.loop import predict

    if isinstance(model, str) and _integers_only(model_path(model)):
        from systolith.network.execute import classify, plan

        network, run = stored_network(model)
        assert network is not None
        planned = plan(network)
        return (lambda part: classify(planned, part.numpy())), network.classes, run, "integers"
    loaded = load_any(model)
    with torch.no_grad():
        logits = loaded.model(torch.zeros((1, 3, *(loaded.size or (32, 32))), dtype=torch.uint8))
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise BadInput(f"{model}: answers with other than a class, which an accuracy would be of")
    how = "quantized, fp32, codes first" if quant_layers(loaded.model) else FLOAT
    return (lambda part: predict(loaded.model, part).numpy()), int(logits.shape[1]), loaded.run, how


def _integers_only(path: Path) -> bool:
    return path.suffix == ".safetensors" and not load_model_file(path).config
