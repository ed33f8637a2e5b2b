"""Defect labelling pipeline: a few pixel masks in, a detector, masks and COCO labels out."""

__version__ = "0.7.0"
