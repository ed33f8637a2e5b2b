"""A session as `pipeline export` writes it: the set, and what was done to each object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pydantic import JsonValue

from pipeline.errors import DataError
from pipeline.formats.image_files import leave_out_leaks
from pipeline.formats.source import SourceLog
from pipeline.formats.text_stream import text_file
from pipeline.io.read import sha256_of
from pipeline.review.create import content_refusals
from pipeline.review.history import write_history
from pipeline.review.reviewed import read_reviewed
from pipeline.review.schema import SUFFIX
from pipeline.review.source import find_source, labels_of, session_of
from pipeline.review.store import ReviewStore
from pipeline.runtime.progress import say
from pipeline.types import Dataset

_COCO = Path("annotations", "instances.json")


class ReviewCounts(TypedDict, total=False):
    """What the result of an export says of a review."""

    review: Path
    reviewed: int
    rejected: int


@dataclass(frozen=True)
class ReviewedSet:
    """The labels of a session. history: by image id, the actions on each of its objects. reviewed,
    rejected: numbers of objects."""

    session: Path
    dataset: Dataset
    history: Mapping[int, Sequence[Sequence[JsonValue]]]
    reviewed: int
    rejected: int

    def write_history(self, folder: Path, dataset: Dataset) -> ReviewCounts:
        """Add history.csv to an export's folder, and the history of each object to its COCO file,
        if it has one. dataset: the images that were written, in their order. Raises DataError."""
        with ReviewStore(self.session) as store, content_refusals(self.session):
            write_history(folder / "history.csv", store)
        if (folder / _COCO).is_file():
            own = (self.history.get(record.id, ()) for record in dataset.records)
            add_history(folder / _COCO, (each for entries in own for each in entries))
        return {"review": self.session, "reviewed": self.reviewed, "rejected": self.rejected}


def reviewed_set(
    source: Path, images: Path | None, allow_outside: bool, log: SourceLog
) -> ReviewedSet | None:
    """What a person made of the labels of a file or folder; None without a review of them.

    images: their folder; without it, the one beside the labels. log: counts the objects. Raises
    DataError for a damaged session, and for an image outside its folder.
    """
    session = session_for(source)
    if session is None:
        if source.suffix == SUFFIX:
            raise DataError(source, "no such review", "check the path")
        return None
    root = images or find_source(source).images or labels_of(session).parent
    with ReviewStore(session) as store, content_refusals(session):
        reviewed = read_reviewed(store, root)
        stale = is_stale(store, labels_of(session))
    say(f"{session}: the reviewed labels are written; --original writes those before the review")
    if stale:
        say(f"{labels_of(session)}: was changed after the review began; it is not read")
    log.read(sum(map(len, reviewed.dataset.objects.values())))
    dataset = leave_out_leaks(reviewed.dataset, [root], allow_outside, log.faults)
    return ReviewedSet(session, dataset, reviewed.history, reviewed.reviewed, reviewed.rejected)


def session_for(source: Path) -> Path | None:
    """The session of labels that are named by their file or folder, or itself; None without one."""
    try:
        session = session_of(labels_of(source))
    except DataError:
        return None
    return session if session.is_file() else None


def is_stale(store: ReviewStore, labels: Path) -> bool:
    """Whether the file of a session's labels was changed after the review began."""
    return labels.is_file() and sha256_of(labels) != store.sha256


def add_history(path: Path, history: Iterable[Sequence[JsonValue]]) -> None:
    """Add the history to each annotation of a file that `write_coco` wrote, in its order: the key
    `history`, where there is any. Raises DataError."""
    with path.open(encoding="utf-8") as before, text_file(path) as after:
        after.writelines(_with_history(before, iter(history)))


def _with_history(lines: Iterable[str], history: Iterator[Sequence[JsonValue]]) -> Iterator[str]:
    """Each annotation is a line of its own, that ends with a comma or with the file's end."""
    inside = False
    for line in lines:
        if inside and (own := next(history, ())):
            text = line.rstrip("\n")
            body = text.removesuffix(",") if text.endswith(",") else text.removesuffix("]}")
            added = json.dumps(list(own), ensure_ascii=False, sort_keys=True)
            yield f'{body[:-1]}, "history": {added}}}{line[len(body) :]}'
        else:
            yield line
        inside = inside or line.startswith('"annotations": [')
