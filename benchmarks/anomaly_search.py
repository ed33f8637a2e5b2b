"""PatchCore's slow steps beside anomalib and torch: the greedy coreset, the search for nearest
patches, and AUPRO; and the memory of a whole fit. All methods run alternately on the same patches:
those of synthetic zippers, by WideResNet50 with random weights (1,536 numbers a patch).

pip install anomalib            (for the coreset and AUPRO)
python benchmarks/anomaly_search.py [PATCHES]           default: 100,000
python benchmarks/anomaly_search.py memory              one fit on 200 images of 1024 x 1024
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.config.schema import SynthesizeConfig
from pipeline.io.images import list_images, read_image
from pipeline.metrics.anomaly import pixel_figures
from pipeline.models.anomaly.patchcore import PatchCore
from pipeline.models.features.coreset import greedy_coreset, projected
from pipeline.models.features.memory_bank import MemoryBank
from pipeline.models.features.patches import BackboneFeatures
from pipeline.runtime.progress import set_quiet
from pipeline.stages.synthesize import synthesize

CORESET_RATIO, SIDE, QUERIES, ROUNDS = 0.01, 320, 1600, 3
CPU = torch.device("cpu")


def good_images(folder: Path, count: int, size: int) -> list[Path]:
    """Synthetic zippers without defects."""
    config = SynthesizeConfig(size=size, good_train=count, good_test=1, per_defect=1)
    synthesize(folder, config)
    return list_images(folder / "train" / "good")


def patches(count: int) -> torch.Tensor:
    """(count, 1536) float32."""
    torch.manual_seed(0)
    features = BackboneFeatures("wide_resnet50_2", None, "", SIDE, CPU)
    parts: list[torch.Tensor] = []
    with tempfile.TemporaryDirectory() as scratch:
        for path in good_images(Path(scratch) / "zipper", count // QUERIES + 2, 512):
            parts.append(features.patches(read_image(path)).reshape(-1, 1536))
    return torch.cat(parts)[: count + QUERIES]


def interleaved(methods: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each method; each round runs all of them."""
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, method in methods.items():
            start = time.perf_counter()
            method()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def print_rows(title: str, times: dict[str, float]) -> None:
    """A row for each method, with its ratio to the first, ours."""
    base = next(iter(times.values()))
    for name, seconds in times.items():
        print(f"| {title} | {name} | {seconds:.2f} | {seconds / base:.2f} |", flush=True)


def coreset(bank: torch.Tensor) -> None:
    """The greedy choice on the same projected patches, then each method with its own projection."""
    try:
        from anomalib.models.components.sampling.k_center_greedy import KCenterGreedy
    except ImportError:
        print("| coreset | anomalib is not installed | - | - |")
        return
    count = int(len(bank) * CORESET_RATIO)
    small = projected(bank)

    def theirs(vectors: torch.Tensor) -> list[int]:
        sampler = KCenterGreedy(vectors, CORESET_RATIO)
        sampler.features = vectors
        sampler.embedding = vectors[:, :, None]  # so that it does not project again
        chosen: list[int] = sampler.select_coreset_idxs()
        return chosen

    results: dict[str, Any] = {}
    methods: dict[str, Callable[[], Any]] = {
        "ours": lambda: results.update(ours=greedy_coreset(small, count)),
        "anomalib": lambda: results.update(theirs=theirs(small)),
    }
    print_rows(f"coreset, {count} of {len(bank)} x {small.shape[1]}", interleaved(methods, ROUNDS))
    for name, chosen in results.items():
        centres = small[torch.as_tensor(chosen)]
        radius = max(float(torch.cdist(s, centres).amin(1).max()) for s in small.split(8192))
        print(f"<!-- {name}: no patch is farther than {radius:.4f} from the coreset -->")
    methods = {
        "ours, with its projection to 128": lambda: greedy_coreset(projected(bank), count),
        "anomalib, with its own": lambda: KCenterGreedy(bank, CORESET_RATIO).select_coreset_idxs(),
    }
    print_rows(f"coreset, {count} of {len(bank)} x {bank.shape[1]}", interleaved(methods, 1))


def search(bank: torch.Tensor, queries: torch.Tensor) -> None:
    """One image's patches against the whole bank."""
    index = MemoryBank(bank.numpy())
    vectors = queries.numpy()
    methods: dict[str, Callable[[], Any]] = {
        "ours": lambda: index.search(vectors),
        "torch.cdist and min": lambda: torch.cdist(queries, bank).min(dim=1),
    }
    nearest = methods["torch.cdist and min"]().indices.numpy()
    same = (index.search(vectors)[1][:, 0] == nearest).mean()
    print_rows(
        f"search, {len(queries)} in {len(bank)} x {bank.shape[1]}", interleaved(methods, ROUNDS)
    )
    print(f"<!-- the same nearest patch for {same:.4f} of the queries -->")


def aupro() -> None:
    """151 maps of 256 x 256, 120 of them with a defect."""
    generator = np.random.default_rng(0)
    pairs = []
    for number in range(151):
        mask = np.zeros((256, 256), bool)
        if number % 5:
            y, x = generator.integers(10, 180, 2)
            mask[y : y + 30, x : x + 50] = True
        heat = generator.gamma(2, 1, (256, 256)).astype(np.float32) + 2 * mask
        pairs.append((heat / 40, mask))
    methods: dict[str, Callable[[], Any]] = {
        "ours, with AUROC, AP, F1 and intervals": lambda: pixel_figures(pairs)
    }
    try:
        from anomalib.metrics.aupro import _AUPRO
    except ImportError:
        print("| AUPRO | anomalib is not installed | - | - |")
        return
    maps = torch.from_numpy(np.stack([heat for heat, _ in pairs]))
    masks = torch.from_numpy(np.stack([mask for _, mask in pairs])).int()

    def theirs() -> float:
        metric = _AUPRO()
        metric.update(maps, masks)
        return float(metric.compute())

    methods["anomalib's AUPRO alone"] = theirs
    print_rows("AUPRO, 151 maps of 256 x 256", interleaved(methods, ROUNDS))
    print(f"<!-- ours {pixel_figures(pairs).aupro:.7f}, anomalib's {theirs():.7f} -->")


def memory() -> None:
    """Peak memory of a whole fit."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = good_images(Path(scratch) / "zipper", 200, 1024)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        features = BackboneFeatures("wide_resnet50_2", None, "", SIDE, CPU)
        start = time.perf_counter()
        model = PatchCore(features, CORESET_RATIO)
        model.fit(read_image(path) for path in paths)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    kept = len(model.bank) if model.bank else 0
    print(
        f"fit on {len(paths)} images of 1024 x 1024: {peak:.0f} MB at most ({before:.0f} before),"
    )
    print(f"{seconds:.0f} s, {kept} patches of 1,536 kept")


def main() -> None:
    """Print a Markdown table, ours first."""
    set_quiet(True)
    if sys.argv[1:] == ["memory"]:
        memory()
        return
    if sys.argv[1:2] == ["search"]:  # in a process of its own, without keep_freed_memory
        stored, count = torch.from_numpy(np.load(sys.argv[2])), int(sys.argv[3])
        search(stored[:count].contiguous(), stored[count:].contiguous())
        return
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    every = patches(count)
    os.environ["TQDM_DISABLE"] = "1"  # anomalib's bars
    bank = every[:count].contiguous()
    print("| what | method | s | times ours |\n|---|---|---|---|")
    coreset(bank)
    with tempfile.TemporaryDirectory() as scratch:
        np.save(Path(scratch) / "patches.npy", every.numpy())
        command = [
            sys.executable,
            __file__,
            "search",
            str(Path(scratch) / "patches.npy"),
            str(count),
        ]
        subprocess.run(command, check=True)
    aupro()


if __name__ == "__main__":
    main()
