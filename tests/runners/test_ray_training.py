"""The trainings in two processes, through Ray Train: the losses of one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from child_processes import output_of
from safetensors.torch import load_file
from small import draw_product

from pipeline.config.schema import ConvertConfig
from pipeline.stages.convert_masks import convert_masks

pytestmark = pytest.mark.slow

SCRIPT = """
import json, os, sys
from functools import partial
from pathlib import Path
sys.path.insert(0, sys.argv[2])
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # also of Ray's workers
import ray
import torch
import small
from learning import CPU, failing, losses, segmenter_losses
from pipeline.config.schema import FinetuneSegmenterConfig
from pipeline.errors import PipelineError
from pipeline.runners.training import train_on
from pipeline.stages.finetune_sam import finetune_sam
from pipeline.stages.finetune_segmenter import finetune_segmenter

root, found = Path(sys.argv[1]), {}
work = root / "work"
ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False,
         _system_config={"worker_niceness": 0, "agent_register_timeout_ms": 600_000})
for name, training, workers in (
    ("bad photo", partial(failing, 1), 2),
    ("lost", partial(segmenter_losses, root, work, 4), 2),
    ("too many", None, 3),
):
    try:
        train_on(training, CPU, "ray", workers)
    except PipelineError as error:
        found[name] = str(error)
for name, options in (("two", ("ray", 2)), ("one", ())):
    torch.manual_seed(3)
    found[name] = train_on(partial(losses, root, work), CPU, *options)
    found[name]["random after"] = torch.rand(2).tolist()
segmenter = FinetuneSegmenterConfig(
    pretrained="no", folds=0, decoder_steps=1, steps=1, batch=2, scale=0.5)
brief = {"folds": 0, "patch_prior": False, "robustness": False, "compare": False}
sam = small.SAM.model_copy(update=brief)
for name, options in (("ray", {"runner": "ray", "workers": 2}), ("local", {})):
    with small.low_resolution_sam():
        finetune_sam(root / "data", root / f"sam {name}", sam, device="cpu", **options)
    result = finetune_segmenter(
        root / "data", root / f"segmenter {name}", segmenter, device="cpu", **options)
    found[f"command {name}"] = result.losses
(root / "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a process with Ray found. Its servers end with it."""
    root = tmp_path_factory.mktemp("learned")
    product = draw_product(root / "product", {"crack": 3, "stain": 3}, 2, 1)
    convert_masks([product], root / "data", ConvertConfig(val=0, test=0.3))
    output_of(SCRIPT, root, Path(__file__).parent.parent)
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "found.json").read_text())
    return content


@pytest.mark.parametrize(
    ("training", "steps"),
    [
        ("segmenter", 6),
        ("segmenter that went on", 6),
        ("sam", 3),
        ("sam with its encoder", 3),
        ("sam of one object", 3),
    ],
)
def test_two_processes_have_the_losses_of_one(
    found: dict[str, Any], training: str, steps: int
) -> None:
    one, two = (found[name][training] for name in ("one", "two"))
    assert len(one) == len(two) == steps
    assert two == pytest.approx(one, abs=1e-4)


def test_random_numbers_are_those_of_one_process(found: dict[str, Any]) -> None:
    for name in ("random", "random after"):
        assert found["one"][name] == found["two"][name]


def test_what_one_process_raises_is_raised(found: dict[str, Any]) -> None:
    assert found["bad photo"] == "photo.png: is no image"


def test_a_process_that_is_lost_is_one_line_and_the_next_call_goes_on(
    found: dict[str, Any],
) -> None:
    """It ended before the fifth of six steps."""
    assert found["lost"].startswith("--runner ray: a worker was lost while it learned")
    assert "\n" not in found["lost"]
    once, again = (found["two"][f"segmenter{how}"] for how in ("", " that went on"))
    assert again == pytest.approx(once, abs=1e-4)


def test_more_workers_than_the_cluster_has_cpus_are_refused(found: dict[str, Any]) -> None:
    assert found["too many"].startswith("--workers 3: the cluster has 2 CPUs, and each worker")


def test_the_commands_train_in_two_processes(root: Path, found: dict[str, Any]) -> None:
    """The segmenter's losses are rounded, and in bfloat16 where the CPU has it."""
    assert found["command ray"] == pytest.approx(found["command local"], abs=0.05)
    ray, local = (load_file(root / f"sam {how}" / "delta.safetensors") for how in ("ray", "local"))
    assert ray.keys() == local.keys()
    apart = sum(float((ray[key] - value).abs().sum()) for key, value in local.items())
    assert apart < 0.05 * sum(float(value.abs().sum()) for value in local.values())
