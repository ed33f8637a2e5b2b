"""Images that are read before they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.errors import DataError
from pipeline.io.images import Image, read_listed_image
from pipeline.types import ImageRecord


def read_ahead(records: Sequence[ImageRecord], ahead: int) -> Iterator[Image | DataError]:
    """The image of each record, or the error of one that cannot be read or has another size. ahead:
    images that are read before they are needed."""
    with ThreadPoolExecutor(1) as reader:
        reading: deque[Future[Image]] = deque()
        waiting = iter(records)
        for _ in records:
            while len(reading) < ahead and (following := next(waiting, None)):
                reading.append(reader.submit(read_listed_image, following.path, following.size))
            try:
                image = reading.popleft().result()
            except DataError as error:
                yield error
                continue
            yield image
