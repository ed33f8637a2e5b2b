"""CVAT's XML for video: the tracks, as the objects of each frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from heapq import merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from xml.etree import ElementTree

from pipeline.errors import DataError
from pipeline.formats.cvat_frames import (
    FolderOfFrames,
    Frames,
    TaskMeta,
    VideoFrames,
    frames_in_order,
    numbered_frames,
    tasks_of,
)
from pipeline.formats.cvat_shapes import Size, draw_shape, parse_shape, why_no_area
from pipeline.formats.cvat_tracks import TrackedShape, visible_shapes
from pipeline.formats.image_files import refuse_false_size
from pipeline.formats.image_objects import SourceObject
from pipeline.formats.source import SourceLog
from pipeline.formats.values import as_data_error, attribute, label_of, whole_number
from pipeline.io.images import read_size
from pipeline.io.names import safe_component
from pipeline.runtime.progress import say

FrameImage = tuple[str, Path, str, Size, list[SourceObject]]  # subset, place, name, size, objects


@dataclass(frozen=True)
class Video:
    """An XML file for video. root: the folder of the frames, or the video itself."""

    path: Path
    root: Path
    meta: ElementTree.Element | None
    tracks: Sequence[ElementTree.Element]


@dataclass(frozen=True)
class _Track:
    """A track. name: in messages. shapes: those that the file has, in the order of their frames."""

    name: str
    label: int
    shapes: list[TrackedShape]


_Seen = tuple[_Track, TrackedShape]


class VideoReader:
    """Reads the tracks of each task."""

    def __init__(self, video: Video, labels: Mapping[str, int], log: SourceLog) -> None:
        self._video, self._labels, self._log = video, labels, log
        self._owners: dict[Path, str] = {}  # the task of each folder of frames

    def read(self) -> Iterator[FrameImage]:
        """Each frame that is an image of the dataset. Raises DataError."""
        with as_data_error(self._video.path, "<meta>", "export it again"):
            tasks = {task.key: task for task in tasks_of(self._video.meta)}
        groups: dict[str, list[ElementTree.Element]] = {key: [] for key in tasks}
        for track in self._video.tracks:
            key = track.get("task_id") or (next(iter(tasks), "") if len(tasks) == 1 else "")
            groups.setdefault(key, []).append(track)
        for key, tracks in groups.items():
            task = tasks.get(key, TaskMeta(key))
            named = [track.get("subset", "") for track in tracks] + [task.subset]
            yield from self._read_task(replace(task, subset=named[0]), tracks)

    def _read_task(
        self, task: TaskMeta, tracks: Sequence[ElementTree.Element]
    ) -> Iterator[FrameImage]:
        """The frames of one task, with the shapes of all its tracks."""
        given = list(self._parsed(tracks))
        named = {shape.frame for each in given for shape in each.shapes}
        with closing(self._frames(task, named)) as frames:
            streams = [_seen(each, frames.numbers) for each in given]
            if frames.lists_empty:
                streams.append((number, None) for number in frames.numbers)
            listed = 0
            in_order = merge(*streams, key=itemgetter(0))
            for number, group in groupby(in_order, key=itemgetter(0)):
                listed += 1
                seen = [each for _, each in group if each]
                try:
                    place, name = frames.image(number)
                    yield self._image(task, place, name, seen)
                except DataError as error:
                    self._log.image_fault(f"frame {number}", error, len(seen))
                    if frames.has_ended:
                        break
            if (rest := len(frames.numbers) - listed) > 0:
                say(f"{rest} frames of the video without an object: not read")

    def _parsed(self, tracks: Sequence[ElementTree.Element]) -> Iterator[_Track]:
        for number, track in enumerate(tracks, start=1):
            where = f"track {track.get('id') or number}"
            before = self._log.counted
            try:
                with as_data_error(self._video.path, where, "export it again"):
                    label = label_of(attribute(track, "label"), self._labels)
                    given = self._given(track, where)
            except DataError as error:
                shown = sum(node.get("outside") != "1" for node in track)
                rest = shown - (self._log.counted - before)
                self._log.object_fault("object of a track", where, error, rest)
            else:
                yield _Track(where, label, given)

    def _given(self, track: ElementTree.Element, where: str) -> list[TrackedShape]:
        """The shapes of a track that have an area, in the order of their frames. Raises
        ValueError."""
        shape_of: dict[int, TrackedShape] = {}
        for node in track:
            frame = whole_number(node.get("frame"), "frame")
            is_outside, place = node.get("outside") == "1", f"{where} frame {frame}"
            if reason := why_no_area(node.tag):
                if not is_outside:
                    self._log.leave_out(node.tag, reason, place)
                continue
            shape = parse_shape(node)
            if node.tag == "polygon" and len(shape.numbers) < 6:
                self._log.leave_out(node.tag, "it has fewer than 3 points", place)
                continue
            if frame in shape_of:
                raise ValueError(f"it has frame {frame} twice")
            shape_of[frame] = TrackedShape(frame, shape, is_outside)
        return [shape_of[frame] for frame in sorted(shape_of)]

    def _frames(self, task: TaskMeta, named: set[int]) -> Frames:
        """Where the frames of a task are. named: those that tracks name. Raises DataError."""
        root, frames = self._video.root, task.frames
        if frames is None:
            frames = range(max(named, default=-1) + 1)
        if root.is_file():
            return VideoFrames(root, self._log.made_files(), "", frames)
        folder = root / safe_component(task.subset) if task.subset else root
        folder = folder if folder.is_dir() else root
        there = numbered_frames(root, folder, {*named}, frames)
        if not there:
            for place in (root, self._video.path.parent):
                video = place / safe_component(Path(task.source).name) if task.source else place
                if video.is_file():
                    prefix = f"{safe_component(task.key)}/" if task.key else ""
                    return VideoFrames(video, self._log.made_files(), prefix, frames)
            there = frames_in_order(root, folder, frames)
        owner = self._owners.setdefault(folder, task.key)
        if owner != task.key and there:
            reason = f"holds the frames of task {owner} and of task {task.key}"
            raise DataError(folder, reason, "export each task by itself")
        return FolderOfFrames(folder, there)

    def _image(self, task: TaskMeta, place: Path, name: str, seen: Sequence[_Seen]) -> FrameImage:
        """A frame with its objects. Raises DataError."""
        size = task.size or read_size(place)
        refuse_false_size(place, size)
        objects = []
        for track, tracked in seen:
            shape, where = tracked.shape, f"{track.name} frame {tracked.frame}"
            source = SourceObject(kind=shape.kind, where=where, label=track.label)
            try:
                with as_data_error(self._video.path, where, "export it again"):
                    drawn = draw_shape(shape, source, size)
            except DataError as error:
                self._log.object_fault(shape.kind, where, error)
                continue
            if not tracked.is_given:
                kind, to = f"{shape.kind} between key frames", "mask" if drawn.rle else "box"
                drawn = replace(drawn, kind=kind, to=to)
            objects.append(drawn)
        return task.subset, place, name, size, objects


def _seen(track: _Track, frames: Sequence[int]) -> Iterator[tuple[int, _Seen | None]]:
    """A track with its shape in each frame where it is in sight, ascending."""
    for shape in visible_shapes(track.shapes, frames):
        yield shape.frame, (track, shape)
