"""The fixed attacks: pickles, code in YAML, names, links, bombs, servers that lie."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from .batches import NoSampleError, attack
from .bombs import BOMBS
from .models import DETECTOR, HEAT, PREDICT, STOPPED, plain_detector
from .names import AROUND, LINKS, NAMES, REPORTS
from .samples import Kind, Run, call, config_file, imported, invoke, written
from .server import SERVERS
from .training import TRAINING
from .trial import Outcome
from .values import Places, planted_pickle


def _places(sample: Path) -> Places:
    return Places(sample.parent)


def _torch_file(places: Places) -> bytes:
    """A file as torch.save writes it, whose pickle makes the marker."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("archive/data.pkl", planted_pickle(places))
        archive.writestr("archive/version", "3\n")
    return packed.getvalue()


def _with(build: Callable[[Path], None], files: Mapping[str, Callable[[Places], bytes]]) -> Any:
    """A sample with further files in it."""

    def made(root: Path) -> None:
        build(root)
        for name, content in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.write_bytes(content(_places(root)))

    return made


def _yaml(extra: str) -> Callable[[Path], None]:
    """A YOLO set whose data.yaml ends in `extra`, where MARK is the marker's path."""

    def build(root: Path) -> None:
        written("yolo")(root)
        path = root / "data.yaml"
        text = path.read_text() + extra.replace("MARK", str(_places(root).marker))
        path.write_text(text)

    return build


def _config(extra: str) -> Callable[[Path], None]:
    def build(root: Path) -> None:
        config_file(root)
        text = extra.replace("MARK", str(_places(root).marker))
        (root / "job.yaml").write_text(text)

    return build


def _set(value: str) -> Run:
    def run(_: Random, places: Places) -> Any:
        chosen = value.replace("MARK", str(places.marker))
        return invoke("synthesize", "-o", places.output, "--set", f"seed={chosen}")

    return run


_CACHES = ("labels/train.cache", "labels.cache", "labels/train/sub.cache", "images/train.cache",
           "images/train/x.npy", "labels/val.cache.npy", "train.cache")  # fmt: skip
_TAG = "!!python/object/apply:os.system ['touch MARK']"
_CODE = ("download: \"touch MARK\"\n", "download: \"open('MARK', 'w')\"\n",
         "val: nowhere\ndownload: bash -c 'touch MARK'\n", f"extra: {_TAG}\n",
         "extra: !!python/name:os.system\n", "path: \"$(touch MARK)\"\n")  # fmt: skip
_YOLO_RUNS = [imported("yolo"), call("validate {in}"), call("validate {in} --fix")]

PICKLES: Mapping[str, list[Kind]] = {
    "label caches of ultralytics": [
        Kind(_with(written("yolo"), dict.fromkeys(_CACHES, planted_pickle)), (), [run])
        for run in _YOLO_RUNS
    ],
    "pickle as heat map": [Kind(_with(HEAT.build, {"a.npy": planted_pickle}), (), HEAT.runs)],
    "checkpoint of a detector": [
        Kind(lambda root: plain_detector(root, _torch_file(_places(root))), (), [PREDICT],
             memory=DETECTOR.memory, seconds=60),
        Kind(lambda root: plain_detector(root, planted_pickle(_places(root))), (), [PREDICT],
             memory=DETECTOR.memory, seconds=60),
    ],
    "checkpoint of a stopped training": [
        Kind(_with(STOPPED.build, {f"state/.out.unfinished/{name}": content}), (), STOPPED.runs,
             memory=STOPPED.memory, seconds=60)
        for name in (".work/checkpoint.pt", "checkpoint.pt", "model.safetensors")
        for content in (planted_pickle, _torch_file)
    ],
}  # fmt: skip
CODE: Mapping[str, list[Kind]] = {
    f"data.yaml: {extra.strip()[:50]!r}": [Kind(_yaml(extra), (), [run]) for run in _YOLO_RUNS]
    for extra in _CODE
} | {
    "tag in a configuration": [Kind(_config(f"device: {_TAG}\n"), (), [call("run {in}/job.yaml")])],
    "tag in --set": [Kind(config_file, (), [_set(_TAG)])],
}


def all_attacks() -> dict[str, dict[str, list[Kind]]]:
    """Every fixed attack, by group and name."""
    links = {**LINKS, **REPORTS, **AROUND}
    groups = {"pickles": PICKLES, "code in YAML": CODE, "training": TRAINING, "names": NAMES,
              "links": links, "bombs": BOMBS, "servers": SERVERS}  # fmt: skip
    return {group: dict(attacks) for group, attacks in groups.items()}


def planted(root: Path, chosen: str = "") -> int:
    """Run the attacks (of one group, or whose name holds a text) and print what each came to."""
    bad = count = 0
    for group, attacks in all_attacks().items():
        in_group = bad_in_group = 0
        for name, kinds in attacks.items():
            if chosen and chosen != group and chosen not in name:
                continue
            for number, kind in enumerate(kinds, start=1):
                title = f"{name} ({number})" if len(kinds) > 1 else name
                shutil.rmtree(root / "templates", ignore_errors=True)
                try:
                    _, outcome = next(iter(attack("planted", kind, [-1], root)))
                except NoSampleError as error:
                    outcome = Outcome("fault", f"no valid sample: {error}")
                in_group += 1
                if outcome.is_bad:
                    bad_in_group += 1
                    print(f"  {group}: {title}: {json.dumps(outcome.facts())}", flush=True)
        if in_group:
            print(f"{group:14} {in_group:4} attacks, {bad_in_group:3} got through", flush=True)
        bad, count = bad + bad_in_group, count + in_group
    print(f"{count} planted attacks, {bad} got through", flush=True)
    return int(bad > 0)
