"""Faults in COCO files and YOLO sets, each with its place."""
