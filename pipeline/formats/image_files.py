"""The image files that a label file may name: those in the folders that the user named.

A label file may come from a stranger. Without this check, a file that names `/home/me/.ssh/id_rsa`
as an image would copy that file into the output of a command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.errors import DataError, Faults
from pipeline.formats.schema import unusable
from pipeline.formats.values import as_data_error
from pipeline.io.image_header import PIXEL_LIMIT, SIDE_LIMIT
from pipeline.io.images import images_below, read_listed_image, read_size, refuse_other_size
from pipeline.io.read import read_text, shown_value
from pipeline.types import Dataset, ImageRecord, split_of

_REMEDY = "name its folder with --images, or give --allow-outside"
_UNCHECKED = 1 << 27  # pixels that may be allocated before the size of the image is checked


class NamedFolders:
    """The folders that images may come from. With `allow_outside`, any folder."""

    def __init__(self, roots: Sequence[Path], allow_outside: bool = False) -> None:
        self._named = " or ".join(dict.fromkeys(map(str, roots)))
        self._roots = [_resolved(root) for root in roots]
        self._allow_outside = allow_outside
        self._resolved: dict[Path, Path] = {}  # folders with links resolved, for many images each

    def refuse_outside(self, path: Path) -> None:
        """Raise DataError for a path outside the folders after links are resolved."""
        if self._allow_outside:
            return
        if path.parent not in self._resolved:
            self._resolved[path.parent] = _resolved(path.parent)
        place = self._resolved[path.parent] / path.name
        if path.name in {"", ".."} or _is_link(place):
            place = _resolved(path)
        if not any(place.is_relative_to(root) for root in self._roots):
            reason = f"leads to {place}, outside the folder of images {self._named}"
            raise DataError(path, reason, _REMEDY)

    def refuse_leak(self, record: ImageRecord) -> None:
        """Raise DataError for an image or mask outside the folders, and for a file that is not an
        image of the listed size."""
        self.refuse_outside(record.path)
        for mask in record.masks:
            self.refuse_outside(mask.path)
        refuse_missized(record.path, record.size)


def read_text_within(path: Path, root: Path) -> str:
    """The text of a file of a set, such as its list of categories. Raises DataError for a link
    that leads out of the set's folder: its lines would come out as names."""
    place = _resolved(path)
    if not place.is_relative_to(_resolved(root)):
        reason = f"leads to {place}, outside its set in {root}"
        raise DataError(path, reason, "put the file itself there")
    return read_text(path)


def image_file(root: Path, name: str, allow_outside: bool = False) -> Path:
    """The path of an image that a label file names, relative to `root`.

    Raises DataError for a path outside `root` after links are resolved, unless `allow_outside`, and
    for a name that no file can have.
    """
    if not name or unusable(name):
        raise DataError(root, f"cannot hold an image {shown_value(name)}", "rename it")
    NamedFolders([root], allow_outside).refuse_outside(root / name)
    return root / name


def leave_out_leaks(
    dataset: Dataset, roots: Sequence[Path], allow_outside: bool, faults: Faults
) -> Dataset:
    """The images that `NamedFolders.refuse_leak` does not refuse; the others go to `faults`."""
    folders = NamedFolders(roots, allow_outside)
    return leave_out_faulty(dataset, folders.refuse_leak, faults)


def list_images_below(folder: Path, faults: Faults) -> Dataset:
    """Every image below a folder, without objects; unreadable ones go to `faults`. Raises DataError
    for no folder and for no image."""
    if not folder.is_dir():
        raise DataError(folder, "no such folder", "check --images")
    records: list[ImageRecord] = []
    for path in images_below(folder):
        name = path.relative_to(folder).as_posix()
        try:
            height, width = read_size(path)
            with as_data_error(path, "", "rename it"):
                record = ImageRecord(
                    len(records) + 1, path, name, height, width, split=split_of(name)
                )
        except DataError as error:
            faults.add(error)
            continue
        records.append(record)
    if not records:
        raise DataError(folder, "holds no image", "check --images")
    return Dataset((), tuple(records))


def leave_out_outside(dataset: Dataset, folders: NamedFolders, faults: Faults) -> Dataset:
    """The images that lie in `folders`, links resolved; the others go to `faults`."""
    return leave_out_faulty(dataset, lambda record: folders.refuse_outside(record.path), faults)


def leave_out_unreadable(dataset: Dataset, faults: Faults) -> Dataset:
    """The images whose photos can be read, and have the listed size; the others go to `faults`.
    Every photo is decoded, but not where the first fault ends the command anyway."""
    return leave_out_faulty(dataset, refuse_unreadable, faults) if faults.keep_going else dataset


def refuse_unreadable(record: ImageRecord) -> None:
    """Raise DataError for an image that cannot be decoded, or has another size than listed."""
    read_listed_image(record.path, record.size)


def leave_out_faulty(
    dataset: Dataset, check: Callable[[ImageRecord], None], faults: Faults
) -> Dataset:
    """The images for which `check` raises no DataError; the others go to `faults`."""
    records = []
    for record in dataset.records:
        try:
            check(record)
        except DataError as error:
            faults.add(error)
            continue
        records.append(record)
    return dataset if len(records) == len(dataset.records) else dataset.subset(records)


def refuse_missized(path: Path, size: tuple[int, int]) -> None:
    """Raise DataError for a file that is not an image of the listed size (height, width), upright.
    Only its header is read."""
    try:
        if not path.exists():
            raise DataError(path, "no such image", "give their folder with --images")
        refuse_other_size(path, size)
    except (OSError, ValueError) as error:  # a name that is too long, or not possible
        raise DataError(path, f"cannot be read ({error})", "rename it") from error


def refuse_false_size(path: Path, size: tuple[int, int]) -> None:
    """Raise DataError for an image that is listed as very large (height, width) but is not, or that
    is too large to be read. Call it before pixels are allocated."""
    if max(size) > SIDE_LIMIT or size[0] * size[1] > PIXEL_LIMIT:
        reason = f"is listed as {size[1]}x{size[0]} pixels, too many to be read"
        raise DataError(path, reason, "correct the label file")
    if size[0] * size[1] > _UNCHECKED:
        refuse_missized(path, size)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL, a long name
        raise DataError(path, f"cannot be resolved ({error})", "check its name") from error


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError as error:  # a name that is too long
        raise DataError(path, f"cannot be read ({error.strerror})", "check its name") from error
