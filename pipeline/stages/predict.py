"""`pipeline predict`: any trained model on any image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter

from pipeline.config.schema import PredictConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.coco import write_coco
from pipeline.formats.image_files import NamedFolders
from pipeline.interfaces import Classifier
from pipeline.io.images import images_below
from pipeline.io.run_record import RunRecord
from pipeline.io.write import write_json
from pipeline.results import StageResult
from pipeline.runners import PerProcess, Runner, check_runner, map_batches
from pipeline.runtime.progress import track
from pipeline.stages.predict_image import (
    PredictedImage,
    PredictImages,
    Prediction,
    PredictModels,
)
from pipeline.trust.labels import without_calibration
from pipeline.types import Dataset, refuse_equal_stems

if TYPE_CHECKING:
    from pipeline.models.sam.model import CalibratedSegmenter

_DEFAULT = PredictConfig()

PREDICTIONS = "predictions.json"
_BATCH = 8  # images that another process takes at once


@dataclass(frozen=True, kw_only=True)
class PredictResult(StageResult):
    """How many images and objects there are. prediction: of the only image."""

    output: Path
    images: int
    objects: int
    prediction: Prediction | None
    faults: tuple[str, ...]


_PREDICTIONS = TypeAdapter(list[Prediction])


def predict(
    images: Sequence[Path],
    model: Path,
    output: Path,
    config: PredictConfig = _DEFAULT,
    *,
    device: str = "auto",
    keep_going: bool = False,
    runner: Runner = "local",
    workers: int = 1,
) -> PredictResult:
    """Run the detector, anomaly model or classifier of a folder on image files and folders of them.

    Writes predictions.json, a row for each image. A detector or anomaly model also writes COCO
    instances and pictures, with masks if `config.sam` names a SAM or the model is a segmenter; an
    anomaly model heat maps. runner, workers: where the work is done, and by how many processes,
    each with its own models; the bytes are the same.
    Raises DataError for no image and for files that cannot be read, ConfigError, WeightsError.
    """
    check_runner(runner, workers)
    faults = Faults(keep_going)
    record = RunRecord("predict", config.model_dump(mode="json"), [*images, model])
    files = _listed(images, config.allow_outside)
    models = PerProcess(partial(_load_models, model, config.sam, device))
    own = models.get()
    for weights, sha256 in own.segmenter.weights.items() if own.segmenter else ():
        record.used_weights(weights, sha256)
    with record.whole_folder(output) as folder:
        predicted: list[PredictedImage] = []
        work = PredictImages(models, folder)
        with closing(map_batches(work, files, runner, workers, _BATCH)) as done:
            for one in track(done, "predict", len(files)):
                if isinstance(one, DataError):
                    faults.add(one)
                else:
                    predicted.append(one)
        rows = [one.row for one in predicted]
        write_json(
            folder / PREDICTIONS, _PREDICTIONS.dump_python(rows, mode="json", exclude_none=True)
        )
        if not isinstance(own.model, Classifier):
            write_coco(folder / "instances.json", _dataset(predicted, own.model.categories))
        result = PredictResult(
            output=output,
            images=len(rows),
            objects=sum(len(row.objects or ()) for row in rows),
            prediction=rows[0] if len(rows) == 1 else None,
            faults=faults.lines,
        )
        record.write(folder, result.to_json())
    return result


def _dataset(predicted: Sequence[PredictedImage], categories: tuple[str, ...]) -> Dataset:
    """The images with their objects; ids count from 1."""
    records = tuple(replace(one.record, id=id_) for id_, one in enumerate(predicted, 1))
    objects = {
        id_: one.detections for id_, one in enumerate(predicted, 1) if one.detections is not None
    }
    return Dataset(categories, records, objects)


def _load_models(folder: Path, sam: str | None, device: str) -> PredictModels:
    """The models of one process. sam: name of a SAM for masks; None without. Raises ConfigError
    for a SAM in `folder`, which needs boxes, and for a classifier with `sam`."""
    from pipeline.models.load import finder_of, load_model
    from pipeline.models.sam.model import CalibratedSegmenter

    model = load_model(folder, device)
    if isinstance(model, CalibratedSegmenter):
        raise ConfigError(f"{folder}: is a SAM, which needs boxes; use segment --sam {folder}")
    if sam and isinstance(model, Classifier):
        raise ConfigError(f"{folder}: is a classifier, which gives SAM no boxes")
    segmenter = _load_segmenter(sam, device) if sam else None
    return PredictModels(model, segmenter, finder_of(folder))


def _load_segmenter(name: str, device: str) -> CalibratedSegmenter:
    from pipeline.models.devices import torch_device
    from pipeline.models.sam.model import load_segmenter

    return without_calibration(load_segmenter(name, {}, torch_device(device)))


def _listed(images: Sequence[Path], allow_outside: bool) -> list[tuple[Path, str]]:
    """Each image file once, with a unique name: below the given folder, or below the common folder
    of all files where those names are not unique."""
    files: list[tuple[Path, str]] = []
    for source in images:
        if source.is_dir():
            folders = NamedFolders([source], allow_outside)
            for path in images_below(source):
                folders.refuse_outside(path)
            files += [(p, p.relative_to(source).as_posix()) for p in images_below(source)]
        elif source.is_file():
            files.append((source, source.name))
        else:
            raise DataError(source, "no such image", "check the path")
    if not files:
        raise DataError(images[0] if images else Path(), "holds no image", "check the path")
    if len({Path(name).with_suffix("") for _, name in files}) < len(files):
        whole = sorted({path.resolve() for path, _ in files})
        root = Path(os.path.commonpath([path.parent for path in whole]))
        files = [(path, path.relative_to(root).as_posix()) for path in whole]
        refuse_equal_stems((name, path) for path, name in files)
    return files
