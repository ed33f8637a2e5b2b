"""Small grey pictures of a set's images, all at the scale of the set, and what is left of them when
all that the set has in common is taken out.

Photos of one product look alike. So a thumbnail is filtered until only its own fine texture is
left: light goes by a logarithm and a high-pass filter, contrast by its local spread, and the
structure that the images share (weave, machining marks, holes of a board) by a division by the mean
spectrum of the set. What still agrees then is the object itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import scipy.fft
from numpy.typing import NDArray

from pipeline.io.images import Image, read_image
from pipeline.types import ImageRecord

Grey = NDArray[np.uint8]
Texture = NDArray[np.float32]
Size = tuple[int, int]  # height, width

SIDE = 128  # pixels of the median image's longer side
LONGEST = 256  # pixels of any thumbnail's longer side; a longer one leaves the set's scale
_SHORTEST = 12
_OFFSET = 8.0  # added to grey values before the logarithm: noise in the dark stays small
_LOG_LOW, _LOG_HIGH = np.log(_OFFSET), np.log(255 + _OFFSET)
_BLUR = 3.0  # pixels: light changes more slowly
_FLOOR = 0.02  # contrast under which a pixel counts as flat
_FLAT = 0.05  # standard deviation under which a picture has no texture
_SHARED = 0.1  # of the mean amplitude: frequencies that no image has are not blown up
_SAMPLE = 512  # images that the mean spectrum is taken of
_ASPECT, _COMMON = 0.02, 0.5  # see `views_of`


@dataclass(frozen=True)
class View:
    """One thumbnail to be made of an image. height, width: of the thumbnail, in pixels."""

    image: int
    path: Path
    height: int
    width: int

    @property
    def size(self) -> Size:
        """(height, width) of the thumbnail."""
        return self.height, self.width


def views_of(records: Sequence[ImageRecord]) -> list[View]:
    """The thumbnails of a set: each image at the scale of its product.

    Where most images of a product have one size, an image of the same shape and another size may be
    a crop or a resized copy: it has a second view, resized to the common size.
    """
    sizes: dict[str, list[tuple[int, int]]] = {}
    for record in records:
        sizes.setdefault(record.product, []).append(record.size)
    scale = {name: SIDE / float(np.median([max(s) for s in own])) for name, own in sizes.items()}
    common = {name: _common(own) for name, own in sizes.items()}
    views = []
    for index, record in enumerate(records):
        views.append(_view(index, record, scale[record.product]))
        usual = common[record.product]
        if usual and record.size != usual and _same_shape(record.size, usual):
            views.append(_view(index, record, SIDE / max(record.size)))
    return views


def _common(sizes: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    size, count = Counter(sizes).most_common(1)[0]
    return size if count >= _COMMON * len(sizes) else None


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) <= _ASPECT


def _view(index: int, record: ImageRecord, scale: float) -> View:
    scale = min(scale, LONGEST / max(record.size))
    height, width = (max(round(side * scale), _SHORTEST) for side in record.size)
    return View(index, record.path, min(height, LONGEST), min(width, LONGEST))


def thumbnail(view: View) -> Grey:
    """(height, width) uint8: the logarithm of the grey values of an image file. Raises
    DataError."""
    return shrunk(read_image(view.path), view.height, view.width)


def shrunk(image: Image, height: int, width: int) -> Grey:
    """As `thumbnail`, of an image (H, W, 3) uint8 RGB."""
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    grey = small @ np.array([0.299, 0.587, 0.114], np.float32)
    logarithm = (np.log(grey + _OFFSET) - _LOG_LOW) / (_LOG_HIGH - _LOG_LOW)
    return np.asarray((logarithm * 255).round(), np.uint8)


def halved_size(size: Size) -> Size:
    """(height, width) of a thumbnail of half the side."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def halved(grey: Grey) -> Grey:
    """A thumbnail of half the side."""
    height, width = halved_size((grey.shape[0], grey.shape[1]))
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def even(grey: Grey) -> Texture:
    """A thumbnail (h, w) float32 without light: high-passed, each pixel divided by the contrast
    around it, in [-3, 3]."""
    values = grey.astype(np.float32) * np.float32((_LOG_HIGH - _LOG_LOW) / 255)
    fine = values - cv2.GaussianBlur(values, (0, 0), _BLUR)
    spread = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 2 * _BLUR)) + _FLOOR
    return np.asarray(np.clip(fine / spread, -3, 3), np.float32)


class Whitening:
    """Takes out of a texture what the images of a set share: it divides by the mean amplitude of
    each frequency."""

    def __init__(self, thumbnails: Sequence[Grey], side: int) -> None:
        """thumbnails: a sample of the set, at least one. side: pixels, of the largest."""
        self.side = scipy.fft.next_fast_len(side, real=True)
        power = np.zeros((self.side, self.side // 2 + 1))
        for grey in thumbnails:
            texture = even(grey)
            power += np.abs(self._spectrum(texture)) ** 2 / texture.size
        amplitude = np.sqrt(power / len(thumbnails))
        least = max(_SHARED * float(amplitude.mean()), 1e-6)
        self._filter = (1 / (amplitude + least)).astype(np.float32)

    def __call__(self, grey: Grey) -> Texture:
        """The texture (h, w) float32 of a thumbnail: of mean 0 and standard deviation 1; 0 where it
        has none."""
        texture = even(grey)
        if float(texture.std()) < _FLAT:
            return np.zeros_like(texture)
        filtered = self._spectrum(texture) * self._filter
        whole = scipy.fft.irfft2(filtered, s=(self.side, self.side))
        own = whole[: grey.shape[0], : grey.shape[1]]
        own -= own.mean()
        return np.asarray(own / max(float(own.std()), 1e-9), np.float32)

    def _spectrum(self, texture: Texture) -> NDArray[np.complex64]:
        return np.asarray(scipy.fft.rfft2(texture, s=(self.side, self.side)), np.complex64)


def sample_of(count: int) -> NDArray[np.int64]:
    """Evenly spaced numbers of the thumbnails that a `Whitening` is made of."""
    return np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).round().astype(np.int64))
