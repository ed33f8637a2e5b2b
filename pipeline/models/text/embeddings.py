"""Category names as YOLO-World hears them: one unit vector of 512 numbers per category.

Cheng et al., "YOLO-World", CVPR 2024: a frozen CLIP text encoder gives the vectors. Where CLIP's
file cannot be had, fixed vectors stand in: they carry no meaning of the name, so zero-shot search
with them is blind, but fine-tuning can learn what each of them is to stand for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, WeightsError
from pipeline.io.read import open_regular
from pipeline.io.write import write_bytes
from pipeline.models.weights.store import WeightsStore
from pipeline.runtime.progress import say

_CLIP = "clip_vit_b_32"
_HEADER = "text_embeddings"
_SIZE = 512  # numbers of a vector


@dataclass(frozen=True)
class TextEmbeddings:
    """categories: N names. vectors: (N, 512) float32 of length 1. kind: `clip` or `fixed`."""

    categories: tuple[str, ...]
    vectors: NDArray[np.float32]
    kind: str

    def save(self, path: Path) -> None:
        """Write to a safetensors file with the names in its header."""
        from safetensors.numpy import save

        header = {"kind": self.kind, "categories": "\n".join(self.categories)}
        text = json.dumps(header, sort_keys=True)  # one key: safetensors keeps no order of several
        write_bytes(path, save({"vectors": self.vectors}, metadata={_HEADER: text}))

    @classmethod
    def load(cls, path: Path) -> TextEmbeddings:
        """Read what `save` wrote. Raises WeightsError for another file."""
        from safetensors import safe_open

        open_regular(path).close()  # a pipe would block
        try:
            with safe_open(path, framework="numpy") as stream:
                header, vectors = stream.metadata() or {}, stream.get_tensor("vectors")
            header = json.loads(header[_HEADER]) if _HEADER in header else header  # else of 0.7
            names = tuple(header["categories"].split("\n"))
            fits = vectors.shape == (len(names), _SIZE) and vectors.dtype == np.float32
            if not fits or not np.isfinite(vectors).all():
                raise ValueError(f"{len(names)} names and vectors of shape {vectors.shape}")
            return cls(names, vectors.astype(np.float32), header["kind"])
        except Exception as error:  # safetensors' errors and numpy's share no base
            found = " ".join(str(error).split())
            raise WeightsError(f"{path}: is not a file of text embeddings ({found})") from error


def embed(
    categories: Sequence[str], reference: NDArray[np.float32], source: str, store: WeightsStore
) -> TextEmbeddings:
    """Vectors for category names.

    `source` is `clip` (fetched if need be), `fixed`, or `auto`: CLIP where its file and the package
    open_clip are already there, else fixed. `reference` (M, 512) are CLIP vectors that the detector
    was trained with; fixed ones lie among them. Raises ConfigError when CLIP was asked for and
    open_clip is not installed, WeightsError when its file cannot be had.
    """
    if source == "clip" or (source == "auto" and store.verify(_CLIP)):
        try:
            return _clip(categories, store)
        except ImportError as error:
            if source == "clip":
                raise ConfigError(
                    "--text clip needs: pip install 'defect-pipeline[clip]'"
                ) from error
            say("CLIP's file is there, but open_clip is not installed: fixed vectors are used")
    vectors = np.stack([_fixed(name, reference) for name in categories])
    return TextEmbeddings(tuple(categories), vectors, "fixed")


def _fixed(name: str, reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same vector for the same name everywhere, as far from others as CLIP's are on average."""
    unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    closeness = float((unit @ unit.T).mean())
    centre = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    aside = np.random.default_rng(seed).standard_normal(unit.shape[1])
    aside -= (aside @ centre) * centre
    aside /= np.linalg.norm(aside)
    vector = np.sqrt(closeness) * centre + np.sqrt(1 - closeness) * aside
    return np.asarray(vector, dtype=np.float32)


def _clip(categories: Sequence[str], store: WeightsStore) -> TextEmbeddings:
    vectors = clip_vectors([spoken(name) for name in categories], store)
    return TextEmbeddings(tuple(categories), vectors, "clip")


def clip_vectors(texts: Sequence[str], store: WeightsStore) -> NDArray[np.float32]:
    """(N, 512) of length 1, by CLIP's text encoder. Raises ImportError without open_clip."""
    import open_clip
    import torch

    model = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None)
    model.load_state_dict(_clip_state(store.fetch(_CLIP).path))
    tokens = open_clip.get_tokenizer("ViT-B-32-quickgelu")(list(texts))
    with torch.inference_mode():
        vectors = model.eval().encode_text(tokens, normalize=True).numpy()
    return np.asarray(vectors, np.float32)


def spoken(name: str) -> str:
    """`zipper/broken_teeth` as a person would say it."""
    return name.replace("/", " ").replace("_", " ")


def _clip_state(path: Path) -> dict[str, Any]:
    """OpenAI publishes TorchScript, which runs no Python when it is loaded; others a plain dict."""
    import torch

    try:
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
    except RuntimeError:
        state = torch.load(path, map_location="cpu", weights_only=True)
    extra = {"input_resolution", "context_length", "vocab_size"}
    return {key: value.float() for key, value in state.items() if key not in extra}
