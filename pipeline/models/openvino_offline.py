"""OpenVINO, without its telemetry."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from pipeline.errors import ConfigError


def load_openvino() -> Any:
    """The package openvino. Raises ConfigError if it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise ConfigError(
            "OpenVINO is not installed; pip install openvino, or use --backend torch"
        ) from error
    return openvino


@cache
def openvino_core() -> Any:
    """The only Core of this process. Raises ConfigError if OpenVINO is not installed.

    Only one, and it is never deleted. Each Core registers a stack on which the system delivers
    signals. If there are two, the one that is deleted last registers the freed stack of the other
    again, and a later Ctrl-C ends in a segmentation fault.
    """
    return load_openvino().Core()
