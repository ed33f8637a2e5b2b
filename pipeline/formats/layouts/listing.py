"""What a layout of folders is, and the listing that each gives: images, their masks, categories and
splits. No pixel is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

from pipeline.errors import DataError, Faults
from pipeline.formats.image_files import NamedFolders
from pipeline.io.images import list_images
from pipeline.io.mask_files import MaskSource
from pipeline.io.read import is_junk


@dataclass(frozen=True)
class Listed:
    """One image of a layout.

    name: unique in its product, with the suffix of its file. split: of the source; "" for none.
    defect: its category; `good`; "" where only the pixels of its masks tell. lacks: the mask that
    a defective image does not have. group: images of one object share it; "" for the image alone.
    """

    path: Path
    name: str
    split: str = ""
    defect: str = ""
    masks: tuple[MaskSource, ...] = ()
    lacks: Path | None = None
    group: str = ""


@dataclass(frozen=True)
class Search:
    """Where a layout is listed. inside: the folders that files may lie in. faults: takes each
    fault. needs_masks: a mask without an image is a fault too. threshold: mask values above it are
    defect; None for 0, and of JPEG masks `MaskSource.threshold`."""

    root: Path
    inside: NamedFolders
    faults: Faults
    needs_masks: bool = True
    threshold: int | None = None


@dataclass(frozen=True)
class Layout:
    """Folders and files of one dataset, as its publisher or its users lay them out.

    parts: what has to be there, as text for a message, and as a pattern: names with `*`, small or
    capital letters; `/` at the end for a folder; `|` between patterns of which one will do.
    keeps_splits: its splits are made for training, so images keep them where there are several.
    """

    name: str
    parts: Mapping[str, str]
    listed: Callable[[Search], Iterator[Listed]]
    keeps_splits: bool = False

    def missing(self, root: Path) -> list[str]:
        """The parts that a folder lacks."""
        return [
            text
            for text, patterns in self.parts.items()
            if not any(next(matches(root, one), None) for one in patterns.split("|"))
        ]


def matches(root: Path, pattern: str) -> Iterator[Path]:
    """The paths below a folder that match a pattern of `Layout.parts`, sorted, without junk."""
    head, slash, rest = pattern.partition("/")
    if not head:
        yield root
        return
    for path in entries(root):
        if not fnmatchcase(path.name.lower(), head.lower()):
            continue
        if not slash:
            yield path
        elif path.is_dir():
            yield from matches(path, rest)


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without hidden files and junk; nothing for no folder."""
    try:
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
    except OSError as error:
        raise DataError(folder, f"cannot be read ({error.strerror})", "check it") from error
    return [path for path in paths if not is_junk(path.name)]


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without junk."""
    return [path for path in entries(folder) if path.is_dir()]


def images_in(folder: Path) -> list[Path]:
    """The image files in a folder, sorted; nothing for no folder. Raises DataError."""
    return list_images(folder) if folder.is_dir() else []


def inner(root: Path, *names: str) -> Path:
    """The path of nested folders or files, in small or capital letters as they are on the disk;
    the names themselves where there are none."""
    for name in names:
        exact = root / name
        alike = (path for path in entries(root) if path.name.lower() == name.lower())
        root = exact if exact.exists() else next(alike, exact)
    return root


def within(listed: Listed, folder: Path) -> Listed:
    """An image of one of several products in a set, named and grouped by its product's folder."""
    group = f"{folder.name}/{listed.split}/{listed.defect}/{listed.path.stem}"
    return replace(listed, name=f"{folder.name}_{listed.name}", group=listed.group or group)


def by_stem(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Files by their names without suffix."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        found.setdefault(path.stem, []).append(path)
    return found


def only_mask(image: Path, masks: list[Path], search: Search) -> Path | None:
    """The mask of an image; None for no mask. Raises DataError for two, and for one outside."""
    if len(masks) > 1:
        reason = f"has two masks, {masks[0].name} and {masks[1].name}"
        raise DataError(image, reason, "remove one")
    for mask in masks:
        search.inside.refuse_outside(mask)
    return masks[0] if masks else None


def refuse_orphans(masks: Mapping[str, Path], stems: set[str], where: Path, faults: Faults) -> None:
    """Take a fault for each mask whose image's stem is not among the stems of the images."""
    for stem, mask in masks.items():
        if stem not in stems:
            faults.add(DataError(mask, f"has no image in {where}", "add its image or remove it"))
