"""Commands on a real S3 server: the same bytes as on local folders, and what faults leave."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from buckets import KEY_ID, SECRET, Bucket, first, without_runs
from small import CallPipeline, draw_product

import pipeline
from pipeline.errors import DataError
from pipeline.io.remote import retry
from pipeline.io.remote.addresses import forget_addresses, local_path
from pipeline.io.remote.marker import MARKER

ONE = ("--workers", "1")


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name, without what tells one run from another."""
    return without_runs(
        {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    )


@pytest.fixture
def product(bucket: Bucket, tmp_path: Path) -> Path:
    """A product of 12 images, which also lies in the bucket as `widget`."""
    made = draw_product(tmp_path / "widget")
    bucket.put(made, "widget")
    return made


def test_an_empty_bucket_has_no_such_folder(bucket: Bucket, call_pipeline: CallPipeline) -> None:
    ended = call_pipeline("stats", f"{bucket.address}/widget")
    assert ended.code == 2
    assert ended.stderr == (
        f"pipeline: {bucket.address}/widget: no such file or folder; check the address, and that "
        "your credentials may list it\n"
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


@pytest.mark.parametrize("fault", ["503", "truncated", "slow"])
def test_a_fault_that_passes_changes_nothing(
    fault: str, bucket: Bucket, product: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    call_pipeline("convert-masks", product, "-o", tmp_path / "out", *ONE)
    bucket.spoil(first(2, fault, part="/0"))  # photos and masks
    given = (f"{bucket.address}/widget", "-o", f"{bucket.address}/out", *ONE)
    assert call_pipeline("convert-masks", *given).code == 0
    assert without_runs(bucket.files("out")) == content(tmp_path / "out")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("503", "the server answered 503"), ("truncated", "the file arrived in part")],
)
def test_a_fault_that_stays_is_one_line_and_the_call_goes_on_later(
    fault: str, reason: str, bucket: Bucket, product: Path, call_pipeline: CallPipeline
) -> None:
    bucket.spoil(first(10**6, fault, "GET", "test/crack/001.png"))
    given = ("convert-masks", f"{bucket.address}/widget", "-o", f"{bucket.address}/out", *ONE)
    ended = call_pipeline(*given)
    assert (ended.code, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"pipeline: {bucket.address}/widget/test/crack/001.png: cannot be read ({reason}, 6 times);"
        " call the same command again: it goes on from here\n"
    )
    assert bucket.files("out") == {}
    bucket.spoil(first(0, ""))
    fetched = set(bucket.gets())
    bucket.requests.clear()
    assert call_pipeline(*given).code == 0
    assert len(set(bucket.gets()) & fetched) < len(fetched)


def test_a_server_that_always_refuses_is_one_line(
    bucket: Bucket, call_pipeline: CallPipeline
) -> None:
    bucket.spoil(first(10**6, "503"))
    ended = call_pipeline("stats", f"{bucket.address}/widget")
    assert ended.code == 2
    assert ended.stderr.count("\n") == 1
    assert "cannot be read (the server answered 503, 6 times)" in ended.stderr


def test_an_upload_that_is_refused_leaves_nothing(
    bucket: Bucket, product: Path, call_pipeline: CallPipeline
) -> None:
    bucket.spoil(first(10**6, "503", "PUT"))
    given = ("convert-masks", product, "-o", f"{bucket.address}/out", *ONE)
    ended = call_pipeline(*given)
    assert ended.code == 2
    assert "cannot be written (the server answered 503, 6 times); call the same" in ended.stderr
    bucket.spoil(first(0, ""))
    assert bucket.files("out") == {}
    assert call_pipeline(*given).code == 0
    assert "run.json" in bucket.files("out")


def test_half_an_upload_is_refused_and_finished_by_the_same_call(
    bucket: Bucket, product: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    call_pipeline("convert-masks", product, "-o", tmp_path / "out", *ONE)
    bucket.spoil(first(10**6, "503", "PUT", "instances.json"))
    given = ("convert-masks", product, "-o", f"{bucket.address}/out", *ONE)
    assert call_pipeline(*given).code == 2
    bucket.spoil(first(0, ""))
    reasons = {  # on this machine, and on another
        "cache": "what `pipeline convert-masks` wrote for it here was not uploaded to the end; "
        "repeat that call: it goes on",
        "other": "an upload of `pipeline convert-masks` to it was not finished; wait for that "
        "call, or repeat it: it goes on; or remove the folder",
    }
    for cache, reason in reasons.items():
        for address in (f"{bucket.address}/out", f"{bucket.address}/out/annotations"):
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PIPELINE_CACHE", str(tmp_path / cache))
                forget_addresses()
                refused = call_pipeline("stats", address)
            assert refused.stderr == f"pipeline: {bucket.address}/out: {reason}\n"
    forget_addresses()
    bucket.requests.clear()
    ended = call_pipeline(*given)
    assert (ended.code, f"output: {bucket.address}/out\n" in ended.stdout) == (0, True)
    assert without_runs(bucket.files("out")) == content(tmp_path / "out")
    assert sum(line.startswith("PUT") for line in bucket.requests) < len(content(tmp_path / "out"))


def test_a_file_that_its_marker_lists_must_be_there(
    bucket: Bucket, product: Path, call_pipeline: CallPipeline
) -> None:
    call_pipeline("convert-masks", product, "-o", f"{bucket.address}/out", *ONE)
    name = "annotations/instances_val.json"
    bucket.client.delete_object(Bucket=bucket.name, Key=f"out/{name}")
    ended = call_pipeline("stats", f"{bucket.address}/out/annotations/instances.json")
    assert ended.code == 0
    ended = call_pipeline(
        "export", f"{bucket.address}/out", "--to", "voc", "-o", f"{bucket.address}/voc"
    )
    assert ended.stderr == (
        f"pipeline: {bucket.address}/out/{name}: is listed in {MARKER} of its upload, and is not "
        f"there; upload the folder again, or remove {MARKER} to read it as it is\n"
    )


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


def test_a_name_that_leaves_its_folder_is_refused(
    bucket: Bucket, own_cache: Path, call_pipeline: CallPipeline
) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key="widget/../../a.png", Body=b"x")
    ended = call_pipeline("stats", f"{bucket.address}/widget")
    assert "has a name that cannot be that of a file here; rename it" in ended.stderr
    assert not list(own_cache.rglob("a.png"))


def test_no_credentials_are_in_any_output(
    bucket: Bucket, product: Path, own_cache: Path, call_pipeline: CallPipeline
) -> None:
    given = ("convert-masks", f"{bucket.address}/widget", "-o", f"{bucket.address}/out", *ONE)
    outputs = [call_pipeline(*given), call_pipeline("stats", f"{bucket.address}/none")]
    bucket.spoil(first(10**6, "503"))
    outputs += [call_pipeline(*given)]
    bucket.spoil(first(0, ""))
    texts = [part.encode() for each in outputs for part in (each.stdout, each.stderr)]
    texts += bucket.files().values()
    texts += [path.read_bytes() for path in own_cache.rglob("*") if path.is_file()]
    for text in texts:
        assert SECRET.encode() not in text
        assert KEY_ID.encode() not in text


def test_no_output_names_the_folder_of_the_copies(
    bucket: Bucket, product: Path, own_cache: Path, call_pipeline: CallPipeline
) -> None:
    given = ("convert-masks", f"{bucket.address}/widget", "-o", f"{bucket.address}/out", *ONE)
    assert call_pipeline(*given).code == 0
    for name, data in bucket.files("out").items():
        assert str(own_cache).encode() not in data, name


def test_a_missing_permission_is_one_line(bucket: Bucket) -> None:
    def denied() -> None:
        raise PermissionError("User: arn:aws:iam::1:user/me is not authorized")

    with pytest.raises(DataError) as caught:
        retry.retried(denied, "s3://bucket/a")
    assert str(caught.value) == (
        "s3://bucket/a: cannot be read (access is denied); give the credentials that may, in the "
        "environment or in the library's own files"
    )


def test_copies_of_two_servers_lie_apart(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    here = local_path(f"{bucket.address}/a")
    forget_addresses()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert local_path(f"{bucket.address}/a") != here
