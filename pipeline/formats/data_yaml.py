"""YOLO's data.yaml: the names of the categories, and where the images of each split are."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.schema import Text, unusable
from pipeline.formats.values import file_mode
from pipeline.io.images import SUFFIXES
from pipeline.io.read import checked, files_below, read_text, read_yaml, shown_value

LAYOUT = "expected data.yaml with `names` and the folders of images"


def _text_of(value: object) -> object:
    """Numbers and truth values as text: YAML makes them from names without quotes."""
    return str(value) if isinstance(value, (bool, int, float)) else value


def _numbered(names: object) -> object:
    return dict(enumerate(names)) if isinstance(names, list) else names


def _listed(entry: object) -> object:
    """A list from one folder, several or none."""
    if entry is None or entry == "":
        return []
    return entry if isinstance(entry, list) else [entry]


Name = Annotated[Text, BeforeValidator(_text_of)]
Places = Annotated[tuple[Name, ...], BeforeValidator(_listed)]


class DataYaml(BaseModel):
    """The keys of a data.yaml that are used. names: the category of each label. Other keys, such as
    `download`, are ignored."""

    model_config = ConfigDict(frozen=True)

    names: Annotated[dict[int, Name], BeforeValidator(_numbered)]
    nc: int | None = None
    path: Name | None = None
    train: Places = ()
    val: Places = ()
    test: Places = ()
    unsorted: Places = ()  # of a set without splits; see yolo_sets

    @property
    def categories(self) -> tuple[str, ...]:
        """The names in the order of their numbers."""
        return tuple(self.names[key] for key in sorted(self.names))

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
    content = read_yaml(path)
    if not isinstance(content, dict) or not content.get("names"):
        raise DataError(path, "names no categories", LAYOUT)
    return checked(_DATA_YAML, content, path)


def images_of(data: Path, root: Path, places: Sequence[str], folders: NamedFolders) -> list[Path]:
    """The images of a split. places: folders, or text files that list images.

    Raises DataError for a place that does not exist or is of another type, and for a place or image
    outside `folders`.
    """
    images: list[Path] = []
    for name in places:
        place = root / name
        mode = file_mode(place)
        if mode == 0 and name.startswith("../"):  # Roboflow's, which ultralytics reads so too
            place = root / name.removeprefix("../")
            mode = file_mode(place)
        if mode == 0:
            raise DataError(data, f"names {shown_value(name)}, which does not exist", LAYOUT)
        folders.refuse_outside(place)
        if stat.S_ISDIR(mode):
            below = (Path(path) for path in files_below(place))
            images += [path for path in below if path.suffix.lower() in SUFFIXES]
        elif stat.S_ISREG(mode):
            images += _listed_images(place, folders)
        else:
            reason = f"names {shown_value(name)}, which is neither a folder nor a list of images"
            raise DataError(data, reason, LAYOUT)
    return images


def _listed_images(path: Path, folders: NamedFolders) -> list[Path]:
    images = []
    for row, line in enumerate(read_text(path).split("\n"), start=1):
        if not (name := line.strip()):
            continue
        if unusable(name):
            reason = f"row {row}: no file is called {shown_value(name)}"
            raise DataError(path, reason, "list one image a row")
        place = path.parent / name
        if not file_mode(place) and name.startswith("data/"):  # darknet's, from the folder above
            place = path.parent / name.removeprefix("data/")
        folders.refuse_outside(place)
        images.append(place)
    return images
