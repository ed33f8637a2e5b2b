"""A folder whose files lie in memory, where the machine has one and memory to spare."""

from __future__ import annotations

import os
import re
from pathlib import Path

MEMORY = Path("/dev/shm")
_ROOM = 4 << 30  # bytes; the tests fill a tenth of that at a time


def has_room(folder: Path) -> bool:
    """Whether a folder in memory is there, and takes much without using up what programs need."""
    if not (folder.is_dir() and os.access(folder, os.W_OK)):
        return False
    state = os.statvfs(folder)
    table = Path("/proc/meminfo")
    found = re.search(r"MemAvailable: +(\d+) kB", table.read_text()) if table.is_file() else None
    spare = int(found[1]) << 10 if found else 0
    return min(state.f_bavail * state.f_frsize, spare // 2) > _ROOM
