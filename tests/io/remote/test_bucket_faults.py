"""Faults of a real S3 server: what passes changes nothing, what stays is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from buckets import KEY_ID, SECRET, Bucket, content, first, without_runs
from small import CallPipeline

from pipeline.errors import DataError
from pipeline.io.remote import retry
from pipeline.io.remote.addresses import forget_addresses
from pipeline.io.remote.marker import MARKER

ONE = ("--workers", "1")


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


@pytest.mark.slow
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


@pytest.mark.slow
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
