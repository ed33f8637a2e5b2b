"""A tiny product in MVTec layout, and the real small models, fetched once."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # processes beside each other: a thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads numpy or torch

import pytest
from small import draw_product

from pipeline.runtime.progress import set_quiet

os.environ.setdefault("PIPELINE_WEIGHTS", str(Path(__file__).parent.parent / "weights"))
_CACHE = tempfile.TemporaryDirectory(prefix="pipeline-cache-")  # nothing of an earlier program
os.environ["PIPELINE_CACHE"] = _CACHE.name

for _signal in (signal.SIGINT, signal.SIGHUP):  # a shell ignores them for what runs behind
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)
MakeProduct = Callable[..., Path]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    set_quiet(True)


@pytest.fixture
def make_product(tmp_path: Path) -> MakeProduct:
    """See `small.draw_product`."""

    def make(
        defects: dict[str, int] | None = None,
        good_train: int = 4,
        good_test: int = 2,
        name: str = "widget",
        **options: Any,
    ) -> Path:
        return draw_product(tmp_path / name, defects, good_train, good_test, **options)

    return make
