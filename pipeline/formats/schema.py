"""The types of value in label files, for pydantic: names, ids, sides, numbers."""

from __future__ import annotations

import unicodedata
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from pipeline.io.names import MAX_BYTES

MOST_SIDE = 2**31  # pixels
MOST_PIXELS = 2**40  # of an image
_MOST_NAME = 2048  # bytes of a file name with its folders
MOST_NUMBER = 1e10  # of a coordinate: float32 and whole pixels hold it


def _no_bool(value: object) -> object:
    """Refuse true and false, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


def _encodable(text: str) -> str:
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise ValueError("should be text without control characters or halves of surrogates")
    return text


def unusable(name: str) -> bool:
    """Whether no file can have this name: it has a control character, half a surrogate, or too many
    bytes. The name may have folders."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        return True
    parts = name.encode().split(b"/")
    return max(map(len, parts)) > MAX_BYTES or len(name.encode()) > _MOST_NAME


def file_name(text: str) -> str:
    """A file name, with its folders. Raises ValueError for text that names no file. `ImageRecord`
    checks whether the name leaves its root."""
    if PurePosixPath(text.replace("\\", "/")).name in {"", ".."} or unusable(text):
        raise ValueError(f"should be a file name, of at most {MAX_BYTES} bytes a part")
    return text


Id = Annotated[int, BeforeValidator(_no_bool), Field(ge=-(2**63), lt=2**63)]
Label = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, lt=2**31)]
Side = Annotated[int, BeforeValidator(_no_bool), Field(ge=1, le=MOST_SIDE)]
Number = Annotated[float, Field(strict=True, ge=-MOST_NUMBER, le=MOST_NUMBER)]
Name = Annotated[str, Field(strict=True), AfterValidator(_encodable)]
Text = Annotated[str, Field(coerce_numbers_to_str=True), AfterValidator(_encodable)]
FileName = Annotated[Text, AfterValidator(file_name)]


def checked_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) in pixels. Raises ValueError for more pixels than any image has."""
    if height * width > MOST_PIXELS:
        raise ValueError(f"an image of {width}x{height} pixels")
    return height, width
