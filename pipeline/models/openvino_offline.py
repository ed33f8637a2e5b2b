"""OpenVINO, without its calls home."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from pipeline.errors import ConfigError


def load_openvino() -> Any:
    """The package. Raises ConfigError where it is not installed."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # no calls home
    try:
        import openvino
    except ImportError as error:
        raise ConfigError(
            "OpenVINO is not installed; pip install openvino, or choose --set engine=torch"
        ) from error
    return openvino


@cache
def openvino_core() -> Any:
    """The one Core of this process. Raises ConfigError where OpenVINO is not installed.

    One, and never let go: each brings a stack on which the system delivers signals. Of two, the one
    that goes last hands the system back the freed stack of the other, and a later Ctrl-C would end
    in a segmentation fault.
    """
    return load_openvino().Core()
