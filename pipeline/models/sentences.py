"""Texts to unit vectors: by CLIP where its file is there, else by a small sentence encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.models.text_embeddings import clip_vectors, spoken
from pipeline.models.weights import WeightsStore

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


def open_text_encoder(store: WeightsStore | None = None, name: str | None = None) -> TextEncoder:
    """CLIP where its file and open_clip are there, else WordLlama; or the one of a name. Raises
    WeightsError."""
    weights = store or WeightsStore()
    if name != _WORDLLAMA and (name == _CLIP or weights.verify(_CLIP)):
        try:
            import open_clip  # noqa: F401
        except ImportError:
            pass
        else:
            return Clip(weights)
    return WordLlama(weights.fetch(_WORDLLAMA).path, weights.fetch(_TOKENIZER).path)


__all__ = ["Clip", "TextEncoder", "WordLlama", "open_text_encoder", "spoken"]
