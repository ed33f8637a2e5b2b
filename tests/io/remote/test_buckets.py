"""Commands on a real S3 server: the same bytes as on local folders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from buckets import Bucket, content, without_runs
from small import CallPipeline, Ended, draw_product

import pipeline
from pipeline.io.remote.addresses import forget_addresses, local_path
from pipeline.io.remote.marker import MARKER

ONE = ("--workers", "1")


def test_an_empty_bucket_has_no_such_folder(bucket: Bucket, call_pipeline: CallPipeline) -> None:
    ended = call_pipeline("stats", f"{bucket.address}/widget")
    assert ended.code == 2
    assert ended.stderr == (
        f"pipeline: {bucket.address}/widget: no such file or folder; check the address, and that "
        "your credentials may list it\n"
    )


def test_an_output_in_a_bucket_that_is_not_there_is_refused_before_the_work(
    bucket: Bucket, product: Path, call_pipeline: CallPipeline
) -> None:
    ended = call_pipeline("convert-masks", product, "-o", "s3://other/out", *ONE)
    assert ended.code == 2
    assert ended.stderr == (
        "pipeline: s3://other/out: no such bucket; check the address, and that your credentials "
        "may list it\n"
    )


def test_stats_of_a_bucket_are_those_of_the_folder(
    bucket: Bucket, product: Path, call_pipeline: CallPipeline
) -> None:
    local = call_pipeline("stats", product, "--json")
    remote = call_pipeline("stats", f"{bucket.address}/widget", "--json")
    assert (remote.code, remote.stdout) == (0, local.stdout)


def test_what_is_here_is_not_fetched_again(
    bucket: Bucket, product: Path, call_pipeline: CallPipeline
) -> None:
    address = f"{bucket.address}/widget"
    call_pipeline("stats", address)
    assert len(bucket.gets()) == len(content(product))
    bucket.requests.clear()
    call_pipeline("stats", address)
    assert bucket.gets() == []
    changed = draw_product(product.parent / "other", size=(40, 40)) / "train" / "good" / "000.png"
    bucket.client.upload_file(str(changed), bucket.name, "widget/train/good/001.png")
    bucket.client.delete_object(Bucket=bucket.name, Key="widget/train/good/002.png")
    ended = call_pipeline("stats", address, "--json")
    assert bucket.gets() == ["widget/train/good/001.png"]
    assert json.loads(ended.stdout)["sizes"] == {"64x48": 10, "40x40": 1}


def test_convert_masks_writes_the_same_bytes_into_a_bucket(
    bucket: Bucket, product: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    call_pipeline("convert-masks", product, "-o", tmp_path / "out", *ONE)
    ended = call_pipeline(
        "convert-masks", f"{bucket.address}/widget", "-o", f"{bucket.address}/sets/out", *ONE
    )
    assert ended.code == 0
    assert f"output: {bucket.address}/sets/out\n" in ended.stdout
    there = bucket.files("sets/out")
    assert without_runs(there) == content(tmp_path / "out")
    run = json.loads(there["run.json"])
    assert run["summary"]["output"] == f"{bucket.address}/sets/out"
    head, *files = map(json.loads, there[MARKER].splitlines())
    assert (head["state"], head["command"]) == ("whole", "convert-masks")
    assert {file["path"] for file in files} == set(there) - {MARKER}


def test_labels_of_a_bucket_are_exported_and_checked_as_local_ones(
    bucket: Bucket, product: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    call_pipeline("convert-masks", product, "-o", tmp_path / "out", *ONE)
    bucket.put(tmp_path / "out", "out")  # by another tool: there is no marker
    local = call_pipeline("export", tmp_path / "out", "--to", "voc", "-o", tmp_path / "voc")
    assert local.code == 0
    remote = call_pipeline(
        "export", f"{bucket.address}/out", "--to", "voc", "-o", f"{bucket.address}/voc"
    )
    assert remote.code == 0
    assert without_runs(bucket.files("voc")) == content(tmp_path / "voc")
    labels = f"{bucket.address}/out/annotations/instances.json"
    checked = call_pipeline("validate", labels)
    assert (checked.code, f"checked: {labels}\n" in checked.stdout) == (0, True)


def test_a_file_of_labels_finds_the_photos_beside_it(
    bucket: Bucket, product: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    call_pipeline("convert-masks", product, "-o", tmp_path / "out", *ONE)
    bucket.put(tmp_path / "out", "out")
    labels = "out/annotations/instances_test.json"
    ended = call_pipeline(
        "export", f"{bucket.address}/{labels}", "--to", "yolo", "-o", f"{bucket.address}/yolo"
    )
    assert ended.code == 0, ended.stderr
    assert len([name for name in bucket.files("yolo") if name.endswith(".png")]) == 3


def test_a_configuration_may_lie_in_a_bucket_and_name_files_there(
    bucket: Bucket, product: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    photos = sorted(product.rglob("[0-9][0-9][0-9].png"))
    names = [path.relative_to(product.parent).as_posix() for path in photos]
    splits = {name: "train" if number % 3 else "test" for number, name in enumerate(names)}
    rows = {
        "splits.json": json.dumps({"splits": splits}),
        "convert.yaml": f"split_file: {bucket.address}/splits.json\n",
    }
    for name, text in rows.items():
        bucket.client.put_object(Bucket=bucket.name, Key=name, Body=text.encode())
    given = (f"{bucket.address}/widget", "-o", f"{bucket.address}/out", *ONE)
    ended = call_pipeline("convert-masks", *given, "--config", f"{bucket.address}/convert.yaml")
    assert ended.code == 0, ended.stderr
    run = json.loads(bucket.files("out")["run.json"])
    assert run["config"]["split_file"] == f"{bucket.address}/splits.json"
    assert run["summary"]["splits"]["test"]["images"] == 4


def test_the_output_of_the_same_command_is_replaced_as_locally(
    bucket: Bucket, product: Path, call_pipeline: CallPipeline
) -> None:
    given = ("convert-masks", f"{bucket.address}/widget", "-o", f"{bucket.address}/out", *ONE)
    call_pipeline(*given)
    assert call_pipeline(*given, "--min-area", 9).code == 0
    bucket.requests.clear()
    assert call_pipeline(*given, "--min-area", 9).code == 0
    sent = [line for line in bucket.requests if line.startswith("PUT")]
    assert {line.rpartition("/")[2] for line in sent} <= {MARKER, "run.json"}


@pytest.mark.slow
def test_another_machine_replaces_an_output_but_not_the_last_copy_of_a_photo(
    bucket: Bucket,
    product: Path,
    tmp_path: Path,
    call_pipeline: CallPipeline,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def on_another_machine(name: str, *given: str) -> Ended:
        monkeypatch.setenv("PIPELINE_CACHE", str(tmp_path / name))
        forget_addresses()
        return call_pipeline(*given)

    convert = ("convert-masks", f"{bucket.address}/widget", "-o", f"{bucket.address}/out", *ONE)
    stats = ("stats", f"{bucket.address}/widget", "-o", f"{bucket.address}/plots")
    for name in ("first", "second"):
        assert on_another_machine(name, *stats).code == 0
    assert on_another_machine("third", *convert).code == 0
    ended = on_another_machine("fourth", *convert)
    assert ended.code == 2
    assert "is the only copy left of its image; move it away, or choose" in ended.stderr


def test_files_of_others_are_not_replaced(
    bucket: Bucket, product: Path, call_pipeline: CallPipeline
) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="out/notes.txt", Body=b"mine")
    ended = call_pipeline(
        "convert-masks", f"{bucket.address}/widget", "-o", f"{bucket.address}/out", *ONE
    )
    assert ended.code == 2
    assert ended.stderr == (
        f"pipeline: {bucket.address}/out: holds files that this command did not write; choose "
        "another --output\n"
    )
    assert bucket.files("out") == {"notes.txt": b"mine"}


def test_a_change_in_place_is_written_back_alone(
    bucket: Bucket, product: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    call_pipeline("convert-masks", product, "-o", tmp_path / "out", *ONE)
    path = tmp_path / "out" / "annotations" / "instances.json"
    labels = json.loads(path.read_text("utf-8"))
    labels["annotations"][0]["id"] = labels["annotations"][1]["id"]  # a fault
    path.unlink()
    path.write_text(json.dumps(labels), "utf-8")
    bucket.put(tmp_path / "out", "out")
    before = bucket.files("out")
    ended = call_pipeline("validate", f"{bucket.address}/out/annotations/instances.json", "--fix")
    assert ended.code == 0, ended.stdout
    after = bucket.files("out")
    assert after.pop("annotations/instances.json.orig") == before["annotations/instances.json"]
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {"annotations/instances.json"}
    assert set(after) == set(before)


def test_the_functions_of_the_api_take_addresses(
    bucket: Bucket, product: Path, tmp_path: Path
) -> None:
    address = f"{bucket.address}/widget"
    assert pipeline.stats(address) == pipeline.stats(product)  # type: ignore[arg-type]
    photo = "test/crack/000.png"
    pixels = pipeline.read_image(f"{address}/{photo}")
    assert np.array_equal(pixels, pipeline.read_image(product / photo))
    result = pipeline.convert_masks(
        [Path(f"{bucket.address}/widget")], Path(f"{bucket.address}/out"), workers=1
    )
    assert (result.output / "run.json").is_file()
    labels = pipeline.read_coco(f"{bucket.address}/out/annotations/instances.json")
    assert len(labels.records) == 12


def test_copies_of_two_servers_lie_apart(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    here = local_path(f"{bucket.address}/a")
    forget_addresses()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert local_path(f"{bucket.address}/a") != here
