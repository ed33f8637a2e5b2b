"""The image file that a label file means, by the name that it gives.

Label files come from other machines: with back-slashes and drive letters of Windows, folders that
are not there any more, URLs, %20 in place of a space, and accents that another system composes
otherwise.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, unquote_plus

from pipeline.errors import DataError
from pipeline.formats.schema import unusable
from pipeline.io.images import SUFFIXES, images_below
from pipeline.io.read import shown_value

_SCHEME = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]+://[^/]*")  # with the host or the bucket
_DRIVE = re.compile(r"^[A-Za-z]:(?=[\\/])")
_QUERY = re.compile(r"[?#].*$")
_IN_A_QUERY = re.compile(r"[?&](d|filepath|fileuri)=(.+)$")  # local files, uploads, cloud storage
Parts = tuple[str, ...]


class ImageFinder:
    """Finds the images below one folder by the names in a label file."""

    def __init__(self, root: Path, search: bool = True) -> None:
        """root: the folder of the images. search: look for names through all folders below it."""
        self.root = root
        self._search = search

    def find(self, *names: str) -> tuple[Path, str]:
        """The image that a label file means, and its name: the path below the root, with `/`.

        names: what the file says, the best first. An image of exactly that name is taken; else one
        whose last folders and name are the same. Raises DataError for an image that is not there,
        and where several may be meant.
        """
        if place := self.find_or_none(*names):
            return place
        readings = [parts for name in names for parts in _readings(name)]
        shown = names[0] if names else ""
        if unusable(shown) or not readings:
            raise DataError(self.root, f"cannot hold an image {shown_value(shown)}", "rename it")
        raise DataError(
            self.root.joinpath(*readings[0]), "no such image", "give their folder with --images"
        )

    def find_or_none(self, *names: str) -> tuple[Path, str] | None:
        """As `find`; None for an image that is not there. Raises DataError where several images may
        be meant."""
        readings = list(dict.fromkeys(parts for name in names for parts in _readings(name)))
        for parts in readings:
            path = self.root.joinpath(*parts)
            if _is_file(path):
                return path, "/".join(parts)
        for parts in readings if self._search else ():
            if place := self._alike(parts):
                return self.root / place, place
        return None

    def _alike(self, parts: Parts) -> str | None:
        """The image with the longest common end of the path. Without a suffix in the name, images
        of any suffix count. Raises DataError where several have it."""
        wanted = tuple(map(_composed, parts))
        ends = self._by_name.get(wanted[-1]) or self._by_any_case.get(wanted[-1].casefold())
        if not ends and Path(wanted[-1]).suffix.lower() not in SUFFIXES:
            ends = self._by_stem.get(wanted[-1])
        if not ends:
            return None
        # the most common folders; of these one whose path is a whole end of the name
        ranks = [
            (count := _common_end(wanted[:-1], folders), count == len(folders))
            for folders, _ in ends
        ]
        best = [place for (_, place), rank in zip(ends, ranks, strict=True) if rank == max(ranks)]
        if len(best) > 1:
            reason = f"may be {best[0]} or {best[1]}"
            raise DataError(
                self.root / "/".join(parts), reason, "name its folder in the label file"
            )
        return best[0]

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[Parts, str]]]:
        """The folders and the path of each image below the root, by its composed name."""
        index: dict[str, list[tuple[Parts, str]]] = defaultdict(list)
        for path in images_below(self.root) if self.root.is_dir() else ():
            place = path.relative_to(self.root).as_posix()
            *folders, name = map(_composed, place.split("/"))
            index[name].append((tuple(folders), place))
        return dict(index)

    @cached_property
    def _by_any_case(self) -> dict[str, list[tuple[Parts, str]]]:
        """As `_by_name`, by the name without capitals: on Windows, `A.JPG` is `a.jpg`."""
        index: dict[str, list[tuple[Parts, str]]] = defaultdict(list)
        for name, ends in self._by_name.items():
            index[name.casefold()] += ends
        return dict(index)

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[Parts, str]]]:
        index: dict[str, list[tuple[Parts, str]]] = defaultdict(list)
        for name, ends in self._by_name.items():
            index[name.rpartition(".")[0]] += ends
        return dict(index)


def same_name(name: str) -> str:
    """The form of a name that is equal for all ways to write one path: `/` between folders, without
    `.`, accents composed. Drives, hosts and %20 stay: with others, it may be another file."""
    parts = name.replace("\\", "/").split("/")
    root = "/" if parts[0] == "" else ""
    return root + _composed("/".join(part for part in parts if part not in {"", "."}))


def places_in_query(name: str) -> tuple[str, ...]:
    """The paths or URLs that a file may have: of an address of Label Studio's own, what its query
    names, as a whole (`R&D/a.png`) and without what follows an `&`; of another, itself."""
    match = _IN_A_QUERY.search(name)
    if not match:
        return (name,)
    texts = dict.fromkeys((match[2], match[2].partition("&")[0].partition("#")[0]))
    if match[1] != "fileuri":
        return tuple(texts)
    return tuple(filter(None, map(_decoded, texts))) or (name,)


def _decoded(text: str) -> str:
    """The text of a base64 code, with or without its `=`; "" for what is none."""
    code = unquote(text).rstrip("=")
    try:
        return base64.urlsafe_b64decode(code + "=" * (-len(code) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _readings(name: str) -> Iterator[Parts]:
    """What a name may mean: as it stands, as a path of Windows or a URL, with %20 or + as a space,
    and as the query of Label Studio's addresses. Each is a relative path without `.` and `..`: what
    comes before `..` is not below the root."""
    texts = [name]
    plain = _SCHEME.sub("", name)
    if plain != name:
        plain = _QUERY.sub("", plain)
    plain = _DRIVE.sub("", plain).replace("\\", "/")
    texts += [plain, unquote(plain), unquote(_QUERY.sub("", plain))]
    asked = [place for place in places_in_query(name) if place != name]
    texts += [unquote(place).replace("\\", "/") for place in asked]
    texts += [unquote_plus(text).replace("\\", "/") for text in (plain, *asked) if "+" in text]
    for text in dict.fromkeys(texts):
        parts = [part for part in text.split("/") if part not in {"", "."}]
        while ".." in parts:
            del parts[: parts.index("..") + 1]
        if parts and not unusable("/".join(parts)):
            yield tuple(parts)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)


def _common_end(one: Parts, other: Parts) -> int:
    """How many parts are equal at the end of two paths."""
    count = 0
    for mine, theirs in zip(reversed(one), reversed(other), strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
