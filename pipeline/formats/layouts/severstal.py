"""Severstal steel: train.csv of run lengths, and train_images.

Kaggle 2019. A row is ImageId, ClassId, EncodedPixels; before the final files, ImageId_ClassId and
EncodedPixels, empty for no defect. Runs are pairs of start and length; pixels are counted down the
columns from 1. Images that no row names are good.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.layouts.listing import Layout, Listed, Search, images_in, inner
from pipeline.formats.layouts.tables import rows_of
from pipeline.io.mask_files import MaskSource
from pipeline.io.read import read_text
from pipeline.types import GOOD

_JOINED = "ImageId_ClassId"


def _listed(search: Search) -> Iterator[Listed]:
    table, folder = inner(search.root, "train.csv"), inner(search.root, "train_images")
    runs: dict[str, dict[str, str]] = {}
    images = images_in(folder)
    names = {path.name for path in images}
    for line, name, number, pixels in _rows(table):
        if name not in names:
            reason = f"row {line} names {name}, which is not in {folder}"
            search.faults.add(DataError(table, reason, "add the image or remove the row"))
        elif pixels and number in runs.setdefault(name, {}):
            reason = f"row {line} is the second of class {number} on {name}"
            search.faults.add(DataError(table, reason, "join them"))
        elif pixels:
            runs[name][number] = pixels
    for path in images:
        own = sorted(runs.get(path.name, {}).items())
        masks = tuple(MaskSource(table, f"class_{number}", runs=text) for number, text in own)
        defect = GOOD if not own else masks[0].category if len(own) == 1 else "combined"
        yield Listed(path, f"{defect}_{path.name}", "", defect, masks)


def _rows(table: Path) -> Iterator[tuple[int, str, str, str]]:
    """Number, image, class and runs of each row."""
    header = read_text(table).partition("\n")[0]
    columns = (_JOINED,) if _JOINED in header else ("ImageId", "ClassId")
    for line, row in enumerate(rows_of(table, (*columns, "EncodedPixels")), start=1):
        if len(columns) == 1:
            name, _, number = row[_JOINED].rpartition("_")
        else:
            name, number = row["ImageId"], row["ClassId"]
        pixels = row["EncodedPixels"].strip()
        yield line, name, number.strip(), "" if pixels in {"-1", "nan"} else pixels


SEVERSTAL = Layout(
    "Severstal", {"train.csv": "train.csv", "train_images": "train_images/"}, _listed
)
