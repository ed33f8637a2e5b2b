"""TIFF files as other programs write them, tag by tag."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

BYTE, SHORT, LONG = 1, 3, 4
_FORMS = {BYTE: "B", SHORT: "H", LONG: "I"}
_TILE = 16
Tags = Mapping[int, tuple[int, Sequence[int]]]


def tiff(
    pixels: np.ndarray, *, tags: Tags | None = None, colour: int = 1, bits: int = 0,
    is_tiled: bool = False, is_big_endian: bool = False, pages: int = 1, subfile: int = 0,
    sample_format: int = 1,
) -> bytes:  # fmt: skip
    """A file of pixels (H, W) or (H, W, C), or of packed rows where `bits` is given.

    colour: 0 white is zero, 1 black is zero, 2 RGB, 3 palette, 5 CMYK. pages: the same pixels so
    many times. subfile: of the pages behind the first, 1 for smaller versions.
    """
    order: Literal["<", ">"] = ">" if is_big_endian else "<"
    height, width = pixels.shape[:2]
    samples = pixels.shape[2] if pixels.ndim == 3 else 1
    width = width * pixels.itemsize * 8 // bits if bits else width
    stored = pixels.astype(pixels.dtype.newbyteorder(order))
    chunks = _tiles(stored) if is_tiled else [stored.tobytes()]
    own: dict[int, tuple[int, Sequence[int]]] = {
        256: (LONG, [width]), 257: (LONG, [height]),
        258: (SHORT, [bits or pixels.itemsize * 8] * samples), 259: (SHORT, [1]),
        262: (SHORT, [colour]), 277: (SHORT, [samples]),
        339: (SHORT, [sample_format] * samples), **(tags or {}),
    }  # fmt: skip
    if is_tiled:
        own |= {322: (LONG, [_TILE]), 323: (LONG, [_TILE])}
    data = bytearray(struct.pack(f"{order}2sHI", b"MM" if is_big_endian else b"II", 42, 0))
    link = 4
    for page in range(pages):
        if page and subfile:
            own[254] = (LONG, [subfile])
        link = _add_page(data, order, own, chunks, link)
    return bytes(data)


def _tiles(pixels: np.ndarray) -> list[bytes]:
    height, width = pixels.shape[:2]
    rest = [(0, -height % _TILE), (0, -width % _TILE), *[(0, 0)] * (pixels.ndim - 2)]
    padded = np.pad(pixels, rest)
    return [
        padded[y : y + _TILE, x : x + _TILE].tobytes()
        for y in range(0, height, _TILE)
        for x in range(0, width, _TILE)
    ]


def _add_page(
    data: bytearray, order: str, tags: dict[int, tuple[int, Sequence[int]]],
    chunks: Sequence[bytes], link: int,
) -> int:  # fmt: skip
    """Add the pixels and the directory of a page; returns where the place of the next one goes."""
    places = []
    for chunk in chunks:
        places.append(len(data))
        data += chunk + b"\0" * (len(chunk) % 2)
    where, lengths = (324, 325) if 322 in tags else (273, 279)
    tags = {**tags, where: (LONG, places), lengths: (LONG, [len(chunk) for chunk in chunks])}
    rows = []
    for tag, (kind, values) in sorted(tags.items()):
        value = struct.pack(f"{order}{len(values)}{_FORMS[kind]}", *values)
        if len(value) > 4:
            value, place = struct.pack(f"{order}I", len(data)), value
            data += place
        rows.append(struct.pack(f"{order}HHI", tag, kind, len(values)) + value.ljust(4, b"\0"))
    struct.pack_into(f"{order}I", data, link, len(data))
    data += struct.pack(f"{order}H", len(rows)) + b"".join(rows) + b"\0" * 4
    return len(data) - 4
