"""The parts of an image file: chunks of a PNG or WebP, segments of a JPEG, tags of a TIFF.

PNG: ISO/IEC 15948; JPEG: ITU-T T.81, annex B; TIFF 6.0; WebP: RFC 9649.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

NOTE_LIMIT = 1 << 20  # bytes of EXIF or XMP
_MAX_CHUNKS = 1 << 18  # chunks of a file, and bytes of junk between them: more would take minutes
_NUMBERS = {1: "B", 3: "H", 4: "L", 16: "Q"}
_UNITS = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4,
          16: 8, 17: 8, 18: 8}  # fmt: skip
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a body


def chunks_of(stream: IO[bytes], at: int, form: str, after: int) -> Iterator[tuple[bytes, int]]:
    """Type and length of each chunk of a PNG or RIFF file, from `at` on. The stream is then at the
    body of the chunk; `after` bytes follow the body."""
    for _ in range(_MAX_CHUNKS):
        stream.seek(at)
        head = stream.read(8)
        if len(head) < 8:
            return
        first, second = struct.unpack(form, head)
        kind, length = (first, second) if isinstance(first, bytes) else (second, first)
        yield kind, length
        at += 8 + length + (after or length % 2)


def has_damaged_chunk(data: bytes) -> bool:
    """Whether the check sum of a PNG's chunk that every reader needs is wrong."""
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            return False  # a truncated file has a name of its own
        needed = kind[:1].isupper()
        if needed and zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]:
            return True
        at = end + 4
    return False


def segments_of(stream: IO[bytes]) -> Iterator[tuple[int, int]]:
    """Marker and length of each segment of a JPEG before its first scan. The stream is then at the
    body of the segment."""
    stream.seek(2)
    before = 0
    for _ in range(_MAX_CHUNKS):
        byte = stream.read(1)
        if not byte:
            return
        if before != 0xFF or byte[0] in {0x00, 0xFF}:  # junk or padding
            before = byte[0]
            continue
        before = 0
        if byte[0] in {0xD9, 0xDA}:
            return
        if byte[0] not in _BARE:
            length = struct.unpack(">H", stream.read(2))[0] - 2
            if length < 0:
                raise ValueError("a segment of no length")
            start = stream.tell()
            yield byte[0], length
            stream.seek(start + length)


@dataclass(frozen=True)
class Directory:
    """A directory of a TIFF. tags: type, count and position of the value of each tag. claimed:
    bytes of all values that lie outside the directory. following: where the next one is; 0 for
    none."""

    stream: IO[bytes]
    order: str
    tags: dict[int, tuple[int, int, int]]
    claimed: int
    following: int = 0

    def number(self, tag: int) -> int | None:
        """The value of a tag that is one whole number."""
        kind, count, place = self.tags.get(tag, (0, 0, 0))
        if kind not in _NUMBERS or count != 1:
            return None
        self.stream.seek(place)
        form = self.order + _NUMBERS[kind]
        value: int = struct.unpack(form, self.stream.read(_UNITS[kind]))[0]
        return value

    def place(self, tag: int) -> tuple[str, int]:
        """The struct format and the position in the file of a tag that `number` can read."""
        kind, _, place = self.tags[tag]
        return self.order + _NUMBERS[kind], place

    def text(self, tag: int) -> bytes:
        """The bytes of a tag, at most `NOTE_LIMIT` of them."""
        kind, count, place = self.tags.get(tag, (0, 0, 0))
        self.stream.seek(place)
        return self.stream.read(min(count * _UNITS.get(kind, 0), NOTE_LIMIT))


def read_directory(stream: IO[bytes], at: int | None = None) -> Directory:
    """The first directory of a TIFF, which EXIF is too, or the one at a place. Raises ValueError or
    struct.error for what is none."""
    stream.seek(0)
    head = stream.read(16)
    if head[:2] not in {b"II", b"MM"}:
        raise ValueError("not TIFF")
    order = "<" if head.startswith(b"II") else ">"
    big = 43 in head[2:4]
    pointer, count, entry = ("Q", "Q", "HHQ8s") if big else ("L", "H", "HHL4s")
    inline, start = (8, 8) if big else (4, 4)
    stream.seek(struct.unpack_from(order + pointer, head, start)[0] if at is None else at)
    number = struct.unpack(order + count, stream.read(struct.calcsize(order + count)))[0]
    size, tags, claimed = struct.calcsize(order + entry), {}, 0
    for _ in range(min(number, 65535)):
        here = stream.tell()
        row = stream.read(size)
        if len(row) < size:
            break
        tag, kind, values, place = struct.unpack(order + entry, row)
        length = values * _UNITS.get(kind, 0)
        if length > inline:
            claimed += length
            tags[tag] = kind, values, struct.unpack(order + pointer, place)[0]
        else:
            tags[tag] = kind, values, here + size - inline
    rest = stream.read(inline)
    following = struct.unpack(order + pointer, rest)[0] if len(rest) == inline else 0
    return Directory(stream, order, tags, claimed, following)
