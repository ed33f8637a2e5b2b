"""YOLO's data.yaml: the names of the categories, and where the images of each split are."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.schema import Text, unusable
from pipeline.formats.source import SourceLog
from pipeline.formats.values import file_mode
from pipeline.io.images import SUFFIXES
from pipeline.io.read import checked, files_below, parse_yaml, read_text, read_yaml, shown_value
from pipeline.types import SPLITS

SPLIT_OF_KEY = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
LAYOUT = "expected data.yaml with `names` and the folders of images"


def _text_of(value: object) -> object:
    """Numbers and truth values as text: a writer of sets may have them as names."""
    return str(value) if isinstance(value, (bool, int, float)) else value


def _is_number(value: object) -> bool:
    return str(value).strip().isdecimal()


def _numbered(names: object) -> object:
    """Names by number, from a list, a mapping the other way, or the text of either."""
    if isinstance(names, str) and names.strip()[:1] in {"[", "{"}:
        names = parse_yaml(names, Path("names"), as_written=True)
    if isinstance(names, list):
        return dict(enumerate(names))
    if isinstance(names, dict) and all(
        _is_number(number) and not _is_number(name) for name, number in names.items()
    ):
        return {number: name for name, number in names.items()}
    return names


def _listed(entry: object) -> object:
    """A list from one folder, several or none."""
    if entry is None or entry == "":
        return []
    return entry if isinstance(entry, list) else [entry]


Name = Annotated[Text, BeforeValidator(_text_of)]
Places = Annotated[tuple[Name, ...], BeforeValidator(_listed)]


class DataYaml(BaseModel):
    """The keys of a data.yaml that are used. names: the category of each label. kpt_shape: the
    number of keypoints of a pose, and the numbers of each. Other keys, such as `download`, are
    ignored."""

    model_config = ConfigDict(frozen=True)

    names: Annotated[dict[int, Name], BeforeValidator(_numbered)]
    nc: int | None = None
    path: Name | None = None
    kpt_shape: tuple[int, int] | None = None
    train: Places = ()
    val: Places = ()
    test: Places = ()
    unsorted: Places = ()  # of a set without splits; see yolo_sets

    @property
    def categories(self) -> tuple[str, ...]:
        """The names in the order of their numbers. Two categories of one name are one."""
        return tuple(dict.fromkeys(self.names[key] for key in sorted(self.names)))

    @property
    def labels(self) -> dict[int, int]:
        """The index in `categories` of each number that a label row may name."""
        index = {name: index for index, name in enumerate(self.categories)}
        return {number: index[name] for number, name in self.names.items()}

    def places(self, split: str) -> tuple[str, ...]:
        """The folders and lists of a split: train, val or test, and "" for images of none."""
        lists = {"train": self.train, "val": self.val, "test": self.test, "": self.unsorted}
        return lists[split]

    def root(self, file: Path) -> Path:
        """The folder that `places` are relative to."""
        return file.parent / (self.path or "")


_DATA_YAML = TypeAdapter(DataYaml)


def read_data_yaml(path: Path) -> DataYaml:
    """Read a data.yaml. Raises DataError for another file."""
    content = read_yaml(path, as_written=True)
    content = _usual_keys(content) if isinstance(content, dict) else {}
    if not content.get("names"):
        raise DataError(path, "names no categories", LAYOUT)
    return checked(_DATA_YAML, content, path)


def _usual_keys(content: dict[object, object]) -> dict[str, object]:
    """The content under the keys that ultralytics has: people write `valid` and `Train`. An exact
    key comes before its other spellings."""
    entries: dict[str, object] = {}
    for key, value in content.items():
        name = str(key).strip().lower()
        name = SPLIT_OF_KEY.get(name, name)
        if name == key or name not in entries:
            entries[name] = value
    return entries


def images_of(
    data: Path, roots: Sequence[Path], places: Sequence[str], folders: NamedFolders,
    log: SourceLog | None = None, on_missing: Callable[[str], None] | None = None,
) -> list[Path]:  # fmt: skip
    """The images of a split. places: folders, or text files that list images, below the first of
    `roots` that has them. log: takes a note of paths of another machine. on_missing: takes a place
    that does not exist, for Roboflow names the three splits whichever there are.

    Raises DataError for a place that does not exist, without `on_missing`, or is of another type,
    and for a place or image outside `folders`.
    """
    images: list[Path] = []
    for name in places:
        place = _place(name, roots, folders, data, log)
        mode = file_mode(place)
        if mode == 0 and on_missing:
            on_missing(name)
            continue
        if mode == 0:
            raise DataError(data, f"names {shown_value(name)}, which does not exist", LAYOUT)
        if stat.S_ISDIR(mode):
            below = (Path(path) for path in files_below(place))
            images += [path for path in below if path.suffix.lower() in SUFFIXES]
        elif stat.S_ISREG(mode):
            images += _listed_images(place, roots, folders, log)
        else:
            reason = f"names {shown_value(name)}, which is neither a folder nor a list of images"
            raise DataError(data, reason, LAYOUT)
    return images


def _listed_images(
    path: Path, roots: Sequence[Path], folders: NamedFolders, log: SourceLog | None
) -> list[Path]:
    row_of: dict[Path, int] = {}
    names: dict[Path, str] = {}
    for row, line in enumerate(read_text(path).split("\n"), start=1):
        if not (name := line.strip()):
            continue
        if unusable(name):
            reason = f"row {row}: no file is called {shown_value(name)}"
            raise DataError(path, reason, "list one image a row")
        place = _place(name, list(dict.fromkeys([path.parent, *roots])), folders, path, log)
        folders.refuse_outside(place)
        if names.setdefault(place, name) != name:
            reason = f"rows {row_of[place]} and {row} both lead to {place}"
            raise DataError(path, reason, "name the photo of each by its folder")
        row_of.setdefault(place, row)
    return list(names)


def _place(
    name: str, roots: Sequence[Path], folders: NamedFolders, source: Path, log: SourceLog | None
) -> Path:
    """The file or folder that a set names. A path of another machine is that of the same end below
    the folder of the set. Raises DataError for one outside `folders`."""
    first = roots[0] / name
    exact = [root / text for text in dict.fromkeys((name, name.replace("\\", "/")))
             for root in roots]  # fmt: skip
    place = next((place for place in exact if file_mode(place)), None)
    if place is None:
        place = next((root / end for end in _ends(name) for root in roots
                      if file_mode(root / end)), first)  # fmt: skip
        if place != first and log and not name.startswith(("../", "data/")):
            log.note(f"paths in {source.name} are of another machine; files of the same end are "
                     "read", name)  # fmt: skip
    if file_mode(place):
        folders.refuse_outside(place)
    return place


def _ends(name: str) -> Iterator[str]:
    """The ends of a path, the longest first: Roboflow names `../train/images`, darknet
    `data/obj_train_data/a.png`, and others the folders of their own machine. `images` alone is no
    end of `valid/images`: it may be the folder of another split."""
    parts = [part for part in name.replace("\\", "/").split("/") if part not in {"", ".", ".."}]
    for start in range(len(parts)):
        before = parts[start - 1].lower() if start else ""
        if parts[start:] == ["images"] and before in {*SPLITS, *SPLIT_OF_KEY}:
            return
        yield "/".join(parts[start:])
    if parts and Path(parts[-1]).suffix.lower() in SUFFIXES:
        yield f"images/{parts[-1]}"
