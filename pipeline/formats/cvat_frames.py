"""The frames of CVAT's video tasks, from a folder of images or from the video itself."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.values import whole_number
from pipeline.io.images import Image, images_below, write_png
from pipeline.io.read import open_regular
from pipeline.runtime.progress import say

_NUMBERED = re.compile(r"(?:^|.*[^0-9])frame_(\d{1,9})$")  # the stem of CVAT's name of a frame
_STEP = re.compile(r"step\s*=\s*(\d{1,9})")
_VIDEOS = (  # where the mark of a kind of video is, and the mark
    (4, b"ftyp"), (0, b"RIFF"), (0, b"\x1a\x45\xdf\xa3"),  # MP4 and MOV, AVI, Matroska and WebM
)  # fmt: skip
_AS_FRAMES = "export it as frames"
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


class Frames(ABC):
    """The frames of a video. numbers: ascending. lists_empty: frames without an object are images
    of the dataset too. has_ended: no frame can be had any more."""

    numbers: Sequence[int]
    lists_empty = True
    has_ended = False

    @abstractmethod
    def image(self, number: int) -> Frame:
        """The image of a frame; the numbers of the calls ascend. Raises DataError for one that is
        not there."""

    @abstractmethod
    def close(self) -> None:
        """Close the video."""


def numbered_frames(root: Path, folder: Path, named: Set[int], frames: range) -> dict[int, Frame]:
    """The images of a folder whose names have the number of a frame, as CVAT names them:
    frame_000012.png. root: the folder of all images; names are relative to it. named, frames: the
    numbers that count; others are of other tasks."""
    there = {}
    for path in images_below(folder):
        number = _NUMBERED.match(path.stem)
        if number and (int(number[1]) in frames or int(number[1]) in named):
            there[int(number[1])] = path, path.relative_to(root).as_posix()
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


class FolderOfFrames(Frames):
    """Frames that are images in a folder."""

    def __init__(self, folder: Path, there: Mapping[int, Frame]) -> None:
        self._folder, self._there = folder, there
        self.numbers = sorted(there)

    def image(self, number: int) -> Frame:
        """See `Frames`."""
        if number not in self._there:
            place = self._folder / f"frame_{number:06d}.png"
            reason, remedy = "no such image", "give the frames or the video by --images"
            raise DataError(place, f"{reason}, which a track names", remedy)
        return self._there[number]

    def close(self) -> None:
        """Nothing is open."""


class VideoFrames(Frames):
    """Frames that are read from a video, and written as PNG. Only those with an object are images
    of the dataset: a video has thousands."""

    lists_empty = False

    def __init__(self, video: Path, target: Path, prefix: str, frames: range) -> None:
        """target: the folder that gets the frames. prefix: of their names, such as `12/`."""
        self._video, self._target, self._prefix = video, target, prefix
        self.numbers = frames
        self._reader: Any = None
        self._at = -1  # the frame that was read last

    def image(self, number: int) -> Frame:
        """See `Frames`."""
        import cv2

        try:
            pixels = self._pixels(number)
        except cv2.error as error:
            raise DataError(self._video, "cannot be decoded", _AS_FRAMES) from error
        name = f"{self._prefix}frame_{number:06d}.png"
        write_png(self._target / name, np.ascontiguousarray(pixels[:, :, ::-1]))
        return self._target / name, name

    def close(self) -> None:
        """Close the video."""
        if self._reader is not None:
            self._reader.release()

    def _pixels(self, number: int) -> Image:
        """A frame as (H, W, 3) uint8 BGR. Raises DataError."""
        if self._reader is None:
            self.has_ended = True
            self._reader = _opened(self._video)
            self.has_ended = False
        while self._at < number:
            if not self._reader.grab():
                self.has_ended = True
                reason = f"has {self._at + 1} frames; the labels name frame {number}"
                raise DataError(self._video, reason, "give the video of the labels")
            self._at += 1
        was_read, pixels = self._reader.retrieve()
        if not was_read:
            raise DataError(self._video, f"has a broken frame {number}", _AS_FRAMES)
        return np.asarray(pixels, dtype=np.uint8)


def is_video(path: Path) -> bool:
    """Whether a regular file is a video of a known type. Others, such as playlists, name further
    files, which a decoder would open. Raises DataError for what cannot be opened."""
    with open_regular(path) as stream:
        start = stream.read(16)
    known = any(start[at:].startswith(mark) for at, mark in _VIDEOS)
    return known and not (start.startswith(b"RIFF") and start[8:12] != b"AVI ")


def _opened(video: Path) -> Any:
    """OpenCV's reader of a video. Raises DataError for one that it cannot read."""
    import cv2

    if not is_video(video):
        raise DataError(video, "is not a video (MP4, MOV, AVI, MKV, WebM)", _AS_FRAMES)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # the DataError says it
    reader = cv2.VideoCapture(str(video.resolve()), cv2.CAP_FFMPEG)
    if not reader.isOpened():
        raise DataError(video, "is not a video that OpenCV reads", _AS_FRAMES)
    return reader
