"""Text encoders: CLIP if its file is here, else WordLlama, a small sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError
from pipeline.models.text.embeddings import clip_vectors
from pipeline.models.weights.store import WeightsStore

_CLIP, _WORDLLAMA, _TOKENIZER = "clip_vit_b_32", "wordllama_256", "wordllama_tokenizer"


class TextEncoder(Protocol):
    """Turns texts into vectors. name: of its weights."""

    name: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) vectors of length 1, in the order of the texts; equal for equal texts."""
        ...


class WordLlamaEncoder:
    """The mean of a text's token vectors, distilled from a large language model (Miller,
    "WordLlama: recycled token embeddings from large language models", 2024). A `TextEncoder`."""

    name = _WORDLLAMA

    def __init__(self, vectors: Path, tokenizer: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        self._vectors = next(iter(load_file(vectors).values())).astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `TextEncoder`."""
        rows = []
        for text in texts:
            tokens = self._tokenizer.encode(text, add_special_tokens=False).ids
            rows.append(self._vectors[tokens].mean(axis=0) if tokens else self._vectors[0])
        means = np.stack(rows) if rows else np.zeros((0, self._vectors.shape[1]), np.float32)
        length = np.linalg.norm(means, axis=1, keepdims=True)
        return np.asarray(means / np.maximum(length, 1e-12), np.float32)


class ClipEncoder:
    """CLIP's text encoder. A `TextEncoder`."""

    name = _CLIP

    def __init__(self, store: WeightsStore) -> None:
        self._store = store

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `TextEncoder`."""
        return clip_vectors(texts, self._store)


def load_text_encoder(store: WeightsStore | None = None, name: str | None = None) -> TextEncoder:
    """The encoder with this name. Without a name, CLIP if its file and open_clip are here, else
    WordLlama. Raises WeightsError, ConfigError for CLIP without open_clip."""
    weights = store or WeightsStore()
    installed = find_spec("open_clip") is not None
    if name == _CLIP and not installed:
        raise ConfigError("this model needs CLIP: pip install 'defect-pipeline[clip]'")
    if name == _CLIP or (name is None and installed and weights.verify(_CLIP)):
        return ClipEncoder(weights)
    return WordLlamaEncoder(weights.fetch(_WORDLLAMA).path, weights.fetch(_TOKENIZER).path)
