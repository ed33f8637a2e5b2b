"""Pascal VOC, read: the folders of VOC, or labelImg's XML files beside the photos. See `voc_xml`
for what a file holds, and `voc_folders` for where it is.

The k-th object of an XML file has the value k in SegmentationObject.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from pipeline.errors import DataError
from pipeline.formats.image_files import refuse_false_size
from pipeline.formats.image_names import ImageFinder
from pipeline.formats.image_objects import SourceObject, clipped, gather, patch_rle
from pipeline.formats.png_masks import read_png_mask
from pipeline.formats.source import SourceLog
from pipeline.formats.values import as_data_error, refuse_far
from pipeline.formats.voc_folders import (
    PHOTO_FOLDERS,
    SPLIT_OF_NAME,
    UNSORTED,
    VocFolder,
    voc_folders,
)
from pipeline.formats.voc_xml import REMEDY, TURNED, VocFile, VocObject, read_voc_file
from pipeline.geometry.masks import Rle, area
from pipeline.geometry.patches import Patch, paste, tight
from pipeline.geometry.polygons import draw_centres
from pipeline.geometry.shapes import draw_convex
from pipeline.io.images import images_below, read_size
from pipeline.io.names import safe_component
from pipeline.types import Dataset, Detections, ImageRecord

__all__ = ["UNSORTED", "read_voc"]
_TURNED = {"robndbox", TURNED}  # shapes of boxes that become masks
_MASKED = 254  # objects in 8 bits, of which 255 is the border


def read_voc(root: Path, images: Path | None = None, log: SourceLog | None = None) -> Dataset:
    """Read a VOC folder, a folder of several, or XML files beside the photos.

    The photo of an XML file has the same name; if there is none, the name that the file gives.
    Categories are the names in labelmap.txt and then those that it lacks; without that file, the
    sorted names of the objects. root: a folder, or one XML file. images: the folder of images;
    without it, JPEGImages or images, or the folder of the XML files. log: counts every object.
    Raises DataError naming the file at fault.
    """
    reading = _Reading(log or SourceLog())
    for folder in voc_folders(root, reading.log):
        reading.add(folder, images)
        if images is None and root.is_dir():
            reading.note_unread(folder)
    return reading.dataset()


@dataclass
class _Reading:
    """What was read so far.

    listed: names in labelmap.txt. used: the label of each name, in the order of their first
    objects. xml_of_photo: the file that a photo was read for. strangers: XML of other programs.
    """

    log: SourceLog
    listed: list[str] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)
    records: list[ImageRecord] = field(default_factory=list)
    objects: dict[int, Detections] = field(default_factory=dict)
    xml_of_photo: dict[Path, Path] = field(default_factory=dict)
    strangers: list[Path] = field(default_factory=list)
    is_empty: bool = True

    def add(self, folder: VocFolder, images: Path | None) -> None:
        """Read the files of one set."""
        finder = ImageFinder(images or folder.photos)
        splits = folder.splits(self.log)
        self.listed += folder.categories()
        files = [file for path in folder.files if (file := self._file(path))]
        uses = Counter(_named(file, folder.stem(file.path)) for file in files)
        taken = folder.stems | {str(PurePosixPath(name).with_suffix(""))
                                for name, count in uses.items() if count > 1}  # fmt: skip
        for file in files:
            try:
                self._add_file(file, folder, finder, splits, images, taken)
            except DataError as error:
                self.log.fault(error)

    def _file(self, path: Path) -> VocFile | None:
        """The content of a file; None for a faulty one, and for one of another program."""
        try:
            file = read_voc_file(path, self.log)
        except DataError as error:
            self.log.fault(error)
            return None
        if file is None:
            self.strangers.append(path)
            self.log.note("XML files of another program are passed over", path.name)
        else:
            self.is_empty = False
        return file

    def note_unread(self, folder: VocFolder) -> None:
        """Note the photos of a set that no XML file names."""
        for photo in images_below(folder.photos):
            is_mask = photo.relative_to(folder.photos).parts[0].startswith("Segmentation")
            if photo not in self.xml_of_photo and not is_mask:
                self.log.note("photos without an XML file are not read", photo.name)

    def _add_file(
        self, file: VocFile, folder: VocFolder, finder: ImageFinder,
        splits: Mapping[str, str], images: Path | None, taken: Collection[str],
    ) -> None:  # fmt: skip
        stem = folder.stem(file.path)
        try:
            with as_data_error(file.path, "", REMEDY):
                place, name = _photo(file, stem, finder, taken, self.log)
                self._refuse_second(file.path, place)
                prefix = "" if images else folder.prefix
                size = file.size or self._size_of(place, file.path)
                split = _split(file, splits.get(str(stem), ""), f"{prefix}{stem}")
                key = len(self.records) + 1
                record = ImageRecord(key, place, f"{prefix}{name}", *size, split=split)
            objects = list(self._source_objects(file, folder.mask(stem), record))
        except DataError as error:
            self.log.fault(error)
            self.log.leave_out("object", "its file is faulty", file.path.name, len(file.objects))
            return
        self.xml_of_photo[place] = file.path
        self.records.append(record)
        self.objects[key] = gather(objects, size, self.log)

    def _refuse_second(self, path: Path, photo: Path) -> None:
        if other := self.xml_of_photo.get(photo):
            reason = f"names the photo {photo.name}, which is that of {other.name} too"
            raise DataError(path, reason, "name the photo of each")

    def _size_of(self, photo: Path, path: Path) -> tuple[int, int]:
        self.log.note("XML files give no size: it is that of the photo", path.name)
        return read_size(photo)

    def _source_objects(
        self, file: VocFile, mask: Path, record: ImageRecord
    ) -> Iterator[SourceObject]:
        masks = _read_masks(mask, file, record.size, self.log)
        for each in file.objects:
            label = self.used.setdefault(each.name, len(self.used))
            where = f"{file.path.name} object {each.row}"
            source = SourceObject(
                kind=each.kind,
                where=where,
                label=label,
                box=each.box,
                flags=each.flags,
                score=each.score,
            )
            rle = masks[each.row - 1] if masks else None
            if rle is not None and area(rle):
                yield replace(source, rle=rle)
            elif each.rings:
                with as_data_error(file.path, f"object {each.row}", REMEDY):
                    rle = _draw(each, record)
                to = clipped(np.concatenate(each.rings), record.size)
                yield replace(source, rle=rle, to="mask" if each.kind in _TURNED else to)
            elif cut := _cut(source, each, record.size, self.log):
                yield cut

    def dataset(self) -> Dataset:
        """All images, with labels in the order of the categories."""
        if self.is_empty and self.strangers:
            raise DataError(self.strangers[0], "is not Pascal VOC's XML", "check --from")
        listed = list(dict.fromkeys(self.listed))
        categories = listed or sorted(self.used)
        for name in sorted(set(self.used) - set(categories)):
            self.log.note("names that labelmap.txt lacks are categories too", name)
            categories.append(name)
        label_of = np.array([categories.index(name) for name in self.used], dtype=np.int64)
        objects = {
            key: replace(detections, labels=label_of[detections.labels])
            if len(detections)
            else detections
            for key, detections in self.objects.items()
        }
        return Dataset(tuple(categories), tuple(self.records), objects)


def _named(file: VocFile, stem: PurePosixPath) -> str:
    """The photo that a file names, in the folder of its own name."""
    given = file.name.replace("\\", "/").rpartition("/")[2]
    return str(stem.parent / given) if given else str(stem)


def _photo(
    file: VocFile, stem: PurePosixPath, finder: ImageFinder, taken: Collection[str], log: SourceLog
) -> tuple[Path, str]:
    """The photo of an XML file, and its name. taken: the names of all XML files, and of photos
    that several name. Raises DataError for one that is not there."""
    named = _named(file, stem)
    given = PurePosixPath(named).name if file.name else ""
    try:
        if not given or given == stem.name or given.rpartition(".")[0] == stem.name:
            return _near(finder.find(named, str(stem), file.name or str(stem)), stem, file, finder)
        is_of_another = str(stem.parent / given.rpartition(".")[0]) in taken
        if not is_of_another and (finder.root / named).is_file():
            return finder.find(named)
        if own := finder.find_or_none(str(stem)):
            log.note(
                "XML files name another photo; that of their own name is taken", file.path.name
            )
            return _near(own, stem, file, finder)
        return _near(finder.find(named, file.name), stem, file, finder)
    except DataError as error:
        lacks = "" if given else "it lacks filename; "
        reason = f"{lacks}its photo {error.path}: {error.reason}"
        raise DataError(file.path, reason, error.remedy) from error


def _near(
    photo: tuple[Path, str], stem: PurePosixPath, file: VocFile, finder: ImageFinder
) -> tuple[Path, str]:
    """The photo that was found. Raises DataError for one in another folder than the XML file, and
    than the file says: it may be that of another camera."""
    folder = PurePosixPath(photo[1]).parent.name
    named = PurePosixPath(file.name.replace("\\", "/")).parent.name
    if not stem.parent.name or folder in {"", stem.parent.name, named, *PHOTO_FOLDERS}:
        return photo
    place = finder.root / stem.parent / photo[0].name
    raise DataError(place, "no such image", "give their folder with --images")


def _split(file: VocFile, listed: str, name: str) -> str:
    """The split of an image: that of its list, else of its folder, as Roboflow has them."""
    if file.split and (not listed or safe_component(file.split) == listed):
        return file.split
    if listed:
        return "" if listed == UNSORTED else listed
    folders = PurePosixPath(name).parent.parts
    return next((SPLIT_OF_NAME[part] for part in folders if part in SPLIT_OF_NAME), "")


def _read_masks(
    path: Path, file: VocFile, size: tuple[int, int], log: SourceLog
) -> tuple[Rle, ...]:
    """The mask of each object in the file; () where there is no mask file."""
    if not file.objects:
        return ()
    if not path.is_file():
        if (path.parent.parent / "SegmentationClass" / path.name).is_file():
            log.note("masks by class without masks by object are not read", path.name)
        return ()
    if file.count > _MASKED:
        reason = f"belongs to {file.count} objects, but can count {_MASKED}"
        raise DataError(path, reason, "remove it")
    masks = read_png_mask(path, file.count).masks or ()
    if tuple(masks[0]["size"]) != size:
        height, width = size
        raise DataError(path, f"has not the size {width}x{height} of its XML", "remove it")
    return masks


def _draw(each: VocObject, record: ImageRecord) -> Rle:
    """The union of the polygons of an object. Raises ValueError for a point far outside."""
    refuse_false_size(record.path, record.size)
    patches = []
    for ring in each.rings:
        refuse_far(ring, *record.size)
        if each.kind == TURNED:
            patches.append(draw_convex(ring + 0.5, *record.size))
        else:
            patches.append(draw_centres(ring.round(), *record.size))
    return patch_rle(_union(patches, record.size), *record.size)


def _union(patches: list[Patch], size: tuple[int, int]) -> Patch:
    if len(patches) == 1:
        return patches[0]
    whole = paste(patches[0], *size)
    for patch in patches[1:]:
        whole |= paste(patch, *size)
    return tight(whole)


def _cut(
    source: SourceObject, each: VocObject, size: tuple[int, int], log: SourceLog
) -> SourceObject | None:
    """A box cut to the image: some tools count pixels from 0, and write an xmin of 0. None, and
    counted, for one that is not on the image."""
    x0, y0, x1, y1 = each.box or (0.0, 0.0, 0.0, 0.0)
    height, width = size
    if (x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0) and x0 < x1 and y0 < y1:
        log.leave_out(source.kind, "it is not on the photo", source.where)
        return None
    box = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if each.is_swapped:
        return replace(source, box=box, to="box with its corners swapped back")
    return replace(source, box=box, to="" if box == each.box else "box cut to the photo")
