"""The version, which every module may import."""

__version__ = "0.8.0"
