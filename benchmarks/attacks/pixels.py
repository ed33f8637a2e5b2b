"""Changes to pictures and arrays: headers that lie, formats in disguise, archives, pickles."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from random import Random

import numpy as np

from .values import Places, planted_pickle

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SIDES = (0, 1, 2, 63, 65, 4096, 50_000, 65_535, 2**31 - 1, 2**32 - 1)
_DISGUISES = (
    b"P6\n100000 100000\n255\n", b"P5\n4 4\n65535\n" + b"\0\1" * 16, b"P4\n8 8\n\xff\0\xff",
    b"P6\n-1 -1\n255\n", b"P7\nWIDTH 99999\nHEIGHT 99999\nDEPTH 4\nMAXVAL 255\nENDHDR\n",
    b"PF\n4 4\n-1.0\n" + b"\0" * 192, b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 99999 +X 99999\n",
    b"GIF89a\xff\xff\xff\xff\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2\2D\1\0;",
    b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x76\x2f\x31\x01\x02\0\0\0", b"BM",
    b"%PDF-1.4", b"PK\3\4", b"\xff\xd8\xff\xd9", b"II*\0\x08\0\0\0\0\0", b"MM\0*\0\0\0\x08",
    b"II+\0\x08\0\0\0", b"RIFF\x24\0\0\0WEBPVP8 ", b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0"
    b"\x02\0\0\0\xff\xff\xff\xff\xff\xff", b"\0\0\0\x0cjP  \r\n\x87\n", b"\0\0\1\0\1\0\0\0",
    b"8BPS\0\1" + b"\0" * 6 + b"\0\3\0\1\0\0\0\1\0\0\0\x08\0\3", b"\x0a\x05\x01\x08",
)  # fmt: skip


def mutate_picture(data: bytes, random: Random) -> tuple[bytes, str]:
    """A changed picture and what was done to it."""
    if random.random() < 0.15:
        disguise = random.choice(_DISGUISES)
        return disguise, f"is {disguise[:12]!r}"
    if data.startswith(_SIGNATURE):
        return _png(data, random)
    if data.startswith(b"BM"):
        fields = [
            (18, "<i"),
            (22, "<i"),
            (28, "<H"),
            (10, "<I"),
            (30, "<I"),
            (14, "<I"),
            (46, "<I"),
        ]
        return _patched(data, random, [*fields, (54, "<I"), (58, "<I"), (len(data) - 9, "<H")])
    if data.startswith(b"\xff\xd8"):
        at = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        return _patched(data, random, [(at + 5, ">H"), (at + 7, ">H"), (at + 9, ">B")])
    if data.startswith((b"II", b"MM")):
        return _tiff(data, random, "<" if data.startswith(b"II") else ">")
    return _patched(data, random, [(n, "<H") for n in range(4, 40, 2)])


def _patched(data: bytes, random: Random, fields: list[tuple[int, str]]) -> tuple[bytes, str]:
    at, form = random.choice([field for field in fields if 0 <= field[0] < len(data) - 4])
    most = {"B": 0xFF, "H": 0xFFFF, "I": 0xFFFFFFFF, "i": 0x7FFFFFFF}[form[1]]
    value = min(random.choice(_SIDES), most)
    if form == "<i" and random.random() < 0.3:
        value = -value
    changed = bytearray(data)
    struct.pack_into(form, changed, at, value)
    return bytes(changed), f"header at {at} = {value}"


def _tiff(data: bytes, random: Random, order: str) -> tuple[bytes, str]:
    """A changed entry of the first directory."""
    start = struct.unpack_from(f"{order}I", data, 4)[0]
    count = struct.unpack_from(f"{order}H", data, start)[0]
    at = start + 2 + 12 * random.randrange(count)
    part = random.choice([(0, "H"), (2, "H"), (4, "I"), (8, "I")])
    return _patched(data + b"\0" * 8, random, [(at + part[0], order + part[1])])


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """A PNG whose header says one size and whose data are `rows`."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return _SIGNATURE + body


def png_bomb(size: int) -> bytes:
    """A small PNG of 8x8 pixels whose data inflate to `size` bytes."""
    packer = zlib.compressobj(9)
    block = b"\0" * (1 << 20)
    body = b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    return _SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _png(data: bytes, random: Random) -> tuple[bytes, str]:
    chunks = _chunks_of(data)
    kind = random.random()
    if kind < 0.45:
        fields = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        at = random.randrange(7)
        fields[at] = random.choice(_SIDES[:9]) if at < 2 else random.choice([0, 1, 2, 3, 6, 16, 99])
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *fields))
        what = f"IHDR field {at} = {fields[at]}"
    elif kind < 0.6:
        extra = random.choice(_EXTRAS)
        chunks.insert(random.randrange(1, len(chunks) + 1), extra)
        what = f"chunk {extra[0]!r} added"
    elif kind < 0.75:
        what = f"chunk {chunks.pop(random.randrange(len(chunks)))[0]!r} dropped"
    elif kind < 0.85:
        chunks.insert(0, random.choice(chunks))
        what = "chunk repeated"
    else:
        at = next((n for n, entry in enumerate(chunks) if entry[0] == b"IDAT"), 0)
        rows = bytearray(zlib.decompress(chunks[at][1]))
        rows[0 if random.random() < 0.5 else random.randrange(len(rows))] = random.randrange(256)
        end = random.choice([len(rows), len(rows) // 2, 0])
        chunks[at] = (b"IDAT", zlib.compress(bytes(rows[:end])))
        what = f"rows changed, {end} bytes"
    return _SIGNATURE + b"".join(chunk(*entry) for entry in chunks), what


_EXTRAS = (
    (b"eXIf", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"), (b"eXIf", b"II"),
    (b"tRNS", b"\0\1"), (b"PLTE", b"\1\2"), (b"PLTE", b""), (b"acTL", b"\xff" * 8),
    (b"tEXt", b"Raw profile type exif\0\nexif\n 999999\n4949"), (b"iCCP", b"x\0\0x\x9c"),
    (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"\0" * 10_000_000)), (b"IEND", b""),
    (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0tiff:Orientation='6'"), (b"gAMA", b"\0\0\0\0"),
    (b"IDAT", b"x"), (b"XXXX", b"critical"), (b"sBIT", b"\x63"), (b"fcTL", b"\0" * 26),
    (b"tEXt", b"Orientation" * 10), (b"cHRM", b"\xff" * 32), (b"pHYs", b""),
)  # fmt: skip


def _chunks_of(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, at = [], len(_SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        chunks.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def mutate_array(data: bytes, random: Random, places: Places) -> tuple[bytes, str]:
    """A changed .npy file and what was done to it."""
    archive, objects = io.BytesIO(), io.BytesIO()
    np.savez(archive, a=np.zeros(3))
    np.save(objects, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    end = data.index(b"\n") + 1
    header = data[10:end].decode()
    options: dict[str, Callable[[], bytes]] = {
        "an archive": archive.getvalue,
        "objects": objects.getvalue,
        "a pickle": lambda: planted_pickle(places),
        "an array of a pickle": lambda: _npy("{'descr': '|O', 'fortran_order': False, 'shape': "
                                             "(1,), }", planted_pickle(places)),
        "text": lambda: b"0.1 0.2\n0.3 0.4\n",
        "nothing": lambda: b"",
        "half a zip": lambda: b"PK\x03\x04" + random.randbytes(30),
        "version": lambda: data[:6] + bytes([random.choice([0, 2, 3, 9, 255])]) + data[7:],
        "header length": lambda: data[:8] + struct.pack("<H", random.choice([0, 1, 65535]))
        + data[10:],
        "shape": lambda: _npy(header.replace("(48, 64)", random.choice(_ARRAY_SHAPES)), data[end:]),
        "type": lambda: _npy(header.replace("<f4", random.choice(_TYPES)), data[end:]),
        "code": lambda: _npy(f"__import__('os').system('touch {places.marker}')", data[end:]),
        "deep": lambda: _npy("(" * 9000 + ")" * 9000, b""),
        "not finite": lambda: data[:end] + struct.pack("<f", random.choice(
            [float("nan"), float("inf"), -1.0, 3e38])) * 3072,
    }  # fmt: skip
    what = random.choice(list(options))
    return options[what](), what


_ARRAY_SHAPES = (
    "(0, 0)", "(48, 64, 1)", "(3072,)", "()", "(-1, 64)", "(1000000, 1000000)", "(48.0, 64)",
    "[48, 64]", "('a', 64)", "(99999999999999999999, 1)", "(1, 3072)", "(True, 64)", "None",
)  # fmt: skip
_TYPES = (
    "<f2", "<f8", "<c8", "|b1", "|S4", "<U1", "<M8[s]", "<i4", ">f4", "<f9", "|V4", "nonsense",
    "<f4,<f4", "O", "|u1", "<u8", "<m8",
)  # fmt: skip


def _npy(header: str, body: bytes) -> bytes:
    text = header.rstrip().encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", min(len(text), 65535)) + text + body
