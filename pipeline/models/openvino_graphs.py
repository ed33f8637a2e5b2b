"""Networks as OpenVINO graphs: exported once, stored in the cache, and checked before they run.

A graph's sha256 is over its structure (xml) and weights (bin) together. The checked bytes are those
that are compiled. The sha256 is part of the cache key of each of the graph's results. The same
network gives the same bytes at every export, so results stay valid after another export.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.io.cache_root import go_without, remove_abandoned
from pipeline.io.disk_cache import DiskCache, key_of
from pipeline.io.read import read_bytes
from pipeline.io.write import make_folder, write_bytes
from pipeline.models.openvino_offline import load_openvino, openvino_core
from pipeline.runtime.progress import say

_SHA256 = re.compile(rb"[0-9a-f]{64}")
_WEIGHTS_LIMIT = 16 << 30  # bytes of a graph's weights


class GraphFiles(NamedTuple):
    """The bytes of OpenVINO's two files of a graph."""

    xml: bytes
    weights: bytes

    @property
    def sha256(self) -> str:
        """The sha256 of both together."""
        return key_of(self.xml, self.weights)


class GraphStore(Protocol):
    """Storage of one graph."""

    folder: Path

    def sha256(self) -> str:
        """The sha256 that the stored graph should have, without reading it; "" without a graph."""
        ...

    def read(self) -> GraphFiles | None:
        """The stored bytes, unchecked; None if they cannot be a graph."""
        ...

    def write(self, files: GraphFiles) -> None:
        """Store a graph. Raises DataError, OSError if the disk refuses."""
        ...


class FolderStore:
    """A graph as two files that are named by its sha256, and a third with that sha256, which is
    written last. A `GraphStore`.

    Two processes that export at the same time write equal files or files of different names.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._sha256_file = folder / f"{name}.sha256"

    def sha256(self) -> str:
        """See `GraphStore`."""
        try:
            text = read_bytes(self._sha256_file, 100).strip()
        except DataError:
            return ""
        return text.decode() if _SHA256.fullmatch(text) else ""

    def read(self) -> GraphFiles | None:
        """See `GraphStore`."""
        xml = self._xml(self.sha256())
        try:
            return GraphFiles(read_bytes(xml), read_bytes(xml.with_suffix(".bin"), _WEIGHTS_LIMIT))
        except DataError:
            return None

    def write(self, files: GraphFiles) -> None:
        """See `GraphStore`."""
        xml = self._xml(files.sha256)
        for path, data in (
            (xml.with_suffix(".bin"), files.weights),
            (xml, files.xml),
            (self._sha256_file, files.sha256.encode()),
        ):
            write_bytes(path, data, root=self.folder, durable=True)

    def _xml(self, sha256: str) -> Path:
        return self.folder / f"{sha256[:32]}.xml"


class EntryStore:
    """A graph as one entry of a cache, which may delete it. A `GraphStore`."""

    def __init__(self, cache: DiskCache, key: str) -> None:
        self.folder = cache.folder
        self._cache, self._key = cache, key

    def sha256(self) -> str:
        """See `GraphStore`."""
        head = (self._cache.get(self._key) or b"")[:64]
        return head.decode() if _SHA256.fullmatch(head) else ""

    def read(self) -> GraphFiles | None:
        """See `GraphStore`."""
        data = self._cache.get(self._key) or b""
        length = int.from_bytes(data[64:72], "little")
        body = data[72:]
        return GraphFiles(body[:length], body[length:]) if 0 < length < len(body) else None

    def write(self, files: GraphFiles) -> None:
        """See `GraphStore`."""
        length = len(files.xml).to_bytes(8, "little")
        self._cache.put(self._key, files.sha256.encode() + length + files.xml + files.weights)


class Graph:
    """The graph of one network. It is exported at its first use, if the store has none or has other
    bytes than it should."""

    def __init__(
        self,
        store: GraphStore,
        trace: Callable[[Any], Any],
        precision: str,
        side_by_side: bool = False,
    ) -> None:
        """trace: makes the graph, given the package openvino. precision: its name in OpenVINO.
        side_by_side: two inputs at once, each with half of the threads. The threads of one input
        wait for each other at every layer: beside other work, two inputs at once take half of the
        time; on an idle machine they take the same (benchmarks/graph_speed.py)."""
        self._store, self._trace, self._precision = store, trace, precision
        self._at_once = min(2 if side_by_side else 1, torch.get_num_threads())
        self._lock = threading.Lock()
        self._exported: Any = None
        self._sha256 = ""

    @property
    def sha256(self) -> str:
        """The sha256 of the graph that runs; of a stored graph before its first run, the sha256
        that it should have."""
        if not self._sha256:
            self._sha256 = self._store.sha256()
            if not self._sha256:
                self._export()
        return self._sha256

    @cached_property
    def compiled(self) -> Any:
        """The graph, checked and ready to run on this CPU."""
        sha256 = self.sha256
        if self._exported is None:
            stored = self._from_store(sha256)
            if stored is not None:
                return stored
            self._export()
        exported, self._exported = self._exported, None
        return self._compile(exported)

    def outputs(self, inputs: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The first output of the graph for each input, in order. What one gives does not depend on
        the others. May be called from several threads."""
        with self._lock:
            found: dict[int, NDArray[np.float32]] = {}

            def keep(request: Any, row: int) -> None:
                found[row] = np.array(request.get_output_tensor(0).data, np.float32)

            self._queue.set_callback(keep)
            for row, each in enumerate(inputs):
                self._queue.start_async([each], row)
            self._queue.wait_all()
            return [found[row] for row in range(len(inputs))]

    @cached_property
    def _queue(self) -> Any:
        return load_openvino().AsyncInferQueue(self.compiled, self._at_once)

    def _from_store(self, sha256: str) -> Any:
        """The stored graph, compiled; None if it has other bytes than it should."""
        files = self._store.read()
        if files is not None and files.sha256 == sha256:
            with suppress(Exception):  # OpenVINO can raise anything for a foreign file
                return self._compile(_read(files))
        say(f"{self._store.folder}: a stored graph was changed; exporting it again")
        return None

    def _export(self) -> None:
        """Trace the network and store its graph. If it cannot be stored, only this process uses it,
        with a sha256 that no other has."""
        self._exported = _with_plain_names(self._trace(load_openvino()))
        self._sha256 = f"of one process {secrets.token_hex(16)}"
        try:
            files, self._exported = _serialised(self._exported, self._store.folder)
            self._sha256 = files.sha256
            self._store.write(files)
        except (OSError, DataError, RuntimeError) as error:  # RuntimeError: OpenVINO's own
            go_without(self._store.folder, error)

    def _compile(self, model: Any) -> Any:
        options = {
            "INFERENCE_PRECISION_HINT": self._precision,
            "INFERENCE_NUM_THREADS": str(torch.get_num_threads()),
        }
        if self._at_once > 1:
            options["NUM_STREAMS"] = str(self._at_once)
        else:
            options["PERFORMANCE_HINT"] = "LATENCY"
        return openvino_core().compile_model(model, "CPU", options)


def _with_plain_names(graph: Any) -> Any:
    """The graph with names that do not depend on what the process traced before."""
    for number, operation in enumerate(graph.get_ordered_ops()):
        operation.set_friendly_name(f"op{number}")
    graph.set_friendly_name("graph")
    return graph


def _read(files: GraphFiles) -> Any:
    openvino = load_openvino()
    weights = openvino.Tensor(np.frombuffer(files.weights, np.uint8))
    return openvino_core().read_model(files.xml, weights)


def _serialised(graph: Any, folder: Path) -> tuple[GraphFiles, Any]:
    """A graph's files, and the graph that is read from them. They are written to a temporary folder
    in `folder`, or elsewhere if that fails. Raises OSError, DataError, RuntimeError."""
    remove_abandoned(folder, ".*.part")
    try:
        make_folder(folder, root=folder)
        return _saved(graph, folder)
    except (OSError, DataError, RuntimeError):
        return _saved(graph, None)


def _saved(graph: Any, folder: Path | None) -> tuple[GraphFiles, Any]:
    with tempfile.TemporaryDirectory(".part", ".", folder, ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / "graph.xml"
        load_openvino().save_model(graph, os.fspath(path), compress_to_fp16=False)
        files = GraphFiles(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    return files, _read(files)  # OpenVINO ignores a full disk; then this fails
