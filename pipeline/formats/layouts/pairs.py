"""Which image each mask of a folder belongs to, by the names and folders of both.

A mask has its image's name, and a suffix that all masks share; or it lies in a folder of its
image's name. Folders that only masks are in name categories.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DataError, Faults
from pipeline.formats.layouts.letter_case import AnyCase
from pipeline.io.images import images_below

Folders = tuple[str, ...]
_SUFFIX = re.compile(r".*[A-Za-z]")  # a suffix has a letter: 10.png is no mask of 1.png
_NUMBER = re.compile(r"[_-]?\d+$")
_PREFIX = re.compile(r"[A-Za-z]+[_-]?")  # of names, such as mask_
_MASK_WORD = re.compile("mask|label|lbl|gt|seg|ground|annot", re.IGNORECASE)
_SHOWN = 3


@dataclass(frozen=True)
class PairedMask:
    """A mask, and the folders that its image is not in. is_instance: it lies in a folder of its
    image's name."""

    path: Path
    folders: Folders = ()
    is_instance: bool = False


@dataclass(frozen=True)
class Pairs:
    """The masks of each image; none for an image without mask. suffix: of the masks' names.
    prefixes: of the names of images and of masks, such as `image_` and `mask_`. other_letters: the
    image of each mask whose name has other capital letters."""

    masks: dict[Path, tuple[PairedMask, ...]]
    suffix: str
    prefixes: tuple[str, str] = ("", "")
    other_letters: dict[Path, Path] = field(default_factory=dict)


class _Names:
    """The images by their stems and folders."""

    def __init__(
        self, root: Path, images: Iterable[Path], faults: Faults, prefix: str = ""
    ) -> None:
        self.by_stem: dict[str, dict[Folders, Path]] = defaultdict(dict)
        for path in images:
            *folders, _ = _parts(path, root)
            others = self.by_stem[_without_start(_stem(path), prefix)]
            if other := others.get(tuple(folders)):
                faults.add(DataError(path, f"has the same name as {other}", "rename one"))
            else:
                others[tuple(folders)] = path
        self._any_case = AnyCase(self.by_stem)

    def has(self, stem: str) -> bool:
        """Whether an image has this stem, in small or capital letters."""
        return stem in self.by_stem or self._any_case.only(stem) is not None

    def find(
        self, stem: str, folders: Folders, any_case: bool = False
    ) -> tuple[Path, Folders] | None:
        """The image of a stem that a mask in some folders belongs to, and the folders that are the
        mask's alone. any_case: the one image of the same letters, small or capital, will do. Raises
        ValueError where two images may be meant."""
        images = self.by_stem.get(stem, {})
        if not images and any_case:
            images = self.by_stem.get(self._any_case.only(stem) or "", {})
        fits = [own for own in images if _left_over(own, folders) is not None]
        if not fits and len(images) > 1:
            one, other = list(images.values())[:2]
            raise ValueError(f"may belong to {one} or {other}")
        if not images:
            return None
        own = max(fits, key=len) if fits else next(iter(images))
        rest = _left_over(own, folders)
        return images[own], folders if rest is None else rest


def pair_up(images: Path, masks: Path, suffix: str | None, faults: Faults) -> Pairs:
    """Find the image of every mask.

    suffix: of the masks' names after those of the images; None finds the only one that all have.
    Raises DataError where several suffixes would do, for folders without images or masks, and, by
    `faults`, for a mask without image.
    """
    image_paths, mask_paths = _listed(images, masks, suffix)
    first, second = _prefixes(image_paths, mask_paths) if suffix is None else ("", "")
    names = _Names(images, image_paths, faults, first)
    if suffix is None:
        suffix = "" if second else _common_suffix(names, masks, mask_paths)
    masks_of: dict[Path, list[PairedMask]] = {
        path: [] for group in names.by_stem.values() for path in group.values()
    }
    search = _Search(names, masks, second, suffix)
    rest: list[Path] = []
    for path in mask_paths:
        try:
            place = search.place(path)
        except ValueError as error:
            faults.add(DataError(path, str(error), "put it into a folder of the same name"))
            continue
        if place is None:
            rest.append(path)
        else:
            masks_of[place[0]].append(place[1])
    found = _with_other_letters(search, rest, masks_of)
    for path in rest:
        if path not in found:
            reason = f"has no image in {images}" + (f" (suffix {suffix})" if suffix else "")
            faults.add(DataError(path, reason, "add its image, or give the right --mask-suffix"))
    ordered = {path: tuple(own) for path, own in sorted(masks_of.items())}
    return Pairs(ordered, suffix, (first, second), found)


def _with_other_letters(
    search: _Search, rest: Sequence[Path], masks_of: dict[Path, list[PairedMask]]
) -> dict[Path, Path]:
    """Add the masks that have no image of their exact name to images that have no mask, where the
    names are equal but for capital letters. Returns the image of each."""
    free = {path for path, own in masks_of.items() if not own}
    places: dict[Path, list[tuple[Path, PairedMask]]] = defaultdict(list)
    for path in rest:
        try:
            place = search.place(path, any_case=True)
        except ValueError:
            continue  # it has no image, then
        if place and place[0] in free:
            places[place[0]].append((path, place[1]))
    found: dict[Path, Path] = {}
    for image, own in places.items():
        names = [path.with_suffix("").as_posix() for path, _ in own]
        if len({name.casefold() for name in names}) == len(names):  # else `a` and `A` for one image
            masks_of[image] += [mask for _, mask in own]
            found |= {path: image for path, _ in own}
    return found


def _prefixes(images: Sequence[Path], masks: Sequence[Path]) -> tuple[str, str]:
    """What the names of images and of masks begin with where these alone are different: `image_`
    and `mask_`, or nothing and `mask_`. Nothing where masks or their folders begin with the names
    of images, and where no word says that they are masks: `left_1` is no mask of `right_1`."""
    stems, own = {_stem(path) for path in images}, {_stem(path) for path in masks}
    names = own | {path.parent.name for path in masks}
    if any(name[:length] in stems for name in names for length in range(1, len(name) + 1)):
        return "", ""
    first, second = (_common_start(group) for group in (stems, own))
    for start in dict.fromkeys(("", first)) if _MASK_WORD.match(second) else ():
        rests = {_without_start(stem, start).casefold() for stem in stems}
        if {_without_start(stem, second).casefold() for stem in own} <= rests:
            return start, second
    return "", ""


def _common_start(stems: set[str]) -> str:
    """The word that all names begin with, and a `_` or `-` after it."""
    word = _PREFIX.match(next(iter(stems), ""))
    is_common = word and all(stem.lower().startswith(word[0].lower()) for stem in stems)
    return word[0] if word and is_common else ""


def _without_start(text: str, start: str) -> str:
    """The text without a start of ASCII letters, small or capital."""
    return text[len(start) :] if text.lower().startswith(start.lower()) else text


def _without_end(text: str, end: str) -> str:
    return text[: len(text) - len(end)] if end and text.lower().endswith(end.lower()) else text


def _listed(images: Path, masks: Path, suffix: str | None) -> tuple[list[Path], list[Path]]:
    for folder, option in ((images, "--images"), (masks, "--masks")):
        if not folder.is_dir():
            raise DataError(folder, "no such folder", f"check {option}")
    image_paths, mask_paths = images_below(images), images_below(masks)
    if images.resolve() == masks.resolve():
        if not suffix:
            reason = "holds both images and masks"
            raise DataError(images, reason, "say how masks are named: --mask-suffix _mask")
        mask_paths = [path for path in mask_paths if path.stem.endswith(suffix)]
        image_paths = [path for path in image_paths if not path.stem.endswith(suffix)]
    else:  # one folder may lie in the other
        image_paths = [p for p in image_paths if not _is_below(p, masks, images)]
        mask_paths = [p for p in mask_paths if not _is_below(p, images, masks)]
    for folder, paths in ((images, image_paths), (masks, mask_paths)):
        if not paths:
            raise DataError(folder, "holds no image", "check the path")
    return image_paths, mask_paths


def _is_below(path: Path, folder: Path, whole: Path) -> bool:
    """Whether a path of `whole` lies in a folder that is inside `whole`."""
    return folder.is_relative_to(whole) and path.is_relative_to(folder)


@dataclass(frozen=True)
class _Search:
    """Finds the image of a mask. root: the folder of the masks. prefix, suffix: of their names."""

    names: _Names
    root: Path
    prefix: str
    suffix: str

    def place(self, path: Path, any_case: bool = False) -> tuple[Path, PairedMask] | None:
        """The image of a mask, and the mask with the folders that are its own; None for no image.
        Raises ValueError where two images may be meant."""
        *above, _ = _parts(path, self.root)
        folders, stem = tuple(above), _without_start(_stem(path), self.prefix)
        cut = _without_end(stem, self.suffix)
        stems = [cut] if cut != stem or not self.suffix else []
        stems += [_without_end(_NUMBER.sub("", one), self.suffix) for one in (stem, *stems)]
        for own in stems:
            if own and (match := self.names.find(own, folders, any_case)):
                return match[0], PairedMask(path, match[1])
        for depth in reversed(range(len(folders))):
            rest = folders[:depth] + folders[depth + 1 :]
            name = folders[depth]
            for own in (_without_end(name, self.suffix), name):
                if match := self.names.find(own, rest, any_case):
                    return match[0], PairedMask(path, match[1], is_instance=True)
        return None


def _common_suffix(names: _Names, root: Path, masks: Sequence[Path]) -> str:
    """The suffix that masks share. Raises DataError where several would do."""
    counts: Counter[str] = Counter()
    asked = 0
    for path in masks:
        own = _suffixes(names, path)
        asked += bool(own)
        counts.update(own)
    best = [text for text, count in counts.items() if count == max(counts.values())]
    best = list({text.lower(): text for text in best}.values())
    if len(best) > 1:
        texts = " or ".join(f"'{text}'" for text in sorted(best)[:_SHOWN])
        reason = f"its masks may have the suffix {texts}"
        raise DataError(root, reason, "say which by --mask-suffix")
    return best[0] if best else ""


def _suffixes(names: _Names, path: Path) -> set[str]:
    """What may follow the name of an image in the name of a mask."""
    stem = _stem(path)
    cuts = [(stem[:at], stem[at:]) for at in range(1, len(stem) + 1)]
    cuts = [(start, end) for start, end in cuts if not end or _SUFFIX.match(end)]
    exact = {end for start, end in cuts if start in names.by_stem}
    return exact or {end for start, end in cuts if names.has(start)}


def _left_over(own: Folders, folders: Folders) -> Folders | None:
    """The folders of a mask without those of its image; None where it is not in all of them, in
    their order."""
    rest = []
    waiting = list(own)
    for folder in folders:
        if waiting and waiting[0] == folder:
            waiting.pop(0)
        else:
            rest.append(folder)
    return None if waiting else tuple(rest)


def _parts(path: Path, root: Path) -> Folders:
    return tuple(_composed(part) for part in path.relative_to(root).parts)


def _stem(path: Path) -> str:
    return _composed(path.stem)


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
