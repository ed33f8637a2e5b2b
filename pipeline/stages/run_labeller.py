"""The steps of a run that end in its labels: the segmenter, the labeller, and the labels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipeline.config.schema import FinetuneSegmenterConfig, RunConfig, SegmentConfig
from pipeline.io.steps import Step
from pipeline.runtime.progress import say
from pipeline.stages.combine import combine
from pipeline.stages.finetune_segmenter import finetune_segmenter
from pipeline.stages.label import label
from pipeline.trust.cross_detection import OUT_OF_FOLD

SEGMENTER, LABELLER, LABELS = "segmenter", "labeller", "labels"  # folders of a run
_PATCHCORE = "anomaly_patchcore"


def segmenter_step(
    config: RunConfig, segmenter_config: FinetuneSegmenterConfig, root: Path, overwrite: bool
) -> Step:
    """The network that finds defects pixel by pixel."""
    train = partial(
        finetune_segmenter, root / "data", root / SEGMENTER, segmenter_config,
        device=config.device, keep_going=config.keep_going, overwrite=overwrite,
    )  # fmt: skip
    settings = segmenter_config.model_dump(mode="json")
    return Step("finetune-segmenter", root / SEGMENTER, settings, [root / "data"], train)


def label_steps(
    config: RunConfig, segment_config: SegmentConfig, root: Path, truth: Path, overwrite: bool
) -> Iterator[Step]:
    """The labeller of all finders that the run has, and its labels on held-out photos."""
    if not (root / SEGMENTER / "card.json").is_file() or _networks(root / SEGMENTER) < 2:
        say("the segmenter has no networks of folds: there is no labeller")
        return
    detector = root / "detector" if (root / "detector" / OUT_OF_FOLD).is_file() else None
    anomaly = root / _PATCHCORE if (root / _PATCHCORE / "card.json").is_file() else None
    sam = _sam(config, segment_config, root)
    combine_config = config.combine.model_copy(update={"sam": sam})
    fit = partial(
        combine, root / "data", root / SEGMENTER, root / LABELLER, combine_config,
        detector=detector, anomaly=anomaly, device=config.device, keep_going=config.keep_going,
    )  # fmt: skip
    models = [path for path in (detector, anomaly, Path(sam) if sam else None) if path]
    inputs = [root / "data", root / SEGMENTER, *(path for path in models if path.is_dir())]
    settings = combine_config.model_dump(mode="json")
    yield Step("combine", root / LABELLER, settings, inputs, fit)
    own = segment_config.model_copy(
        update={"views": type(segment_config.views)(), "heatmaps": None}
    )
    work = partial(
        label, root / LABELLER, root / "data" / "images", root / LABELS, own, device=config.device,
        truth=truth, keep_going=config.keep_going, overwrite=overwrite,
    )  # fmt: skip
    yield Step("label", root / LABELS, own.model_dump(mode="json"), [truth, root / LABELLER], work)


def _sam(config: RunConfig, segment_config: SegmentConfig, root: Path) -> str:
    """The SAM whose masks are tried; "" for one that was tuned without folds."""
    if not config.tune_sam:
        return segment_config.sam
    if (root / "sam" / "folds").is_dir():
        return str(root / "sam")
    say("the SAM was tuned without folds: the labeller does not use it")
    return ""


def _networks(segmenter: Path) -> int:
    from pipeline.io.run_record import read_run_file

    networks = read_run_file(segmenter).summary.get("networks")
    return networks if isinstance(networks, int) else 0
