"""Photos and masks in your own layout become COCO, and a detector learns from them.

The folder holds `photos/<name>.png`, and `masks/<name>.png` for those with defects; mask values
above 0 are defect.

    python examples/own_photos.py my_folder labels detector
"""

import sys
from pathlib import Path

import pipeline
from pipeline import Dataset, Detections, ImageRecord


def read_own(folder: Path, category: str = "defect") -> Dataset:
    """The photos of a folder, with an object for each connected component of their masks."""
    records, objects = [], {}
    for number, photo in enumerate(sorted((folder / "photos").glob("*.png")), start=1):
        height, width = pipeline.read_image(photo).shape[:2]
        records.append(ImageRecord(number, photo, photo.name, height, width))
        mask = folder / "masks" / photo.name
        if mask.is_file():
            objects[number] = Detections.from_masks(pipeline.mask_instances(mask), label=0)
    return Dataset((category,), tuple(records), objects)


def main(folder: Path, labels: Path, detector: Path, epochs: int = 60) -> None:
    """Write the labels in every form, then fine-tune the detector on them."""
    coco = folder / "instances.json"
    pipeline.write_coco(coco, read_own(folder))
    converted = pipeline.convert_masks([coco], labels, images=folder / "photos")
    print(f"{converted.images} images, {converted.instances} instances")
    config = pipeline.FinetuneConfig(epochs=epochs)
    trained = pipeline.finetune_yolo(labels, detector, config)
    print(f"box AP50 {trained.tuned.box_ap50:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
