"""ultralytics without network access and without running code from files: import it only through
`load`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.io.cache_root import cache_root, prepared_folder, use_for_matplotlib
from pipeline.io.write import make_folder, whole_file
from pipeline.runtime.threads import available_cpus

_ENVIRONMENT = {
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "0",
    "ULTRALYTICS_SAFE_LOAD": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
_FONTS = ("Arial.ttf", "Arial.Unicode.ttf")  # the second for names that are not ASCII


def load() -> Any:
    """Import ultralytics so that it does not install, download, unpickle code, print, or call the
    trackers (MLflow, Comet, ...) in its settings or the environment.

    Its settings go to a folder of our own. A font of matplotlib is there in place of Arial, which
    ultralytics would download.
    """
    os.environ.update(_ENVIRONMENT)
    os.environ.setdefault("YOLO_VERBOSE", "False")
    use_for_matplotlib()  # ultralytics imports it
    folder = Path(os.environ.get("YOLO_CONFIG_DIR") or cache_root() / "ultralytics")
    os.environ["YOLO_CONFIG_DIR"] = str(prepared_folder(folder, _add_fonts))
    with _all_threads():
        import ultralytics

    _patch()
    return ultralytics


@contextmanager
def _all_threads() -> Iterator[None]:
    """Within the block, OpenMP has its setting. Without one, ultralytics sets it to one thread, for
    all that follows in the process and for those that it starts."""
    if os.environ.get("OMP_NUM_THREADS"):
        yield
        return
    os.environ["OMP_NUM_THREADS"] = str(available_cpus())
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _add_fonts(folder: Path) -> None:
    """Write the fonts to where ultralytics expects them."""
    home = make_folder(folder / "Ultralytics", root=folder)
    for font in _FONTS:
        if not (home / font).exists():
            _write_font(home / font)


def _write_font(path: Path) -> None:
    import matplotlib

    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    with whole_file(path, root=path.parent, durable=False) as temporary:
        shutil.copyfile(shipped, temporary)


def _patch() -> None:
    """Replace what no setting turns off."""
    from ultralytics.utils import TryExcept, callbacks, torch_utils

    for name in (
        "ultralytics.utils",
        "ultralytics.nn.tasks",
    ):  # read only at import
        if name in sys.modules:
            sys.modules[name].SAFE_LOAD = True  # type: ignore[attr-defined]
    callbacks.add_integration_callbacks = _ignore
    torch_utils.torch_load = _load_checkpoint  # type: ignore[attr-defined]
    TryExcept.__exit__ = _swallow_errors  # type: ignore[method-assign]


def _swallow_errors(
    self: Any, kind: type[BaseException] | None, error: BaseException | None, trace: object
) -> bool:
    """In place of TryExcept's own, which also swallows a signal to stop: half a picture would then
    count as complete."""
    from ultralytics.utils import LOGGER

    del trace
    if kind is None or not issubclass(kind, Exception):
        return False
    if self.verbose:
        LOGGER.warning(f"{self.msg}: {error}")
    return True


def _ignore(*_: object, **__: object) -> None:
    pass


def _load_checkpoint(path: Any, **_: object) -> Any:
    """In place of the plain torch.load with which ultralytics strips a checkpoint."""
    from ultralytics.nn.tasks import torch_safe_load

    return torch_safe_load(path, safe_only=True)[0]
