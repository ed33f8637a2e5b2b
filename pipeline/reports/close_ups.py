"""A page of close-ups in the order that they are given, in one file."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from jinja2 import Environment, FileSystemLoader, select_autoescape
from numpy.typing import NDArray

from pipeline.geometry import masks as mask_geometry
from pipeline.geometry.masks import Rle
from pipeline.io.images import Image, read_image
from pipeline.io.write import write_text
from pipeline.types import ImageRecord
from pipeline.visualization.overlays import close_up

_JPEG_QUALITY = 90


@dataclass(frozen=True)
class CloseUp:
    """A part of an image to show. box: (4,) xyxy in pixels, which is in the middle. tinted,
    outlined: masks; without an outline, the box is drawn. figure: what stands first, in bold.
    name: of what is shown. notes: a line each, in grey."""

    record: ImageRecord
    box: NDArray[np.float32]
    figure: str
    name: str
    notes: Sequence[str]
    tinted: Rle | None = None
    outlined: Rle | None = None


def write_close_ups(path: Path, title: str, text: str, shown: Sequence[CloseUp]) -> None:
    """Write the page. text: a paragraph below its title. Raises DataError for an image that cannot
    be read."""
    pictures = dict(_pictures(shown))
    rows = [
        {
            "picture": _inline(pictures[number]),
            "figure": one.figure,
            "name": one.name,
            "image": one.record.file_name,
            "notes": one.notes,
        }
        for number, one in enumerate(shown)
    ]
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=select_autoescape()
    )
    page = environment.get_template("close_ups.html").render(title=title, text=text, rows=rows)
    write_text(path, page + "\n")


def _pictures(shown: Sequence[CloseUp]) -> Iterator[tuple[int, Image]]:
    """The number and the picture of each. An image is read once for all of its own."""
    order = sorted(range(len(shown)), key=lambda number: shown[number].record.id)
    for _, group in groupby(order, key=lambda number: shown[number].record.id):
        numbers = list(group)
        record = shown[numbers[0]].record
        image, nothing = read_image(record.path), np.zeros(record.size, bool)
        for number in numbers:
            one = shown[number]
            tinted = one.tinted or mask_geometry.encode(nothing)
            yield number, close_up(image, tinted, one.outlined, one.box)


def _inline(picture: Image) -> str:
    """The picture (H, W, 3) as the `src` of an HTML image."""
    done, data = cv2.imencode(
        ".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not done:
        raise ValueError("a close-up cannot be written as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode("ascii")
