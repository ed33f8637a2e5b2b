"""The settings of labels: drawing, converting, exporting and evaluating them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.values import (
    MASK_THRESHOLD,
    Config,
    Folds,
    Positive,
    Probability,
    Seed,
    Share,
    Whole,
)

_MIN_SHARE = 1e-9


class ImagesConfig(Config):
    """Base of the settings of every command that reads images."""

    allow_outside: bool = Field(
        default=False,
        description="Read images that lie, or lead by a link, outside the named folders.",
    )


class SynthesizeConfig(Config):
    """What to draw: zippers with seven categories of defects, in MVTec's layout."""

    size: Literal[512, 1024] = Field(512, description="Side of the images, in pixels.")
    good_train: Whole = Field(24, description="Good images for training.")
    good_test: Whole = Field(8, description="Good images for test.")
    per_defect: Whole | Literal["mvtec"] = Field(
        8, description="Images of each category, or `mvtec` for the counts of MVTec's zipper."
    )
    long_tail: tuple[Positive, Positive] | None = Field(
        None, description="Most and fewest images of a category, in place of `per_defect`."
    )
    seed: Seed = Field(0, description="Seed of the random numbers.")


class ConvertConfig(Config):
    """How masks become instances, and images splits. By default no pixel is lost."""

    val: Share = Field(0.2, description="Share of the images for validation.")
    test: Share = Field(0.2, description="Share of the images held out for test.")
    folds: Folds = Field(0, description="Also write this many folds over train and val.")
    seed: Seed = Field(0, description="Seed of the random numbers.")
    group_by: str = Field(
        "near-duplicates",
        description="What tells pictures of one object, which stay in one split: near-duplicates, "
        "as the images themselves tell them; none; a CSV file of image and group; or a regular "
        "expression whose first parenthesis names the object, on the file stem, or with a / on the "
        "path in the set.",
    )
    split_file: Path | None = Field(
        None, description="The split.json of an earlier conversion, to be used again."
    )
    one_instance: bool = Field(
        False, description="One instance for each image, not one for each connected component."
    )
    min_area: Whole = Field(0, description="Leave out components of fewer pixels.")
    bridge_gap: Whole = Field(
        0, description="Join components that are at most this many pixels apart."
    )
    copy_images: bool = Field(False, description="Copy images instead of linking them.")
    mask_threshold: Whole | None = Field(
        None,
        description=f"{MASK_THRESHOLD} A defect with soft edges that it would tear apart is cut "
        "lower.",
    )
    mask_suffix: str | None = Field(
        None,
        description="With a folder of masks: what follows the image's name in the mask's, such as "
        "_mask; by default the only suffix that fits.",
    )
    mask_values: Literal["auto", "defect", "categories", "instances"] = Field(
        "auto",
        description="With a folder of masks: what values but 0 mean. auto tells soft edges from "
        "categories, and says so.",
    )
    categories: str | None = Field(
        None,
        description="With a folder of masks: names of values as 1=scratch,2=dent or "
        "#ff0000=scratch, a file of such lines, one name for all, or `folders`.",
    )
    polygons: bool = Field(False, description="Write COCO polygons in place of RLE.")
    polygon_loss: Share = Field(
        0.0, description="Share of IoU that a polygon may lose, so that it has fewer vertices."
    )
    min_iou: Probability | None = Field(
        None, description="Exit code 1 if an object read back keeps less than this IoU."
    )

    @model_validator(mode="after")
    def _leaves_train_something(self) -> Self:
        if self.val + self.test > 1 - _MIN_SHARE:
            raise ValueError(f"val {self.val:g} and test {self.test:g} leave train nothing")
        return self


class ExportConfig(Config):
    """How labels are written for another tool."""

    below: Probability | None = Field(
        None,
        description="Only images with an object whose expected IoU, or score where it has none, is "
        "lower.",
    )
    copy_images: bool = Field(False, description="Copy images instead of linking them.")
    polygon_loss: Share = Field(
        0.0, description="Share of IoU that a polygon may lose, so that it has fewer vertices."
    )
    min_iou: Probability | None = Field(
        None, description="Exit code 1 if an object read back keeps less than this IoU."
    )
    shards: Annotated[int, Field(ge=1, le=99_999)] | None = Field(
        None,
        description="Number of files to divide the labels into, with an index that reads them as "
        "one set. For coco, coco-polygon and parquet.",
    )
    strict: bool = Field(
        False, description="Stop if anything of the source is left out, instead of saying so."
    )
    original: bool = Field(
        False, description="Write the labels themselves, though a review of them lies beside."
    )
    finished: bool = Field(
        False,
        description="Only images of a review that a person marked or whose objects are judged.",
    )
    annotator: str | None = Field(
        None,
        description="Whose annotations are read, by id or email, where a format has those of "
        "several. Without it a task gives its ground truth, or else its first.",
    )


class ReviewConfig(ImagesConfig):
    """How labels are reviewed in the browser."""

    sam: str = Field(
        "auto",
        description="Name of SAM weights, or a folder of finetune-sam, for boxes and clicks. auto "
        "takes the run's own; none goes without.",
    )


class EvaluateConfig(ImagesConfig):
    """How predictions are compared with the truth."""

    grabcut: bool = Field(True, description="Compare with GrabCut too; needs the images.")
    split: str | None = Field(None, description="Only the images of this split: train, val, test.")


class AuditConfig(ImagesConfig):
    """How labels are searched for errors."""

    group_by: str = Field(
        "near-duplicates",
        description="What tells pictures of one object, which do not speak for each other; as for "
        "convert-masks.",
    )
    folds: Annotated[int, Field(ge=2, le=100)] = Field(
        3, description="Parts of the set; each is predicted by a model of the others."
    )
    mask_threshold: Whole | None = Field(None, description=MASK_THRESHOLD)
    review: Positive = Field(100, description="Suspects whose images are listed for review.")
    pictures: Whole = Field(60, description="Suspects that the page shows.")
    seed: Seed = Field(0, description="Seed of the random numbers.")
