"""YOLO's folders, read: a data.yaml, or the classes.txt and obj.names of labelling tools."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import unquote

from pipeline.errors import DataError
from pipeline.formats.data_yaml import LAYOUT, DataYaml, images_of
from pipeline.formats.image_files import NamedFolders
from pipeline.formats.source import SourceLog
from pipeline.formats.values import as_data_error, file_mode
from pipeline.formats.yolo_labels import label_file_of, parse_labels
from pipeline.formats.yolo_sets import read_description
from pipeline.io.images import read_size
from pipeline.io.read import files_below, is_junk, read_text
from pipeline.types import SPLITS, Dataset, Detections, ImageRecord

_STORED = "?d="  # what Label Studio puts before the name of a photo from a local storage
_LISTS = {"classes.txt", "train.txt", "val.txt", "valid.txt", "test.txt", "labels.txt"}


def read_yolo(
    source: Path,
    images: Path | None = None,
    allow_outside: bool = False,
    log: SourceLog | None = None,
) -> Dataset:
    """Read a data.yaml, or the folder that holds it, with the labels and images of its splits.

    Without a data.yaml, the names are those of classes.txt (Label Studio, labelImg) or obj.names
    (CVAT, darknet). A label file whose rows all have four numbers holds boxes. As in ultralytics,
    one longer row makes polygons of all rows of its file; a box becomes its four corners. images:
    the folder of images, in place of the folders in data.yaml. log: counts every row. Raises
    DataError naming the file and the row at fault, and for images outside the folder of the dataset
    unless `allow_outside`.
    """
    path, data = read_description(source, log := log or SourceLog())
    root = images.parent if images else data.root(path)
    folders = NamedFolders([path.parent, *([root] if images else [])], allow_outside)
    roots = [images.parent, images, data.root(path)] if images else [root]
    if images and data.unsorted:
        data = data.model_copy(update={"unsorted": (images.name,)})
    labels = LabelFiles(data.root(path), images)
    split_of: dict[Path, str] = {}
    for split in (*SPLITS, ""):
        missing = f"places that {path.name} names do not exist: no image is read there"
        on_missing = partial(log.note, missing) if split_of else None
        for image in images_of(path, roots, data.places(split), folders, log, on_missing):
            split_of.setdefault(image, split)
    if not split_of:
        raise DataError(path, "lists no image", LAYOUT)
    names = _names(list(split_of), root)
    records: list[ImageRecord] = []
    objects: dict[int, Detections] = {}
    image_of: dict[Path, Path] = {}
    for image, split in split_of.items():
        try:
            _refuse_shared_labels(image, labels.of(image), image_of)
            record = _record(len(records) + 1, image, names[image], split, folders)
            own = _objects(record, labels.of(image), data, log)
        except DataError as error:
            place = labels.of(image)
            is_own = image_of.get(place) == image and log.faults.keep_going
            log.image_fault(place.name, error, _count_rows(place) if is_own else 0)
            continue
        records.append(record)
        if own is not None:
            objects[record.id] = own
    expected = {labels.of(image) for image in split_of}
    _count_orphans(expected, {path.parent for path in expected} | labels.folders, log)
    return Dataset(data.categories, tuple(records), objects)


def _refuse_shared_labels(image: Path, label_file: Path, image_of: dict[Path, Path]) -> None:
    """Raise DataError for an image whose label file has rows and is that of another image too, such
    as a.png beside a.jpg. image_of: the image of each label file so far."""
    other = image_of.setdefault(label_file, image)
    if other != image and file_mode(label_file) and read_text(label_file).strip():
        reason = f"has the label file {label_file.name}, which is that of {other.name} too"
        raise DataError(image, reason, "remove or rename one of the images")


class LabelFiles:
    """Where the label file of each image is. Exports without images leave these to --images."""

    def __init__(self, root: Path, images: Path | None) -> None:
        """root: the folder of the set. images: the folder of the images, where it is another."""
        self._root, self._images = root, images
        below = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        self._folders = [root / "labels", *below, root]
        self._capitals: dict[Path, list[Path]] = {}  # folders called Labels, by the one above them

    def of(self, image: Path) -> Path:
        """As ultralytics has it; else the file of the same name below the folder of the set."""
        usual = self._existing(image)
        if self._images is None or file_mode(usual) or not image.is_relative_to(self._images):
            return usual
        name = image.relative_to(self._images).with_suffix(".txt")
        places = [folder / name for folder in self._folders]
        photo = next((place for place in places if file_mode(place)), None)
        return photo or self._of_storage.get(name.with_suffix("").as_posix(), usual)

    def _existing(self, image: Path) -> Path:
        """The label file where ultralytics has it; else the one with capitals in its suffix, or in
        the names of the folders of images and labels; else the one beside the image."""
        usual = label_file_of(image)
        if file_mode(usual):
            return usual
        places = [usual, *self._in_labels(image), image.with_suffix(".txt")]
        others = [other for path in places for other in (path, path.with_suffix(".TXT"))]
        return next((path for path in others if file_mode(path)), usual)

    def _in_labels(self, image: Path) -> list[Path]:
        """The label files of an image below each folder `Labels` beside that of the images."""
        names = [part.lower() for part in image.parent.parts]
        if "images" not in names:
            return []
        last = len(names) - 1 - names[::-1].index("images")
        root, rest = Path(*image.parts[:last]), Path(*image.parts[last + 1 :])
        if root not in self._capitals:
            below = sorted(root.iterdir())
            self._capitals[root] = [path for path in below if path.name.lower() == "labels"]
        return [folder / rest.with_suffix(".txt") for folder in self._capitals[root]]

    @cached_property
    def folders(self) -> set[Path]:
        """The folders below the set that hold text files; none where the images say where theirs
        are."""
        return {path.parent for path in self._texts}

    @cached_property
    def _texts(self) -> list[Path]:
        if self._images is None:
            return []
        return [Path(path) for path in files_below(self._root) if path.endswith(".txt")]

    @cached_property
    def _of_storage(self) -> dict[str, Path]:
        """Label files such as `?d=cam1%2Fa.txt` by the name of their image without suffix."""
        return {
            unquote(path.stem.removeprefix(_STORED)).replace("\\", "/"): path
            for path in self._texts
            if path.name.startswith(_STORED)
        }


def _record(key: int, image: Path, name: str, split: str, folders: NamedFolders) -> ImageRecord:
    folders.refuse_outside(image)
    height, width = read_size(image)
    with as_data_error(image, "", "rename it"):
        return ImageRecord(key, image, name, height, width, split=split)


def _objects(
    record: ImageRecord, label_file: Path, data: DataYaml, log: SourceLog
) -> Detections | None:
    """The objects of an image; None without a label file, as for an image without objects."""
    if not file_mode(label_file):
        log.note("images without a label file have no objects", record.file_name)
        return None
    text = read_text(label_file)
    with as_data_error(label_file, "", "correct or remove the row"):
        return parse_labels(text, record.size, data.labels, log, data.kpt_shape, label_file.name)


def _names(images: Sequence[Path], root: Path) -> dict[Path, str]:
    """The name of each image below its last folder called `images`. Where two would have one name,
    as of train/images and valid/images, all names have their other folders too."""
    names = {image: _inside_images(image) for image in images}
    stems = {name.rpartition(".")[0] for name in names.values()}
    if len(stems) == len(names):
        return names
    names = {image: _below(image, root) for image in images}
    if len(set(names.values())) == len(names):
        return names
    return {image: _inside(image, root).as_posix() for image in images}


def _inside_images(image: Path) -> str:
    """The name of an image below the last folder called `images`, else its bare name."""
    parts = image.parts
    if "images" not in parts[:-1]:
        return image.name
    last = len(parts) - 1 - parts[::-1].index("images")
    return "/".join(parts[last + 1 :])


def _below(image: Path, root: Path) -> str:
    """The path of an image below the root, without folders called `images`."""
    inside = _inside(image, root)
    folders = [part for part in inside.parts[:-1] if part not in {"images", "..", "."}]
    return "/".join([*folders, inside.name])


def _inside(image: Path, root: Path) -> Path:
    return image.relative_to(root) if image.is_relative_to(root) else Path(*image.parts[1:])


def _count_orphans(expected: Collection[Path], folders: Collection[Path], log: SourceLog) -> None:
    """Count the rows of label files that have no image. expected: the label files of all images.
    folders: where label files are."""
    for path in label_files_in(folders):
        if path not in expected:
            rows = [line for line in read_text(path).splitlines() if line.strip()]
            if not rows or _is_row(rows[0]):  # not a README
                log.leave_out("label file", "no image has its name", path.name, max(len(rows), 1))


def label_files_in(folders: Collection[Path]) -> Iterator[Path]:
    """The text files in each of some folders that may be labels: not lists of classes or images."""
    for folder in sorted(folder for folder in folders if folder.is_dir()):
        for path in sorted(path for path in folder.iterdir() if path.suffix.lower() == ".txt"):
            if not is_junk(path.name) and path.name not in _LISTS:
                yield path


def _count_rows(path: Path) -> int:
    """How many rows a label file has; 0 for one that cannot be read as text."""
    try:
        return sum(bool(line.strip()) for line in read_text(path).splitlines())
    except DataError:
        return 0


def _is_row(line: str) -> bool:
    first, *others = line.split()
    return first.replace(".", "", 1).isdecimal() and len(others) >= 4
