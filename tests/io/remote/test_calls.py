"""What is fetched before a command and uploaded after it, and what a stopped one leaves."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from buckets import Bucket, first
from small import CallPipeline, draw_product

import pipeline
from pipeline.errors import DataError
from pipeline.io.remote.addresses import forget_addresses, local_path
from pipeline.io.remote.calls import on_copies
from pipeline.io.remote.functions import result_of
from pipeline.results import StageResult
from pipeline.stages.convert_masks import convert_masks

UNSENT = "wrote for it here was not uploaded to the end; repeat that call: it goes on"


class KilledError(Exception):
    """The process dies here."""


def nothing() -> None:
    pass


def writes(path: Path, text: str, dies: bool = False) -> Callable[[], None]:
    """Work that writes a file."""

    def work() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text, "utf-8")
        if dies:
            raise KilledError

    return work


def call(command: str, values: dict[str, Any], work: Callable[[], None]) -> None:
    on_copies(command, values, work, lambda _: None)


def test_without_an_address_the_command_is_called_and_no_more(own_cache: Path) -> None:
    assert on_copies("stats", {"source": Path("a")}, lambda: 7, lambda _: 0) == 7
    assert not own_cache.exists()


def test_an_output_appears_and_a_second_call_replaces_it(bucket: Bucket) -> None:
    out = local_path(f"{bucket.address}/out")
    call("export", {"output": out}, writes(out / "a.txt", "one"))
    call("export", {"output": out}, writes(out / "a.txt", "two"))
    assert bucket.files("out")["a.txt"] == b"two"


def test_a_file_as_output_has_no_marker(bucket: Bucket) -> None:
    page = local_path(f"{bucket.address}/page.html")
    call("report", {"run": Path("run"), "output": page}, writes(page, "<p>"))
    assert bucket.files() == {"page.html": b"<p>"}


def test_changes_in_place_outlive_the_process_and_other_commands(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="set/a.json", Body=b"{}")
    bucket.client.put_object(Bucket=bucket.name, Key="set/b.json", Body=b"b")
    path = local_path(f"{bucket.address}/set/a.json")
    values = {"sources": (path,), "fix": True}
    with pytest.raises(KilledError):
        call("validate", values, writes(path, "[]", dies=True))
    for source in (path, path.parent, path.parent / "b.json"):
        with pytest.raises(DataError, match=UNSENT):
            call("stats", {"source": source}, nothing)
    assert path.read_text("utf-8") == "[]"
    call("validate", values, nothing)
    assert bucket.files("set") == {"a.json": b"[]", "b.json": b"b"}
    call("stats", {"source": path}, nothing)


def test_a_command_that_fails_before_it_changes_a_file_leaves_nothing(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="set/a.json", Body=b"{}")
    path = local_path(f"{bucket.address}/set/a.json")

    def fails() -> None:
        raise KilledError

    with pytest.raises(KilledError):
        call("validate", {"sources": (path,), "fix": True}, fails)
    call("stats", {"source": path}, nothing)


def test_a_change_on_both_sides_is_refused(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="set/a.json", Body=b"{}")
    path = local_path(f"{bucket.address}/set/a.json")
    values = {"sources": (path,), "fix": True}
    with pytest.raises(KilledError):
        call("validate", values, writes(path, "[]", dies=True))
    bucket.client.put_object(Bucket=bucket.name, Key="set/a.json", Body=b"theirs")
    with pytest.raises(DataError, match="was changed both there and in its copy"):
        call("validate", values, nothing)
    assert path.read_text("utf-8") == "[]"
    assert bucket.files("set") == {"a.json": b"theirs"}


def test_an_output_that_was_not_uploaded_gives_way_with_overwrite_alone(bucket: Bucket) -> None:
    out = local_path(f"{bucket.address}/out")
    bucket.spoil(first(10**6, "503", "PUT", "a.txt"))
    with pytest.raises(DataError, match="cannot be written"):
        call("segment", {"output": out}, writes(out / "a.txt", "one"))
    bucket.spoil(first(0, ""))
    with pytest.raises(DataError, match=f"`pipeline segment` {UNSENT}"):
        call("label", {"output": out}, writes(out / "b.txt", "two"))
    call("label", {"output": out, "overwrite": True}, writes(out / "b.txt", "two"))
    assert set(bucket.files("out")) == {".upload.jsonl", "b.txt"}


def test_files_that_others_add_or_change_meanwhile_stay(bucket: Bucket) -> None:
    out = local_path(f"{bucket.address}/out")
    call("export", {"output": out}, writes(out / "a.txt", "one"))

    def others_write(name: str, then: Callable[[], None]) -> Callable[[], None]:
        def work() -> None:
            bucket.client.put_object(Bucket=bucket.name, Key=f"out/{name}", Body=b"theirs")
            then()

        return work

    call("export", {"output": out}, others_write("b.txt", writes(out / "a.txt", "two")))
    assert bucket.files("out")["a.txt"] == b"two"
    assert bucket.files("out")["b.txt"] == b"theirs"
    with pytest.raises(DataError, match="was written by others while the command ran; move"):
        call("export", {"output": out}, others_write("a.txt", writes(out / "a.txt", "three")))
    assert bucket.files("out")["a.txt"] == b"theirs"
    bucket.client.delete_object(Bucket=bucket.name, Key="out/a.txt")
    call("export", {"output": out}, writes(out / "a.txt", "three"))
    assert bucket.files("out")["a.txt"] == b"three"


def test_a_file_that_others_change_while_it_is_changed_in_place_stays(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="set/a.json", Body=b"{}")
    path = local_path(f"{bucket.address}/set/a.json")

    def work() -> None:
        bucket.client.put_object(Bucket=bucket.name, Key="set/a.json", Body=b"theirs")
        writes(path, "[]")()

    with pytest.raises(DataError, match="was written by others while the command ran"):
        call("validate", {"sources": (path,), "fix": True}, work)
    assert bucket.files("set") == {"a.json": b"theirs"}


def test_another_machine_repeats_an_upload_that_was_stopped(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = local_path(f"{bucket.address}/out")
    bucket.spoil(first(10**6, "503", "PUT", "b.txt"))
    with pytest.raises(DataError, match="cannot be written"):
        call("segment", {"output": out, "device": "cpu"}, writes(out / "b.txt", "one"))
    bucket.spoil(first(0, ""))
    monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / "other"))
    forget_addresses()
    there = local_path(f"{bucket.address}/out")
    assert there != out
    with pytest.raises(DataError, match="was not finished; wait for that call, or repeat it"):
        call("segment", {"output": there, "device": "0"}, writes(there / "b.txt", "one"))
    call("segment", {"output": there, "device": "cpu"}, writes(there / "b.txt", "one"))
    assert bucket.files("out")["b.txt"] == b"one"


def test_a_part_of_an_output_is_replaced_within_its_marker(bucket: Bucket) -> None:
    run = local_path(f"{bucket.address}/run")
    (run / "comparison").mkdir(parents=True)
    (run / "comparison" / "old.txt").write_text("old", "utf-8")
    call("run", {"output": run}, writes(run / "a.txt", "one"))

    def compares() -> None:
        (run / "comparison" / "old.txt").unlink()
        writes(run / "comparison" / "new.txt", "new")()

    call("compare", {"run": run, "output": run / "comparison"}, compares)
    files = bucket.files("run")
    assert set(files) == {".upload.jsonl", "a.txt", "comparison/new.txt"}
    head, *rows = files[".upload.jsonl"].splitlines()
    assert b'"command": "run"' in head
    assert len(rows) == 2
    call("report", {"run": run}, writes(run / "report.html", "<p>"))  # it reads the whole run
    assert bucket.files("run")["report.html"] == b"<p>"


def test_a_stopped_part_of_a_run_is_written_by_the_same_call_alone(bucket: Bucket) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="run/a.txt", Body=b"one")
    run = local_path(f"{bucket.address}/run")
    values = {"run": run, "output": run / "comparison"}
    bucket.spoil(first(10**6, "503", "PUT", "b.txt"))
    with pytest.raises(DataError, match="cannot be written"):
        call("compare", values, writes(run / "comparison" / "b.txt", "two"))
    bucket.spoil(first(0, ""))
    with pytest.raises(DataError, match=f"`pipeline compare` {UNSENT}"):
        call("compare", {"run": run, "output": run / "other"}, nothing)
    call("compare", values, nothing)
    assert bucket.files("run")["comparison/b.txt"] == b"two"


@pytest.mark.parametrize("name", [n for n in pipeline.__all__ if n.islower() and n[0] != "_"])
def test_the_result_of_a_command_has_a_class_that_reads_it_back(name: str) -> None:
    function = inspect.unwrap(getattr(pipeline, name))
    if function.__module__.startswith("pipeline.stages."):
        assert issubclass(result_of(function), StageResult)


@pytest.mark.slow
def test_a_review_is_uploaded_when_its_server_ends(
    bucket: Bucket, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    product = draw_product(tmp_path / "widget")
    convert_masks([product], tmp_path / "out", workers=1)
    bucket.put(tmp_path / "out", "out")
    labels = f"{bucket.address}/out/annotations/instances.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "review", labels, "--no-browser"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("http://127.0.0.1:")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "annotations/instances.review" in bucket.files("out")
    ended = call_pipeline("export", labels, "--to", "coco", "-o", f"{bucket.address}/reviewed")
    assert ended.code == 0, ended.stderr
    assert "history.csv" in bucket.files("reviewed")
