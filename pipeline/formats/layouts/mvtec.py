"""The family of MVTec AD: train/good, test/<defect>, ground_truth/<defect>/<stem>_mask.png.

Bergmann et al., "MVTec AD", CVPR 2019. BTAD (Mishra et al. 2021) calls good images `ok`, and it and
copies of VisA name a mask as its image. MVTec LOCO has a folder of masks for each image, and good
images for validation (Bergmann et al., IJCV 2022). MVTec AD 2 has a public test set with masks, and
private ones without (Heckler-Kram et al. 2025); several photos show one object in other light.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.layouts.letter_case import respelled
from pipeline.formats.layouts.listing import (
    Layout,
    Listed,
    Search,
    by_stem,
    folders_in,
    images_in,
    inner,
    only_mask,
    refuse_orphans,
)
from pipeline.io.mask_files import MaskSource
from pipeline.runtime.progress import say
from pipeline.types import GOOD

_GOOD_NAMES = frozenset({GOOD, "ok"})
_SPLITS = {"train": "train", "validation": "val", "test": "test"}
_PRIVATE = ("test_private", "test_private_mixed")
_SUFFIX = re.compile("_mask$", re.IGNORECASE)
_LETTER = re.compile("[A-Za-z]")  # in a suffix: 10.png is no mask of 1.png
_LIGHT = re.compile(r"^(\d+)_")  # the number of the object before the name of its light


def has_usual_folders(root: Path) -> bool:
    """Whether a folder has what only a product has: good images, or masks. Other sets have a folder
    `test` too."""
    names = (("ground_truth",), ("train", "good"), ("test", "good"))
    return any(inner(root, *parts).is_dir() for parts in names)


def _listed(search: Search) -> Iterator[Listed]:
    root = search.root
    truth = inner(root, "ground_truth")
    tested = inner(root, "test")
    if search.needs_masks:
        _refuse_orphans(search, truth, tested)
    for name, split in _SPLITS.items():
        yield from _folders(search, inner(root, name), split, truth)


def _listed_ad2(search: Search) -> Iterator[Listed]:
    root = search.root
    tested = inner(root, "test_public")
    truth = inner(tested, "ground_truth")
    truth = truth if truth.is_dir() else inner(root, "ground_truth")
    if search.needs_masks:
        _refuse_orphans(search, truth, tested)
    places = {"train": "train", "validation": "val", "test_public": "test"}
    for name, split in places.items():
        for listed in _folders(search, inner(root, name), split, truth):
            number = _LIGHT.match(listed.path.stem)
            group = f"{split}/{listed.defect}/{number[1]}" if number else ""
            yield Listed(listed.path, listed.name, split, listed.defect, listed.masks,
                         listed.lacks, group)  # fmt: skip
    hidden = sum(len(images_in(inner(root, name))) for name in _PRIVATE)
    if hidden:
        say(f"{hidden} images of test_private left out: nothing says which are good")


def _folders(search: Search, place: Path, split: str, truth: Path) -> Iterator[Listed]:
    """The images of one split: a folder for each category."""
    for folder in folders_in(place):
        if folder == truth:
            continue
        try:
            search.inside.refuse_outside(folder)
            images = images_in(folder)
            masks_of = _MasksOf(inner(truth, folder.name), {path.stem for path in images})
        except DataError as error:
            search.faults.add(error)
            continue
        if not images:
            search.faults.add(DataError(folder, "holds no image", "remove the folder or fill it"))
        defect = GOOD if folder.name.lower() in _GOOD_NAMES else folder.name
        for path in images:
            try:
                masks = () if defect == GOOD else masks_of.find(search, path, defect)
            except DataError as error:
                search.faults.add(error)
                continue
            lacks = None
            if defect != GOOD and not masks:
                lacks = truth / folder.name / f"{path.stem}_mask.png"
            yield Listed(path, f"{split}_{defect}_{path.name}", split, defect, masks, lacks)


def _suffixes(truth: Path, stems: Collection[str]) -> list[str]:
    """What the names of masks end in: `_mask`, in the letters that the folder has; else what all
    masks have after the name of an image, such as `_GT`. stems: of the images."""
    own = [path.stem for path in images_in(truth)]
    ends = {end[0] for stem in own if (end := _SUFFIX.search(stem))}
    folded = {stem.casefold() for stem in stems}
    if not ends and not any(stem.casefold() in folded for stem in own):
        rests = {_rest(stem, folded) for stem in own}
        is_one = len({rest.casefold() for rest in rests}) == 1
        ends = rests if is_one and _LETTER.search(min(rests)) else set()
    return sorted(ends)


def _image_of(mask: str, stems: Collection[str], suffixes: Sequence[str]) -> str:
    """The name of the image of a mask, which may not be there."""
    ends = (end for end in suffixes if mask not in stems and mask.endswith(end))
    return mask.removesuffix(next(ends, ""))


def _rest(mask: str, folded: Collection[str]) -> str:
    """What a mask's name has after that of an image, the longest that it begins with. folded: the
    names of the images in small letters."""
    starts = (mask[:length] for length in range(len(mask), 0, -1))
    return next((mask.removeprefix(start) for start in starts if start.casefold() in folded), "")


class _MasksOf:
    """The masks in a folder, by their images."""

    def __init__(self, truth: Path, stems: Collection[str]) -> None:
        """stems: of the images."""
        ends = _suffixes(truth, stems)
        masks = by_stem(images_in(truth))
        named: dict[str, list[Path]] = {}
        for end in ends:
            for stem, paths in masks.items():
                if stem.endswith(end):
                    named[stem.removesuffix(end)] = named.get(stem.removesuffix(end), []) + paths
        self._named, self._bare = respelled(named, stems), respelled(masks, stems)
        self._folders = respelled({path.name: path for path in folders_in(truth)}, stems)

    def find(self, search: Search, image: Path, defect: str) -> tuple[MaskSource, ...]:
        """The mask of an image, or LOCO's folder of its masks. Raises DataError for two masks."""
        if folder := self._folders.get(image.stem):
            paths = images_in(folder)
            for path in paths:
                search.inside.refuse_outside(path)
            return tuple(MaskSource(path, defect) for path in paths)
        for masks in (self._named, self._bare):
            if mask := only_mask(image, masks.get(image.stem, []), search):
                return (MaskSource(mask, defect),)
        return ()


def _refuse_orphans(search: Search, truth: Path, tested: Path) -> None:
    for folder in folders_in(truth):
        if folder.name.lower() in _GOOD_NAMES:
            continue  # some sets have empty masks of good images, in train too
        images = inner(tested, folder.name)
        try:
            stems = {path.stem for path in images_in(images)}
            masks = {path.stem: path for path in images_in(folder)}
            suffixes = _suffixes(folder, stems)
        except DataError as error:
            search.faults.add(error)
            continue
        own = {_image_of(stem, stems, suffixes): path for stem, path in masks.items()}
        refuse_orphans(respelled(own, stems, False), stems, images, search.faults)


AD2 = Layout(
    "MVTec AD 2",
    {
        "test_public/<good or bad>/*.png": "test_public/*/",
        "train/good/*.png": "train/good/",
    },
    _listed_ad2,
)
LOCO = Layout(
    "MVTec LOCO",
    {"test/<defect>/*.png": "test/", "ground_truth/<defect>/000/000.png": "ground_truth/*/*/"},
    _listed,
)
BTAD = Layout("BTAD", {"train/ok": "train/ok/|test/ok/", "test/ko": "test/ko/"}, _listed)
AD = Layout(
    "MVTec AD",
    {"test/<defect>/*.png (and train/good, ground_truth/<defect>)": "test/"},
    _listed,
)
