"""Text embeddings of category names for YOLO-World: a unit vector of 512 numbers per category.

Cheng et al., "YOLO-World", CVPR 2024: the vectors come from a frozen CLIP text encoder. Without
CLIP's file, each name has a fixed random vector. It has no meaning, so zero-shot detection does not
work with it, but fine-tuning learns what each vector means.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, WeightsError
from pipeline.io.read import open_regular
from pipeline.io.write import write_bytes
from pipeline.models.weights.store import WeightsStore
from pipeline.runtime.progress import say

if TYPE_CHECKING:
    import torch

_CLIP = "clip_vit_b_32"
_HEADER = "text_embeddings"
_DIMENSIONS = 512  # numbers of a vector


@dataclass(frozen=True)
class TextEmbeddings:
    """categories: N names. vectors: (N, 512) float32 of length 1. kind: `clip` or `fixed`."""

    categories: tuple[str, ...]
    vectors: NDArray[np.float32]
    kind: str

    def save(self, path: Path) -> None:
        """Write a safetensors file with the names in its header."""
        from safetensors.numpy import save

        header = {"kind": self.kind, "categories": "\n".join(self.categories)}
        text = json.dumps(header, sort_keys=True)  # one key: safetensors does not keep their order
        write_bytes(path, save({"vectors": self.vectors}, metadata={_HEADER: text}))

    @classmethod
    def load(cls, path: Path) -> TextEmbeddings:
        """Read what `save` wrote. Raises WeightsError for another file."""
        from safetensors import safe_open

        open_regular(path).close()  # reading a pipe would block
        try:
            with safe_open(path, framework="numpy") as stream:
                header, vectors = stream.metadata() or {}, stream.get_tensor("vectors")
            header = json.loads(header[_HEADER]) if _HEADER in header else header  # 0.7: keys
            names = tuple(header["categories"].split("\n"))
            fits = vectors.shape == (len(names), _DIMENSIONS) and vectors.dtype == np.float32
            if not fits or not np.isfinite(vectors).all():
                raise ValueError(f"{len(names)} names and vectors of shape {vectors.shape}")
            return cls(names, vectors.astype(np.float32), header["kind"])
        except Exception as error:  # safetensors' errors and numpy's share no base
            detail = " ".join(str(error).split())
            raise WeightsError(f"{path}: is not a file of text embeddings ({detail})") from error


def embed(
    categories: Sequence[str], reference: NDArray[np.float32], source: str, store: WeightsStore
) -> TextEmbeddings:
    """Text embeddings of category names.

    source: `clip` (downloaded if its file is not here), `fixed`, or `auto`: CLIP if its file and
    the package open_clip are here, else fixed. reference: (M, 512) CLIP vectors that the detector
    was trained with; fixed vectors are on average as similar as these. Raises ConfigError for
    `clip` without open_clip, WeightsError if CLIP's file cannot be downloaded.
    """
    if source == "clip" or (source == "auto" and store.verify(_CLIP)):
        try:
            return _clip(categories, store)
        except ImportError as error:
            if source == "clip":
                raise ConfigError(
                    "--text clip needs: pip install 'defect-pipeline[clip]'"
                ) from error
            say("CLIP's file is here, but open_clip is not installed: fixed embeddings are used")
    vectors = np.stack([_fixed(name, reference) for name in categories])
    return TextEmbeddings(tuple(categories), vectors, "fixed")


def _fixed(name: str, reference: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector of a name, the same on every machine. Two of them are as similar as two of CLIP's
    are on average."""
    unit = reference / np.linalg.norm(reference, axis=1, keepdims=True)
    similarity = float((unit @ unit.T).mean())
    centre = unit.mean(axis=0) / np.linalg.norm(unit.mean(axis=0))
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    offset = np.random.default_rng(seed).standard_normal(unit.shape[1])
    offset -= (offset @ centre) * centre
    offset /= np.linalg.norm(offset)
    vector = np.sqrt(similarity) * centre + np.sqrt(1 - similarity) * offset
    return np.asarray(vector, dtype=np.float32)


def _clip(categories: Sequence[str], store: WeightsStore) -> TextEmbeddings:
    vectors = clip_vectors([readable_name(name) for name in categories], store)
    return TextEmbeddings(tuple(categories), vectors, "clip")


def clip_vectors(texts: Sequence[str], store: WeightsStore) -> NDArray[np.float32]:
    """(N, 512) vectors of length 1 from CLIP's text encoder. Raises ImportError without open_clip,
    WeightsError if CLIP's file cannot be downloaded."""
    import open_clip
    import torch

    model = open_clip.create_model("ViT-B-32-quickgelu", pretrained=None)
    model.load_state_dict(_clip_state(store.fetch(_CLIP).path))
    tokens = open_clip.get_tokenizer("ViT-B-32-quickgelu")(list(texts))
    with torch.inference_mode():
        vectors = model.eval().encode_text(tokens, normalize=True).numpy()
    return np.asarray(vectors, np.float32)


def readable_name(name: str) -> str:
    """A category name as words: `zipper/broken_teeth` is `zipper broken teeth`."""
    return name.replace("/", " ").replace("_", " ")


def _clip_state(path: Path) -> dict[str, torch.Tensor]:
    """The weights of CLIP's file. OpenAI's file is TorchScript, which runs no Python when it is
    loaded; other files are a plain dict."""
    import torch

    try:
        with warnings.catch_warnings():  # torch has no other reader of TorchScript
            warnings.filterwarnings("ignore", "`torch.jit.load` is deprecated", FutureWarning)
            state = torch.jit.load(str(path), map_location="cpu").state_dict()
    except RuntimeError:
        state = torch.load(path, map_location="cpu", weights_only=True)
    extra = {"input_resolution", "context_length", "vocab_size"}
    return {key: value.float() for key, value in state.items() if key not in extra}
