"""Every label format by its name on the command line. See `pipeline.formats` to add one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from pipeline.errors import ConfigError, DataError
from pipeline.formats import coco
from pipeline.formats.source import SourceLog
from pipeline.formats.zipped import unzipped
from pipeline.io.image_copies import place_image
from pipeline.types import Dataset, Detections

Write = Callable[[Path, Dataset, bool, float], None]  # folder, dataset, copy images, polygon loss


class Read(Protocol):
    """Read a file or a folder.

    images: the folder of images, where the file does not say. allow_outside: images may be outside
    the folders that were named; a reader that opens no image leaves the check to its caller. log:
    counts every object of the source, and takes its faults.
    """

    def __call__(
        self,
        source: Path,
        images: Path | None,
        allow_outside: bool = False,
        log: SourceLog | None = None,
    ) -> Dataset: ...


@dataclass(frozen=True)
class Format:
    """One label format: one line that describes it, its writer and its reader. has_annotators: it
    holds the labels of several people, of whom `SourceLog.annotator` names one. is_by_stem: the
    labels of an image are named by its name without suffix. needs_masks: it cannot hold a box
    alone. shard: replaces what `write` wrote into a folder by a number of shards and their index;
    None for a format that is never divided."""

    about: str
    write: Write
    read: Read
    has_annotators: bool = False
    is_by_stem: bool = False
    needs_masks: bool = False
    shard: Callable[[Path, int], None] | None = None


def later(module: str, name: str) -> Callable[..., Any]:
    """A function of a module of this package, which is imported at the first call: a command needs
    one format, and all of them take as long as the rest of its start."""

    def call(*values: Any, **options: Any) -> Any:
        return getattr(import_module(f"{__package__}.{module}"), name)(*values, **options)

    return call


def _write_coco(root: Path, dataset: Dataset, copy: bool, loss: float | None) -> None:
    place_images(root, dataset, copy)
    coco.write_coco(root / "annotations" / "instances.json", dataset, loss)


def _read_coco(source: Path, images: Path | None, log: SourceLog) -> Dataset:
    if source.is_dir():
        dataset: Dataset = later("coco_folders", "read_coco_folder")(source, images, log)
        return dataset
    return coco.read_coco(source, images, log)


def _write_results(root: Path, dataset: Dataset, copy: bool) -> None:
    place_images(root, dataset, copy)
    coco.write_coco(root / "images.json", replace(dataset, objects={}))
    coco.write_coco_results(root / "results.json", dataset)


def _read_results(source: Path, images: Path | None, log: SourceLog) -> Dataset:
    if source.is_dir():
        source, images = source / "results.json", images or source / "images"
    return coco.read_coco_results(source, source.parent / "images.json", images, log)


def _write_parquet(root: Path, dataset: Dataset, copy: bool) -> None:
    place_images(root, dataset, copy)
    later("parquet", "write_parquet")(root, dataset)


def _write_png(root: Path, dataset: Dataset, copy: bool) -> None:
    place_images(root, dataset, copy)
    later("png_masks", "write_png_masks")(root / "masks", dataset)


def _read_png(source: Path, images: Path | None) -> Dataset:
    read: Callable[[Path, Path], Dataset] = later("png_masks", "read_png_masks")
    return read(source / "masks", images or source / "images")


def place_images(root: Path, dataset: Dataset, copy: bool) -> None:
    """Link or copy the images of a dataset below `root`/images. Raises DataError where two images
    have one name."""
    written: dict[str, Path] = {}
    for record in dataset.records:
        if written.setdefault(record.file_name, record.path) != record.path:
            reason = f"has the same name as {written[record.file_name]}"
            raise DataError(record.path, reason, "rename one")
        place_image(record.path, root / "images" / record.file_name, copy)


def _without_masks(dataset: Dataset) -> Dataset:
    objects = {
        key: Detections(boxed.boxes, boxed.labels, boxed.scores)
        for key, boxed in dataset.objects.items()
    }
    return replace(dataset, objects=objects)


def without_polygons(write: Callable[[Path, Dataset, bool], None]) -> Write:
    """The writer of a format that has no polygons to simplify."""
    return lambda root, dataset, copy, _: write(root, dataset, copy)


def without_image_check(read: Callable[[Path, Path | None], Dataset]) -> Read:
    """The reader of a format that opens no image: the caller checks where images are. It keeps
    every object of its source; for a reader that does not, see `counted`."""

    def reader(
        source: Path,
        images: Path | None,
        allow_outside: bool = False,  # noqa: ARG001
        log: SourceLog | None = None,
    ) -> Dataset:
        return _all_read(read(source, images), log)

    return reader


def counted(read: Callable[[Path, Path | None, SourceLog], Dataset]) -> Read:
    """As `without_image_check`, for a reader that counts the objects of its source itself."""

    def reader(
        source: Path,
        images: Path | None,
        allow_outside: bool = False,  # noqa: ARG001
        log: SourceLog | None = None,
    ) -> Dataset:
        return read(source, images, log or SourceLog())

    return reader


def or_zip(read: Read) -> Read:
    """A reader that reads the zip of a folder too."""

    def reader(
        source: Path,
        images: Path | None,
        allow_outside: bool = False,
        log: SourceLog | None = None,
    ) -> Dataset:
        log = log or SourceLog()
        folder, images = unzipped(source, images, log)
        try:
            return read(folder, images, allow_outside, log)
        except DataError as error:
            raise log.shown(error) from error

    return reader


def _read_mvtec(
    source: Path,
    images: Path | None,  # noqa: ARG001  # they are in the folder of the product
    allow_outside: bool = False,
    log: SourceLog | None = None,
) -> Dataset:
    dataset: Dataset = later("mvtec", "read_mvtec_objects")(source, allow_outside=allow_outside)
    return _all_read(dataset, log)


def _all_read(dataset: Dataset, log: SourceLog | None) -> Dataset:
    if log:
        log.read(sum(map(len, dataset.objects.values())))
    return dataset


def _write_rle(root: Path, dataset: Dataset, copy: bool) -> None:
    _write_coco(root, dataset, copy, None)


def _write_yolo_boxes(root: Path, dataset: Dataset, copy: bool) -> None:
    later("yolo", "write_yolo")(root, _without_masks(dataset), False, copy)


def _write_yolo_polygons(root: Path, dataset: Dataset, copy: bool, loss: float) -> None:
    later("yolo", "write_yolo")(root, dataset, True, copy, loss)


_FORMATS: dict[str, Format] = {
    "coco": Format(
        "COCO instances, masks as RLE",
        without_polygons(_write_rle),
        or_zip(counted(_read_coco)),
        shard=later("shards", "shard_folder"),
    ),
    "coco-polygon": Format(
        "COCO instances, masks as polygons on pixel edges",
        _write_coco,
        or_zip(counted(_read_coco)),
        shard=later("shards", "shard_folder"),
    ),
    "coco-results": Format(
        "COCO results with scores: results.json, and images.json beside it",
        without_polygons(_write_results),
        or_zip(counted(_read_results)),
    ),
    "cvat": Format(
        "CVAT for images 1.1: annotations.xml with masks",
        without_polygons(later("cvat", "write_cvat")),
        counted(later("cvat", "read_cvat")),
    ),
    "cvat-coco": Format(
        "COCO 1.0 in the folders that CVAT asks for",
        without_polygons(later("cvat", "write_cvat_coco")),
        or_zip(without_image_check(later("cvat", "read_cvat_coco"))),
    ),
    "label-studio": Format(
        "Label Studio's JSON: brush strokes or rectangles",
        without_polygons(later("label_studio", "write_label_studio")),
        or_zip(counted(later("label_studio", "read_label_studio"))),
        has_annotators=True,
    ),
    "labelme": Format(
        "LabelMe's JSON: masks",
        without_polygons(later("labelme", "write_labelme")),
        or_zip(counted(later("labelme_reader", "read_labelme"))),
        is_by_stem=True,
    ),
    "labelme-polygon": Format(
        "LabelMe's JSON: polygons",
        later("labelme", "write_labelme"),
        or_zip(counted(later("labelme_reader", "read_labelme"))),
        is_by_stem=True,
    ),
    "mvtec": Format(
        "MVTec AD's layout; objects that touch become one",
        without_polygons(later("mvtec", "write_mvtec")),
        or_zip(_read_mvtec),
        needs_masks=True,
    ),
    "parquet": Format(
        "COCO as tables: images.parquet and annotations.parquet",
        without_polygons(_write_parquet),
        counted(later("parquet", "read_parquet")),
        shard=later("parquet", "shard_parquet"),
    ),
    "png": Format(
        "PNG masks: value k is the k-th object",
        without_polygons(_write_png),
        or_zip(without_image_check(_read_png)),
        is_by_stem=True,
        needs_masks=True,
    ),
    "voc": Format(
        "Pascal VOC: boxes, and masks by object and by class",
        without_polygons(later("voc", "write_voc")),
        or_zip(counted(later("voc_reader", "read_voc"))),
        is_by_stem=True,
    ),
    "yolo": Format(
        "YOLO boxes",
        without_polygons(_write_yolo_boxes),
        or_zip(later("yolo_reader", "read_yolo")),
        is_by_stem=True,
    ),
    "yolo-segment": Format(
        "YOLO polygons",
        _write_yolo_polygons,
        or_zip(later("yolo_reader", "read_yolo")),
        is_by_stem=True,
        needs_masks=True,
    ),
}
FORMATS: Mapping[str, Format] = MappingProxyType(_FORMATS)


def register(name: str, form: Format) -> None:
    """Add a format to `FORMATS` for this process, as a plugin or a script does.

    Raises ConfigError for a name that is taken.
    """
    if name in _FORMATS:
        raise ConfigError(f"there is a format {name}; choose another name")
    _FORMATS[name] = form
