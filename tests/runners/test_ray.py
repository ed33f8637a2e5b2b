"""The Ray runner, in a process of its own: Ray's servers end with it, and it may end with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from child_processes import output_of
from discs import QUICK, bytes_of, discs, untrained_segmenter
from small import draw_product

from pipeline.config.schema import ConvertConfig
from pipeline.runners.ray import _share
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.segment import segment

pytestmark = pytest.mark.slow


SCRIPT = """
import os
import sys
from functools import partial
from pathlib import Path
import ray
from pipeline.config.schema import ConvertConfig
from pipeline.errors import DataError
from pipeline.io.write import write_text, writing_below
from pipeline.runners import map_items
from pipeline.stages.convert_masks import convert_masks
from pipeline.stages.label import label
from pipeline.stages.segment import segment
sys.path.insert(0, sys.argv[6])
from discs import QUICK

print(list(map_items(abs, range(-40, 0), "ray", 1)))
print(ray.is_initialized())
ray.init(address="local", num_cpus=2, log_to_driver=False, include_dashboard=False,
         _system_config={"worker_niceness": 0, "agent_register_timeout_ms": 600_000})
inside, outside, product, output, discs, _ = (Path(name) for name in sys.argv[1:])
os.environ["PIPELINE_NOTE"] = "seen"
os.chdir(product.parent)
print(*map_items(os.getenv, ["PIPELINE_NOTE"], "ray", 1),
      *map_items(os.path.isdir, [product.name], "ray", 1))
write = partial(write_text, text="x")
with writing_below(inside):
    list(map_items(write, [inside / f"{number}.txt" for number in range(20)], "ray", 2))
    try:
        list(map_items(write, [outside / f"{number}.txt" for number in range(20)], "ray", 2))
    except DataError as error:
        print(error)
convert_masks([product], output, ConvertConfig(folds=2), runner="ray", workers=2)
segment(discs / "images", discs / "two", QUICK, device="cpu", boxes=discs / "boxes.json",
        keep_going=True, runner="ray", workers=2)
model, photos = discs / "model", discs / "images"
for name, options in (("one", {}), ("two", {"runner": "ray", "workers": 2})):
    label(model, photos, discs / f"labels {name}", device="cpu", keep_going=True, **options)
print(ray.is_initialized())
"""


@dataclass(frozen=True)
class Done:
    """What a process with Ray left behind: a product, its conversion, other files, photos with
    their masks, and lines."""

    product: Path
    converted: Path
    inside: Path
    outside: Path
    discs: Path
    lines: list[str]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Ray is imported once, and starts twice: by the runner, and before it."""
    root = tmp_path_factory.mktemp("ray")
    product = draw_product(root / "widget", {"crack": 12, "stain": 9}, 4, 2)
    inside, outside, converted = root / "out", root / "elsewhere", root / "two"
    folder = root / "discs"
    discs(folder, 11)
    (folder / "images" / "6.png").write_bytes(b"no image")
    untrained_segmenter(folder / "model")
    here = Path(__file__).parent.parent
    lines = output_of(SCRIPT, inside, outside, product, converted, folder, here).splitlines()
    return Done(product, converted, inside, outside, folder, lines)


def test_results_are_in_order_and_workers_write_where_their_parent_may(done: Done) -> None:
    results, own_goes_on, place, refused, goes_on = done.lines
    assert results == str(list(range(40, 0, -1)))
    assert own_goes_on == "False"
    assert place == "seen True"  # this program's variables, and the folder that it works in
    assert "lies outside the folder that is written" in refused
    assert len(list(done.inside.iterdir())) == 20
    assert not done.outside.exists()
    assert goes_on == "True"  # a cluster that was there before is not ended


def test_ray_writes_the_bytes_of_one_process(done: Done, tmp_path: Path) -> None:
    one, two = tmp_path / "one", done.converted
    convert_masks([done.product], one, ConvertConfig(folds=2))
    names = {p.relative_to(one) for p in one.rglob("*") if p.is_file()}
    assert len(names) > 80
    for name in names - {Path("run.json")}:  # which holds the time it took
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_actors_with_models_write_the_bytes_of_one_process(done: Done) -> None:
    result = segment(
        done.discs / "images", done.discs / "one", QUICK, device="cpu",
        boxes=done.discs / "boxes.json", keep_going=True,
    )  # fmt: skip
    assert (result.images, len(result.faults)) == (10, 1)
    assert bytes_of(done.discs / "one") == bytes_of(done.discs / "two")


def test_label_by_ray_writes_the_bytes_of_one_process(done: Done) -> None:
    one = bytes_of(done.discs / "labels one")
    assert b'"score"' in one["instances.json"]
    assert one == bytes_of(done.discs / "labels two")


@pytest.mark.parametrize(
    ("gpus", "actors", "share"),
    [(0, 3, 0.0), (1, 1, 1.0), (1, 3, 0.3333), (2, 3, 0.5), (4, 2, 1.0)],
)
def test_actors_have_equal_parts_of_gpus_that_fit_on_them(
    gpus: int, actors: int, share: float
) -> None:
    assert _share(gpus, actors) == share
