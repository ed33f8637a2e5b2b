"""Reads CVAT's XML (version 1.1) for images and for video, of a task, a job or a project: the file,
its folder, or the zip that CVAT gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from pipeline.errors import DataError
from pipeline.formats.cvat_shapes import Size, draw_shape, parse_shape, why_no_area
from pipeline.formats.cvat_video import Video, VideoReader
from pipeline.formats.image_files import refuse_false_size
from pipeline.formats.image_names import ImageFinder
from pipeline.formats.image_objects import SourceObject, gather
from pipeline.formats.source import SourceLog
from pipeline.formats.values import (
    as_data_error,
    attribute,
    label_of,
    labels_by_name,
    whole_number,
)
from pipeline.io.images import SUFFIXES, images_below, read_size
from pipeline.io.read import files_below, read_xml, shown_value
from pipeline.io.stored import refuse_archive
from pipeline.io.unzip import is_zip, unpack
from pipeline.types import Dataset, Detections, ImageRecord, split_of

XML = "annotations.xml"
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "test": "test",
           "validation": "val", "default": ""}  # fmt: skip  # subsets by their names in lower case


def read_cvat(source: Path, images: Path | None, log: SourceLog) -> Dataset:
    """Read annotations.xml, the folder that holds it, or a zip.

    Boxes stay boxes, masks and polygons masks; turned boxes and ellipses become masks, and boxes
    beside masks filled masks. pycocotools draws the polygons, as in CVAT's own exporter. Tracks
    become the objects of their frames. images: the folder of images, or of a video its frames or
    the video itself; without it, `images` beside the file, or the file's own folder. Raises
    DataError.
    """
    path = _xml_of(source, log)
    tree = read_xml(path, "annotations")
    root = images or _folder_of_images(source, path)
    categories = _categories(tree)
    reader = _ImageReader(path, root, labels_by_name(categories), log)
    nodes, tracks = list(tree.iter("image")), tree.findall("track")
    if nodes and tracks:
        raise DataError(path, "has images and tracks", "export it for images, or for video")
    if nodes:
        for node in nodes:
            before = log.counted
            try:
                reader.add(node)
            except DataError as error:
                rest = len(node) - (log.counted - before)
                log.image_fault(f"image {shown_value(node.get('name', ''))}", error, rest)
    else:
        video = Video(path, root, tree.find("meta"), tracks)
        for subset, place, name, size, objects in VideoReader(video, reader.labels, log).read():
            with as_data_error(path, name, "export it again"):
                reader.append(place, name, size, _split(subset, name), objects)
    return Dataset(tuple(categories), tuple(reader.records), reader.objects)


def _xml_of(source: Path, log: SourceLog) -> Path:
    """The XML file of a file, a folder or a zip; the zip is unpacked. Raises DataError."""
    folder = source
    if not source.is_dir():
        if not is_zip(source):
            refuse_archive(source)
            return source
        folder = log.made_files() / source.name  # so that messages name the zip
        unpack(source, folder, {*SUFFIXES, ".xml"})
    if (folder / XML).is_file():
        return folder / XML
    files = [Path(name) for name in files_below(folder) if name.lower().endswith(".xml")]
    if not files:
        reason = "no such file" if folder == source else f"holds no {XML}"
        raise DataError(folder / XML if folder == source else source, reason, "check the path")
    if files[1:]:
        names = ", ".join(str(path.relative_to(folder)) for path in files[:3])
        raise DataError(source, f"holds several XML files ({names})", "give one of them")
    return files[0]


def _folder_of_images(source: Path, path: Path) -> Path:
    """`images` beside the XML file, or the file's own folder; beside a zip of labels alone."""
    folder = path.parent
    if source.is_file() and source != path and not images_below(folder):
        folder = source.parent
    beside = folder / "images"
    return beside if beside.is_dir() else folder


def _categories(tree: ElementTree.Element) -> list[str]:
    """The declared labels without the parts of skeletons; else those of shapes with an area."""
    declared = [
        label.findtext("name") or ""
        for label in tree.iterfind("meta//label") if label.find("parent") is None
    ]  # fmt: skip
    shapes = [*tree.iterfind("track"), *tree.iterfind("image/*")]
    used = {name for shape in shapes if (name := shape.get("label")) and _may_have_area(shape)}
    return list(dict.fromkeys(declared)) or sorted(used)


def _may_have_area(shape: ElementTree.Element) -> bool:
    return shape.tag == "track" or not why_no_area(shape.tag)


def _split(subset: str, name: str) -> str:
    """The split of an image: what its subset means, or else its folder."""
    return _SPLITS.get(subset.lower(), subset) if subset else split_of(name)


class _ImageReader:
    """Collects images and their objects."""

    def __init__(self, path: Path, root: Path, labels: dict[str, int], log: SourceLog) -> None:
        self.labels, self.records, self.objects = (
            labels,
            list[ImageRecord](),
            dict[int, Detections](),
        )
        self._path, self._log, self._finder = path, log, ImageFinder(root)
        self._owners: dict[str, str] = {}  # the <image> of each photo

    def append(
        self, place: Path, name: str, size: Size, split: str, objects: Sequence[SourceObject]
    ) -> None:
        """Add an image. Raises ValueError for a size or name that no image has."""
        record = ImageRecord(len(self.records) + 1, place, name, *size, split=split)
        self.objects[record.id] = gather(objects, size, self._log)
        self.records.append(record)

    def add(self, node: ElementTree.Element) -> None:
        """Add an <image>. Raises DataError."""
        name, subset = node.get("name", ""), node.get("subset", "")
        where = f"image {shown_value(name)}"
        with as_data_error(self._path, where, "export it again"):
            names = [f"{subset}/{name}", name] if subset else [name]
            place, file_name = self._finder.find(*names)
            owner = f"{where} of task {node.get('task_id')}" if node.get("task_id") else where
            if file_name in self._owners:
                reason = f"is the photo of {self._owners[file_name]} and of {owner}"
                raise DataError(place, reason, "export each task by itself")
            self._owners[file_name] = owner
            size = _size(node) or read_size(place)
            refuse_false_size(place, size)
            objects = self._objects(node, size, where)
            self.append(place, file_name, size, _split(subset, file_name), objects)

    def _objects(self, node: ElementTree.Element, size: Size, where: str) -> list[SourceObject]:
        """The shapes of an image that have an area; the others are left out."""
        objects = []
        for number, shape in enumerate(node, start=1):
            kind, place = shape.tag, f"{where}: {shape.tag} {number}"
            if reason := why_no_area(kind):
                self._log.leave_out(kind, reason, place)
                continue
            try:
                with as_data_error(self._path, place, "export it again"):
                    objects += self._drawn(shape, size, place)
            except DataError as error:
                self._log.object_fault(kind, place, error)
        return objects

    def _drawn(self, shape: ElementTree.Element, size: Size, where: str) -> list[SourceObject]:
        """A shape as an object; none for a polygon of two points, which is left out. Raises
        ValueError."""
        label = label_of(attribute(shape, "label"), self.labels)
        parsed = parse_shape(shape)
        if shape.tag == "polygon" and len(parsed.numbers) < 6:
            self._log.leave_out(shape.tag, "it has fewer than 3 points", where)
            return []
        return [draw_shape(parsed, SourceObject(kind=shape.tag, where=where, label=label), size)]


def _size(node: ElementTree.Element) -> Size | None:
    """(height, width) of an <image>; None if it does not say."""
    if node.get("height") is None or node.get("width") is None:
        return None
    return whole_number(node.get("height"), "height"), whole_number(node.get("width"), "width")
