"""YOLO's data.yaml, read: the names of the categories, and where the images of each split are."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, TypeAdapter

from pipeline.errors import DataError
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.schema import Text, unusable
from pipeline.formats.values import kind_of_file
from pipeline.io.images import SUFFIXES
from pipeline.io.read import checked, files_below, read_text, read_yaml, shown_value

LAYOUT = "expected data.yaml with `names` and the folders of images"


def _text_of(value: object) -> object:
    """Numbers and truth values as text, for YAML makes them of unquoted names."""
    return str(value) if isinstance(value, (bool, int, float)) else value


def _numbered(names: object) -> object:
    return dict(enumerate(names)) if isinstance(names, list) else names


def _listed(entry: object) -> object:
    """One folder or several, or none."""
    if entry is None or entry == "":
        return []
    return entry if isinstance(entry, list) else [entry]


Name = Annotated[Text, BeforeValidator(_text_of)]
Places = Annotated[tuple[Name, ...], BeforeValidator(_listed)]


class DataYaml(BaseModel):
    """What is used of a data.yaml. names: each label's category. Keys beyond these are passed over;
    none of them is run or fetched."""

    model_config = ConfigDict(frozen=True)

    names: Annotated[dict[int, Name], BeforeValidator(_numbered)]
    nc: int | None = None
    path: Name | None = None
    train: Places = ()
    val: Places = ()
    test: Places = ()

    @property
    def categories(self) -> tuple[str, ...]:
        """The names in the order of their numbers."""
        return tuple(self.names[key] for key in sorted(self.names))

    def places(self, split: str) -> tuple[str, ...]:
        """The folders and lists of a split: train, val or test."""
        found: tuple[str, ...] = getattr(self, split)
        return found

    def root(self, file: Path) -> Path:
        """The folder that `places` are relative to."""
        return file.parent / (self.path or "")


_DATA_YAML = TypeAdapter(DataYaml)


def read_data_yaml(path: Path) -> DataYaml:
    """What a data.yaml says. Raises DataError for a file that is none."""
    found = read_yaml(path)
    if not isinstance(found, dict) or not found.get("names"):
        raise DataError(path, "names no categories", LAYOUT)
    return checked(_DATA_YAML, found, path)


def images_of(data: Path, root: Path, places: Sequence[str], folders: NamedFolders) -> list[Path]:
    """The images that entries of a data.yaml stand for: folders, or lists in text files.

    Raises DataError for a place that is not there or is neither, and for one outside `folders`.
    """
    found: list[Path] = []
    for name in places:
        place = root / name
        kind = kind_of_file(place)
        if kind == 0:
            raise DataError(data, f"names {shown_value(name)}, which does not exist", LAYOUT)
        folders.refuse_outside(place)
        if stat.S_ISDIR(kind):
            below = (Path(path) for path in files_below(place))
            found += [path for path in below if path.suffix.lower() in SUFFIXES]
        elif stat.S_ISREG(kind):
            found += _listed_images(place, folders)
        else:
            reason = f"names {shown_value(name)}, which is neither a folder nor a list of images"
            raise DataError(data, reason, LAYOUT)
    return found


def _listed_images(path: Path, folders: NamedFolders) -> list[Path]:
    found = []
    for row, line in enumerate(read_text(path).split("\n"), start=1):
        if not (name := line.strip()):
            continue
        if unusable(name):
            reason = f"row {row}: no file is called {shown_value(name)}"
            raise DataError(path, reason, "list one image a row")
        folders.refuse_outside(path.parent / name)
        found.append(path.parent / name)
    return found
