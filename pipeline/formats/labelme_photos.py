"""The photo of each LabelMe file. Each photo is that of one file alone.

A file names its photo by a path from its own folder. People move, rename and mail these files, so
the path often leads nowhere. Then the photo of the file's own name is taken, from the file's own
folder; then the copy that the file holds in imageData. A photo of the same name in another folder
may be that of another camera, and is not taken.
"""

from __future__ import annotations

import base64
import binascii
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError
from pipeline.formats.image_names import ImageFinder
from pipeline.formats.schema import file_name
from pipeline.formats.source import SourceLog
from pipeline.io.images import list_images
from pipeline.io.names import safe_component
from pipeline.io.read import read_json, shown_value
from pipeline.io.write import make_folder

_OF_IMAGES = ("images", "image", "imgs", "img", "JPEGImages", "photos")
_OF_LABELS = {"labels", "label", "annotations", "annotation", "anns", "json", "jsons", "labelme"}
_PICTURES = {  # how a file begins, and its suffixes
    b"\x89PNG": (".png",),
    b"\xff\xd8\xff": (".jpg", ".jpeg"),
    b"BM": (".bmp",),
    b"RIFF": (".webp",),
    b"II*\0": (".tif", ".tiff"),
    b"MM\0*": (".tif", ".tiff"),
}
Photo = tuple[Path, str]  # where it is, and its name below the folder of the images


class LabelMePhotos:
    """Finds the photos of all files of a set, so that no two files have one photo."""

    def __init__(
        self, given: Mapping[Path, str], base: Path, images: Path | None, log: SourceLog
    ) -> None:
        """given: the imagePath of each file. base: the folder that the files are below. images: the
        folder of the images, where it is another. log: takes notes of photos that are not those
        that a file names."""
        self._listed: dict[Path, list[Path]] = {}
        self._given = {path: text.replace("\\", "/") for path, text in given.items()}
        self._base, self._root, self._log = base, images or base, log
        self._is_elsewhere = images is not None
        self._exact = ImageFinder(self._root, search=False)
        self._finder = ImageFinder(self._root)
        self._named: dict[Path, Photo | DataError | None] = {
            path: self._find_named(path) for path in given
        }
        claims = {path: named for path, named in self._named.items() if isinstance(named, tuple)}
        self._uses = Counter(place for place, _ in claims.values())
        self._owner = {
            place: path for path, (place, _) in claims.items() if self._is_sure(path, place)
        }
        self._stems = {_stem(name) for _, name in claims.values()}

    def find(self, path: Path) -> Photo:
        """The photo of a file. Raises DataError naming the file for one that is not there, and for
        the photo of another file."""
        named = self._named[path]
        if isinstance(named, DataError):
            raise named
        if named and self._owner.get(named[0]) == path:
            return named
        given = shown_value(self._given[path])
        if own := self._own(path):
            self._owner[own[0]] = path
            self._log.note(f"{path.name} names {given}; the photo of its own name is taken")
            return own
        if held := self._from_data(path):
            return held
        if named and (other := self._owner.setdefault(named[0], path)) == path:
            return named
        if named:
            other = other.relative_to(self._base)
            reason = f"names the photo {given}, which is that of {other} too"
            raise DataError(path, reason, "name that of each")
        if outside := self._outside(path):
            return outside
        reason = f"its photo {given} is not there"
        raise DataError(path, reason, "give the folder of the images with --images")

    def _find_named(self, path: Path) -> Photo | DataError | None:
        """The photo that a file names; None for one that is not there, and the fault of a name
        that no file can have."""
        given = self._given[path]
        try:
            file_name(given)
            if photo := self._exact.find_or_none(*self._paths(path)):
                return photo
            return self._in_other_letters(path) or self._alike(path, given)
        except DataError as error:
            return DataError(path, f"its photo {error.path.name}: {error.reason}", error.remedy)
        except ValueError as error:
            return DataError(path, f"is not a LabelMe file ({error})", "correct it")

    def _paths(self, path: Path) -> Iterator[str]:
        """Where the photo that a file names may be, the best place first."""
        given, folder = self._given[path], self._folder(path)
        whole = posixpath.normpath(posixpath.join(folder, given))
        if not whole.startswith(("../", "/")):
            yield whole
        for place in self._places(path):
            yield posixpath.join(place, PurePosixPath(given).name)
        if self._is_elsewhere or "/" in given:
            yield given

    def _places(self, path: Path) -> Iterator[str]:
        """The folders that hold the photos of the files in one folder: that folder itself, and
        `images/x` for `labels/x` and `x`."""
        folder = self._folder(path)
        yield folder
        parts = PurePosixPath(folder).parts
        for role in _OF_IMAGES:
            yield posixpath.join(role, *parts)
            for index, part in enumerate(parts):
                if part.lower() in _OF_LABELS:
                    yield posixpath.join(*parts[:index], role, *parts[index + 1 :])
        for index, part in enumerate(parts):
            if part.lower() in _OF_LABELS:
                yield posixpath.join("", *parts[:index], *parts[index + 1 :])

    def _in_other_letters(self, path: Path) -> Photo | None:
        """The one photo in a folder of the file whose name has other capital letters: on Windows,
        the names are equal."""
        name = PurePosixPath(self._given[path].replace("\\", "/")).name.casefold()
        for place in self._places(path):
            photos = self._images_in(self._root / place)
            alike = [photo for photo in photos if photo.name.casefold() == name]
            if len(alike) == 1:
                return alike[0], alike[0].relative_to(self._root).as_posix()
        return None

    def _alike(self, path: Path, given: str) -> Photo | None:
        """The photo whose path has the same end. A folder of that end is the same, or --images
        names the folder of files that are in none."""
        folder = self._folder(path)
        photo = self._finder.find_or_none(posixpath.join(folder, PurePosixPath(given).name), given)
        if not photo:
            return None
        last = PurePosixPath(photo[1]).parent.name
        ends = {PurePosixPath(given).parent.name, PurePosixPath(folder).name} - {"", ".."}
        if last in ends or (self._is_elsewhere and not folder):
            return photo
        return None

    def _folder(self, path: Path) -> str:
        folder = path.relative_to(self._base).parent.as_posix()
        return "" if folder == "." else folder

    def _is_sure(self, path: Path, photo: Path) -> bool:
        """Whether a file alone names a photo, or has its name."""
        return self._uses[photo] == 1 or photo.stem == path.stem

    def _own(self, path: Path) -> Photo | None:
        """The photo of the file's own name, in a folder of its own."""
        for place in self._places(path):
            photos = [
                photo
                for photo in self._images_in(self._root / place)
                if photo.stem == path.stem and self._owner.get(photo, path) == path
            ]
            if photos[1:]:
                reason = f"its photo may be {photos[0].name} or {photos[1].name}"
                raise DataError(path, reason, "name it in imagePath")
            if photos:
                return photos[0], photos[0].relative_to(self._root).as_posix()
        return None

    def _outside(self, path: Path) -> Photo | None:
        """The photo that a file names outside the folder. Whether that is allowed, the caller
        decides."""
        place = path.parent / self._given[path]
        if self._is_elsewhere or not place.is_file() or place in self._owner:
            return None
        self._owner[place] = path
        return place, self._free_name(self._folder(path), place.stem, place.suffix)

    def _from_data(self, path: Path) -> Photo | None:
        """The photo that a file holds itself, in a folder of our own; None where it holds none. It
        has the name of the file, because many files may name one photo."""
        data = read_json(path).get("imageData")
        if not isinstance(data, str):
            return None
        try:
            picture = base64.b64decode(data.partition("base64,")[2] or data, validate=True)
        except (binascii.Error, ValueError):
            return None
        suffixes = next(
            (ends for start, ends in _PICTURES.items() if picture.startswith(start)), ()
        )
        if not suffixes:
            return None
        given = PurePosixPath(self._given[path]).suffix
        suffix = given if given.lower() in suffixes else suffixes[0]
        name = self._free_name(self._folder(path), path.stem, suffix)
        target = self._log.made_files() / name
        make_folder(target.parent)
        target.write_bytes(picture)
        place = path.relative_to(self._base).as_posix()
        self._log.note("photos that are gone are those in imageData", place)
        return target, name

    def _free_name(self, folder: str, stem: str, suffix: str) -> str:
        """A name whose stem no other photo of the set has: labels are named by it."""
        name = posixpath.join(folder, safe_component(stem, suffix))
        if _stem(name) in self._stems:
            name = posixpath.join(folder, safe_component(f"{stem}/imageData", suffix))
        self._stems.add(_stem(name))
        return name

    def _images_in(self, folder: Path) -> list[Path]:
        if folder not in self._listed:
            self._listed[folder] = list_images(folder) if folder.is_dir() else []
        return self._listed[folder]


def _stem(name: str) -> str:
    return name.rpartition(".")[0]
