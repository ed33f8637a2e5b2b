"""Zip files, as labelling tools give them: unpacked, and read as the folder that was packed."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.source import SourceLog
from pipeline.io.images import SUFFIXES, images_below
from pipeline.io.read import is_junk
from pipeline.io.stored import refuse_archive
from pipeline.io.unzip import is_zip, unpack

_LABELS = {".json", ".xml", ".txt", ".yaml", ".yml", ".names", ".data"}


def unzipped(source: Path, images: Path | None, log: SourceLog) -> tuple[Path, Path | None]:
    """The folder with the content of a zip, and the folder of its images; any other source as it
    is. A zip without images has them in `images` beside it, unless another folder is named. Raises
    DataError as `unpack` does, and for a file packed otherwise."""
    if not source.is_file():
        return source, images
    if not is_zip(source):
        refuse_archive(source)
        return source, images
    folder = log.made_files() / source.name  # so that messages name the zip
    try:
        unpack(source, folder, {*SUFFIXES, *_LABELS})
    except DataError as error:
        raise log.shown(error) from error
    if not folder.is_dir():
        raise DataError(source, "is a zip without a label file or image", "check the path")
    beside = source.parent / "images"
    if images is None and beside.is_dir() and not images_below(folder):
        images = beside
    return _packed(folder), images


def _packed(folder: Path) -> Path:
    """The folder that was packed: of a zip that holds one folder alone, that one."""
    inside = [path for path in sorted(folder.iterdir()) if not is_junk(path.name)]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
