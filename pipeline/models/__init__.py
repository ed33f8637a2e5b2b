"""The only package that imports torch: networks, their weights, and their training."""

from pipeline.io.cache_root import use_for_torch

use_for_torch()
