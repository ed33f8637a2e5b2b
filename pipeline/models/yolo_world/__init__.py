"""YOLO-World: the detector and its training."""
