"""The folder of all caches, and what happens if it cannot be used.

A cache that cannot be used never ends a command. It costs one notice, and time.
"""

from __future__ import annotations

import atexit
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pipeline.errors import DataError
from pipeline.runtime.progress import say

NOWHERE = Path(os.devnull) / "defect-pipeline"  # no file can be written below a device
_ENVIRONMENT = "PIPELINE_CACHE"
_MATPLOTLIB = "MPLCONFIGDIR"  # in the environment, its folder for settings and fonts
_TORCH = "TORCHINDUCTOR_CACHE_DIR"  # in the environment, its folder for compiled networks
_NAME = "defect-pipeline"
_ABANDONED_S = 3600  # age at which an unfinished file of a killed process is removed

_noticed = False


def cache_root() -> Path:
    """$PIPELINE_CACHE, else a folder in $XDG_CACHE_HOME or ~/.cache. A user without a home gets a
    private folder for temporary files, or NOWHERE. The folder need not exist."""
    if root := os.environ.get(_ENVIRONMENT):
        return Path(root)
    if user_cache := os.environ.get("XDG_CACHE_HOME"):
        return Path(user_cache) / _NAME
    try:
        return Path.home() / ".cache" / _NAME
    except RuntimeError:  # a random user in a container: no $HOME, and no line in passwd
        return _of_this_user()


def go_without(folder: Path, error: Exception) -> None:
    """Print, once in each process, that nothing is cached."""
    global _noticed
    if not _noticed:
        _noticed = True
        say(f"{folder}: {_reason(error)}; the work goes on without a cache")


def prepared_folder(folder: Path, prepare: Callable[[Path], object]) -> Path:
    """A folder of the cache after `prepare` filled it. If it cannot be written, a temporary folder
    that is removed when the process ends. Raises DataError if that cannot be written either."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        prepare(folder)
        if os.access(folder, os.W_OK):
            return folder
        raise PermissionError("it cannot be written")
    except (OSError, DataError) as error:
        go_without(folder, error)
    try:
        own = Path(tempfile.mkdtemp(prefix=f"{_NAME}-"))
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        prepare(own)
    except (OSError, DataError) as error:
        reason = "cannot be written, and no temporary folder can be made"
        raise DataError(folder, reason, f"set {_ENVIRONMENT} to a folder that can be") from error
    return own


def use_for_matplotlib() -> None:
    """Let matplotlib keep its list of fonts below the cache root, unless the user has set
    $MPLCONFIGDIR. Call it before the first import of matplotlib. Raises DataError as
    `prepared_folder`."""
    if not os.environ.get(_MATPLOTLIB):
        folder = prepared_folder(cache_root() / "matplotlib", lambda _: None)
        os.environ[_MATPLOTLIB] = str(folder.absolute())


def use_for_torch() -> None:
    """Let torch keep compiled networks below the cache root, unless the user has set
    $TORCHINDUCTOR_CACHE_DIR. torch makes that folder when it is imported, and fails where it
    cannot. So where the cache cannot be written, torch keeps its own temporary folder."""
    if os.environ.get(_TORCH):
        return
    folder = cache_root().absolute() / "torch"
    with suppress(OSError):
        place = next(path for path in (folder, *folder.parents) if path.exists())
        if place.is_dir() and os.access(place, os.W_OK):
            os.environ[_TORCH] = str(folder)


def remove_abandoned(folder: Path, pattern: str) -> None:
    """Remove unfinished files and folders of killed processes, by a pattern, when they are an hour
    old."""
    with suppress(OSError):
        for part in folder.glob(pattern):
            with suppress(OSError):
                if time.time() - part.lstat().st_mtime > _ABANDONED_S:
                    if stat.S_ISDIR(part.lstat().st_mode):
                        shutil.rmtree(part, ignore_errors=True)
                    else:
                        part.unlink()


def _of_this_user() -> Path:
    """A temporary folder that only this user can write to; NOWHERE if there is none."""
    folder = Path(f"{_NAME}-{_user()}")
    try:
        folder = Path(tempfile.gettempdir()) / folder
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        state = folder.lstat()
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != _user():
            raise PermissionError("it belongs to somebody else")
        if stat.S_IMODE(state.st_mode) & 0o022:
            raise PermissionError("others can write to it")
    except OSError as error:
        go_without(folder, error)
        return NOWHERE
    return folder


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _reason(error: Exception) -> str:
    """The reason of an error, without its path and its remedy, which names an option."""
    if isinstance(error, DataError):
        return error.reason
    return f"cannot be used ({getattr(error, 'strerror', None) or error})"
