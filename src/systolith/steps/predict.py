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
Answer = Callable[[Any], NDArray[Any]]
"""uint8 pictures, a tensor (N, C, H, W), to the score of each class, (N, classes); the first largest wins."""


def predictor(model: Any) -> tuple[Answer, int, Mapping[str, Any], str]:
    """uint8 pictures to scores, how many classes there are, the run's metadata, and how it computes."""
    import torch

    from systolith.importers.loading import load_any
    from systolith.quant import quant_layers
    from systolith.training.loop import scores

    if isinstance(model, str) and integers_only(model_path(model)):
        from systolith.network.execute import execute, plan

        network, run = stored_network(model)
        assert network is not None
        planned, shape = plan(network), network.values[network.input.name].shape

        def integers(part: Any) -> NDArray[Any]:
            return np.concatenate([execute(planned, some).numpy() for some in part.split(planned.batch)])

        return _of_size(integers, shape), network.classes, run, "integers"
    loaded = load_any(model)
    if len(loaded.size) != 2:
        raise BadInput(f"{model}: takes vectors, of which no data set is read")
    shape = (3, *loaded.size)
    with torch.no_grad():
        logits = loaded.model(torch.zeros((1, *shape), dtype=torch.uint8))
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise BadInput(f"{model}: answers with other than a class, which an accuracy would be of")
    how = "quantized, fp32, codes first" if quant_layers(loaded.model) else FLOAT
    answer = _of_size(lambda part: scores(loaded.model, part).numpy(), shape)
    return answer, int(logits.shape[1]), loaded.run, how


def _of_size(answer: Answer, shape: tuple[int, ...]) -> Answer:
    """`answer`, of pictures of another size than the network's `shape` a sentence."""

    def checked(part: Any) -> NDArray[np.int64]:
        if tuple(part.shape[1:]) != shape:
            found, wanted = ("x".join(map(str, size)) for size in (part.shape[1:], shape))
            raise BadInput(f"expected pictures of {wanted}, which the network takes, found {found}")
        return answer(part)

    return checked


def integers_only(path: Path) -> bool:
    """Whether a model's file holds its integer network alone."""
    return path.suffix == ".npz" or (path.suffix == ".safetensors" and not load_model_file(path).config)
