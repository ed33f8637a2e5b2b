"""Texts to unit vectors: by CLIP where its file is there, else by a small sentence encoder."""

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
    """`name` says which; `encode` gives (N, D) float32 of length 1, the same for the same text."""

    name: str

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, in order."""
        ...


class WordLlama:
    """The mean of a text's token vectors, which were distilled from a large language model's
    (Miller, "WordLlama: recycled token embeddings from large language models", 2024)."""

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
        found = np.stack(rows) if rows else np.zeros((0, self._vectors.shape[1]), np.float32)
        length = np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found / np.maximum(length, 1e-12), np.float32)


class Clip:
    """CLIP's text encoder."""

    name = _CLIP

    def __init__(self, store: WeightsStore) -> None:
        self._store = store

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See `TextEncoder`."""
        return clip_vectors(texts, self._store)


def load_text_encoder(store: WeightsStore | None = None, name: str | None = None) -> TextEncoder:
    """The encoder of a name; without one CLIP where its file and open_clip are there, else
    WordLlama. Raises WeightsError, ConfigError where CLIP is named and open_clip is missing."""
    weights = store or WeightsStore()
    able = find_spec("open_clip") is not None
    if name == _CLIP and not able:
        raise ConfigError("this model reads by CLIP: pip install 'defect-pipeline[clip]'")
    if name == _CLIP or (name is None and able and weights.verify(_CLIP)):
        return Clip(weights)
    return WordLlama(weights.fetch(_WORDLLAMA).path, weights.fetch(_TOKENIZER).path)
