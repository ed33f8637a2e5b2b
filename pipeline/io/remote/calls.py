"""A command that is given addresses: what it reads is fetched, it works on the copies, and what it
wrote is uploaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, JsonValue

from pipeline.errors import DataError, with_addresses
from pipeline.io.manifest import is_whole
from pipeline.io.read import RUN_FILE
from pipeline.io.remote.addresses import Place, has_addresses, place_of
from pipeline.io.remote.marker import find_marker, refuse_torn
from pipeline.io.remote.mirror import fetch
from pipeline.io.remote.unsent import (
    Unsent,
    forget_unsent,
    has_unsent,
    note_unsent,
    unsent_at,
    unsent_error,
)
from pipeline.io.remote.upload import has_changes, upload
from pipeline.io.run_record import Summary, fingerprint, folder_of
from pipeline.io.write import remove_tree
from pipeline.results import StageResult

Result = TypeVar("Result")

_OUTPUTS = {"output"}
_WRITTEN_IN_PLACE = {  # by command, the sources that it changes or adds files to
    "learn": {"run", "run_folder", "labels", "session"},
    "next": {"run", "run_folder"},
    "next_images": {"run", "run_folder"},
    "report": {"run", "run_folder"},
    "compare": {"run", "run_folder"},
    "review": {"source", "session"},
    "review_labels": {"source", "session"},
    "validate": {"sources"},
}
_GROW_IN_PLACE = {"run"}  # the work of a stopped call lies in the output itself
_OUTPUT_ELSEWHERE = {"next", "next_images", "report", "compare"}  # with an output, not in place
_LABELS = {"source", "sources", "products", "onto"}  # whose photos may lie beside them
_NO_PHOTOS = {"stats", "evaluate"}  # commands that read a file of labels alone
_WITHOUT_MEANING = {"overwrite", "opened", "no_browser"}  # for what a call is


@dataclass
class _Copies:
    """The places of a call. call: its hash. reads: what it reads alone. written: by path, those
    that change in place, with the keys that were fetched. outputs: what it writes as a whole."""

    command: str
    call: str
    reads: list[Place] = field(default_factory=list)
    written: dict[Path, tuple[Place, set[str]]] = field(default_factory=dict)
    outputs: list[Place] = field(default_factory=list)

    @property
    def targets(self) -> set[str]:
        """The keys of what is written, and of the folders of files that are."""
        keys = {place.key for place in self.outputs} | {p.key for p, _ in self.written.values()}
        return keys | {key.rpartition("/")[0] for key in keys if Path(key).suffix}


def on_copies(
    command: str,
    values: Mapping[str, Any],
    work: Callable[[], Result],
    restored: Callable[[Summary], Result],
) -> Result:
    """The result of `work`, which finds the copies of all addresses among `values` in their places;
    then its outputs are uploaded.

    values: the arguments of the command by name; configurations among them. restored: the result
    from its JSON, where an earlier call of the same did the work and its upload was stopped. Raises
    DataError, and what `work` raises.
    """
    if not has_addresses():
        return work()
    copies = _copies_of(command, values)
    overwrite = bool(values.get("overwrite"))
    for place in (*copies.outputs, *(place for place, _ in copies.written.values())):
        if place.store.is_web:
            remedy = "name a folder of a bucket or of this machine"
            raise DataError(str(place), "cannot be written: a web server is only read", remedy)
    _fetch_all(copies, values)
    unsent = [_prepare_output(copies, place, overwrite) for place in copies.outputs]
    inputs = fingerprint(_local_inputs(values)) if copies.outputs else ""
    for left in unsent:
        if left and left.call == copies.call and left.inputs == inputs and left.summary:
            _upload_all(copies)
            return restored(left.summary)
    with _noted(copies):
        result = work()
    summary = result.to_json() if isinstance(result, StageResult) else None
    for place in copies.outputs:
        note = Unsent(place.key, command, copies.call, True, inputs, summary)
        note_unsent(place, note)
    _upload_all(copies)
    return result


@contextmanager
def _noted(copies: _Copies) -> Iterator[None]:
    """In here, files change in place. A note says so until they are uploaded, also when the block
    fails or the process dies."""
    changing = [place for place, _ in copies.written.values()]
    if copies.command in _GROW_IN_PLACE:
        changing += copies.outputs
    for place in changing:
        note_unsent(place, Unsent(place.key, copies.command, copies.call))
    try:
        yield
    except BaseException:
        for place in changing:
            if not has_changes(place):
                forget_unsent(place)
        raise


def fetch_file(path: Path) -> None:
    """Fetch one file that is read before its command: a configuration."""
    if place := place_of(path):
        fetch(place, find_marker(place))


def _copies_of(command: str, values: Mapping[str, Any]) -> _Copies:
    copies = _Copies(command, _hash_of_call(command, values))
    has_output = values.get("output") is not None
    in_place = _WRITTEN_IN_PLACE.get(command, set())
    if (command == "validate" and not values.get("fix")) or (
        command in _OUTPUT_ELSEWHERE and has_output
    ):
        in_place = set()
    for name, value in values.items():
        for key, path in _paths(name, value):
            if (place := place_of(path)) is None:
                continue
            if key in _OUTPUTS:
                if name == key or not has_output:  # an option wins over the setting
                    copies.outputs.append(place)
            elif key in in_place:
                copies.written[place.path] = (place, set())
            else:
                copies.reads.append(place)
    return copies


def _fetch_all(copies: _Copies, values: Mapping[str, Any]) -> None:
    """Fetch all that is read, and the photos and the review beside labels."""
    named = values.get("images") is not None
    labels = {path for key in _LABELS for _, path in _paths(key, values.get(key))}
    onto = {path for _, path in _paths("onto", values.get("onto"))}  # with photos of its own
    for place in copies.reads:
        _fetch(copies, place)
        if place.path in labels and place.path.is_file():
            has_images = named and place.path not in onto
            for beside in _beside(copies.command, place, has_images):
                _fetch(copies, beside, may_be_absent=True)
    for path, (place, _) in list(copies.written.items()):
        fetched = _fetch(copies, place, keeps=True)
        if path.is_file():
            for beside in _beside(copies.command, place, named):
                fetched |= _fetch(copies, beside, keeps=True)
            copies.written[path] = (Place(place.store, place.key.rpartition("/")[0]), fetched)
        else:
            copies.written[path] = (place, fetched)


def _beside(command: str, place: Place, has_images: bool) -> Iterator[Place]:
    """What a command may read beside a file of labels: its review, and the photos where no folder
    of images is named."""
    folder, _, name = place.key.rpartition("/")
    if place.store.is_web:
        return
    if not has_images and command not in _NO_PHOTOS and not name.endswith(".zip"):
        yield Place(place.store, folder)
        outer = folder.rpartition("/")[0]
        if outer:
            yield Place(place.store, f"{outer}/images")
    else:
        yield Place(place.store, f"{folder}/{Path(name).stem}.review")


def _fetch(
    copies: _Copies, place: Place, keeps: bool = False, may_be_absent: bool = False
) -> set[str]:
    keeps |= has_unsent(place, copies.command, copies.targets)
    marker = find_marker(place)
    if marker and marker.head.call != copies.call:
        refuse_torn(place, marker)
    return fetch(place, marker, keeps=keeps or may_be_absent)


def _prepare_output(copies: _Copies, place: Place, overwrite: bool) -> Unsent | None:
    """Bring what an output holds, so that the command decides whether it may be replaced. Returns
    what an earlier call has still to upload; then nothing is fetched."""
    note, marker = unsent_at(place), find_marker(place)
    if note and note.is_done and note.command == copies.command:
        return note if _is_finished(place) else None
    is_torn = marker is not None and marker.head.state == "begun"
    if overwrite and (note or is_torn):
        remove_tree(place.path)
        forget_unsent(place)
        note = None
        if is_torn:
            return None
    if note and note.command != copies.command:
        raise unsent_error(place, note)
    if marker and is_torn and marker.head.call == copies.call:
        return None
    if marker:
        refuse_torn(place, marker)
    fetch(place, marker, keeps=True)
    return None


def _is_finished(place: Place) -> bool:
    is_run = (place.path / RUN_FILE).is_file()
    return is_whole(place.path) if is_run else place.path.exists()


def _upload_all(copies: _Copies) -> None:
    for place, fetched in copies.written.values():
        upload(place, copies.command, copies.call, fetched)
        forget_unsent(place)
    for place in copies.outputs:
        if place.path.exists():
            upload(place, copies.command, copies.call)
        forget_unsent(place)


def _local_inputs(values: Mapping[str, Any]) -> list[Path]:
    """All files and folders that a call reads."""
    found = (item for name, value in values.items() for item in _paths(name, value))
    return sorted(path for key, path in found if key not in _OUTPUTS and path.exists())


def _paths(name: str, value: Any) -> Iterator[tuple[str, Path]]:
    """The paths in an argument, each with the name of its argument or setting."""
    if isinstance(value, Path):
        yield name, value
    elif isinstance(value, str):
        if place_of(Path(value)) or folder_of(value):  # a setting that is a name, or a folder
            yield name, Path(value)
    elif isinstance(value, BaseModel):
        for field_name in type(value).model_fields:
            yield from _paths(field_name, getattr(value, field_name))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _paths(name, item)


def _hash_of_call(command: str, values: Mapping[str, Any]) -> str:
    """One hash of a command, its settings and its addresses; the same on every machine."""
    known = {name: value for name, value in values.items() if name not in _WITHOUT_MEANING}
    text = json.dumps([command, known], sort_keys=True, default=_as_json, ensure_ascii=False)
    return hashlib.sha256(with_addresses(text).encode()).hexdigest()


def _as_json(value: Any) -> JsonValue:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value) if isinstance(value, Path) else ""
