"""What is wrong with a set of labels, in words that name the file and the entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError, one_line
from pipeline.io.images import read_size


@dataclass(frozen=True)
class Finding:
    """One fault. kind: its name in a count. where: an id or a row. mend: what `--fix` does about
    it, empty where no change is safe."""

    kind: str
    path: Path
    where: str
    text: str
    mend: str = ""

    def __str__(self) -> str:
        place = f"{self.path}: {self.where}: " if self.where else f"{self.path}: "
        line = f"{place}{self.text}" + (f" [--fix: {self.mend}]" if self.mend else "")
        return one_line(line)


def check_image(
    path: Path, where: str, listed: Path, size: tuple[int, int] | None
) -> list[Finding]:
    """An image file that is missing, broken, EXIF-rotated, or not of the size (height, width) that
    the set says. listed: the file that names it."""
    try:
        there = path.is_file()
    except OSError:  # a name that is too long
        there = False
    if not there:
        return [Finding("missing image", listed, where, f"no file {path}")]
    try:
        found = read_size(path)
    except DataError as error:
        kind = "EXIF rotation" if "EXIF" in error.reason else "broken image"
        return [Finding(kind, listed, where, str(error))]
    if size is not None and found != size:
        text = f"is {found[1]}x{found[0]} on disk, but {size[1]}x{size[0]} here: {path}"
        return [Finding("size differs", listed, where, text)]
    return []


def colliding_stems(names: Iterable[str], path: Path) -> list[Finding]:
    """Images whose names differ in the suffix alone: their label and mask files would be one."""
    paths = map(Path, names)
    stems = Counter(str(path.with_suffix("") if path.name else path) for path in paths)
    return [
        Finding("stems collide", path, stem, f"{count} images would share one label file")
        for stem, count in stems.items()
        if count > 1
    ]


def repeated(values: Sequence[object]) -> list[object]:
    """The values that occur more than once, in the order of their first occurrence."""
    return [value for value, count in Counter(values).items() if count > 1]
