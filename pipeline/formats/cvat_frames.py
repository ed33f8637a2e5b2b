"""The frames of CVAT's video tasks, from a folder of images or from the video itself."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.source import SourceLog
from pipeline.formats.values import whole_number
from pipeline.io.images import Image, images_below, write_png
from pipeline.io.read import open_regular
from pipeline.runtime.progress import say

_NUMBERED = re.compile(r"(?:^|.*[^0-9])frame_(\d{1,9})$")  # the stem of CVAT's name of a frame
_STEP = re.compile(r"step\s*=\s*(\d{1,9})")
_VIDEOS = (  # where the mark of a kind of video is, and the mark
    (4, b"ftyp"), (0, b"RIFF"), (0, b"\x1a\x45\xdf\xa3"),  # MP4 and MOV, AVI, Matroska and WebM
)  # fmt: skip
Frame = tuple[Path, str]  # where the image is, and its name


@dataclass(frozen=True)
class TaskMeta:
    """What <meta> says of a task. frames: the numbers of its frames; None where it does not say.
    size: (height, width) of a frame. source: the name of the video."""

    key: str
    subset: str = ""
    source: str = ""
    frames: range | None = None
    size: tuple[int, int] | None = None


def tasks_of(meta: ElementTree.Element | None) -> list[TaskMeta]:
    """The tasks of a project, or the one task or job. Raises ValueError for numbers that are
    none."""
    if meta is None:
        return []
    nodes = meta.findall("project/tasks/task") or meta.findall("task") or meta.findall("job")
    return [_task(node) for node in nodes]


def _task(node: ElementTree.Element) -> TaskMeta:
    first, last, count = (
        whole_number(text, name) if (text := node.findtext(name)) else None
        for name in ("start_frame", "stop_frame", "size")
    )
    step = _STEP.search(node.findtext("frame_filter") or "")
    every = max(int(step[1]), 1) if step else 1
    start = first or 0
    if last is None and count is not None:
        last = start + (count - 1) * every
    size = tuple(
        whole_number(text, f"original_size/{side}", least=1)
        for side in ("height", "width") if (text := node.findtext(f"original_size/{side}"))
    )  # fmt: skip
    return TaskMeta(
        node.findtext("id") or "", node.findtext("subset") or "", node.findtext("source") or "",
        None if last is None else range(start, last + 1, every),
        (size[0], size[1]) if len(size) == 2 else None,
    )  # fmt: skip


class Frames(Protocol):
    """The frames of a video. numbers: ascending. lists_empty: frames without an object are images
    of the dataset too."""

    @property
    def numbers(self) -> Sequence[int]: ...
    @property
    def lists_empty(self) -> bool: ...

    def images(self, wanted: Sequence[int], log: SourceLog) -> dict[int, Frame]:
        """The images of frames, in their order. One that is not there is a fault."""
        ...


def numbered_frames(root: Path, folder: Path, named: Set[int], frames: range) -> dict[int, Frame]:
    """The images of a folder whose names have the number of a frame, as CVAT names them:
    frame_000012.png. root: the folder of all images; names are relative to it. named, frames: the
    numbers that count; others are of other tasks."""
    there = {}
    for path in images_below(folder):
        found = _NUMBERED.match(path.stem)
        if found and (int(found[1]) in frames or int(found[1]) in named):
            there[int(found[1])] = path, path.relative_to(root).as_posix()
    return there


def frames_in_order(root: Path, folder: Path, frames: range) -> dict[int, Frame]:
    """The images of a folder as frames in the order of their names, if there are as many: a task
    made of images may be exported for video. Otherwise nothing."""
    paths = images_below(folder)
    if len(paths) != len(frames):
        return {}
    if paths:
        say(f"{len(paths)} frames are the images of {folder} in the order of their names")
    pairs = zip(frames, paths, strict=True)
    return {number: (path, path.relative_to(root).as_posix()) for number, path in pairs}


class FolderOfFrames:
    """Frames that are images in a folder."""

    lists_empty = True

    def __init__(self, folder: Path, there: Mapping[int, Frame]) -> None:
        self._folder, self._there = folder, there
        self.numbers = sorted(there)

    def images(self, wanted: Sequence[int], log: SourceLog) -> dict[int, Frame]:
        """See `Frames`."""
        for number in wanted:
            if number not in self._there:
                place = self._folder / f"frame_{number:06d}.png"
                reason, remedy = "no such image", "give the frames or the video by --images"
                log.fault(DataError(place, f"{reason}, which tracks name", remedy))
        return {number: self._there[number] for number in wanted if number in self._there}


class VideoFrames:
    """Frames that are read from a video, and written as PNG."""

    lists_empty = False  # a video has thousands

    def __init__(self, video: Path, log: SourceLog, prefix: str, frames: range) -> None:
        """log: its `made_files` get the frames. prefix: of their names, such as `12/`."""
        self._video, self._target, self._prefix = video, log.made_files(), prefix
        self.numbers = frames

    def images(self, wanted: Sequence[int], log: SourceLog) -> dict[int, Frame]:
        """See `Frames`."""
        written = {}
        try:
            for number, pixels in _decoded(self._video, wanted):
                name = f"{self._prefix}frame_{number:06d}.png"
                write_png(self._target / name, pixels)
                written[number] = self._target / name, name
        except DataError as error:
            log.fault(error)
        return written


def is_video(path: Path) -> bool:
    """Whether a regular file is a video of a known type. Others, such as playlists, name further
    files, which a decoder would open. Raises DataError for what cannot be opened."""
    with open_regular(path) as stream:
        start = stream.read(16)
    known = any(start[at:].startswith(mark) for at, mark in _VIDEOS)
    return known and not (start.startswith(b"RIFF") and start[8:12] != b"AVI ")


def _decoded(video: Path, wanted: Sequence[int]) -> Iterator[tuple[int, Image]]:
    """The frames of these numbers, ascending, as (H, W, 3) uint8 RGB. Raises DataError."""
    if not is_video(video):
        raise DataError(video, "is not a video (MP4, MOV, AVI, MKV, WebM)", "export it as frames")
    with _opened(video) as reader:
        at = -1
        for number in wanted:
            while at < number:
                if not reader.grab():
                    reason = f"has {at + 1} frames; the labels name frame {number}"
                    raise DataError(video, reason, "give the video of the labels")
                at += 1
            read, pixels = reader.retrieve()
            if not read:
                raise DataError(video, f"has a broken frame {number}", "export it as frames")
            yield number, np.ascontiguousarray(np.asarray(pixels, np.uint8)[:, :, ::-1])


@contextmanager
def _opened(video: Path) -> Iterator[Any]:
    """OpenCV's reader of a video. Raises DataError for one that it cannot read."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the DataError says it
    reader = None
    try:
        reader = cv2.VideoCapture(str(video.resolve()), cv2.CAP_FFMPEG)
        if not reader.isOpened():
            raise DataError(video, "is not a video that OpenCV reads", "export it as frames")
        yield reader
    except cv2.error as error:
        raise DataError(video, "cannot be decoded", "export it as frames") from error
    finally:
        if reader is not None:
            reader.release()
