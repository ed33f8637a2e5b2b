"""One image of `convert-masks`: its labels in every format, each read back and compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.config.labels import ConvertConfig
from pipeline.errors import DataError
from pipeline.formats.coco import image_text, parse_row_texts
from pipeline.formats.coco_rows import row_texts
from pipeline.formats.mvtec import detections_of
from pipeline.formats.png_masks import read_png_mask, write_png_mask
from pipeline.formats.record_masks import InstanceOptions, Instances, read_instances
from pipeline.formats.yolo import write_yolo_image
from pipeline.formats.yolo_labels import parse_labels
from pipeline.geometry.masks import to_patch
from pipeline.geometry.patches import Patch
from pipeline.metrics.fidelity import Comparison, compare
from pipeline.reports.conversion import Converted
from pipeline.types import Detections, ImageRecord

_TINY = 2  # pixels of an instance that is named


@dataclass(frozen=True)
class Plan:
    """What all images of a conversion share."""

    folder: Path
    categories: tuple[str, ...]
    config: ConvertConfig


def convert_image(item: tuple[ImageRecord, Detections | None], plan: Plan) -> Converted | DataError:
    """Write the YOLO labels and the PNG mask of one image, read every format back, and compare it
    with the pixels of the source.

    item: the image, and its objects; None for those in the mask file, whose fault is returned. A
    fault in writing, such as a full disk, is raised.
    """
    record, objects = item
    if objects is not None:
        return _converted(record, objects, [to_patch(rle) for rle in objects.masks or ()], plan)
    config = plan.config
    options = InstanceOptions(
        config.mask_threshold, config.one_instance, config.min_area, config.bridge_gap
    )
    try:
        instances = read_instances(record, options)
    except DataError as error:
        return error
    objects = detections_of(instances, record, plan.categories)
    return replace(
        _converted(record, objects, instances.patches, plan),
        specks=instances.specks,
        pixels=instances.pixels,
        grey=instances.is_grey,
        joined=instances.joined,
        torn=instances.torn,
        tiny=_tiny(record, instances),
    )


def _tiny(record: ImageRecord, instances: Instances) -> tuple[str, ...]:
    """The places of instances of one or two pixels."""
    patches = (patch for patch in instances.patches if patch.area <= _TINY)
    return tuple(f"{record.path} at ({patch.x}, {patch.y})" for patch in patches)


def _converted(
    record: ImageRecord, objects: Detections, patches: Sequence[Patch], plan: Plan
) -> Converted:
    loss = plan.config.polygon_loss if plan.config.polygons else None
    rows = row_texts(record, objects, loss)
    comparisons = _write(record, patches, objects, plan, rows)
    return Converted(
        image=image_text(record),
        rows=rows,
        comparisons=comparisons,
        pixels=sum(patch.area for patch in patches),
        pixels_in_coco=sum(row.area_read for row in comparisons["coco"].rows) if comparisons else 0,
    )


def _write(
    record: ImageRecord, patches: Sequence[Patch], objects: Detections, plan: Plan,
    rows: Sequence[str],
) -> dict[str, Comparison]:  # fmt: skip
    """Write the files of one image; returns the comparison of each format after reading it back."""
    copy, loss = plan.config.copy_images, plan.config.polygon_loss
    boxes = write_yolo_image(plan.folder, record, objects, False, copy)
    rings = write_yolo_image(plan.folder / "segment", record, objects, True, copy, loss)
    if not len(objects):
        return {}
    write_png_mask(plan.folder / "masks", record, objects)
    path = plan.folder / "masks" / Path(record.file_name).with_suffix(".png")
    count, size = len(plan.categories), record.size
    read = {
        "coco": parse_row_texts(rows, size, count),
        "yolo": parse_labels(boxes, size, count),
        "yolo-segment": parse_labels(rings, size, count),
        "png": read_png_mask(path, len(objects)),
    }
    return {name: compare(objects, back, *size, patches) for name, back in read.items()}
