"""Near-duplicates on real sets, on planted copies, and on a large drawn set.

python benchmarks/near_duplicates.py real DATA
python benchmarks/near_duplicates.py planted DATA
python benchmarks/near_duplicates.py nearest DATA
python benchmarks/near_duplicates.py speed [IMAGES]

DATA holds magnetic_tile, zipper_512 and transistor_1024. The true object of a tile follows from its
number (less than 60 apart), that of a zipper by its photo, and each transistor is one. `nearest`
says how often a planted copy is among the eight nearest images: by spectra, and by MobileNetV2's
features. `speed` draws thumbnails in place of photos: it measures all steps but the reading.
"""

from __future__ import annotations

import re
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.io.images import images_below, read_image, read_size, write_png
from pipeline.models.near_duplicates import spectra, thumbnails
from pipeline.models.near_duplicates.search import NearDuplicates, compare_all, find_near_duplicates
from pipeline.models.near_duplicates.store import Thumbnails
from pipeline.runtime.progress import set_quiet
from pipeline.splits import merge_groups
from pipeline.types import Dataset, Image, ImageRecord

SETS = ("magnetic_tile", "zipper_512", "transistor_1024")
Change = Callable[[Image, np.random.Generator], Image]


def main() -> None:
    set_quiet(True)
    verb, *rest = sys.argv[1:]
    if verb == "speed":
        speed(int(rest[0]) if rest else 100_000)
        return
    {"real": real, "planted": planted, "nearest": nearest}[verb](Path(rest[0]))


def real(data: Path) -> None:
    """Pairs of one object that are found, and pairs of different ones that are joined."""
    print("| set | images | objects | s of CPU | threshold | pairs | found | joined wrongly |"
          " groups | largest |")  # fmt: skip
    print("|" + "---|" * 10)
    for name in SETS:
        records = records_of(images_of(data / name))
        truth = OBJECTS[name]([record.path for record in records])
        started = time.process_time()
        found = find_near_duplicates(records, workers=1)
        seconds = time.process_time() - started
        groups = groups_of(records, found)
        one, other = np.triu_indices(len(records), 1)
        same, joined = truth[one] == truth[other], groups[one] == groups[other]
        sizes = Counter(groups.tolist())
        cells = [name, len(records), len(set(truth.tolist())), f"{seconds:.0f}",
                 f"{found.threshold:.2f}", same.sum(), (same & joined).sum(),
                 (joined & ~same).sum(), len(sizes), max(sizes.values())]  # fmt: skip
        print("|", " | ".join(map(str, cells)), "|", flush=True)


def planted(data: Path) -> None:
    """Planted copies that are found, of each kind, and other pairs that are joined."""
    print("| set | images | false pairs |", " | ".join(CHANGES), "|")
    print("|" + "---|" * (3 + len(CHANGES)))
    for name in SETS:
        cells, false = [], Counter[tuple[int, int]]()
        for change in CHANGES:
            with tempfile.TemporaryDirectory() as folder:
                paths, source = plant(data / name, Path(folder), [change], 5)
                records = records_of(paths)
                found = find_near_duplicates(records)
            groups, count = groups_of(records, found), len(set(source))
            hits = [groups[row] == groups[source[row]] for row in range(count, len(records))]
            cells.append(f"{sum(hits)}/{len(hits)}")
            false.update({(source[p.one], source[p.other]) for p in found.pairs})
        wrong = sum(one != other for one, other in false)
        print(f"| {name} | {count} | {wrong} |", " | ".join(cells), "|", flush=True)


def nearest(data: Path) -> None:
    """Planted copies among the eight nearest images, and milliseconds an image."""
    print("| set | features | ms of CPU an image |", " | ".join(CHANGES), "|")
    print("|" + "---|" * (3 + len(CHANGES)))
    for name in SETS:
        with tempfile.TemporaryDirectory() as folder:
            paths, source = plant(data / name, Path(folder), list(CHANGES), 1)
            count = len(set(source))
            for label, features in (("spectra", by_spectra), ("MobileNetV2", by_network)):
                started = time.process_time()
                likeness = features(records_of(paths))
                spent = (time.process_time() - started) / len(paths) * 1000
                rank = (-likeness).argsort(axis=1).argsort(axis=1)
                hits = {one: [0, 0] for one in CHANGES}
                for row in range(count, len(paths)):
                    change = paths[row].stem.partition("_")[2]
                    at = min(rank[row, source[row]], rank[source[row], row])
                    hits[change][0] += int(at < 8)
                    hits[change][1] += 1
                cells = [f"{got}/{of}" for got, of in hits.values()]
                print(f"| {name} | {label} | {spent:.1f} |", " | ".join(cells), "|", flush=True)


def speed(count: int) -> None:
    """Seconds of each step over drawn thumbnails, one in a hundred planted, and peak memory."""
    records = [ImageRecord(row + 1, Path("drawn"), f"{row}.png", 480, 640) for row in range(count)]
    generator = np.random.default_rng(0)
    shared = cv2.GaussianBlur(generator.normal(0, 25, (256, 256)), (0, 0), 1.2)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        store = Thumbnails(thumbnails.views_of(records), Path(folder))
        store.fill(drawn(view, np.asarray(shared)) for view in store.views)
        print(f"drawn: {time.perf_counter() - started:.0f} s", flush=True)
        started, of_cpu = time.perf_counter(), time.process_time()
        pairs, threshold, compared = compare_all(store)
        spent, of_cpu = time.perf_counter() - started, time.process_time() - of_cpu
    true = sum(pair.other - pair.one == 1 and pair.other % 100 == 0 for pair in pairs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    planted_pairs = (count - 1) // 100
    print(f"{count} images: {spent:.0f} s, {of_cpu:.0f} s of CPU, {compared} pairs compared, "
          f"threshold {threshold:.2f}, {true} of {planted_pairs} planted found, "
          f"{len(pairs) - true} others, peak memory {peak:.2f} GB")  # fmt: skip


def drawn(view: thumbnails.View, shared: NDArray[np.float64]) -> thumbnails.Grey:
    """Texture of its own over texture that the set shares; every hundredth is the one before it,
    moved and darker."""
    planted_one = view.image % 100 == 0 and view.image > 0
    generator = np.random.default_rng(view.image - planted_one)
    size = view.height + 8, view.width + 8
    own = cv2.GaussianBlur(generator.normal(0, 50, size), (0, 0), 1.2)
    moved = 6 if planted_one else 0
    whole = (own + shared[: size[0], : size[1]])[moved:, moved:][: view.height, : view.width]
    return np.clip(whole + (110 if planted_one else 130), 0, 255).astype(np.uint8)


def records_of(paths: Sequence[Path]) -> list[ImageRecord]:
    return [
        ImageRecord(row + 1, path, f"{row}.png", *read_size(path), group=f"{row:06d}")
        for row, path in enumerate(paths)
    ]


def images_of(folder: Path) -> list[Path]:
    return [path for path in images_below(folder) if "ground_truth" not in path.parts]


def groups_of(records: Sequence[ImageRecord], found: NearDuplicates) -> NDArray[np.int64]:
    """The number of each record's group."""
    pairs = [(pair.one, pair.other) for pair in found.pairs]
    joined = merge_groups(Dataset((), tuple(records)), pairs).records
    return np.array([int(record.group) for record in joined])


def tiles(paths: Sequence[Path]) -> NDArray[np.int64]:
    numbers = [int(re.findall(r"_num_(\d+)", path.stem)[0]) for path in paths]
    order = np.argsort(numbers, kind="stable")
    steps = np.diff(np.array(numbers)[order], prepend=-100) >= 60
    found = np.zeros(len(paths), np.int64)
    found[order] = np.cumsum(steps)
    return found


def photos(paths: Sequence[Path]) -> NDArray[np.int64]:
    names = [re.findall(r"(?:^|\d_)([a-z_]+_\d+)$", path.stem)[0] for path in paths]
    return np.unique(names, return_inverse=True)[1]


def alone(paths: Sequence[Path]) -> NDArray[np.int64]:
    return np.arange(len(paths))


OBJECTS = {"magnetic_tile": tiles, "zipper_512": photos, "transistor_1024": alone}


def plant(
    folder: Path, into: Path, changes: Sequence[str], step: int
) -> tuple[list[Path], list[int]]:
    """The first image of each object, at most 150, and a changed copy of every `step`th, with one
    change after the other. Returns the paths, copies last, and the number of the source of each."""
    paths = images_of(folder)
    first = np.unique(OBJECTS[folder.name](paths), return_index=True)[1][:150]
    paths = [paths[row] for row in sorted(first.tolist())]
    copies, source = [], list(range(len(paths)))
    for turn, row in enumerate(range(0, len(paths), step)):
        change = changes[turn % len(changes)]
        copies.append(into / f"{row}_{change}.png")
        generator = np.random.default_rng(row)
        write_png(copies[-1], CHANGES[change](read_image(paths[row]), generator))
        source.append(row)
    return paths + copies, source


def jpeg(image: Image, _: np.random.Generator) -> Image:
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)


def brighter(image: Image, _: np.random.Generator) -> Image:
    return np.asarray(np.clip(image.astype(np.float32) * 1.5 + 10, 0, 255), np.uint8)


def darker(image: Image, _: np.random.Generator) -> Image:
    return (178 * (image / 255.0) ** 1.6).astype(np.uint8)


def cropped(image: Image, generator: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    top, left = (int(generator.uniform(0, 0.2) * side) for side in (height, width))
    return image[top : top + int(0.8 * height), left : left + int(0.8 * width)].copy()


def mirrored(image: Image, generator: np.random.Generator) -> Image:
    return np.ascontiguousarray(image[:, ::-1] if generator.integers(2) else image[::-1])


def shifted(image: Image, generator: np.random.Generator) -> Image:
    height, width = image.shape[:2]
    right, down = generator.uniform(-0.06, 0.06, 2) * (width, height)
    return _warped(image, np.array([[1, 0, right], [0, 1, down]]))


def turned(degrees: float) -> Change:
    def change(image: Image, generator: np.random.Generator) -> Image:
        height, width = image.shape[:2]
        angle = degrees * generator.choice([-1, 1])
        return _warped(image, np.array(cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1)))

    return change


def halved(image: Image, _: np.random.Generator) -> Image:
    return np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
                      np.uint8)  # fmt: skip


def _warped(image: Image, matrix: NDArray[np.float64]) -> Image:
    size = (image.shape[1], image.shape[0])
    warped = cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REFLECT)
    return np.asarray(warped, np.uint8)


CHANGES: dict[str, Change] = {
    "JPEG 40": jpeg, "brighter": brighter, "darker": darker, "crop 80": cropped,
    "mirrored": mirrored, "shift 6": shifted, "turned 1": turned(1), "turned 2": turned(2),
    "turned 3": turned(3), "half size": halved,
}  # fmt: skip


def by_spectra(records: Sequence[ImageRecord]) -> NDArray[np.float32]:
    """(N, N): cosine similarity of the spectra of all images, or of their mirror images."""
    views = [view for view in thumbnails.views_of(records) if view.image >= 0]
    first = {view.image: view for view in reversed(views)}
    greys = [thumbnails.halved(thumbnails.thumbnail(first[row])) for row in range(len(records))]
    whiten = thumbnails.Whitening(greys, max(max(grey.shape) for grey in greys))
    found = np.stack([spectra.spectrum(whiten(grey)) for grey in greys])
    found -= found[:, 0].mean(axis=0)
    found /= np.linalg.norm(found, axis=2, keepdims=True)
    return _others(np.maximum(found[:, 0] @ found[:, 0].T, found[:, 1] @ found[:, 0].T))


def by_network(records: Sequence[ImageRecord]) -> NDArray[np.float32]:
    """(N, N): cosine similarity of MobileNetV2's features, averaged over the image and whitened
    over the set."""
    import torch

    from pipeline.models.features.backbones import normalised, split_backbone
    from pipeline.models.weights.store import WeightsStore

    path = WeightsStore().get("mobilenet_v2").path
    trunk = split_backbone("mobilenet_v2", path, 2, "layer4").trunk
    with torch.inference_mode():
        rows = [trunk(normalised(read_image(r.path), 160)).mean((2, 3))[0] for r in records]
    features = torch.stack(rows).numpy()
    features -= features.mean(axis=0)
    values, directions = np.linalg.svd(features, full_matrices=False)[1:]
    kept = min(96, len(values))
    white = features @ directions[:kept].T / (values[:kept] + 0.05 * values[0])
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    return _others(white @ white.T)


def _others(likeness: NDArray[np.float32]) -> NDArray[np.float32]:
    np.fill_diagonal(likeness, -1)
    return likeness


if __name__ == "__main__":
    main()
