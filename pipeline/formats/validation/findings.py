"""The faults of a dataset, each with its file and entry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError, one_line
from pipeline.io.image_decode import header_of

REJECTED = "moved to rejected.json"  # the fix of an entry that no tool can read


@dataclass(frozen=True)
class Finding:
    """One fault.

    kind: the name under which it is counted. path: the file at fault. where: the entry in it, by
    id or row. text: the fault. fix: what `--fix` does to it; empty where no change is safe.
    """

    kind: str
    path: Path
    where: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        place = f"{self.path}: {self.where}: " if self.where else f"{self.path}: "
        line = f"{place}{self.text}" + (f" [--fix: {self.fix}]" if self.fix else "")
        return one_line(line)


def check_image(
    path: Path, where: str, listed: Path, size: tuple[int, int] | None
) -> list[Finding]:
    """The fault of an image file: missing, broken, or of another size than listed, upright.

    listed: the file that names the image. size: the listed (height, width); None for none.
    """
    try:
        exists = path.is_file()
    except OSError:  # a name that is too long
        exists = False
    if not exists:
        return [Finding("missing image", listed, where, f"no file {path}")]
    try:
        header = header_of(path)
    except DataError as error:
        return [Finding("broken image", listed, where, str(error))]
    if size is None or header.size == size:
        return []
    actual = header.size
    text = f"is {actual[1]}x{actual[0]} on disk, but {size[1]}x{size[0]} here: {path}"
    if size == (header.height, header.width):
        text += f" (EXIF orientation {header.orientation} turns it upright)"
        return [Finding("EXIF rotation", listed, where, text)]
    return [Finding("size differs", listed, where, text)]


def colliding_stems(names: Iterable[str], path: Path) -> list[Finding]:
    """Images whose names differ only in the suffix: their label and mask files would be one."""
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
