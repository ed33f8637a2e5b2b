"""What a process does that `side_by_side` starts: one piece of work."""

from __future__ import annotations

import os
import pickle
import sys
import threading

from pipeline.io.write import adopt_roots
from pipeline.runners.base import error_bytes
from pipeline.runtime import signals
from pipeline.runtime.progress import set_quiet, show_elsewhere


def serve() -> None:
    """Do the work that stdin names. Its progress and then its result, or its error, go to stdout;
    what libraries print goes to stderr."""
    signals.install()
    sent = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(message: bytes) -> None:
        with lock:
            sent.write(message)
            sent.flush()

    place, roots, quiet, work = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(place)
    adopt_roots(roots)
    set_quiet(quiet)
    show_elsewhere(lambda event: send(pickle.dumps(event)))
    try:
        outcome = pickle.dumps(pickle.loads(work)())
    except signals.Stopped as stopped:
        sys.exit(128 + stopped.number)
    except Exception as error:
        outcome = error_bytes(error)
    signals.finish()
    send(outcome)


def _end_with_parent() -> None:
    """Stdin closes when the parent ends, however it ends: this process then ends too. It is read
    without Python's buffer, whose lock would be missed when the interpreter ends."""
    while os.read(0, 1):
        pass
    os._exit(1)
