"""A session as `pipeline export` writes it: the set, and what was done to each object."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pydantic import JsonValue

from pipeline.errors import ConfigError, DataError
from pipeline.formats.image_files import leave_out_leaks
from pipeline.formats.source import SourceLog
from pipeline.formats.text_stream import text_file
from pipeline.io.read import sha256_of
from pipeline.review.create import content_refusals
from pipeline.review.history import write_history
from pipeline.review.reviewed import read_reviewed
from pipeline.review.schema import SUFFIX
from pipeline.review.source import find_source, image_root, labels_of, session_of
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


@dataclass(frozen=True)
class Wish:
    """original: the labels as they were before the review. finished: only images that a person
    marked, or whose objects are all judged."""

    original: bool = False
    finished: bool = False


def reviewed_set(
    source: Path, images: Path | None, allow_outside: bool, log: SourceLog, wish: Wish
) -> ReviewedSet | None:
    """What a person made of the labels of a file or folder; None without a review of them.

    images: their folder; without it, the one beside the labels. log: counts the objects. Raises
    DataError for a damaged session, for an image outside its folder, and where nothing is finished;
    ConfigError for a wish for what is finished without a review.
    """
    session = None if wish.original else session_for(source)
    if session is None:
        if source.suffix == SUFFIX:
            is_there = source.is_file()
            remedy = "name the labels themselves with --original" if is_there else "check the path"
            raise DataError(source, "is a review" if is_there else "no such review", remedy)
        if wish.finished:
            raise ConfigError(f"--finished: there is no review of {source}; leave it out")
        return None
    with ReviewStore(session) as store, content_refusals(session):
        root = image_root(find_source(source), store.root, images)
        reviewed = read_reviewed(store, root)
        stale = is_stale(store, labels_of(session))
    say(f"{session}: the reviewed labels are written; --original writes those before the review")
    if stale:
        say(f"{labels_of(session)}: was changed after the review began; it is not read")
    chosen = reviewed.dataset
    if wish.finished:
        chosen = chosen.subset([r for r in chosen.records if r.id in reviewed.finished])
        if not chosen.records:
            raise DataError(session, "has no finished image", "leave out --finished")
    log.read(sum(map(len, chosen.objects.values())))
    dataset = leave_out_leaks(chosen, [root], allow_outside, log.faults)
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
