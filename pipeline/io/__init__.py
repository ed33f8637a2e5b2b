"""The disk: how foreign files are read, how our own are written, and how output folders behave."""
