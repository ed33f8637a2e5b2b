"""AITEX fabrics: Defect_images, Mask_images and NODefect_images.

Silvestre-Blanes et al., "A public fabric database", Autex Research Journal 2019. A name is image,
defect and fabric: 0044_019_04.png, with 0044_019_04_mask.png, or _mask1 and _mask2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DataError
from pipeline.formats.layouts.letter_case import respelled
from pipeline.formats.layouts.listing import (
    Layout,
    Listed,
    Search,
    folders_in,
    images_in,
    inner,
    refuse_orphans,
)
from pipeline.io.mask_files import MaskSource
from pipeline.types import GOOD

_MASK = re.compile(r"_mask\d*$")
_CODE = re.compile(r"^\d+_(\d+)_")
_CODES = {
    "002": "broken_end", "006": "broken_yarn", "010": "broken_pick", "016": "weft_curling",
    "019": "fuzzyball", "022": "cut_selvage", "023": "crease", "025": "warp_ball",
    "027": "knots", "029": "contamination", "030": "nep", "036": "weft_crack",
}  # fmt: skip


def _listed(search: Search) -> Iterator[Listed]:
    root = search.root
    truth, defective = inner(root, "Mask_images"), inner(root, "Defect_images")
    masks: dict[str, list[Path]] = {}
    for path in images_in(truth):
        masks.setdefault(_MASK.sub("", path.stem), []).append(path)
    images = images_in(defective)
    masks = respelled(masks, (path.stem for path in images))
    if search.needs_masks:
        first = {stem: paths[0] for stem, paths in masks.items()}
        refuse_orphans(first, {path.stem for path in images}, defective, search.faults)
    for path in images:
        defect = _defect_of(path)
        own = masks.get(path.stem, [])
        try:
            for mask in own:
                search.inside.refuse_outside(mask)
        except DataError as error:
            search.faults.add(error)
            continue
        lacks = None if own else truth / f"{path.stem}_mask.png"
        sources = tuple(MaskSource(mask, defect) for mask in own)
        yield Listed(path, f"{defect}_{path.name}", "", defect, sources, lacks)
    place = inner(root, "NODefect_images")
    for folder in (place, *folders_in(place)):
        for path in images_in(folder):
            fabric = "" if folder == place else f"{folder.name}_"
            yield Listed(path, f"good_{fabric}{path.name}", "", GOOD)


def _defect_of(path: Path) -> str:
    """The name of the defect that a file name gives by its code; the code where it is another."""
    match = _CODE.match(path.stem)
    return _CODES.get(match[1], match[1]) if match else "defect"


AITEX = Layout(
    "AITEX",
    {"Defect_images": "defect_images/", "Mask_images": "mask_images/"},
    _listed,
)
