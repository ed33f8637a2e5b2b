"""ultralytics, kept from calling home and from running what it finds: import it only through
`load`."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from pipeline.io.cache_root import cache_root, prepared_folder, use_for_matplotlib
from pipeline.io.write import make_folder, whole_file

_FORCED = {
    "YOLO_OFFLINE": "1",
    "YOLO_AUTOINSTALL": "0",
    "ULTRALYTICS_SAFE_LOAD": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
_FONTS = ("Arial.ttf", "Arial.Unicode.ttf")  # the second for names that are not ASCII


def load() -> Any:
    """Import ultralytics so that it neither installs, downloads, unpickles code, prints, nor calls
    the trackers (MLflow, Comet, ...) that its settings or the environment name.

    Its settings go to a folder of our own, with a font that matplotlib ships where it would
    otherwise fetch Arial.
    """
    os.environ.update(_FORCED)
    os.environ.setdefault("YOLO_VERBOSE", "False")
    use_for_matplotlib()  # ultralytics imports it
    folder = Path(os.environ.get("YOLO_CONFIG_DIR") or cache_root() / "ultralytics")
    os.environ["YOLO_CONFIG_DIR"] = str(prepared_folder(folder, _furnish))
    import ultralytics

    _close_doors()
    return ultralytics


def _furnish(folder: Path) -> None:
    """Put the fonts where ultralytics expects them."""
    home = make_folder(folder / "Ultralytics", root=folder)
    for font in _FONTS:
        if not (home / font).exists():
            _place_font(home / font)


def _place_font(path: Path) -> None:
    import matplotlib

    shipped = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    with whole_file(path, root=path.parent, durable=False) as temporary:
        shutil.copyfile(shipped, temporary)


def _close_doors() -> None:
    """Shut what no setting shuts."""
    from ultralytics.utils import TryExcept, callbacks, torch_utils

    for name in ("ultralytics.utils", "ultralytics.nn.tasks"):  # read once, at their import
        if name in sys.modules:
            sys.modules[name].SAFE_LOAD = True  # type: ignore[attr-defined]
    callbacks.add_integration_callbacks = _ignore
    torch_utils.torch_load = _load_checkpoint  # type: ignore[attr-defined]
    TryExcept.__exit__ = _pass_over_errors  # type: ignore[method-assign]


def _pass_over_errors(
    self: Any, kind: type[BaseException] | None, error: BaseException | None, trace: object
) -> bool:
    """In place of TryExcept's own, which also passes over the wish to stop: a picture that was cut
    off in the middle would count as drawn."""
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
    """In place of the plain torch.load by which ultralytics strips a checkpoint."""
    from ultralytics.nn.tasks import torch_safe_load

    return torch_safe_load(path, safe_only=True)[0]
