"""`predict`, `anomaly` and `audit` on Ray: the bytes and the faults of one process."""

from __future__ import annotations

from pathlib import Path

import pytest
from child_processes import output_of
from discs import bytes_of, discs, untrained_segmenter
from small import draw_product

pytestmark = pytest.mark.slow

SCRIPT = """
import sys
from pathlib import Path
import ray
from pipeline.config.schema import AnomalyConfig, AuditConfig
from pipeline.models.segmentation import pixel_probe
from pipeline.stages.anomaly import anomaly
from pipeline.stages.audit import audit
from pipeline.stages.predict import predict

root = Path(sys.argv[1])
pixel_probe._STEPS = 20
ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False,
         _system_config={"worker_niceness": 0, "agent_register_timeout_ms": 600_000})
few = AnomalyConfig(image_side=96, folds=2, coreset_ratio=0.2)
same = {"device": "cpu", "keep_going": True}
for name, options in (("one", {}), ("ray", {"runner": "ray", "workers": 2})):
    out = root / name
    found = [
        predict([root / "images"], root / "model", out / "predict", **same, **options),
        anomaly(root / "widget", out / "anomaly", few, **same, **options),
        audit(root / "widget", out / "audit", AuditConfig(folds=2), **same, **options),
    ]
    (root / f"{name} faults").write_text("\\n".join(line for each in found for line in each.faults))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what each command wrote in one process, and on Ray."""
    root = tmp_path_factory.mktemp("commands")
    discs(root, 17)
    (root / "images" / "6.png").write_bytes(b"no image")
    untrained_segmenter(root / "model")
    product = draw_product(root / "widget", {"crack": 5, "stain": 4}, 6, 2)
    (product / "test" / "crack" / "002.png").write_bytes(b"no image")
    output_of(SCRIPT, root)
    return root


@pytest.mark.parametrize("command", ["predict", "anomaly", "audit"])
def test_a_command_on_ray_writes_the_bytes_of_one_process(root: Path, command: str) -> None:
    one, several = (bytes_of(root / name / command) for name in ("one", "ray"))
    assert len(one) > 3
    assert one == several


def test_faults_on_ray_are_those_of_one_process(root: Path) -> None:
    one, several = ((root / f"{name} faults").read_text() for name in ("one", "ray"))
    assert one == several
    assert one.count("is not a readable image") == 3
