"""The run's own SAM beside the page: loaded in the background, one prompt at a time, and replaced
by the one that has learned since."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pipeline.errors import PipelineError
from pipeline.geometry.masks import to_patch
from pipeline.geometry.patches import Patch
from pipeline.types import EXPECTED_IOU, Image

_LAST_S = 20.0  # for a model that is loading when the server ends
Box = tuple[float, float, float, float]
Backend = Literal["auto", "torch", "openvino"]
Status = Literal["loading", "ready", "off"]


class Click(NamedTuple):
    """A point in pixels of the image, and whether the object is there."""

    x: float
    y: float
    inside: bool


@dataclass(frozen=True)
class Proposal:
    """A mask that a person has not judged. iou: in [0, 1], expected where the SAM is calibrated
    (`is_expected`), else as it predicts itself."""

    patch: Patch
    iou: float
    is_expected: bool = False


class Prompted(Protocol):
    """What proposes masks: a SAM, or what a test puts in its place."""

    name: str

    def prepare(self, key: int, image: Image) -> None:
        """Do what takes long before the first click on an image."""
        ...

    def propose(
        self, key: int, image: Image, clicks: Sequence[Click], box: Box | None,
        before: Patch | None, category: str,
    ) -> Proposal:  # fmt: skip
        """The mask of a box, or of clicks that may correct the mask `before`."""
        ...


Load = Callable[[], Prompted]


class SamAssistant:
    """A SAM by name or folder. A box alone is answered as `pipeline segment` answers it, with its
    views and calibration; clicks by the decoder alone, on an embedding that is kept."""

    def __init__(
        self, name: str, device: str = "auto", cache_gb: float = 20.0, backend: Backend = "auto"
    ) -> None:
        from pipeline.models.devices import torch_device
        from pipeline.models.sam.clicks import ClickPredictor
        from pipeline.models.sam.model import load_sam, load_segmenter

        on = torch_device(device)
        self._boxes = load_segmenter(name, {}, on, backend, cache_gb)
        self._clicks = ClickPredictor.of(load_sam(name).segmenter(on, backend, cache_gb))
        self.name = self._boxes.name + _generation(Path(name))

    def prepare(self, key: int, image: Image) -> None:
        """Encode the image, for clicks and for boxes: its middle is segmented."""
        height, width = image.shape[:2]
        middle = (0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height)
        self._clicks.prepare(key, image)
        self._boxes.segment(image, [middle])

    def propose(
        self, key: int, image: Image, clicks: Sequence[Click], box: Box | None,
        before: Patch | None, category: str,
    ) -> Proposal:  # fmt: skip
        """See `Prompted`."""
        from pipeline.models.sam.clicks import Click as SamClick

        if not clicks and box is not None:
            masks = self._boxes.segment(image, [box], [category])
            is_expected = EXPECTED_IOU in masks.quality
            quality = masks.quality[EXPECTED_IOU if is_expected else "predicted_iou"]
            return Proposal(to_patch(masks.masks[0]), float(quality[0]), is_expected)
        points = [SamClick(*click) for click in clicks]
        return Proposal(*self._clicks.predict(key, image, points, before))


def _generation(folder: Path) -> str:
    """What a SAM's name says of when it learned: that of `learned/2/sam` is of generation 2."""
    number = folder.parent.name
    return f", learned {number}" if folder.parent.parent.name == "learned" else ""


class Assistant:
    """A `Prompted` that is loaded in a thread of its own, so that the page opens at once."""

    def __init__(
        self,
        load: Load | None,
        name: str = "",
        newer: Callable[[], Load | None] = lambda: None,
    ) -> None:
        """load: makes the SAM; None for a review without one. name: as the page shows it. newer:
        what makes a SAM that has learned since the last call; None while there is none."""
        self.status: Status = "off" if load is None else "loading"
        self.note = "no SAM: start the review with --sam" if load is None else ""
        self.name = name
        self.number = 0  # of the SAM in use; a newer one has a higher one
        self._prompted: Prompted | None = None
        self._newer, self._loads = newer, 0
        self._lock, self._loading = threading.Lock(), threading.Lock()
        if load is not None:
            self._start(load, self._lock)  # prompts wait for the first SAM

    def renew(self) -> None:
        """Load the SAM that has learned since, if there is one. The one in use answers until then;
        what it keeps of images goes with it."""
        if (load := self._newer()) is not None:
            self.note = "the SAM that has learned is loading"
            self._start(load, nullcontext())

    def _start(self, load: Load, first: AbstractContextManager[object]) -> None:
        self._loads += 1
        words = (load, self._loads, first)
        threading.Thread(target=self._load, args=words, daemon=True).start()

    def _load(self, load: Load, number: int, first: AbstractContextManager[object]) -> None:
        try:
            with self._loading, first:
                made = load()
                self._use(made, number)
        except PipelineError as error:
            self._refuse(str(error))
        except Exception as error:  # a fault of a library must not end the review
            self._refuse(f"SAM cannot be loaded ({type(error).__name__}: {error})")

    def _use(self, made: Prompted, number: int) -> None:
        """Take a SAM into use, unless a newer one is."""
        if number > self.number:
            self._prompted, self.number = made, number  # a prompt under way ends with its own SAM
            self.name, self.note, self.status = made.name, "", "ready"

    def _refuse(self, reason: str) -> None:
        """A SAM that is in use goes on where the next one cannot be loaded."""
        self.note = f"{reason}; the SAM before goes on" if self._prompted else reason
        self.status = "ready" if self._prompted else "off"

    def close(self) -> None:
        """Wait for the work under way: a library that is cut off in it ends the process badly."""
        self._loading.acquire(timeout=_LAST_S)
        self._lock.acquire(timeout=_LAST_S)

    def prepare(self, key: int, image: Image) -> bool:
        """Encode an image before its first click; whether that was done."""
        with self._lock:
            if self._prompted is None:
                return False
            self._prompted.prepare(key, image)
        return True

    def propose(
        self, key: int, image: Image, clicks: Sequence[Click], box: Box | None,
        before: Patch | None, category: str,
    ) -> Proposal:  # fmt: skip
        """See `Prompted`. Raises ValueError without a SAM."""
        with self._lock:
            if self._prompted is None:
                raise ValueError(self.note or "SAM is still loading")
            return self._prompted.propose(key, image, clicks, box, before, category)


def sam_assistant(name: str, device: str, last: Callable[[], str] | None = None) -> Assistant:
    """The assistant of a SAM by name or folder; `none` or "" for none. last: the SAM that a run has
    now; without it, the SAM stays."""
    used = name

    def newer() -> Load | None:
        nonlocal used
        now = last() if last else used
        if now == used:
            return None
        used = now
        return partial(SamAssistant, now, device)

    if name in {"", "none"}:
        return Assistant(None, newer=newer)
    return Assistant(partial(SamAssistant, name, device), Path(name).name, newer)
