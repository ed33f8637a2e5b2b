"""OpenVINO, without its calls home."""

from __future__ import annotations

import sys
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
