"""Segment Anything: boxes to masks, tuned on a few of them."""
