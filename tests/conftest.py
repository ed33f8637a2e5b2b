"""A tiny product in MVTec layout, and the real small models, fetched once."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if "PYTEST_XDIST_WORKER" in os.environ:  # processes beside each other: a thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything loads numpy or torch

import pytest
from hypothesis import HealthCheck, settings
from memory import MEMORY, has_room
from small import CallPipeline, Ended, draw_product

from pipeline import cli
from pipeline.runtime import signals
from pipeline.runtime.progress import set_quiet

os.environ.setdefault("PIPELINE_WEIGHTS", str(Path(__file__).parent.parent / "weights"))
if has_room(MEMORY):  # to write and remove a hundred thousand files on a disk takes minutes
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
_CACHE = tempfile.TemporaryDirectory(prefix="pipeline-cache-")  # nothing of an earlier program
os.environ["PIPELINE_CACHE"] = _CACHE.name

# No test fails because the machine is busy.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")

for _signal in (signal.SIGINT, signal.SIGHUP):  # a shell ignores them for what runs behind
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)
MakeProduct = Callable[..., Path]

_LONGEST = (  # files, the longest first: one that begins last would leave the other core idle
    "test_end_to_end.py", "test_ray_faults.py", "test_ray_training.py", "test_workers.py",
    "test_on_a_gpu.py",
    "test_finetune_yolo.py", "test_signals.py", "test_mutations.py", "test_page.py",
    "test_finetune_segmenter.py", "test_audit.py",
    "test_finetune_sam.py", "test_rotated_photos.py", "test_run_of_folders.py", "test_ray.py",
    "test_run_group.py",
    "test_sam.py", "test_yolo_world.py", "test_cli.py", "test_models_in_buckets.py",
    "test_killed.py", "test_bucket_faults.py", "test_sam2.py", "test_anomaly_models.py",
    "test_combine.py", "test_classify.py", "test_trainer.py", "test_calibrate.py", "test_study.py",
    "test_names.py", "test_convert_masks.py", "test_cards.py", "test_segment.py",
    "test_examples.py", "test_zipper.py", "test_anomalies.py", "test_keep_going.py",
    "test_segmentation_trainer.py", "test_cached_graphs.py", "test_segmenter_graph.py",
    "test_doors.py", "test_runners.py", "test_training_doors.py", "test_classifier.py",
    "test_patch_prior.py", "test_picture_bombs.py",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


def pytest_collection_finish() -> None:
    """What is imported by now stays: the collector looks at it no more."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _quiet() -> None:
    set_quiet(True)


@pytest.fixture(scope="session", autouse=True)
def _segmenters_by_torch() -> Iterator[None]:
    """A graph of OpenVINO costs more than it saves on a few small photos; `test_inference` has
    one."""
    from pipeline.models import backends
    from pipeline.models.segmentation import inference

    with pytest.MonkeyPatch.context() as patch:
        choose = backends.choose_backend
        patch.setattr(
            inference,
            "choose_backend",
            lambda backend, device: "torch" if backend == "auto" else choose(backend, device),
        )
        yield


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


@pytest.fixture
def call_pipeline(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> CallPipeline:
    """The command in this process, which is as a user has it but for the time that a start takes.
    Its handlers of signals do not outlast it."""

    def call(*arguments: object) -> Ended:
        before = {number: signal.getsignal(number) for number in signals.SIGNALS}
        hook = sys.unraisablehook
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as ended:
            code = int(str(ended.code))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            sys.unraisablehook = hook
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def one_thread() -> Iterator[None]:
    """torch computes with one thread, as in processes that have one each."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
