"""Tensors of models that somebody mailed: none, cut, of other shapes, with or without a card that
names their hash."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file
from saved_models import (
    CPU,
    Opener,
    autoencoder,
    by_anomaly,
    by_classifier,
    by_segmenter,
    classifier,
    hashed_once,
    patchcore,
    refused,
    rewrite,
    segmenter,
    tuned,
    write_again,
)

from pipeline.errors import WeightsError
from pipeline.io.read import sha256_of
from pipeline.models.anomaly.detector import load_anomaly_model
from pipeline.models.artifact import CARD, TENSORS
from pipeline.models.cards import PatchPriorCard
from pipeline.models.sam.model import load_sam
from pipeline.models.sam.patch_prior import read_patch_prior
from pipeline.models.text.embeddings import TextEmbeddings
from pipeline.models.weights.store import WeightsStore


@pytest.fixture(scope="module", autouse=True)
def _hashed_once() -> Iterator[None]:
    with hashed_once():
        yield


def by_sam(folder: Path) -> object:
    return load_sam(str(folder)).network


SETS: dict[str, tuple[Callable[[Path], None], str, Opener]] = {
    "autoencoder": (autoencoder, CARD, by_anomaly),
    "patchcore": (patchcore, CARD, by_anomaly),
    "classifier": (classifier, CARD, by_classifier),
    "segmenter": (segmenter, CARD, by_segmenter),
    "tuned SAM": (tuned, "card.json", by_sam),
}
TENSOR_FILES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "text": lambda _: b"no tensors",
    "cut": lambda data: data[: len(data) // 2],
    "a header of an exabyte": lambda data: b"\xff" * 8 + data[8:],
    "an array": lambda _: b"\x93NUMPY",
    "other tensors": lambda _: save({"a": torch.zeros(2)}),
    "no tensor": lambda _: save({}),
}


def sign(folder: Path, tensors: str, card: str, key: str) -> None:
    """Let a card name the hash of what lies there now."""
    content = json.loads((folder / card).read_text())
    rewrite(folder / card, {**content, key: sha256_of(folder / tensors)})


@pytest.mark.parametrize("change", TENSOR_FILES.values(), ids=TENSOR_FILES.keys())
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name", SETS)
def test_tensors_that_are_none_are_one_line(
    tmp_path: Path, name: str, change: Callable[[bytes], bytes], signed: bool
) -> None:
    write, card, opened = SETS[name]
    write_again(write, tmp_path)
    tensors, key = (
        ("delta.safetensors", "delta_sha256") if name == "tuned SAM" else (TENSORS, "sha256")
    )
    (tmp_path / tensors).write_bytes(change((tmp_path / tensors).read_bytes()))
    if signed:
        sign(tmp_path, tensors, card, key)
    if signed and name == "tuned SAM" and change is TENSOR_FILES["no tensor"]:
        opened(tmp_path)  # a tuning that changed nothing
    else:
        assert tensors in refused(opened, tmp_path)


@pytest.mark.parametrize("shape", [(0, 384), (3,), (3, 384, 1), (3, 5)])
def test_a_bank_of_another_shape_is_one_line(tmp_path: Path, shape: tuple[int, ...]) -> None:
    patchcore(tmp_path)
    save_file({"bank": torch.zeros(shape)}, tmp_path / TENSORS)
    sign(tmp_path, TENSORS, CARD, "sha256")
    assert "bank" in refused(by_anomaly, tmp_path)


def test_an_autoencoder_takes_no_more_memory_than_its_tensors(tmp_path: Path) -> None:
    """A network of that size would have 10 billion numbers."""
    autoencoder(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    rewrite(tmp_path / CARD, {**card, "side": 4096, "latent": 5000})
    with pytest.raises(WeightsError, match=r"mean\.weight is of shape \(4, 128\)"):
        load_anomaly_model(tmp_path, CPU)


GOOD = {"kind": "fixed", "categories": "a\nb"}


@pytest.mark.parametrize(
    ("vectors", "header"),
    [
        (torch.zeros(2, 512), None),
        (torch.zeros(2, 512), {}),
        (torch.zeros(2, 512), {"kind": "fixed"}),
        (torch.zeros(3, 512), GOOD),
        (torch.zeros(2, 5), GOOD),
        (torch.zeros(2), GOOD),
        (torch.full((2, 512), float("nan")), GOOD),
        (torch.zeros(2, 512, dtype=torch.bfloat16), GOOD),
    ],
)
def test_text_embeddings_that_are_none_are_one_line(
    tmp_path: Path, vectors: torch.Tensor, header: dict[str, str] | None
) -> None:
    save_file({"vectors": vectors}, tmp_path / "a.safetensors", metadata=header)
    assert "is not a file of text embeddings" in refused(
        TextEmbeddings.load, tmp_path / "a.safetensors"
    )


@pytest.mark.parametrize("change", TENSOR_FILES.values(), ids=TENSOR_FILES.keys())
def test_a_file_that_holds_no_text_embeddings_is_one_line(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "a.safetensors"
    TextEmbeddings(("a",), np.eye(1, 512, dtype=np.float32), "fixed").save(path)
    path.write_bytes(change(path.read_bytes()))
    refused(TextEmbeddings.load, path)


@pytest.mark.parametrize(
    ("inside", "outside"), [((0, 128), (3, 128)), ((3, 128), (3, 5)), ((3,), (3, 128))]
)
def test_a_memory_of_another_shape_is_one_line(
    tmp_path: Path, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    path, store = tmp_path / "patch_prior.safetensors", WeightsStore()
    save_file({"inside": torch.zeros(inside), "outside": torch.zeros(outside)}, path)
    card = PatchPriorCard(
        features="mobilenet_v2", weights_sha256=store.get("mobilenet_v2").sha256, image_side=64,
        weight=4.0, sha256=sha256_of(path),
    )  # fmt: skip
    with pytest.raises(WeightsError, match="side is of shape"):
        read_patch_prior(path, card, store)
