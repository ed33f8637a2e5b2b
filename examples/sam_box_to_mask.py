"""Turn boxes on a photo into masks.

python examples/sam_box_to_mask.py photo.png mask.png 120 80 260 190
"""

import sys
from pathlib import Path

import pipeline


def main(photo: Path, output: Path, box: list[float], sam: str = "mobile_sam") -> None:
    """Write the mask of the object in a box (x0, y0, x1, y1) as a PNG of 0 and 255."""
    image = pipeline.read_image(photo)
    segmenter = pipeline.load_sam(sam)
    masks = segmenter.segment(image, [box])
    pipeline.write_png(output, masks.to_array()[0].astype("uint8") * 255)
    print(f"predicted IoU {masks.quality['predicted_iou'][0]:.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [float(value) for value in sys.argv[3:7]])
