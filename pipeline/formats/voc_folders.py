"""Where the XML files, photos, masks and lists of a VOC set are.

VOC has Annotations, JPEGImages and ImageSets in one folder. labelImg writes each XML file beside
its photo, Roboflow does so in train, valid and test, and a development kit holds several years.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError
from pipeline.formats.image_files import read_text_within
from pipeline.formats.source import SourceLog
from pipeline.io.images import SUFFIXES, list_images
from pipeline.io.read import files_below
from pipeline.types import SPLITS

UNSORTED = "default"  # the list of images without a split
SPLIT_OF_NAME = {**{split: split for split in SPLITS}, "valid": "val", "validation": "val"}
_BOTH = "trainval"  # VOC's list of train and val together, which is no split
_XML_FOLDER = "annotations"
_XML_FOLDERS = {"annotation", "annots", "labels", "label", "xml", "xmls"}  # beside photos
PHOTO_FOLDERS = (
    "jpegimages",
    "images",
    "imgs",
    "img",
    "image",
    "data",
    "photos",
)  # in this order, in any case
_SETS = ("Main", "Segmentation", "Layout", "Action", "")  # below ImageSets, the first with lists
_MARK = re.compile(r"\s+(-1|0|1)$")  # whether an image has an object of the category
_ABOVE = re.compile(r"^.*/(jpegimages|images|annotations)/", re.IGNORECASE)


@dataclass(frozen=True)
class VocFolder:
    """One set. root: its folder. prefix: the way to it from the folder that was named, with `/` at
    the end; "" for that folder itself. base: the folder of the XML files. files: the XML files."""

    root: Path
    prefix: str
    base: Path
    files: tuple[Path, ...]

    def stem(self, path: Path) -> PurePosixPath:
        """The name of an XML file below the folder of the XML files, without its suffix."""
        return PurePosixPath(path.relative_to(self.base).with_suffix("").as_posix())

    @cached_property
    def stems(self) -> frozenset[str]:
        """The names of all XML files."""
        return frozenset(str(self.stem(path)) for path in self.files)

    @cached_property
    def photos(self) -> Path:
        """The folder of the photos: JPEGImages or images, else the folder of the set."""
        if self.base == self.root:
            return self.root
        below = {path.name.lower(): path for path in sorted(self.root.iterdir()) if path.is_dir()}
        return next((below[name] for name in PHOTO_FOLDERS if name in below), self.root)

    def mask(self, stem: PurePosixPath) -> Path:
        """The mask by objects of an image."""
        return self.root / "SegmentationObject" / f"{stem}.png"

    def categories(self) -> list[str]:
        """The names in labelmap.txt; none without the file. Raises DataError."""
        path = self.root / "labelmap.txt"
        if not path.is_file():
            return []
        lines = [line for line in read_text_within(path, self.root).split("\n") if line.strip()]
        names = [line.strip("\r").rsplit(":", 3)[0] for line in lines if not line.startswith("#")]
        return [name for name in names if name != "background"]

    def splits(self, log: SourceLog) -> Mapping[str, str]:
        """The split of each image that is in a list, by the stem of its XML file."""
        stems = self.stems
        split_of: dict[str, str] = {}
        for split, rows in sorted(self._lists(log), key=lambda pair: _rank(pair[0])):
            for row in rows:
                stem = next((stem for stem in _stems(row) if stem in stems), None)
                if stem is None:
                    log.note(f"rows of {split}.txt name no XML file", row)
                elif split_of.setdefault(stem, split) != split:
                    log.note(f"images in two lists are in the split {split_of[stem]}", stem)
        return split_of

    def _lists(self, log: SourceLog) -> Iterator[tuple[str, list[str]]]:
        """The rows of each list that is a split, by its name."""
        for name in _SETS:
            folder = self.root / "ImageSets" / name
            lists = {path.stem: _rows(path, self.root) for path in sorted(folder.glob("*.txt"))}
            if lists:
                yield from _of_splits(lists, log)
                return
        for path in sorted(self.root.glob("*.txt")):
            split = SPLIT_OF_NAME.get(path.stem.removesuffix("_list"))
            if split and not _has_photo(path):
                yield split, _rows(path, self.root)


def voc_folders(root: Path, log: SourceLog) -> list[VocFolder]:
    """All sets in a folder, or of one XML file. Raises DataError for none."""
    if root.is_file():
        return [VocFolder(root.parent, "", root.parent, (root,))]
    bases: dict[Path, list[Path]] = {}
    base_of: dict[Path, Path] = {}  # by the folder of the XML files
    for name in files_below(root):
        if name[-4:].lower() == ".xml":
            path = Path(name)
            if path.parent not in base_of:
                base_of[path.parent] = _base(path, root)
            bases.setdefault(base_of[path.parent], []).append(path)
    if not bases:
        raise DataError(root, "holds no XML file", "give the folder above it")
    if len(bases) > 1 and root in bases and any(base.parent == root for base in bases):
        for path in bases.pop(root):
            log.note("XML files outside Annotations are passed over", path.name)
    return [
        VocFolder(set_root, _prefix(set_root, root), base, tuple(sorted(files)))
        for base, files in sorted(bases.items())
        for set_root in [base if base == root else base.parent]
    ]


def _base(path: Path, root: Path) -> Path:
    """The folder called Annotations, or `labels` beside photos, that an XML file is in; else the
    folder that was named."""
    for folder in path.parents:
        if folder == root:
            break
        name = folder.name.lower()
        if name == _XML_FOLDER or (name in _XML_FOLDERS and _is_beside_photos(folder)):
            return folder
    return root


def _is_beside_photos(folder: Path) -> bool:
    """Whether a folder without photos lies beside one of photos: FiftyOne has `labels` and
    `data`."""
    beside = {path.name.lower() for path in folder.parent.iterdir() if path.is_dir()}
    return not beside.isdisjoint(PHOTO_FOLDERS) and not list_images(folder)


def _prefix(folder: Path, root: Path) -> str:
    return "" if folder == root else f"{folder.relative_to(root).as_posix()}/"


def _rank(split: str) -> int:
    """Lists whose images are held out come first: an image of two lists is not learned from."""
    return ("test", "val", "train").index(split) if split in SPLITS else len(SPLITS)


def _of_splits(lists: Mapping[str, list[str]], log: SourceLog) -> Iterator[tuple[str, list[str]]]:
    """The lists that are splits. Without any, the lists of a category say it, such as
    crack_train.txt: all of them name all images of their split."""
    plain = {name: rows for name, rows in lists.items() if not _of_category(name, rows)}
    is_alone = plain.pop(_BOTH, None) is not None and not plain
    if not plain:
        plain = {name: rows for name, rows in lists.items() if _category_split(name) in SPLITS}
        yield from ((_category_split(name), rows) for name, rows in plain.items())
        if is_alone and not plain:
            log.note("trainval.txt is no split: its images have none")
        return
    yield from ((SPLIT_OF_NAME.get(name, name), rows) for name, rows in plain.items())


def _category_split(name: str) -> str:
    """`train` of `crack_train`."""
    return name.rpartition("_")[2] if "_" in name else ""


def _of_category(name: str, rows: Sequence[str]) -> bool:
    """Whether a list says for each image if it has an object of one category: 1, 0 or -1."""
    ends = _category_split(name) in {*SPLITS, _BOTH}
    return ends and all(_MARK.search(row) for row in rows)


def _rows(path: Path, root: Path) -> list[str]:
    lines = read_text_within(path, root).splitlines()
    return [line.strip() for line in lines if line.strip()]


def _stems(row: str) -> Iterator[str]:
    """What a row of a list may mean: `a`, `a  1`, `JPEGImages/a.jpg`, `a.jpg Annotations/a.xml`."""
    for text in (row, _MARK.sub("", row), row.split(maxsplit=1)[0]):
        name = text.replace("\\", "/").removeprefix("./")
        yield name
        path = PurePosixPath(_ABOVE.sub("", f"/{name}").lstrip("/"))
        known = path.suffix.lower() in {*SUFFIXES, ".xml"}
        yield str(path.with_suffix("") if known else path)


def _has_photo(path: Path) -> bool:
    """Whether a text file is named as a photo beside it is, and so is no list."""
    return any(path.with_suffix(suffix).is_file() for suffix in SUFFIXES)
