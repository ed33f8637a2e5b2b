"""Changed files of every kind: none runs, escapes, crashes or is a fault of the program; and the
search itself finds such things where there are any."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from attack import KINDS, inputs_of_kinds, scratch_root
from attacks.batches import attack
from attacks.planted import all_attacks
from attacks.samples import Kind
from attacks.trial import Outcome
from attacks.values import TOKEN, Places, planted_pickle

pytestmark = pytest.mark.slow

_SLOW = {"stopped run", "anomaly model", "classifier", "detector", "tuned SAM", "job"}
_QUICK = {name: kind for name, kind in KINDS.items() if name not in _SLOW}
_COUNT = inputs_of_kinds(_QUICK, 250)
_USED = (  # by most commands: loaded once, not by each process that is forked
    "pipeline.stages.convert_masks", "pipeline.stages.export_labels", "pipeline.stages.evaluate",
    "pipeline.stages.stats", "pipeline.stages.validate",
)  # fmt: skip
_KINDS = 3  # of a planted file: `attack.py planted` tries all commands on it

Attack = Callable[[str, str, Sequence[int]], list[Outcome]]


@pytest.fixture(scope="module")
def attacked() -> Iterator[Attack]:
    """Attacks of a group, by name. They are forked from a process without threads, as that of the
    other tests is not."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(1, context) as fresh:
        yield lambda group, name, seeds: fresh.submit(_attacked, group, name, seeds).result()


@pytest.fixture(scope="module")
def searched(attacked: Attack) -> Callable[[str], list[Outcome]]:
    """The unchanged sample of a kind, and then the changed ones: the sample is made once."""
    return cache(lambda name: attacked("mutate", name, range(-1, _COUNT[name])))


def _attacked(group: str, name: str, seeds: Sequence[int]) -> list[Outcome]:
    for module in _USED:
        import_module(module)
    groups: dict[str, Any] = {"mutate": KINDS, "made up": MADE_UP, **all_attacks()}
    found = groups[group][name]
    root = scratch_root()
    os.environ["PIPELINE_CACHE"] = str(root / "cache")
    try:
        return [
            outcome
            for number, kind in enumerate([found] if isinstance(found, Kind) else found[:_KINDS])
            for _, outcome in attack(f"{name} {number}" if number else name, kind, seeds, root)
        ]
    finally:
        shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("name", _QUICK)
def test_changed_files_are_refused_or_read(
    name: str, searched: Callable[[str], list[Outcome]]
) -> None:
    outcomes = dict(enumerate(searched(name)[1:]))
    assert len(outcomes) == _COUNT[name]
    assert not {seed: outcome for seed, outcome in outcomes.items() if outcome.is_bad}


@pytest.mark.parametrize("name", sorted(set(_QUICK) - {"set"}))
def test_the_unchanged_sample_is_accepted(
    name: str, searched: Callable[[str], list[Outcome]]
) -> None:
    outcome = searched(name)[0]
    assert outcome.verdict == "accepted", outcome


def build(root: Path) -> None:
    root.mkdir()
    (root / "labels.json").write_text('{"size": [48, 64], "name": "a"}')


def careless(_: Random, places: Places) -> Any:
    import json

    return json.loads((places.sample / "labels.json").read_text())["size"][0]


def killed(_: Random, places: Places) -> None:
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def endless(_: Random, places: Places) -> None:
    while True:
        pass


def writes(place: Callable[[Places], Path], data: bytes) -> Callable[[Random, Places], None]:
    def run(_: Random, places: Places) -> None:
        place(places).parent.mkdir(parents=True, exist_ok=True)
        place(places).write_bytes(data)

    return run


def unpickles(_: Random, places: Places) -> None:
    import pickle

    pickle.loads(planted_pickle(places))


def links(_: Random, places: Places) -> None:
    places.output.mkdir()
    (places.output / "a.png").symlink_to(places.photo)


def devours(_: Random, places: Places) -> None:
    bytearray(8 << 30)


_SEEN: Mapping[str, tuple[Callable[[Random, Places], Any], str]] = {
    "a crash": (killed, "crash"),
    "a hang": (endless, "hang"),
    "memory": (devours, "fault MemoryError"),
    "a file outside": (writes(lambda places: places.outside / "new", b""), "written: outside/new"),
    "another's file": (
        writes(lambda places: places.outside / "victim.txt", b"x"), "changed: outside/victim.txt"
    ),
    "the input": (
        writes(lambda places: places.sample / "labels.json", b"x"), "changed: sample/labels.json"
    ),
    "a drive": (writes(lambda places: places.cwd / "C:\\x", b""), "written: cwd/C:\\x"),
    "a neighbour": (writes(lambda places: places.results / "y" / "x", b""), "beside the output: y"),
    "a leak": (
        writes(lambda places: places.output / "x", TOKEN.encode()), "a secret in the output"
    ),
    "a link": (links, "a link in the output"),
    "planted code": (unpickles, "planted code"),
}  # fmt: skip
MADE_UP: Mapping[str, Kind] = {
    **{name: Kind(build, (), [run], seconds=1) for name, (run, _) in _SEEN.items()},
    "careless": Kind(build, ("labels.json",), [careless]),
}


@pytest.mark.parametrize("name", _SEEN)
def test_the_search_sees_what_gets_through(name: str, attacked: Attack) -> None:
    [outcome] = attacked("made up", name, [-1])
    ran = "planted code" if outcome.ran else ""
    assert outcome.is_bad
    assert _SEEN[name][1] in f"{outcome.verdict} {outcome.where} {outcome.escape} {ran}"


def test_a_careless_reader_is_a_fault_and_the_seeds_after_it_are_tried_too(
    attacked: Attack,
) -> None:
    outcomes = attacked("made up", "careless", range(60))
    faults = {outcome.where.split()[0] for outcome in outcomes if outcome.is_bad}
    assert len(outcomes) == 60
    assert {"KeyError", "TypeError"} <= faults


def test_a_seed_gives_the_same_input_again(attacked: Attack) -> None:
    first, again = (attacked("made up", "careless", [5, 6, 7]) for _ in range(2))
    changes = [outcome.change for outcome in first]
    assert changes == [outcome.change for outcome in again]
    assert len(set(changes)) == 3


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("names", "names in category to mvtec"),
        ("names", "names in split to cvat-coco"),
        ("links", "image of coco to a secret"),
        ("links", "image of labelme to a photo outside"),
        ("bombs", "compressed RLE of 10^12 pixels"),
        ("bombs", "polygons at 1e300"),
        ("bombs", "entities in CVAT"),
        ("pickles", "pickle as heat map"),
        ("code in YAML", "tag in --set"),
    ],
)
def test_planted_files_do_nothing(group: str, name: str, attacked: Attack) -> None:
    assert not [outcome for outcome in attacked(group, name, [-1]) if outcome.is_bad]
