"""ultralytics sets OpenMP to one thread when it is imported; here it does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.runtime.threads import available_cpus

_PROGRAM = """
import os
from pipeline.models import ultralytics_offline
ultralytics_offline.load()
import torch
print(os.environ.get("OMP_NUM_THREADS"), torch.get_num_threads())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("setting", "after"), [("", f"None {available_cpus()}"), ("1", "1 1")], ids=["none", "one"]
)
def test_threads_are_those_of_the_user_or_of_the_machine(setting: str, after: str) -> None:
    own = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    if setting:
        own["OMP_NUM_THREADS"] = setting
    printed = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=own, check=True, capture_output=True, text=True
    ).stdout
    assert printed.split("\n")[-2] == after
