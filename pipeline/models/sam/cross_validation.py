"""Masks left out in turn while SAM learns: what they say of how to look, of the patch memory, and
of the IoU to expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat, NonNegativeInt, TypeAdapter
from typing_extensions import TypedDict

from pipeline.config.schema import FinetuneSamConfig
from pipeline.io.read import read_state
from pipeline.io.write import write_json
from pipeline.models.sam.sam_shop import Shop
from pipeline.runtime.progress import say

if TYPE_CHECKING:
    from pipeline.models.sam.calibration import Calibration
    from pipeline.models.sam.evaluation import Evaluation, Instance
    from pipeline.models.sam.model import SamModel
    from pipeline.models.sam.patch_prior import ForegroundBackground
    from pipeline.models.sam.trainer import TrainingExample
    from pipeline.models.sam.views import ViewOptions

# What fold_N.json holds, a row a try: of a target, closely, off its box or on the whole image.
_ROW = TypedDict(
    "_ROW",
    {
        "memory": bool,
        "target": NonNegativeInt,
        "try": Literal["close", "moved", "whole"],
        "iou": FiniteFloat,
        "quality": dict[str, FiniteFloat],
    },
)
_ROWS = TypeAdapter(list[_ROW])
FEWEST_TO_CALIBRATE = 10
_SIZES = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5)  # shares of the image below which to look closely
ALWAYS = 10.0  # a share that no box has


def cross_validate(
    shop: Shop,
    known: Sequence[Instance],
    shown: Sequence[Sequence[TrainingExample]],
    seen: Mapping[str, ForegroundBackground],
    folder: Path,
) -> list[dict[str, Any]]:
    """Every object as cut by a SAM that did not learn from its photo: from its true box and one
    off by a tenth, closely and on the whole image, each with and without the memory of the other
    photos' patches. Nothing for too few photos."""
    from pipeline.models.sam.evaluation import folds

    count = shop.config.folds
    if not enough(shop, known):
        return []
    fold_of = folds(known, count, shop.config.seed)
    rows: list[dict[str, Any]] = []
    for fold in range(count):
        path = folder / f"fold_{fold}.json"
        learning, left = (np.flatnonzero(m).tolist() for m in (fold_of != fold, fold_of == fold))
        kept = read_state(_ROWS, path)
        if kept is None or {row["target"] for row in kept} != set(left):
            title = f"tune SAM, left out {fold + 1} of {count}"
            sam = shop.tuned(shop.fit([shown[i] for i in learning], title))
            memory = shop.memory(seen, {known[i].group for i in learning})
            some = [known[i] for i in left]
            found = _tries(shop, sam, some, fold)
            if memory is not None:
                found += _tries(shop, replace(sam, memory=memory), some, fold)
            kept = _ROWS.validate_python([{**r, "target": left[r["target"]]} for r in found])
            write_json(path, kept, durable=True)
        rows += [dict(row) for row in kept]
    return rows


def enough(shop: Shop, known: Sequence[Instance]) -> bool:
    """Whether there are photos enough to leave some out."""
    count = shop.config.folds
    return count >= 2 and len({t.group for t in known}) >= max(count, FEWEST_TO_CALIBRATE)


def _tries(shop: Shop, sam: SamModel, some: Sequence[Instance], fold: int) -> list[dict[str, Any]]:
    """Rows of the tries at some targets, which are named by their place among them."""
    from pipeline.models.sam.evaluation import evaluate_boxes, perturb_boxes

    title = "left out, with memory" if sam.memory else "left out"
    close = shop.segmenter(sam, shop.views)
    whole = shop.segmenter(sam, replace(shop.views, crop_below=0.0))
    tries = {
        "close": evaluate_boxes(close, some, title=title),
        "moved": evaluate_boxes(
            close, some, perturb_boxes(some, "shift", 0.1, fold), f"{title}, moved"
        ),
        "whole": evaluate_boxes(whole, some, title=f"{title}, whole image"),
    }
    return [
        {"memory": sam.memory is not None, **row}
        for name, trial in tries.items()
        for row in _rows(name, trial)
    ]


def _rows(name: str, trial: Evaluation) -> list[dict[str, Any]]:
    return [
        {
            "target": row,
            "try": name,
            "iou": round(float(iou), 5),
            "quality": {key: round(float(v[row]), 6) for key, v in trial.quality.items()},
        }
        for row, iou in enumerate(trial.iou)
    ]


@dataclass(frozen=True)
class ViewSelection:
    """What left-out masks were cut best by. gain: mean IoU that the memory brought them, None where
    it was not tried. true: their IoU (N,) from true boxes; expected: what calibrations on the
    others expect."""

    views: ViewOptions
    memory: bool = False
    gain: float | None = None
    calibration: Calibration | None = None
    true: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    expected: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))


def choose(
    config: FinetuneSamConfig,
    views: ViewOptions,
    known: Sequence[Instance],
    left_out: Sequence[Mapping[str, Any]],
) -> ViewSelection:
    """By measured gain, below which size to look closely, and whether to heed the memory: if it
    gains more than its standard error over photos. Then the expected IoU of what was chosen."""
    if not left_out:
        say("too few photos to calibrate: masks will carry no expected IoU")
        return ViewSelection(views)
    ious: dict[tuple[bool, str], NDArray[np.float64]] = {}
    for row in left_out:
        column = ious.setdefault((row["memory"], row["try"]), np.zeros(len(known)))
        column[row["target"]] = row["iou"]
    extents = np.array([target.longer_side / max(target.record.size) for target in known])
    fixed = config.views.crop_below
    sizes = (*_SIZES, ALWAYS) if fixed is None else (fixed,)

    def of(memory: bool, size: float) -> NDArray[np.float64]:
        return np.where(extents < size, ious[memory, "close"], ious[memory, "whole"])

    def best(memory: bool) -> float:
        return max(sizes, key=lambda size: (of(memory, size).mean(), size))

    size, gain, remember = best(False), None, False
    if 2 * sum(row["memory"] for row in left_out) == len(left_out):
        gains = of(True, best(True)) - of(False, size)
        photos = [target.group for target in known]
        means = [gains[[name == one for one in photos]].mean() for name in sorted(set(photos))]
        gain = round(float(gains.mean()), 4)
        remember = gain > np.std(means, ddof=1) / len(means) ** 0.5
        size = best(remember)
    kept = [
        row
        for row in left_out
        if row["memory"] == remember and (row["try"] == "whole") != (extents[row["target"]] < size)
    ]
    return _told(ViewSelection(replace(views, crop_below=size), bool(remember), gain), known, kept)


def _told(
    chosen: ViewSelection, known: Sequence[Instance], kept: Sequence[Mapping[str, Any]]
) -> ViewSelection:
    """A choice with the IoU to expect of masks cut so, from the rows of those that were."""
    from pipeline.models.sam.calibration import calibrate, cross_expected

    names = sorted(kept[0]["quality"])
    table = {
        name: np.array([row["quality"].get(name, 0) for row in kept], np.float32) for name in names
    }
    of_row = [known[row["target"]] for row in kept]
    ious = [row["iou"] for row in kept]
    groups, kinds = [target.group for target in of_row], [target.category for target in of_row]
    places = [n for n, row in enumerate(kept) if row["try"] != "moved"]
    order = sorted(places, key=lambda n: kept[n]["target"])
    return replace(
        chosen,
        calibration=calibrate(table, ious, kinds),
        true=np.array(ious)[order],
        expected=cross_expected(table, ious, groups, kinds)[order],
    )
