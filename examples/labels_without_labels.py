"""Labels for defects where only good photos are known.

PatchCore learns from the good photos of a product in MVTec's layout. Its anomalies become boxes on
new photos, and SAM turns the boxes into masks.

    python examples/labels_without_labels.py zipper photos labels
"""

import sys
from pathlib import Path

import pipeline


def main(
    product: Path, photos: Path, labels: Path, sam: str = "mobile_sam", side: int = 320
) -> None:
    """Write COCO labels for `photos`, a page of the least trusted, and an overlay of each."""
    model = labels.with_name(f"{labels.name}_model")
    pipeline.anomaly(product, model, pipeline.AnomalyConfig(image_side=side))
    config = pipeline.SegmentConfig(sam=sam, tighten=True)
    labelled = pipeline.label(model, photos, labels, config)
    print(f"{labelled.labels.labels} objects on {labelled.labels.images} images")
    print(f"COCO: {labels / 'instances.json'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
