"""Small files that would take memory or time without end, read where there is little of it."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image as PillowImage
from png_bytes import chunk, png

from pipeline.errors import DataError
from pipeline.io.images import read_image

_LIMITED = """
import resource, sys
from pathlib import Path
import cv2, numpy, PIL.PngImagePlugin, zlib_ng.zlib_ng
from pipeline.io import image_copies, images, mask_files
from pipeline.errors import DataError
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20),) * 2)
for name in ("read_size", "read_image", "read_mask", "read_indices"):
    try:
        reader = getattr(images, name, None) or getattr(mask_files, name)
        reader(Path(sys.argv[1]))
    except DataError as error:
        assert "\\n" not in str(error)
        print(error)
"""


def within_256_mb(path: Path) -> str:
    """What the readers say where no more memory can be had."""
    command = [sys.executable, "-c", _LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def zeros(size: int) -> bytes:
    """A zlib stream of so many zeros. After a full flush, the same bytes stand for each MiB."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = struct.pack(">I", zlib.adler32(bytes(size)))
    return b"".join([b"\x78\xda", block * (size >> 20), packer.flush(), checksum])


def test_zeros_are_inflated_by_others_too() -> None:
    assert zlib.decompress(zeros(3 << 20)) == bytes(3 << 20)


@pytest.fixture(scope="module")
def half_a_gigabyte() -> bytes:
    return zeros(1 << 29)


BOMBS: dict[str, Callable[[bytes], bytes]] = {
    "rows": lambda bomb: png(100, 100, bomb),
    "palette rows": lambda bomb: png(2, 2, bomb, chunk(b"PLTE", bytes(6)), colour=3),
    "text": lambda bomb: png(2, 2, extra=chunk(b"zTXt", b"Comment\0\0" + bomb)),
    "profile": lambda bomb: png(2, 2, extra=chunk(b"zTXt", b"Raw profile type exif\0\0" + bomb)),
    "xmp": lambda bomb: png(2, 2, extra=chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + bomb)),
    "colours": lambda bomb: png(2, 2, extra=chunk(b"iCCP", b"x\0\0" + bomb)),
}


@pytest.mark.slow
@pytest.mark.parametrize("build", BOMBS.values(), ids=BOMBS.keys())
def test_a_stream_is_never_inflated_beyond_its_picture(
    tmp_path: Path, half_a_gigabyte: bytes, build: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.png").write_bytes(build(half_a_gigabyte))
    assert "memory" not in within_256_mb(tmp_path / "a.png")


def test_a_picture_that_memory_does_not_hold_is_one_line(tmp_path: Path) -> None:
    rows = zeros(0)
    (tmp_path / "a.png").write_bytes(png(1 << 15, 1 << 15, rows))
    assert "takes more memory than there is; cut it into parts" in within_256_mb(tmp_path / "a.png")


def test_a_file_far_longer_than_its_picture_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(2, 2))
    os.truncate(tmp_path / "a.png", 3 << 30)
    with pytest.raises(DataError, match="has 3221225472 bytes, too many for its picture"):
        read_image(tmp_path / "a.png")


def test_a_jpeg_of_scans_without_end_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    PillowImage.new("RGB", (8, 6)).save(stream, format="JPEG", progressive=True)
    (tmp_path / "a.jpg").write_bytes(stream.getvalue() + b"\xff\xda\0\2" * 200)
    with pytest.raises(DataError, match="has more than 100 scans"):
        read_image(tmp_path / "a.jpg")
