"""`pipeline finetune-sam`: SAM learns from a few masks how these defects are outlined.

What was learned is tried on photos that were held out, beside SAM as published, the filled box and
GrabCut; and the masks left out in turn while training say what IoU to expect of a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FinetuneSamConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco
from pipeline.progress import say
from pipeline.run_record import FILE, RunRecord, config_key, fingerprint
from pipeline.sam_shop import Shop
from pipeline.storage import read_json, resumable_folder, write_json

if TYPE_CHECKING:
    from pipeline.models.looks import Looks
    from pipeline.models.patch_memory import Seen
    from pipeline.models.quality import Calibration
    from pipeline.models.sam_model import SamModel
    from pipeline.models.sam_trials import Target, Trial
    from pipeline.models.sam_tuning import Example

_FEWEST_TO_CALIBRATE = 10
_SIZES = (0.0, 0.03, 0.06, 0.12, 0.25, 0.5)  # shares of the image below which to look closely
_ALWAYS = 10.0


def finetune_sam(
    data: Path, output: Path, config: FinetuneSamConfig, device: str
) -> dict[str, Any]:
    """Tune on the masks of train and val in a folder of convert-masks; test on those of test.

    Writes the card, what was learned, figures and plots. A call that was stopped is taken up by the
    same call. Raises ConfigError, DataError for a folder without masks, WeightsError.
    """
    from pipeline.models.devices import seed_all, torch_device
    from pipeline.models.looks import Looks
    from pipeline.models.sam_model import open_sam
    from pipeline.models.sam_trials import few

    known, held = _targets(data, ("train", "val")), _targets(data, ("test",))
    known = few(known, config.masks, config.seed)
    if not known:
        raise DataError(data, "holds no masks to learn from", "convert masks with convert-masks")
    record = RunRecord("finetune-sam", config.model_dump(mode="json"))
    sam = open_sam(config.sam)
    if sam.delta_sha256:
        raise ConfigError(f"{config.sam} was tuned already; tune a SAM as published")
    record.used_weights(sam.base.name, sam.base.sha256)
    seed_all(config.seed)
    zoom = float(np.sqrt(config.zooms[0] * config.zooms[1]))
    tuned = Looks(zoom_below=_ALWAYS, zooms=(zoom,), turns=4, reach=0.1, jitters=2)
    tuned = replace(tuned, multimask=config.multimask, rounds=config.rounds)
    tuned = replace(tuned, **config.looks.model_dump(exclude_none=True))
    shop = Shop(config, sam, tuned, torch_device(device))
    inputs = fingerprint([data / "annotations", data / "images"])
    key = f"{config_key('finetune-sam', config.model_dump(mode='json'))} {inputs}"
    with resumable_folder(output, FILE, key) as folder:
        shown = shop.examples(known)
        seen = shop.seen(known) if _enough(shop, known) else {}
        left_out = _cross_fit(shop, known, shown, seen, folder)
        chosen = _chosen(config, shop.looks, known, left_out)
        shop = replace(shop, looks=chosen.looks)
        learned = _learn(shop, known, shown, seen, folder, chosen)
        if learned.memory:
            record.used_weights(*learned.memory.seen_by)
        summary: dict[str, Any] = {
            "output": str(output),
            "sam": sam.base.name,
            "learned_from": {"masks": len(known), "photos": len({t.group for t in known})},
            "tune": config.tune,
            "delta_mb": round((folder / "delta.safetensors").stat().st_size / 1e6, 1),
            "zoom_below": shop.looks.zoom_below,
            "memory": {"used": chosen.memory, "gain_on_left_out": chosen.gain},
            "calibrated_on": chosen.calibration.masks if chosen.calibration else 0,
        }
        if held:
            summary |= _tried(shop, learned, known, held, folder)
        else:
            say("no masks are held out as test: the tuned SAM was not tried")
        record.write(folder, summary, inputs)
    return summary


def _targets(data: Path, parts: Sequence[str]) -> list[Target]:
    from pipeline.models.sam_trials import targets

    files = [data / "annotations" / f"instances_{part}.json" for part in parts]
    there = [path for path in files if path.is_file()]
    if not there and "train" in parts:
        raise DataError(files[0], "no such file", "give --data a folder that convert-masks wrote")
    return [target for path in there for target in targets(read_coco(path, data / "images"))]


def _cross_fit(
    shop: Shop,
    known: Sequence[Target],
    shown: Sequence[Sequence[Example]],
    seen: Mapping[str, Seen],
    folder: Path,
) -> list[dict[str, Any]]:
    """Every object as cut by a SAM that did not learn from its photo: from its true box and one
    off by a tenth, closely and on the whole image, each with and without the memory of the other
    photos' patches. Nothing for too few photos."""
    from pipeline.models.sam_trials import folds

    count = shop.config.folds
    if not _enough(shop, known):
        return []
    fold_of = folds(known, count, shop.config.seed)
    rows: list[dict[str, Any]] = []
    for fold in range(count):
        path = folder / f"fold_{fold}.json"
        if not path.is_file():
            learning, left = (
                np.flatnonzero(m).tolist() for m in (fold_of != fold, fold_of == fold)
            )
            title = f"tune SAM, left out {fold + 1} of {count}"
            sam = shop.tuned(shop.fit([shown[i] for i in learning], title))
            memory = shop.memory(seen, {known[i].group for i in learning})
            some = [known[i] for i in left]
            found = _left_out(shop, sam, some, fold)
            if memory is not None:
                found += _left_out(shop, replace(sam, memory=memory), some, fold)
            write_json(path, [{**row, "target": left[row["target"]]} for row in found])
        rows += read_json(path)
    return rows


def _enough(shop: Shop, known: Sequence[Target]) -> bool:
    """Whether there are photos enough to leave some out."""
    count = shop.config.folds
    return count >= 2 and len({t.group for t in known}) >= max(count, _FEWEST_TO_CALIBRATE)


def _left_out(shop: Shop, sam: SamModel, some: Sequence[Target], fold: int) -> list[dict[str, Any]]:
    """Rows of the tries at some targets, which are named by their place among them."""
    from pipeline.models.sam_trials import attempt, moved

    title = "left out, with memory" if sam.memory else "left out"
    close = shop.segmenter(sam, shop.looks)
    whole = shop.segmenter(sam, replace(shop.looks, zoom_below=0.0))
    tries = {
        "close": attempt(close, some, title=title),
        "moved": attempt(close, some, moved(some, "shift", 0.1, fold), f"{title}, moved"),
        "whole": attempt(whole, some, title=f"{title}, whole image"),
    }
    return [
        {"memory": sam.memory is not None, **row}
        for name, trial in tries.items()
        for row in _rows(name, trial)
    ]


def _rows(name: str, trial: Trial) -> list[dict[str, Any]]:
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
class Chosen:
    """What left-out masks were cut best by. gain: mean IoU that the memory brought them, None where
    it was not tried."""

    looks: Looks
    memory: bool = False
    gain: float | None = None
    calibration: Calibration | None = None


def _chosen(
    config: FinetuneSamConfig,
    looks: Looks,
    known: Sequence[Target],
    left_out: Sequence[Mapping[str, Any]],
) -> Chosen:
    """By measured gain, below which size to look closely, and whether to heed the memory: if it
    gains more than its standard error over photos. Then the expected IoU of what was chosen."""
    from pipeline.models.quality import calibrate

    if not left_out:
        say("too few photos to calibrate: masks will carry no expected IoU")
        return Chosen(looks)
    ious: dict[tuple[bool, str], NDArray[np.float64]] = {}
    for row in left_out:
        column = ious.setdefault((row["memory"], row["try"]), np.zeros(len(known)))
        column[row["target"]] = row["iou"]
    extents = np.array([_extent(target) for target in known])
    fixed = config.looks.zoom_below
    sizes = (*_SIZES, _ALWAYS) if fixed is None else (fixed,)

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
    names = sorted(kept[0]["quality"])
    table = {
        name: np.array([row["quality"].get(name, 0) for row in kept], np.float32) for name in names
    }
    groups = [known[row["target"]].group for row in kept]
    calibration = calibrate(table, [row["iou"] for row in kept], groups)
    return Chosen(replace(looks, zoom_below=size), bool(remember), gain, calibration)


def _extent(target: Target) -> float:
    """The box's longer side to the image's."""
    box = target.box
    return float(max(box[2] - box[0], box[3] - box[1]) / max(target.record.size))


def _learn(
    shop: Shop,
    known: Sequence[Target],
    shown: Sequence[Sequence[Example]],
    seen: Mapping[str, Seen],
    folder: Path,
    chosen: Chosen,
) -> SamModel:
    """The tuned SAM, from all known objects; it is read back from what was written."""
    from pipeline.models.sam_model import CARD, read_sam, write_sam
    from pipeline.models.weights import WeightsStore

    if not (folder / CARD).is_file():
        delta = shop.fit(shown, "tune SAM")
        about = {"masks": len(known), "photos": sorted({target.group for target in known})}
        memory = shop.memory(seen, set(seen)) if chosen.memory else None
        write_sam(folder, shop.sam, delta, chosen.looks, chosen.calibration, memory, about)
    return read_sam(folder, WeightsStore())


def _tried(
    shop: Shop,
    tuned: SamModel,
    known: Sequence[Target],
    held: Sequence[Target],
    folder: Path,
) -> dict[str, Any]:
    """Before and after on photos that were held out; the curve with two looks at each object."""
    from pipeline.models.baselines import BoxFillSegmenter
    from pipeline.sam_report import beside, compare, robustness

    after, published = shop.segmenter(tuned), shop.segmenter()
    others = beside(published, known) if shop.config.compare else {}
    summary = compare(folder, after, others, held)
    if shop.config.robustness:
        quick = replace(tuned.looks, turns=min(2, tuned.looks.turns), jitters=0)
        ways = {"zero-shot": published, "tuned": shop.segmenter(tuned, quick)}
        ways["box-fill"] = BoxFillSegmenter()
        summary["robustness"] = robustness(folder, ways, held)
    return summary
