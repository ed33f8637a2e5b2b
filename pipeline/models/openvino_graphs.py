"""Networks as OpenVINO's graphs: exported once, kept in the cache, and never run unchecked.

A graph's sha256 is over its structure (xml) and weights (bin) together. It is part of the key of
whatever the graph answers, and the bytes that it is checked on are those that are compiled. The
same network gives the same bytes at every export, so that an export again costs no answer.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from pipeline.errors import DataError
from pipeline.io.cache_root import go_without, remove_abandoned
from pipeline.io.disk_cache import DiskCache, key_of
from pipeline.io.read import read_bytes
from pipeline.io.write import make_folder, write_bytes
from pipeline.models.openvino_offline import load_openvino, openvino_core
from pipeline.runtime.progress import say

_SHA256 = re.compile(rb"[0-9a-f]{64}")
_MOST = 16 << 30  # bytes of a graph's weights


class Parts(NamedTuple):
    """A graph in OpenVINO's own two files."""

    xml: bytes
    weights: bytes

    @property
    def sha256(self) -> str:
        """Of both together."""
        return key_of(self.xml, self.weights)


class Store(Protocol):
    """Where one graph is kept."""

    folder: Path

    def sha256(self) -> str:
        """Of the graph that should be there, without reading it; "" where there is none."""
        ...

    def read(self) -> Parts | None:
        """What is there, right or not; None for what cannot be a graph."""
        ...

    def write(self, parts: Parts) -> None:
        """Keep a graph. Raises DataError, OSError where the disk refuses."""
        ...


class FolderStore:
    """A graph as two files named by its sha256, and last a file that names that. A `Store`.

    Two processes that export at once write the same, or each its own two files.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._named = folder / f"{name}.sha256"

    def sha256(self) -> str:
        """See `Store`."""
        try:
            text = read_bytes(self._named, 100).strip()
        except DataError:
            return ""
        return text.decode() if _SHA256.fullmatch(text) else ""

    def read(self) -> Parts | None:
        """See `Store`."""
        xml = self._xml(self.sha256())
        try:
            return Parts(read_bytes(xml), read_bytes(xml.with_suffix(".bin"), _MOST))
        except DataError:
            return None

    def write(self, parts: Parts) -> None:
        """See `Store`."""
        xml = self._xml(parts.sha256)
        for path, data in (
            (xml.with_suffix(".bin"), parts.weights),
            (xml, parts.xml),
            (self._named, parts.sha256.encode()),
        ):
            write_bytes(path, data, root=self.folder, durable=True)

    def _xml(self, sha256: str) -> Path:
        return self.folder / f"{sha256[:32]}.xml"


class EntryStore:
    """A graph as one entry of a cache, which may let it go. A `Store`."""

    def __init__(self, cache: DiskCache, key: str) -> None:
        self.folder = cache.folder
        self._cache, self._key = cache, key

    def sha256(self) -> str:
        """See `Store`."""
        head = (self._cache.get(self._key) or b"")[:64]
        return head.decode() if _SHA256.fullmatch(head) else ""

    def read(self) -> Parts | None:
        """See `Store`."""
        data = self._cache.get(self._key) or b""
        length = int.from_bytes(data[64:72], "little")
        body = data[72:]
        return Parts(body[:length], body[length:]) if 0 < length < len(body) else None

    def write(self, parts: Parts) -> None:
        """See `Store`."""
        length = len(parts.xml).to_bytes(8, "little")
        self._cache.put(self._key, parts.sha256.encode() + length + parts.xml + parts.weights)


class Graph:
    """One network's graph, exported when it is first needed and not kept, or not as it was kept."""

    def __init__(self, store: Store, trace: Callable[[Any], Any], precision: str) -> None:
        """trace: makes the graph with the package openvino. precision: as OpenVINO names it."""
        self._store, self._trace, self._precision = store, trace, precision
        self._made: Any = None
        self._sha256 = ""

    @property
    def sha256(self) -> str:
        """Of the graph that answers; of one that was kept and not run yet, as it should be."""
        if not self._sha256:
            self._sha256 = self._store.sha256()
            if not self._sha256:
                self._export()
        return self._sha256

    @cached_property
    def compiled(self) -> Any:
        """The graph, checked and ready to run on this CPU."""
        wanted = self.sha256
        if self._made is None:
            kept = self._from_store(wanted)
            if kept is not None:
                return kept
            self._export()
        made, self._made = self._made, None
        return self._compile(made)

    def _from_store(self, wanted: str) -> Any:
        """The kept graph, compiled; None where it is not what was exported."""
        parts = self._store.read()
        if parts is not None and parts.sha256 == wanted:
            with suppress(Exception):  # whatever a library makes of somebody's own file
                return self._compile(_read(parts))
        say(f"{self._store.folder}: a kept graph is not as it was exported; exporting it again")
        return None

    def _export(self) -> None:
        """Trace the network and keep its graph; where that cannot be, it is this process's own."""
        self._made = _with_plain_names(self._trace(load_openvino()))
        self._sha256 = f"of one process {secrets.token_hex(16)}"
        try:
            parts, self._made = _serialised(self._made, self._store.folder)
            self._sha256 = parts.sha256
            self._store.write(parts)
        except (OSError, DataError, RuntimeError) as error:  # RuntimeError: OpenVINO's own
            go_without(self._store.folder, error)

    def _compile(self, model: Any) -> Any:
        options = {"INFERENCE_PRECISION_HINT": self._precision, "PERFORMANCE_HINT": "LATENCY"}
        options["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
        return openvino_core().compile_model(model, "CPU", options)


def _with_plain_names(graph: Any) -> Any:
    """The same with names that do not depend on what the process traced before."""
    for number, operation in enumerate(graph.get_ordered_ops()):
        operation.set_friendly_name(f"op{number}")
    graph.set_friendly_name("graph")
    return graph


def _read(parts: Parts) -> Any:
    openvino = load_openvino()
    weights = openvino.Tensor(np.frombuffer(parts.weights, np.uint8))
    return openvino_core().read_model(parts.xml, weights)


def _serialised(graph: Any, folder: Path) -> tuple[Parts, Any]:
    """A graph's files, written beside where they are to lie or to a temporary folder, and the graph
    that they give. Raises OSError, DataError, RuntimeError where the disk refuses."""
    remove_abandoned(folder, ".*.part")
    try:
        make_folder(folder, root=folder)
        return _saved(graph, folder)
    except (OSError, DataError, RuntimeError):
        return _saved(graph, None)


def _saved(graph: Any, folder: Path | None) -> tuple[Parts, Any]:
    with tempfile.TemporaryDirectory(".part", ".", folder, ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / "graph.xml"
        load_openvino().save_model(graph, os.fspath(path), compress_to_fp16=False)
        parts = Parts(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    return parts, _read(parts)  # fails where the disk took a part alone: OpenVINO writes on
