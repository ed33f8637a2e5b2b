"""Graphs in the cache that are altered never answer, and those that cannot be kept do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.io.disk_cache import DiskCache, key_of
from pipeline.models.openvino_graphs import EntryStore, FolderStore, Graph, GraphFiles
from pipeline.models.openvino_offline import load_openvino
from pipeline.models.sam.encoders import OpenVinoEncoder

BIG = 1 << 30


class Tiny(torch.nn.Module):
    """A network in place of an image encoder: its embedding is a picture's mean, times 3."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.full((256, 3, 1, 1), 3.0))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        pooled = torch.nn.functional.avg_pool2d(pixels, 16)
        return torch.nn.functional.conv2d(pooled, self.weight)


class Exports:
    """The network, and how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> torch.nn.Module:
        self.asked += 1
        return Tiny()


PICTURE = np.full((32, 32, 3), 200, np.uint8)


def encoder(folder: Path, exports: Exports) -> OpenVinoEncoder:
    return OpenVinoEncoder(exports, "weights", 32, folder, "f32")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The graph of the network, as it is kept."""
    folder, exports = tmp_path_factory.mktemp("exported"), Exports()
    encoder(folder, exports).encode([PICTURE])
    assert exports.asked == 1
    return folder


def _flip(suffix: str) -> Callable[[Path], None]:
    def flip(folder: Path) -> None:
        path = next(folder.glob(f"*{suffix}"))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0x41
        path.write_bytes(data)

    return flip


def _of_another_network(folder: Path) -> None:
    """Weights of the right length: what gave wrong masks without a word."""
    path = next(folder.glob("*.bin"))
    path.write_bytes(np.full(path.stat().st_size // 4, 7, np.float32).tobytes())


def _write(suffix: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: next(folder.glob(f"*{suffix}")).write_bytes(data) and None  # type: ignore


def _remove(suffix: str) -> Callable[[Path], None]:
    return lambda folder: next(folder.glob(f"*{suffix}")).unlink()


@pytest.mark.parametrize(
    "alter",
    [
        _flip(".bin"), _flip(".xml"), _of_another_network, _write(".bin", b""),
        _write(".xml", b"<net>"), _remove(".bin"), _remove(".xml"), _remove(".sha256"),
        _write(".sha256", b"\xff" * 64), _write(".sha256", b"../" * 21 + b"x"),
        _write(".sha256", b"0" * 64), _write(".sha256", b""),
    ],
)  # fmt: skip
def test_a_graph_that_was_altered_never_answers(
    exported: Path, tmp_path: Path, notices: list[str], alter: Callable[[Path], None]
) -> None:
    folder, exports = Path(shutil.copytree(exported, tmp_path / "graphs")), Exports()
    first = encoder(folder, exports)
    right = first.encode([PICTURE])[0]
    assert exports.asked == 0
    alter(folder)
    again = encoder(folder, exports)
    assert (again.encode([PICTURE])[0] == right).all()
    assert exports.asked == 1
    assert again.key == first.key  # and so what was computed before is still answered
    third = encoder(folder, exports)
    assert (third.encode([PICTURE])[0] == right).all()
    assert exports.asked == 1  # the right one has taken its place


def test_a_graph_that_is_right_needs_no_network_and_its_key_no_graph(tmp_path: Path) -> None:
    exports = Exports()
    key = encoder(tmp_path, exports).key
    assert encoder(tmp_path, exports).key == key
    assert encoder(tmp_path, exports).encode([PICTURE])
    next(tmp_path.glob("*.bin")).unlink()
    assert encoder(tmp_path, exports).key == key
    assert exports.asked == 1


def test_a_graph_swapped_with_its_sha256_answers_under_a_key_of_its_own(tmp_path: Path) -> None:
    right = encoder(tmp_path, Exports())
    key, embedding = right.key, right.encode([PICTURE])[0]
    parts = FolderStore(tmp_path, next(tmp_path.glob("*.sha256")).stem)
    there = parts.read()
    assert there is not None
    weights = np.full(len(there.weights) // 4, 7, np.float32).tobytes()
    parts.write(GraphFiles(there.xml, weights))
    forged = encoder(tmp_path, Exports())
    assert (forged.encode([PICTURE])[0] != embedding).any()
    assert forged.key != key


def test_a_graph_is_exported_with_the_same_bytes_whatever_was_traced_before(
    tmp_path: Path,
) -> None:
    keys = {encoder(tmp_path / str(number), Exports()).key for number in range(2)}
    assert len(keys) == 1


@pytest.mark.parametrize("where", ["the folder", "the disk"])
def test_a_graph_that_cannot_be_kept_answers_all_the_same(
    tmp_path: Path, notices: list[str], where: str, request: pytest.FixtureRequest
) -> None:
    right = encoder(tmp_path / "right", Exports()).encode([PICTURE])[0]
    (tmp_path / "file").write_bytes(b"")
    folder = tmp_path / ("file" if where == "the folder" else "graphs")
    if where == "the disk":
        request.getfixturevalue("full_disk")
    assert (encoder(folder, Exports()).encode([PICTURE])[0] == right).all()
    assert len([text for text in notices if "without a cache" in text]) == 1


def test_a_graph_that_a_full_disk_cut_off_is_not_kept(
    tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO says nothing when the disk takes only half of the weights."""
    openvino = load_openvino()
    whole = openvino.save_model

    def cut(graph: Any, path: str, **options: Any) -> None:
        whole(graph, path, **options)
        os.truncate(Path(path).with_suffix(".bin"), 100)

    right = encoder(tmp_path / "right", Exports()).encode([PICTURE])[0]
    monkeypatch.setattr(openvino, "save_model", cut)
    assert (encoder(tmp_path / "cut", Exports()).encode([PICTURE])[0] == right).all()
    assert not list((tmp_path / "cut").iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated:FutureWarning")  # OpenVINO's
@pytest.mark.parametrize(
    "forged",
    [
        lambda kept: b"",
        lambda kept: kept[:60],
        lambda kept: kept[:72],
        lambda kept: kept[:64] + b"\xff" * 8 + kept[72:],
        lambda kept: kept[:-4] + b"\x00\x00\xff\x42",
        lambda kept: b"0" * 64 + kept[64:],
        lambda kept: key_of(b"<net/>", b"x").encode() + (6).to_bytes(8, "little") + b"<net/>x",
    ],
)
def test_a_graph_in_an_entry_is_checked_too(
    tmp_path: Path, notices: list[str], forged: Callable[[bytes], bytes]
) -> None:
    """As SAM's decoder is kept. The entry's own sha256 is right."""
    cache, exports = DiskCache(tmp_path, BIG), Exports()

    def answer() -> float:
        store = EntryStore(cache, "decoder")
        graph = Graph(
            store,
            lambda openvino: openvino.convert_model(
                exports(), example_input=torch.ones(1, 3, 32, 32)
            ),
            "f32",
        )
        assert graph.sha256
        return float(graph.compiled(np.ones((1, 3, 32, 32), np.float32))[0].mean())

    assert answer() == answer() == 9.0
    assert exports.asked == 1
    kept = cache.get("decoder")
    assert kept is not None
    cache.put("decoder", forged(kept))
    assert answer() == answer() == 9.0
    assert exports.asked == 2


AFTER_ALL_GRAPHS = """
import gc, signal, sys, tempfile
from pathlib import Path
from test_cached_graphs import PICTURE, Exports, encoder
from pipeline.runtime import signals
signals.install()
made = [encoder(Path(tempfile.mkdtemp()), Exports()) for _ in range(2)]
for each in made:
    each.encode([PICTURE])
while made:
    del made[0]  # the first one first
    each = None
    gc.collect()
try:
    signal.raise_signal(signal.SIGINT)
except signals.Stopped:
    print("stopped")
"""


@pytest.mark.slow
def test_a_signal_after_all_graphs_are_gone_still_stops_the_command() -> None:
    """Two Cores of OpenVINO leave the system with the first one's freed stack for signals."""
    done = subprocess.run(
        [sys.executable, "-c", AFTER_ALL_GRAPHS],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("stopped\n", 0)
