"""The tensors of a trained model, checked: people send each other folders of models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from pipeline.errors import PipelineError, WeightsError
from pipeline.io.read import sha256_of

_RETRAIN = "train the model again"
_MESSAGE_LIMIT = 200  # characters of a library's message


def read_tensors(path: Path, sha256: str, card: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file of this sha256. Raises WeightsError for another file."""
    from safetensors.torch import load_file

    if not path.exists() or sha256_of(path) != sha256:
        raise WeightsError(f"{path}: is not what {card} names; {_RETRAIN}")
    with as_weights_error(path, "is no usable safetensors file"):
        return dict(load_file(path))


@contextmanager
def as_weights_error(path: Path, fault: str = "does not fit its card") -> Iterator[None]:
    """Within the block, turn any error of a library that reads a model's file into WeightsError."""
    try:
        yield
    except PipelineError:
        raise
    except Exception as error:  # torch's, safetensors' and ultralytics' share no base
        detail = " ".join(f"{type(error).__name__}: {error}".split())[:_MESSAGE_LIMIT]
        raise WeightsError(f"{path}: {fault} ({detail}); {_RETRAIN}") from error


def refuse_other_size(
    path: Path, state: Mapping[str, torch.Tensor], shapes: Mapping[str, tuple[int | None, ...]]
) -> None:
    """Raise WeightsError unless the tensors have these shapes; None is any length of 1 or more."""
    for name, shape in shapes.items():
        actual = tuple(state[name].shape) if name in state else ()
        pairs = zip(actual, shape, strict=False)
        fits = all(
            length == expected or (expected is None and length) for length, expected in pairs
        )
        if not fits or len(actual) != len(shape):
            raise WeightsError(f"{path}: {name} is of shape {actual}, not {shape}; {_RETRAIN}")
