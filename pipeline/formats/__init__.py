"""Disk to Dataset and back: a file per format, two verbs each: read_x and write_x."""
