"""Boxes, masks and polygons: arrays in, arrays out; no files, no torch."""
