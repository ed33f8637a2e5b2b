"""Pointers of files that were not downloaded, and packed folders."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from small import CallPipeline

import pipeline
from pipeline.errors import DataError
from pipeline.formats.registry import FORMATS
from pipeline.io.images import read_image, read_size
from pipeline.io.mask_files import read_mask
from pipeline.io.read import read_json, read_text, read_xml, read_yaml
from pipeline.io.stored import archive_of

POINTER = f"""version https://git-lfs.github.com/spec/v1
oid sha256:{"0f" * 32}
size 123456
"""
ANNEX = "/annex/objects/MD5E-s20--0123456789abcdef0123456789abcdef.png\n"


def test_an_empty_file_and_a_text_about_git_lfs_are_no_pointers(tmp_path: Path) -> None:
    for text in ("", "see version https://git-lfs.github.com/spec/v1"):
        (tmp_path / "a.txt").write_text(text)
        assert read_text(tmp_path / "a.txt") == text


@pytest.mark.parametrize(
    "read", [read_image, read_size, read_mask, read_text, read_json, read_yaml, read_xml]
)
@pytest.mark.parametrize(
    ("text", "system", "command"),
    [(POINTER, "git LFS", "git lfs pull"), (ANNEX, "git-annex", r"git annex get \.")],
)
def test_a_pointer_in_place_of_a_file_is_named_with_the_command_that_gets_it(
    tmp_path: Path, read: Callable[[Path], object], text: str, system: str, command: str
) -> None:
    (tmp_path / "a.png").write_text(text)
    with pytest.raises(DataError, match=f"its pointer of {system}; run `{command}`"):
        read(tmp_path / "a.png")


def test_a_set_whose_photos_labels_or_zip_are_pointers_is_refused_by_that(
    tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    for name in ("classes.txt", "images/a.png", "labels/a.txt", "set.zip"):
        root = tmp_path / name.replace("/", "_")
        (root / "images").mkdir(parents=True)
        (root / "labels").mkdir()
        (root / "classes.txt").write_text("crack\n")
        pipeline.write_png(root / "images" / "a.png", np.zeros((10, 10, 3), np.uint8))
        (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        (root / name).write_text(POINTER)
        source = root / name if name.endswith("zip") else root
        ended = call_pipeline("import", source, "--from", "yolo", "-o", "out")
        assert ended.code == 2
        assert f"{name}: is not the file itself, but its pointer of git LFS" in ended.stderr


def packed(path: Path) -> Path:
    """A file of this name with the first bytes of its format."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("test/good/a.png", b"")
    elif path.name.endswith((".tar", ".tar.gz", ".tgz")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.png"))
        data = buffer.getvalue()
        path.write_bytes(data if path.suffix == ".tar" else gzip.compress(data))
    else:
        marks = {
            ".7z": b"7z\xbc\xaf\x27\x1c",
            ".rar": b"Rar!\x1a\x07\x01\0",
            ".gz": b"\x1f\x8b\x08",
        }
        path.write_bytes(marks[path.suffix] + bytes(60))
    return path


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("set.tar.gz", "tar -xf set.tar.gz"),
        ("set.tgz", "tar -xf set.tgz"),
        ("set.tar", "tar -xf set.tar"),
        ("my set.7z", "7z x 'my set.7z'"),
        ("set.rar", "unrar x set.rar"),
        ("set.json.gz", "gunzip -k set.json.gz"),
    ],
)
def test_a_packed_set_is_named_with_the_command_that_unpacks_it(
    tmp_path: Path, name: str, command: str, call_pipeline: CallPipeline
) -> None:
    path = packed(tmp_path / name)
    for call in (["import", "--from", "yolo", "-o", "out"],
                 ["import", "--from", "cvat", "-o", "out"],
                 ["validate"], ["stats"], ["convert-masks", "-o", "out"],
                 ["export", "--to", "yolo", "-o", "out"]):  # fmt: skip
        ended = call_pipeline(*call, path)
        assert ended.code == 2
        assert f"unpack it first (`{command}`)" in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_a_zip_is_unpacked_by_import_alone(tmp_path: Path, call_pipeline: CallPipeline) -> None:
    ended = call_pipeline("stats", packed(tmp_path / "set.zip"))
    assert "set.zip: is a zip file of packed data" in ended.stderr
    assert "`unzip set.zip -d set`" in ended.stderr
    for name, form in FORMATS.items():
        with pytest.raises(DataError) as caught:
            form.read(tmp_path / "set.zip", None)
        assert "packed data" not in str(caught.value), name


def test_a_folder_of_a_packed_file_alone_is_named_with_what_unpacks_it(
    tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    packed(tmp_path / "set.tar.gz")
    (tmp_path / "README.md").write_text("a set")
    for call in (["import", "--from", "yolo", "-o", "out"], ["stats"], ["validate"]):
        ended = call_pipeline(*call, tmp_path)
        assert ended.code == 2
        assert "holds set.tar.gz, which is packed; unpack it first (`tar -xf" in ended.stderr
    (tmp_path / "train").mkdir()  # the packed file may be what it came from
    assert "which is packed" not in call_pipeline("stats", tmp_path).stderr


def test_parts_of_a_packed_file_and_old_tars_are_packed(tmp_path: Path) -> None:
    (tmp_path / "set.7z.001").write_bytes(b"7z\xbc\xaf\x27\x1c" + bytes(9))
    (tmp_path / "old.tar").write_bytes(bytes(600))
    (tmp_path / "7z.txt").write_bytes(b"7z\xbc\xaf\x27\x1c")
    names = ("set.7z.001", "old.tar", "7z.txt", "gone.zip")
    assert [archive_of(tmp_path / name) for name in names] == ["7z", "tar", "", ""]


def test_a_model_that_is_a_zip_inside_is_no_packed_set(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.zip").rename(tmp_path / "model.pt")
    assert archive_of(path) == ""
