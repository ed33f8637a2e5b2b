"""What is an address, where its copy lies, and what never shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from pipeline.errors import DataError, one_line
from pipeline.io.remote.addresses import is_address, local_path, place_of, refuse_other_schemes

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", False),
        ("photos", False),
        ("s3", False),
        ("s3:/photos", False),  # as text, a folder of this name
        ("/data/s3://a", False),
        ("s3://bucket/photos", True),
        ("gs://bucket", True),
        ("az://container/a.json", True),
        ("http://127.0.0.1:80/a.png", True),
        ("https://example.com/", True),
        ("ftp://example.com/a", False),
    ],
)
def test_an_address_begins_with_a_scheme(text: str, expected: bool) -> None:
    assert is_address(text) is expected


def test_a_path_that_was_made_of_an_address_is_one() -> None:
    assert is_address(Path("s3://bucket/photos"))
    assert local_path(Path("https://a.b/c.png")) == local_path("https://a.b/c.png")


def test_a_folder_with_the_name_of_a_scheme_is_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s3:").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_address(Path("s3://bucket"))


def test_a_copy_is_shown_by_its_address(own_cache: Path) -> None:
    path = local_path("http://127.0.0.1:8/set/my%20photo.png")
    assert path.is_relative_to(own_cache)
    assert path.name == "my photo.png"
    assert str(place_of(path)) == "http://127.0.0.1:8/set/my photo.png"
    assert str(DataError(path, "is bad")) == "http://127.0.0.1:8/set/my photo.png: is bad"
    assert place_of(own_cache) is None


def test_unfinished_work_is_shown_where_it_lies() -> None:
    path = local_path("http://host/set/out")
    work = path.with_name(".out.unfinished")
    assert one_line(f"{path}: stopped; its work lies in {work}; go on") == (
        f"http://host/set/out: stopped; its work lies in {work}; go on"
    )


def test_credentials_in_a_web_address_are_nowhere() -> None:
    path = local_path("https://me:hunter2@host/a.json?X-Amz-Signature=5ecret&Expires=1")
    other = local_path("https://host/a.json")
    assert path != other
    for text in (str(path), one_line(str(path)), str(place_of(path))):
        assert "hunter2" not in text
        assert "5ecret" not in text
    assert one_line(str(path)) == "https://host/a.json"


@pytest.mark.parametrize(
    "address",
    [
        "s3://id:hunter2@bucket/a",
        "s3://bucket/a?X-Amz-Signature=hunter2",
        "gs://bucket/a?x-goog-signature=hunter2",
        "az://container/a?sig=hunter2",
    ],
)
def test_credentials_in_a_bucket_address_are_refused_and_not_shown(address: str) -> None:
    with pytest.raises(DataError, match="holds credentials; leave them out") as caught:
        local_path(address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("address", ["s3://", "s3:///a", "s3://b//a", "s3://b/../a", "http://"])
def test_what_cannot_be_an_address_is_refused(address: str) -> None:
    with pytest.raises(DataError, match="is not an address; write scheme://bucket/path"):
        local_path(address)


def test_another_scheme_is_refused_without_its_rest() -> None:
    refuse_other_schemes("photos/a.png")
    with pytest.raises(DataError, match="is no address that is read; use one of s3://") as caught:
        refuse_other_schemes("ftp://me:hunter2@host/a")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("scheme", "module", "extra"),
    [
        ("s3", "s3fs", "s3"),
        ("gs", "gcsfs", "gcs"),
        ("az", "adlfs", "azure"),
        ("http", "aiohttp", "http"),
    ],
)
def test_a_missing_library_is_one_line_with_its_extra(scheme: str, module: str, extra: str) -> None:
    with (
        mock.patch.dict(sys.modules, {module: None}),
        mock.patch.dict("fsspec.registry._registry", clear=True),  # classes that are loaded
        pytest.raises(DataError, match="needs the extra") as caught,
    ):
        local_path(f"{scheme}://bucket/a")
    assert str(caught.value) == (
        f"{scheme}://bucket/a: needs the extra `{extra}`; install it: "
        f"pip install 'defect-pipeline[{extra}]'"
    )


@pytest.mark.slow
def test_fsspec_is_imported_with_the_first_address_alone() -> None:
    script = (
        "import sys, pipeline, pipeline.cli; pipeline.stats; from pipeline.cli.options import FILE;"
        "FILE.convert('photos', None, None); print('fsspec' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
