"""`pipeline finetune-yolo`: YOLO-World learns a product's defects."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import FinetuneConfig
from pipeline.errors import ConfigError, DataError
from pipeline.formats.coco import read_coco
from pipeline.images import read_image
from pipeline.io.folders import STARTED_FILE, refuse_to_lose
from pipeline.io.read import RUN_FILE, read_json, sha256_of
from pipeline.io.write import make_folder, write_json
from pipeline.metrics.detection import AveragePrecision, average_precision, best_confidence
from pipeline.models.weights import Weights, WeightsStore
from pipeline.progress import say, track
from pipeline.run_record import RunRecord, config_key, fingerprint
from pipeline.types import Dataset, Detections, Detector

if TYPE_CHECKING:
    from pipeline.models.text_embeddings import TextEmbeddings

_DEFAULT_CONFIDENCE = 0.25
_CONFIDENCE = 0.001  # AP needs the whole curve of precision over recall


def finetune_yolo(
    data: Path, output: Path, config: FinetuneConfig, device: str, overwrite: bool = False
) -> dict[str, Any]:
    """Fine-tune on what convert-masks wrote into `data`; a run lies in `output`.

    A run that was stopped goes on when it is called again with the same settings. Returns box AP on
    the held-out part, before and after. Raises DataError for a folder that convert-masks did not
    write, ConfigError when `output` holds another run, WeightsError.
    """
    from pipeline.models.devices import choose_device, seed_all
    from pipeline.models.text_embeddings import embed
    from pipeline.models.yolo_world import WorldDetector, reference_embeddings, write_card

    yaml = data / (f"data_fold{config.fold}.yaml" if config.fold is not None else "data.yaml")
    if not yaml.is_file():
        raise DataError(yaml, "no such file", "give the folder that convert-masks wrote")
    chosen = choose_device(device)
    _refuse_another_run(data, output, config, overwrite)
    record = RunRecord("finetune-yolo", config.model_dump(mode="json"), _reads(data))
    seed_all(config.seed)
    base = WeightsStore().get(config.weights)
    record.used_weights(base.name, base.sha256)
    truth = _merged(_truth(data, config), config.merge_classes)
    reference = reference_embeddings(base.path)
    embeddings = embed(truth.categories, reference, config.text, WeightsStore())
    _claim(data, output, config, overwrite, embeddings)
    zero_shot = _zero_shot(output, base, embeddings, truth, config, device)
    best = _train(output, yaml, base, config, chosen)
    detector = WorldDetector(best, embeddings, config.image_side, _CONFIDENCE, device=device)
    confidence = _confidence(data, config, detector)
    write_card(output, best, sha256_of(best), config.image_side, base.name, confidence)
    tuned = average_precision(truth, _detect(detector, truth, "detect, tuned"), "bbox")
    _draw(output)
    summary = {
        "output": str(output),
        "weights": base.name,
        "text_embeddings": embeddings.kind,
        "confidence": round(confidence, 4),
        "epochs_run": _epochs_run(output),
        "held_out": {
            "images": len(truth.records),
            "instances": sum(map(len, truth.objects.values())),
        },
        "zero_shot": zero_shot,
        "tuned": _figures(tuned),
    }
    record.write(output, summary)
    return summary


def can_be_taken_up(data: Path, output: Path, config: FinetuneConfig) -> bool:
    """Whether `output` is empty, or holds an unfinished run of these settings on this data."""
    if not output.is_dir() or not any(output.iterdir()):
        return True
    started = output / STARTED_FILE
    if not started.is_file() or (output / RUN_FILE).is_file():
        return False
    return bool(read_json(started).get("key") == _key(data, config))


def _key(data: Path, config: FinetuneConfig) -> str:
    settings = config.model_dump(mode="json")
    return config_key("finetune-yolo", settings) + fingerprint(_reads(data))


def _reads(data: Path) -> list[Path]:
    """What training depends on; `output` may lie beside it in the same folder."""
    folders = [data / name for name in ("annotations", "images", "labels")]
    return [*sorted(data.glob("data*.yaml")), *folders]


def _refuse_another_run(data: Path, output: Path, config: FinetuneConfig, overwrite: bool) -> None:
    """Raise unless `output` is free, may be overwritten, or holds this very run, unfinished."""
    if can_be_taken_up(data, output, config):
        return
    if not (output / STARTED_FILE).is_file():
        raise DataError(output, "holds files of something else", "choose another --output")
    if not overwrite:
        kind = "a finished run" if (output / RUN_FILE).is_file() else "a run with other settings"
        raise ConfigError(f"{output}: holds {kind}; add --overwrite or change --output")
    refuse_to_lose(output, [data])


def _claim(
    data: Path, output: Path, config: FinetuneConfig, overwrite: bool, embeddings: TextEmbeddings
) -> None:
    """Make `output` this run's folder. Nothing is written, or lost, before the run can begin."""
    from pipeline.models.yolo_world import embeddings_file

    if overwrite and (output / STARTED_FILE).is_file():
        shutil.rmtree(output)
    elif (output / STARTED_FILE).is_file():
        say(f"{output}: taking up the run that was stopped")
    make_folder(output)
    write_json(
        output / STARTED_FILE, {"key": _key(data, config), "config": config.model_dump(mode="json")}
    )
    embeddings.save(embeddings_file(output))
    if embeddings.kind == "fixed":
        say("CLIP's text encoder is not here: fixed embeddings stand for the category names, so")
        say("zero-shot search is blind; the detector learns what they mean (see README)")


def _truth(data: Path, config: FinetuneConfig) -> Dataset:
    """What the figures are held against: test where there is one, else val."""
    names = [f"fold{config.fold}_val"] if config.fold is not None else ["test", "val", "train"]
    for name in names:
        path = data / "annotations" / f"instances_{name}.json"
        if path.is_file():
            if name == "train":
                say("no image is held out: the figures are those of images it was trained on")
            return read_coco(path, data / "images")
    raise DataError(data / "annotations", "holds no COCO file of a part", "run convert-masks anew")


def _confidence(data: Path, config: FinetuneConfig, detector: Detector) -> float:
    """From which score on boxes are kept: 0.25, or lower where the validation images ask for it.

    Never higher: a handful of validation images would otherwise silence most of the detector.
    """
    name = f"fold{config.fold}_val" if config.fold is not None else "val"
    path = data / "annotations" / f"instances_{name}.json"
    if not path.is_file():
        return _DEFAULT_CONFIDENCE
    chosen = _merged(read_coco(path, data / "images"), config.merge_classes)
    found = best_confidence(chosen, _detect(detector, chosen, "choose confidence"))
    return _DEFAULT_CONFIDENCE if found is None else min(found, _DEFAULT_CONFIDENCE)


def _merged(truth: Dataset, merge: bool) -> Dataset:
    if not merge:
        return truth
    objects = {
        key: replace(found, labels=np.zeros_like(found.labels))
        for key, found in truth.objects.items()
    }
    return Dataset(("defect",), truth.records, objects)


def _zero_shot(
    output: Path,
    base: Weights,
    embeddings: TextEmbeddings,
    truth: Dataset,
    config: FinetuneConfig,
    device: str,
) -> dict[str, Any]:
    """Box AP of the untouched weights, measured once and kept for a run that is taken up."""
    from pipeline.models.yolo_world import WorldDetector

    kept = output / "zero_shot.json"
    if not kept.is_file():
        detector = WorldDetector(
            base.path, embeddings, config.image_side, _CONFIDENCE, device=device
        )
        found = _detect(detector, truth, "detect, zero-shot")
        write_json(kept, _figures(average_precision(truth, found, "bbox")))
    result: dict[str, Any] = read_json(kept)
    return result


def _detect(detector: Detector, truth: Dataset, title: str) -> dict[int, Detections]:
    return {
        record.id: detector.detect(read_image(record.path))
        for record in track(truth.records, title)
    }


def _train(output: Path, yaml: Path, base: Weights, config: FinetuneConfig, device: str) -> Path:
    """Train, or go on where `last.pt` left off; returns the best weights."""
    from pipeline.models.world_trainer import is_finished, train

    last, best = (output / "train" / "weights" / f"{name}.pt" for name in ("last", "best"))
    if last.is_file() and is_finished(last):
        return best
    cuda = device != "cpu"
    settings = {
        "model": str(base.path),
        "data": str(yaml.resolve()),
        "project": str(output.resolve()),
        "name": "train",
        "exist_ok": True,
        "epochs": config.epochs,
        "imgsz": config.image_side,
        "batch": config.batch,
        "nbs": config.batch,
        "optimizer": "AdamW",
        "lr0": config.learning_rate,
        "lrf": 0.05,
        "cos_lr": True,
        "warmup_epochs": 2,
        "warmup_bias_lr": config.learning_rate,
        "freeze": config.freeze or None,
        "patience": config.patience,
        "amp": "bf16" if config.amp and cuda else False,
        "workers": config.workers,
        "single_cls": config.merge_classes,
        "mosaic": config.mosaic,
        "close_mosaic": min(config.close_mosaic, config.epochs // 2),
        "degrees": config.degrees,
        "translate": config.translate,
        "scale": config.scale,
        "flipud": config.flip_vertical,
        "fliplr": config.flip_horizontal,
        "hsv_h": 0.0,
        "hsv_s": 0.2,
        "hsv_v": 0.2,
        "seed": config.seed,
        "device": device.removeprefix("cuda:"),
        "resume": str(last) if last.is_file() else False,
        "verbose": False,
        "plots": True,
    }
    _drop_caches(yaml.parent)  # ultralytics would unpickle what somebody left there
    try:
        train(settings, [entry.model_dump() for entry in config.augmentations])
    finally:
        _drop_caches(yaml.parent)
    return best if best.is_file() else last


def _drop_caches(data: Path) -> None:
    for cache in (data / "labels").glob("*.cache"):
        cache.unlink()


def _epochs_run(output: Path) -> int:
    lines = (output / "train" / "results.csv").read_text(encoding="utf-8").splitlines()
    return len(lines) - 1


def _draw(output: Path) -> None:
    import csv

    from pipeline.pictures.plots import training_curves

    with (output / "train" / "results.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream, skipinitialspace=True))
    training_curves(output / "curves.png", rows)


def _figures(result: AveragePrecision) -> dict[str, Any]:
    return {
        "box_ap50": _rounded(result.ap50),
        "box_ap": _rounded(result.ap),
        "per_category": {
            name: {"box_ap50": _rounded(ap50), "box_ap": _rounded(ap)}
            for name, (ap, ap50) in result.per_category.items()
        },
    }


def _rounded(value: float) -> float | None:
    """JSON knows no NaN: a category without objects has no figure."""
    return None if np.isnan(value) else round(value, 4)
