"""Which photos a task means: its data names them, under a key of the user's choice."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from pipeline.errors import DataError
from pipeline.formats.image_names import ImageFinder, places_in_query
from pipeline.io.images import SUFFIXES, images_below
from pipeline.io.read import shown_value

_UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # that Label Studio puts before an uploaded name
_SAVED = re.compile(r"^[0-9a-f]{8}__(?=.)")  # that its exports put before a name from a storage
_DROPPED = re.compile(r"[^-\w.]")  # from an uploaded name, after spaces became _
_USUAL = "image"  # the key in Label Studio's own templates
_OTHERS = (".gif", ".heic", ".jfif", ".avif")  # photos that this program may not read
_ADDRESSES = ("url", "image", "src", "path")  # keys beside those of thumbnails
Page = tuple[Path, str]  # where a photo is, and its name below the folder of the images


class TaskImages:
    """Finds the photos of tasks below one folder."""

    def __init__(self, root: Path, key_of: Mapping[str, str] | None = None) -> None:
        """root: the folder of the images. key_of: the key of the data that each tag of the labeling
        interface shows, by the name of the tag."""
        self._finder, self._root = ImageFinder(root), root
        self._key_of = key_of or {}
        self._keys = (*self._key_of.values(), _USUAL)

    def find(self, data: Mapping[str, object], tag: str = "") -> list[Page]:
        """The photo of a task, or its pages where the data has a list. tag: that shows the image
        with the regions; without the labeling interface it often has the name of the key. Raises
        ValueError for data that names none or several, DataError for a photo that is not there."""
        choices = self._choices(data, self._key_of.get(tag, tag))
        if not choices:
            named = ", ".join(map(shown_value, data)) or "none"
            raise ValueError(f"its data names no image (keys: {named})")
        there: dict[str, list[Page]] = {}
        faults: list[DataError] = []
        for key, names in choices.items():
            try:
                there[key] = [self._find(name) for name in names]
            except DataError as error:
                faults.append(error)
        if len(there) > 1:
            raise ValueError(
                f"its data names several images (keys: {', '.join(map(shown_value, there))}); "
                "put the labeling interface beside the file, as label_config.xml"
            )
        if not there:
            raise faults[0]
        return next(iter(there.values()))

    def _choices(self, data: Mapping[str, object], shown: str) -> dict[str, list[str]]:
        """The names of images by the key of the data that may mean the photo. shown: the first
        choice, if it names one."""
        given = {key: _texts(value) for key, value in data.items()}
        if (names := given.get(shown)) and all(map(_names_image, names)):
            return {shown: names}
        for key in self._keys:
            if given.get(key):
                return {key: given[key]}
        named = {key: names for key, names in given.items() if names}
        images = {key: names for key, names in named.items() if all(map(_names_image, names))}
        return images or named

    def _find(self, name: str) -> Page:
        """The photo of a name: as it stands, as Label Studio's own exports save it, or without
        what it adds at an upload. Raises ValueError for a photo in the task itself."""
        if name.startswith("data:"):
            raise ValueError("its photo is in the task (a data URL), not the name of a file")
        faults: list[DataError] = []
        bares = [_UPLOADED.sub("", _last_of(place)) for place in places_in_query(name)]
        for candidate in dict.fromkeys((*places_in_query(name), *_saved_names(name), *bares)):
            try:
                return self._finder.find(candidate)
            except DataError as error:
                faults.append(error)
        names = next((own for bare in bares if (own := self._by_saved_name.get(bare))), [])
        if len(names) != 1:
            raise faults[0]
        return self._root / names[0], names[0]

    @cached_property
    def _by_saved_name(self) -> dict[str, list[str]]:
        """The images below the root by the name that an upload gives them, without prefixes."""
        index: dict[str, list[str]] = defaultdict(list)
        for path in images_below(self._root) if self._root.is_dir() else ():
            name = _DROPPED.sub("", _SAVED.sub("", path.name).strip().replace(" ", "_"))
            index[name].append(path.relative_to(self._root).as_posix())
        return dict(index)


def _saved_names(name: str) -> list[str]:
    """What Label Studio's own exports call a photo of this address."""
    digest = hashlib.md5(name.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
    return [f"{digest[:8]}__{_last_of(place)}" for place in places_in_query(name)]


def _last_of(place: str) -> str:
    """The name of a file without its folders, and of a URL without its query."""
    path = place.partition("?")[0] if "://" in place or place.startswith("/") else place
    return PurePosixPath(unquote(path).replace("\\", "/")).name


def _texts(value: object) -> list[str]:
    """A text, or a list of texts, as a list; anything else is empty. A mapping is the one text in
    it that names an image, such as its `url`."""
    values = [_text_in(each) for each in (value if isinstance(value, list) else [value])]
    texts = [each for each in values if isinstance(each, str) and each.strip()]
    return texts if len(texts) == len(values) else []


def _text_in(value: object) -> object:
    """The text of a mapping that names its image, under a usual key where several do."""
    if not isinstance(value, dict):
        return value
    named = {key: each for key, each in value.items() if isinstance(each, str)}
    named = {key: each for key, each in named.items() if _names_image(each)}
    if len(named) > 1:
        named = {key: each for key, each in named.items() if str(key).lower() in _ADDRESSES}
    return next(iter(named.values())) if len(named) == 1 else value


def _names_image(name: str) -> bool:
    paths = (place.partition("?")[0].lower() for place in places_in_query(name))
    return any(path.endswith((*SUFFIXES, *_OTHERS)) for path in paths)
