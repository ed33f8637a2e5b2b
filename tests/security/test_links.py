"""A link that leads out of the named folder brings nothing in, whichever command reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from small import CallPipeline


@pytest.fixture
def linked(make_product: Callable[..., Path], tmp_path: Path) -> Path:
    """A product of which one image is a link to a photo elsewhere."""
    product = make_product({"crack": 3})
    photo = product / "test" / "crack" / "000.png"
    photo.rename(tmp_path / "private.png")
    photo.symlink_to(tmp_path / "private.png")
    return product


@pytest.mark.parametrize(
    "command",
    [
        ["stats", "PRODUCT"],
        ["convert-masks", "PRODUCT", "-o", "OUT"],
        ["classify", "--data", "PRODUCT", "-o", "OUT"],
        ["anomaly", "--data", "PRODUCT", "-o", "OUT"],
        ["segment", "--detector", "OUT", "--images", "PRODUCT/test/crack", "-o", "OUT"],
        ["study", "STUDY", "--data", "PRODUCT", "-o", "OUT"],
    ],
)
def test_every_command_refuses_an_image_that_leads_outside(
    linked: Path, tmp_path: Path, call_pipeline: CallPipeline, command: list[str]
) -> None:
    (tmp_path / "study.yaml").write_text("experiments: {a: {backbone: resnet18}}\n")
    names = {"PRODUCT": linked, "OUT": tmp_path / "out", "STUDY": tmp_path / "study.yaml"}
    words = command
    for name, path in names.items():
        words = [word.replace(name, str(path)) for word in words]
    done = call_pipeline(*words)
    assert done.code == 2, done.stderr
    assert "000.png: leads to" in done.stderr.splitlines()[-1]
    assert "--allow-outside" in done.stderr
    assert not (tmp_path / "out").exists()


def test_it_is_let_in_by_the_word_of_the_user(
    linked: Path, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    allowed = "--allow-outside", "--quiet"
    done = call_pipeline("convert-masks", linked, "-o", tmp_path / "out", *allowed)
    assert (done.code, done.stderr) == (0, "")
    assert call_pipeline("stats", linked, *allowed).code == 0


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("voc", "labelmap.txt"),
        ("voc", "ImageSets/Main/train.txt"),
        ("labelme", "labels.txt"),
        ("yolo", "classes.txt"),
        ("yolo", "obj.data"),
    ],
)
def test_lines_of_a_text_elsewhere_do_not_come_out_as_names(
    make_product: Callable[..., Path],
    tmp_path: Path,
    call_pipeline: CallPipeline,
    form: str,
    name: str,
) -> None:
    """A set as others make it, of which one list is a link to a private text."""
    call_pipeline("convert-masks", make_product(), "-o", tmp_path / "data")
    given = tmp_path / "data" / "annotations" / "instances_train.json"
    options = ["--to", form, "--images", tmp_path / "data" / "images", "--copy-images"]
    call_pipeline("export", given, *options, "-o", tmp_path / "set")
    if form == "yolo":
        (tmp_path / "set" / "data.yaml").unlink()
        (tmp_path / "set" / "classes.txt").write_text("crack\nstain\n")
    (tmp_path / "private.txt").write_text("names = my secret\n" * 3)
    link = tmp_path / "set" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(tmp_path / "private.txt")
    done = call_pipeline("import", tmp_path / "set", "--from", form, "-o", tmp_path / "out")
    assert done.code == 2, done
    assert "outside its set" in done.stderr
    assert "my secret" not in done.stderr
    assert not (tmp_path / "out").exists()
