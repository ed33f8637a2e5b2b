"""What a reader finds in the files that it is given. Every object is counted there, so that none is
dropped in silence.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError, Faults
from pipeline.io.read import shown_value
from pipeline.runtime.progress import say
from pipeline.types import Dataset

_EXAMPLES = 3  # places that are named for each kind of object


@dataclass(frozen=True, kw_only=True)
class Converted:
    """Objects whose shape no label of this program has, drawn as another shape.

    kind: as the source names it, such as `ellipse`. to: what they are now, such as `mask`.
    """

    kind: str
    to: str
    count: int


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What a reader left out. kind: as the source names it, such as `polyline`. why: the reason.
    examples: the places of the first three."""

    kind: str
    why: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SourceCounts:
    """Everything in a source: `objects` = `read` + all of `converted` + all of `left_out`.

    images: in the source, with faulty ones. categories: with those that have no object. read:
    objects that are kept as they are. notes: what else was done.
    """

    images: int
    categories: int
    objects: int
    read: int
    converted: tuple[Converted, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()


class SourceLog:
    """Counts the objects of a source while it is read, and takes its faults.

    Each object is counted once: as `read`, `converted` or `left_out`.
    """

    def __init__(self, faults: Faults | None = None, annotator: str = "") -> None:
        """faults: what to do with a file, image or object that is faulty; without it, the first
        fault is raised. annotator: whose labels are read, where a source has those of several; ""
        for the choice of the reader."""
        self.faults = faults or Faults()
        self.annotator = annotator
        self.made: Path | None = None  # see `made_files`
        self._read = 0
        self._images: int | None = None  # see `list_images`
        self._faulty_objects = 0
        self._converted: Counter[tuple[str, str]] = Counter()
        self._left_out: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = {}
        self._notes: dict[str, list[str]] = {}  # the first places of each
        self._places = Counter[str]()  # of each note

    def read(self, count: int = 1) -> None:
        """Count objects that are kept as they are."""
        self._read += count

    def convert(self, kind: str, to: str = "mask", count: int = 1) -> None:
        """Count objects of a kind that become another shape."""
        if count:
            self._converted[kind, to] += count

    def leave_out(self, kind: str, why: str, where: str, count: int = 1) -> None:
        """Count objects of a kind that are left out. where: file or image, and the object's id or
        number in it."""
        key = (kind, why)
        self._left_out[key] += count
        examples = self._examples.setdefault(key, [])
        if len(examples) < _EXAMPLES:
            examples.append(where)

    def note(self, text: str, where: str = "") -> None:
        """Record what else was done to the source, once for each text. where: its place; the
        first three of a text are named."""
        places = self._notes.setdefault(text, [])
        self._places[text] += bool(where)
        if where and len(places) < _EXAMPLES:
            places.append(where)

    def notes(self) -> tuple[str, ...]:
        """What else was done, each with the number of its places and the first three."""
        return tuple(
            f"{self._places[text]} x {text}: {_listed(places, self._places[text])}"
            if places
            else text
            for text, places in self._notes.items()
        )

    def fault(self, error: DataError) -> None:
        """Take the fault of a file, an image or an object, which is then left out. Raises it
        unless faults are kept."""
        self.faults.add(error)

    def object_fault(self, kind: str, where: str, error: DataError, count: int = 1) -> None:
        """Take the fault of one object, or of a track of several, which is counted as left out.
        Raises it unless faults are kept."""
        self.faults.add(error)
        self._faulty_objects += 1
        if count > 0:
            self.leave_out(kind, "it is faulty", where, count)

    def image_fault(self, where: str, error: DataError, objects: int) -> None:
        """Take the fault of an image or a file, whose objects are counted as left out with it.
        Raises it unless faults are kept. objects: those that are not counted yet."""
        self.faults.add(error)
        if objects > 0:
            self.leave_out("object", "its image is faulty", where, objects)

    @property
    def counted(self) -> int:
        """How many objects are counted so far."""
        return self._read + self._converted.total() + self._left_out.total()

    def list_images(self, count: int) -> None:
        """Say how many images the source lists. Without it, they are those that were read, and one
        for each fault of an image."""
        self._images = (self._images or 0) + count

    def take_back(self, why: str, where: str, count: int) -> None:
        """Count objects of an image as left out that were counted as kept."""
        if not count:
            return
        self.leave_out("object", why, where, count)
        taken = min(self._read, count)
        self._read -= taken
        for kind, number in list(self._converted.items()):
            less = min(number, count - taken)
            self._converted[kind] -= less
            taken += less
        self._converted = +self._converted  # without those that are 0

    def made_files(self) -> Path:
        """A folder for images that a reader makes: frames of a video, the content of a zip. `close`
        removes it, or else the end of the program."""
        if self.made is None:
            self.made = Path(tempfile.mkdtemp(prefix="pipeline-"))
            atexit.register(shutil.rmtree, self.made, ignore_errors=True)
        return self.made

    def shown(self, error: DataError) -> DataError:
        """A fault in a file that was unpacked, with the zip in place of the folder that it was
        unpacked to."""
        if self.made is None:
            return error
        inside = error.path.is_relative_to(self.made)
        path = error.path.relative_to(self.made) if inside else error.path
        return DataError(path, error.reason.replace(f"{self.made}/", ""), error.remedy)

    def close(self) -> None:
        """Remove the images that the reader made."""
        if self.made is not None:
            shutil.rmtree(self.made, ignore_errors=True)

    def left_out(self) -> tuple[LeftOut, ...]:
        """What was left out so far."""
        return tuple(
            LeftOut(kind=kind, why=why, count=count, examples=tuple(self._examples[kind, why]))
            for (kind, why), count in self._left_out.items()
        )

    def counts(self, dataset: Dataset) -> SourceCounts:
        """All counts, for the dataset that was read."""
        converted = tuple(
            Converted(kind=kind, to=to, count=count)
            for (kind, to), count in self._converted.items()
        )
        left_out = self.left_out()
        images = len(dataset.records) + len(self.faults.errors) - self._faulty_objects
        others = sum(row.count for row in converted) + sum(row.count for row in left_out)
        return SourceCounts(
            images=self._images if self._images is not None else images,
            categories=len(dataset.categories),
            objects=self._read + others, read=self._read,
            converted=converted, left_out=left_out, notes=self.notes(),
        )  # fmt: skip

    def report(self) -> None:
        """Print a line for each kind that was converted or left out."""
        for text in self.notes():
            say(text)
        for (kind, to), count in self._converted.items():
            say(f"{count} x {shown_value(kind)}: converted to {to}")
        for row in self.left_out():
            say(_line(row))


def refuse_left_out(rows: Iterable[LeftOut], source: Path) -> None:
    """Raise DataError for a source of which anything was left out."""
    for row in rows:
        raise DataError(source, _line(row), "correct it, or go without --strict")


def _line(row: LeftOut) -> str:
    places = _listed(row.examples, row.count)
    return f"{row.count} x {shown_value(row.kind)} left out ({row.why}): {places}"


def _listed(places: Sequence[str], count: int) -> str:
    return ", ".join(places[:_EXAMPLES]) + (", ..." if count > _EXAMPLES else "")
