"""The steps of a run that train the baselines: the classifier, and the models of good images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from pipeline.config.schema import ClassifyConfig, RunConfig
from pipeline.errors import DataError, Faults
from pipeline.formats.products import read_product
from pipeline.io.steps import Step
from pipeline.runtime.progress import say
from pipeline.stages.anomaly import anomaly
from pipeline.stages.classify import classify
from pipeline.types import GOOD


def classifier_step(
    config: RunConfig, classify_config: ClassifyConfig, root: Path, product: Path, overwrite: bool
) -> Step:
    """The image-level baseline, with the detector's split."""
    split_file = root / "data" / "split.json"
    outside = config.allow_outside or classify_config.allow_outside
    step_config = classify_config.model_copy(
        update={"split_file": split_file, "allow_outside": outside}
    )
    folder = root / "classifier"
    train = partial(
        classify, product, folder, step_config, device=config.device,
        keep_going=config.keep_going, overwrite=overwrite,
    )  # fmt: skip
    return Step(
        "classify", folder, step_config.model_dump(mode="json"), [product, split_file], train
    )


def anomaly_steps(config: RunConfig, root: Path, product: Path, overwrite: bool) -> list[Step]:
    """Models of good images, with the detector's split; several of one model are numbered."""
    steps: list[Step] = []
    if not _has_good(product, config):
        say(f"{product} has no good image: models of good images are left out")
        return steps
    split_file = root / "data" / "split.json"
    for entry in config.anomalies:
        name = f"anomaly_{entry.model}"
        count = sum(step.name.startswith(name) for step in steps)
        name += f"_{count + 1}" if count else ""
        step_config = entry.model_copy(
            update={
                "split_file": split_file,
                "mask_threshold": config.convert.mask_threshold,
                "allow_outside": config.allow_outside or entry.allow_outside,
            }
        )
        fit = partial(
            anomaly, product, root / name, step_config, device=config.device,
            keep_going=config.keep_going, overwrite=overwrite,
        )  # fmt: skip
        steps.append(
            Step(name, root / name, step_config.model_dump(mode="json"), [product, split_file], fit)
        )
    return steps


def _has_good(product: Path, config: RunConfig) -> bool:
    """Whether a product has a good image. What cannot be read is left to the step that needs it."""
    try:
        dataset = read_product(product, Faults(keep_going=True), allow_outside=config.allow_outside)
    except DataError:
        return True
    return any(record.defect == GOOD for record in dataset.records)
