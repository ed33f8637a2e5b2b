"""`pipeline finetune-segmenter`: a network learns from the masks which pixels are a defect.

Each of its networks learns without one fold of the photos. On these the others are tried: they
choose what counts as one defect, and what that finds is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config.schema import FinetuneSegmenterConfig
from pipeline.errors import ConfigError, DataError, Faults
from pipeline.formats.converted_set import leak_mark, read_objects
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import read_listed_image
from pipeline.io.manifest import WORK
from pipeline.io.run_record import RunRecord
from pipeline.metrics.label_quality import LabelQuality, compare_labels, label_quality
from pipeline.results import StageResult
from pipeline.runners import Runner
from pipeline.runners.training import check_training
from pipeline.runtime.progress import say, track
from pipeline.types import Dataset, Detections

if TYPE_CHECKING:
    from pipeline.models.segmentation.cross_fit import CrossFitOptions
    from pipeline.models.segmentation.defect_map import DefectMap
    from pipeline.models.segmentation.model import DefectSegmenter
    from pipeline.models.segmentation.photos import LabelledPhoto
    from pipeline.models.weights.store import Weights

_DEFAULT = FinetuneSegmenterConfig()
_STEPS = (1, 150, 600)  # for each mask, the least and the most
_DECODER_STEPS = (2, 200, 400)
_MORE_STEPS = (1, 50, 200)  # of networks that were trained before


@dataclass(frozen=True, kw_only=True)
class FinetuneSegmenterResult(StageResult):
    """What was trained on how much, and what it finds.

    scale: by which images are resized. losses: mean over the last tenth of each network's training.
    threshold, bridge_gap, min_area, best_outline, confidence: what counts as one label; see
    `RegionOptions`.
    out_of_fold: on the training photos, each by the network that did not learn from it; None
    without folds. test: on the held-out photos; None where there are none. split_leaks, faults: as
    in `finetune_yolo`.
    """

    output: Path
    encoder: str
    weights: str
    photos: int
    masks: int
    networks: int
    steps: int
    scale: float
    losses: tuple[float, ...]
    threshold: float
    bridge_gap: int
    best_outline: bool
    min_area: int
    confidence: float
    out_of_fold: LabelQuality | None = None
    test: LabelQuality | None = None
    split_leaks: str | None = None
    faults: tuple[str, ...] = ()


def finetune_segmenter(
    data: Path,
    output: Path,
    config: FinetuneSegmenterConfig = _DEFAULT,
    *,
    device: str = "auto", keep_going: bool = False, overwrite: bool = False,
    runner: Runner = "local", workers: int = 1,
) -> FinetuneSegmenterResult:  # fmt: skip
    """Train on the masks of train and val in a folder of convert-masks; test on those of test.

    Good photos are learned from too. Writes model.safetensors and card.json. config.start: the
    networks of a folder learn on; what was held out from one stays so. keep_going: leave out
    unreadable images and faulty objects. runner, workers: processes that learn together
    (`check_training`). The same call goes on after a stop. Raises DataError for a folder without
    masks and for a start of other categories, WeightsError.
    """
    check_training(runner, workers, config.batch)
    if config.folds == 1:
        raise ConfigError("--folds 1: at least 2 are needed, or 0 for one network")
    faults = Faults(keep_going)
    train, test = (
        read_objects(data, splits, faults, good=True) for splits in (("train", "val"), ("test",))
    )
    categories = _categories(data, [*train, *test])
    photos = _photos(train, config)
    masks = sum(len(photo.objects) for photo in photos)
    if not masks:
        raise DataError(data, "holds no masks to learn from", "convert masks with convert-masks")
    reads = [data / "annotations", data / "images", config.start]
    record = RunRecord("finetune-segmenter", config.model_dump(mode="json"), reads)
    start = _start(config, categories)
    weights = None if start else _encoder_weights(config)
    if weights:
        record.used_weights(weights.name, weights.sha256)
    with record.resumable_folder(output, overwrite) as folder:
        if finished := record.finished(folder, FinetuneSegmenterResult):
            return finished
        options = _options(config, photos, masks, len(categories), start)
        options = replace(options, runner=runner, workers=workers)
        model, result = _fitted(folder, photos, categories, weights, options, device, start)
        model.save(folder, {"steps": options.steps, "masks": masks})
        result = replace(
            result,
            output=output,
            test=_tested(model, test),
            split_leaks=leak_mark(data),
            faults=faults.lines,
        )
        record.write(folder, result)
    return result


def _photos(train: Sequence[Dataset], config: FinetuneSegmenterConfig) -> list[LabelledPhoto]:
    from pipeline.models.segmentation.photos import photos_of, with_masks

    photos = photos_of(train)
    return with_masks(photos, config.masks, config.seed) if config.masks else photos


def _categories(data: Path, datasets: Sequence[Dataset]) -> tuple[str, ...]:
    """The categories that all splits have. Raises DataError where they differ or are too many, and
    for objects without masks."""
    from pipeline.models.cards import MOST_CATEGORIES

    folder, again = data / "annotations", "run convert-masks again"
    categories = datasets[0].categories
    if any(dataset.categories != categories for dataset in datasets):
        raise DataError(folder, "has other categories in one split than in another", again)
    if len(categories) > MOST_CATEGORIES:
        reason = f"has {len(categories)} categories, and a segmenter {MOST_CATEGORIES} at most"
        raise DataError(folder, reason, "leave out the rare ones")
    objects = [dataset.on(record) for dataset in datasets for record in dataset.records]
    if any(len(each) and each.masks is None for each in objects):
        raise DataError(folder, "has boxes without masks", "finetune-yolo learns from boxes")
    return categories


def _start(config: FinetuneSegmenterConfig, categories: tuple[str, ...]) -> DefectSegmenter | None:
    """The model to go on from. Raises DataError for one whose categories are not the first of the
    photos'."""
    from pipeline.models.devices import torch_device
    from pipeline.models.segmentation.model import load_defect_segmenter

    if config.start is None:
        return None
    start = load_defect_segmenter(config.start, torch_device("cpu"))
    if categories[: len(start.categories)] != start.categories:
        remedy = "leave out --start, and train from the beginning"
        raise DataError(config.start, "names other categories than the photos", remedy)
    return start


def _encoder_weights(config: FinetuneSegmenterConfig) -> Weights | None:
    from pipeline.models.features.backbones import pretrained_weights

    return pretrained_weights(config.encoder, config.pretrained)


def _options(
    config: FinetuneSegmenterConfig,
    photos: Sequence[LabelledPhoto],
    masks: int,
    categories: int,
    start: DefectSegmenter | None,
) -> CrossFitOptions:
    from pipeline.models.segmentation.cross_fit import CrossFitOptions
    from pipeline.models.segmentation.network import NetworkOptions
    from pipeline.models.segmentation.photos import choose_scale

    if start:
        encoder, scale = start.members[0].network.options.encoder, start.scale
        decoder_steps, steps = 0, _by_masks(masks, *_MORE_STEPS)
    else:
        encoder, scale = config.encoder, choose_scale(photos)
        decoder_steps, steps = usual_steps(masks)
    return CrossFitOptions(
        NetworkOptions(encoder, categories),
        config.folds,
        config.decoder_steps or decoder_steps,
        config.steps or steps,
        config.batch,
        config.scale or scale,
        config.seed,
    )


def usual_steps(masks: int) -> tuple[int, int]:
    """Steps of a network without its encoder, and with it, where the configuration has none."""
    return _by_masks(masks, *_DECODER_STEPS), _by_masks(masks, *_STEPS)


def _by_masks(masks: int, each: int, least: int, most: int) -> int:
    return min(max(each * masks, least), most)


def _fitted(
    folder: Path,
    photos: Sequence[LabelledPhoto],
    categories: tuple[str, ...],
    weights: Weights | None,
    options: CrossFitOptions,
    device: str,
    start: DefectSegmenter | None,
) -> tuple[DefectSegmenter, FinetuneSegmenterResult]:
    """The trained model, and the result without its test."""
    from pipeline.models.devices import torch_device
    from pipeline.models.segmentation.cross_fit import cross_fit
    from pipeline.models.segmentation.defect_map import RegionOptions
    from pipeline.models.segmentation.model import DefectSegmenter, with_regions
    from pipeline.proposals.region_choice import smallest_region, try_all

    own = torch_device(device)
    fold_of = _folds(photos, options, start)
    members = start.members if start else ()
    fit = cross_fit(photos, fold_of, weights, options, own, folder / WORK, members)
    areas = [mask_geometry.area(mask) for photo in photos for mask in photo.objects.masks or ()]
    regions = RegionOptions(min_area=smallest_region(areas))
    model = DefectSegmenter(fit.members, categories, options.scale, regions, 0.0, own)
    chosen = None
    if fold_of:
        chosen = try_all(_out_of_fold(model, photos), categories, regions.min_area)
        model = with_regions(model, chosen.options, chosen.confidence)
    return model, FinetuneSegmenterResult(
        output=folder,
        encoder=options.network.encoder,
        weights=weights.name if weights else "trained before" if start else "random",
        photos=len(photos),
        masks=len(areas),
        networks=len(fit.members),
        steps=options.steps,
        scale=round(options.scale, 4),
        losses=fit.losses,
        threshold=model.region_options.threshold,
        bridge_gap=model.region_options.bridge_gap,
        best_outline=model.region_options.best_outline,
        min_area=model.region_options.min_area,
        confidence=model.confidence,
        out_of_fold=label_quality(chosen.images) if chosen else None,
    )


def _folds(
    photos: Sequence[LabelledPhoto], options: CrossFitOptions, start: DefectSegmenter | None
) -> dict[str, int]:
    """The fold of each group; empty for one network that learns from all."""
    from pipeline.models.segmentation.cross_fit import continued_folds, fold_of_groups

    if start:
        return continued_folds(photos, start.members)
    fold_of = fold_of_groups(photos, options.folds, options.seed)
    if options.folds and not fold_of:
        say(
            "defects of one object make no folds: one network learns from all, and its threshold is"
            " not measured"
        )
    return fold_of


def _out_of_fold(
    model: DefectSegmenter, photos: Sequence[LabelledPhoto]
) -> Iterator[tuple[DefectMap, Detections, str]]:
    """The map of each photo by the network that did not learn from it, its objects and group."""
    for photo in track(photos, "choose a threshold"):
        image = read_listed_image(photo.record.path, photo.record.size)
        found = model.defect_map(image, photo.group)
        yield found, photo.objects, photo.group


def _tested(model: DefectSegmenter, test: Sequence[Dataset]) -> LabelQuality | None:
    """What the model finds on the held-out photos; None for no photo."""
    rows = [(record, dataset) for dataset in test for record in dataset.records]
    images = [
        compare_labels(
            dataset.on(record),
            model.detect(read_listed_image(record.path, record.size)),
            model.categories,
            record.group or record.file_name,
        )
        for record, dataset in track(rows, "test")
    ]
    return label_quality(images) if images else None
