"""The command as a user meets it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner
from small import CallPipeline

from pipeline import cli
from pipeline.cli import command
from pipeline.cli.generated import build_config, config_of, settings_of
from pipeline.cli.options import ConfiguredCommand
from pipeline.config import schema
from pipeline.config.schema import FinetuneConfig, SegmentConfig, SynthesizeConfig, ViewsConfig
from pipeline.config.values import Settings
from pipeline.formats.registry import FORMATS
from pipeline.io.images import write_png

MakeProduct = Callable[..., Path]


def pipeline(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_needs_no_heavy_import() -> None:
    heavy = "torch", "ultralytics", "cv2", "numpy", "pydantic", "matplotlib", "scipy"
    script = (
        "import sys; sys.argv = ['pipeline', '--help']\n"
        "from pipeline.cli import main\n"
        "try: main()\n"
        f"finally: print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "convert-masks" in done.stdout


@pytest.mark.parametrize("verb", sorted(cli.command.commands))
def test_every_verb_explains_itself(verb: str) -> None:
    done = CliRunner().invoke(cli.command, [verb, "--help"])
    assert done.exit_code == 0
    assert "Usage:" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert-masks", "nowhere", "-o", "out"], "nowhere: no such folder; check the path"),
        (["stats", "nowhere.json"], "nowhere.json: no such file; check the path"),
        (["run", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (["segment", "--images", ".", "-o", "out"], "needs --boxes COCO.json or --detector RUN"),
        (["finetune-yolo", "--data", ".", "-o", "out"], "give the folder that convert-masks wrote"),
        (["evaluate", "--truth", "a.json", "--predictions", "b"], "a.json: no such file"),
        (["weights", "fetch", "resnet99"], "no weights have the name 'resnet99'; the names are "),
        (["report", "."], "holds no finished step"),
        (["export", "no.json", "--to", "voc", "-o", "out"], "no.json: no such file"),
        (["export", "no.json", "--to", "xls", "-o", "out"], "no such format; there are coco,"),
        (["import", "nowhere", "--from", "voc", "-o", "out"], "holds no XML file"),
        (["validate", "nowhere"], "nowhere: is neither COCO JSON nor a YOLO set"),
        (["validate", "no.json"], "no.json: no such file"),
        (["classify", "--data", ".", "-o", "out"], "is not in a layout that is read"),
        (["synthesize", "-o", "out", "--set", "colour=red"], "unknown key: 'colour'"),
        (["nonsense"], "No such command 'nonsense'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call_pipeline: CallPipeline,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call_pipeline(*arguments)
    assert done.code == 2
    assert message in done.stderr
    assert done.stderr.startswith("pipeline: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_json_is_one_object_on_stdout_and_quiet_is_silent(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product()
    done = pipeline("convert-masks", product, "-o", tmp_path / "a", "--json", "--group-by", "none")
    assert json.loads(done.stdout)["images"] == 12
    done = pipeline("convert-masks", product, "-o", tmp_path / "b", "--quiet")
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_keep_going_reports_every_fault(
    make_product: MakeProduct, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    product = make_product()
    (product / "test" / "crack" / "000.png").write_bytes(b"broken")
    (product / "ground_truth" / "stain" / "001_mask.png").unlink()
    done = call_pipeline("convert-masks", product, "-o", tmp_path / "a", "--keep-going", "--json")
    assert done.code == 0
    assert len(json.loads(done.stdout)["faults"]) == 2


def test_a_folder_that_may_not_be_written_is_one_line(
    make_product: MakeProduct, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    (tmp_path / "file").touch()  # a file in the way stops even root
    done = call_pipeline("convert-masks", make_product(), "-o", tmp_path / "file" / "out")
    assert done.code == 2
    assert "out: cannot be written (File exists)" in done.stderr.splitlines()[-1]


def pipeline_on_a_full_disk(limit: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Files cannot grow beyond `limit` bytes: a write then fails as on a full disk."""
    script = (
        "import resource, signal, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"sys.argv = {['pipeline', *map(str, arguments), '-q']}\n"
        "from pipeline.cli import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    few = ("--good-train", 2, "--good-test", 1, "--per-defect", 1)
    done = pipeline_on_a_full_disk(20000, "synthesize", *few, "-o", tmp_path / "zip")
    assert done.returncode == 2
    assert "cannot be written (File too large)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_stops_a_conversion_even_with_keep_going(
    make_product: MakeProduct, tmp_path: Path, workers: int
) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (300, 300)).astype(np.uint8)
    product = make_product({"crack": 3}, mask=noise, size=(300, 300))
    verb = ["convert-masks", product, "-o", tmp_path / "out", "--keep-going", "--group-by", "none"]
    done = pipeline_on_a_full_disk(9000, *verb, "--workers", workers)
    assert done.returncode == 2
    assert "cannot be written (File too large)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["widget"]


@pytest.mark.slow
def test_a_full_disk_stops_a_search_for_near_duplicates_in_one_line(
    make_product: MakeProduct, tmp_path: Path
) -> None:
    product = make_product({"crack": 3}, size=(300, 300))
    done = pipeline_on_a_full_disk(9000, "convert-masks", product, "-o", tmp_path / "out")
    assert done.returncode == 2
    assert "has no 1 MB for thumbnails (File too large); set TMPDIR" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["widget"]


def test_formats_are_listed(call_pipeline: CallPipeline) -> None:
    listed = call_pipeline("export", "--formats").stdout.splitlines()
    assert [line.split()[0] for line in listed] == list(FORMATS)


def test_a_bound_on_what_is_lost_is_an_exit_code_and_a_fault_too(
    make_product: MakeProduct, tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[2:40, 2:3] = mask[2:40, 60:61] = 255  # two parts: one YOLO ring needs a seam
    product = make_product({"crack": 1}, mask=mask)
    strict = ["convert-masks", product, "-o", tmp_path / "out", "--one-instance", "--min-iou"]
    assert call_pipeline(*strict, "0.999").code == 1
    assert (tmp_path / "out" / "fidelity.json").is_file()
    assert call_pipeline(*strict, "0.5").code == 0
    assert call_pipeline("validate", tmp_path / "out").code == 0
    (tmp_path / "out" / "data.yaml").write_text("names: [a, a]\ntrain: images\n")
    done = call_pipeline("validate", tmp_path / "out")
    assert done.code == 1
    assert "categories disagree" in done.stdout


def test_weights_are_listed_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call_pipeline: CallPipeline
) -> None:
    monkeypatch.setenv("PIPELINE_WEIGHTS", str(tmp_path))
    listed = call_pipeline("weights", "list", "--json")
    assert json.loads(listed.stdout)["yolov8s-world"]["licence"] == "AGPL-3.0"
    (tmp_path / "yolov8s-world.pt").write_bytes(b"planted")
    done = call_pipeline("weights", "verify")
    assert done.code == 1
    assert "remove the file" in done.stdout


def test_a_fault_of_the_program_is_one_line_too_unless_debugging(
    monkeypatch: pytest.MonkeyPatch, call_pipeline: CallPipeline
) -> None:
    from pipeline.stages import report

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(report, "report", broken)
    done = call_pipeline("report", ".")
    assert done.code == 1
    assert done.stderr.startswith("pipeline: a fault of the program (ZeroDivisionError")
    monkeypatch.setenv("PIPELINE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        call_pipeline("report", ".")


def test_each_note_of_a_summary_has_a_line_of_its_own(
    tmp_path: Path, call_pipeline: CallPipeline
) -> None:
    """Three photos, of which the masks of two are called p0_GT and p1_GT."""
    for folder in ("photos", "masks"):
        (tmp_path / folder).mkdir()
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 255
    for number in range(3):
        write_png(tmp_path / "photos" / f"p{number}.png", np.zeros((8, 8, 3), np.uint8))
        if number < 2:
            write_png(tmp_path / "masks" / f"p{number}_GT.png", mask)
    folders = ("--images", tmp_path / "photos", "--masks", tmp_path / "masks")
    done = call_pipeline("convert-masks", *folders, "-o", tmp_path / "labels")
    assert done.code == 0
    assert "  the names of masks end in _GT\n" in done.stdout
    assert "  1 images have no mask: they are good\n" in done.stdout


def test_every_simple_setting_is_an_option_with_its_description_and_default() -> None:
    for verb in command.commands.values():
        if not isinstance(verb, ConfiguredCommand):
            continue
        kind = config_of(verb.config_name)
        options = {name: o for o in verb.params for name in (*o.opts, *o.secondary_opts)}
        for setting in settings_of(kind):
            if setting.path[-1] in verb.but:
                continue
            option = options["--" + setting.path[-1].replace("_", "-")]
            assert isinstance(option, click.Option)
            assert option.help and setting.field.description
            assert option.help.startswith(setting.field.description)


def test_every_field_of_every_configuration_is_described() -> None:
    for name in schema.__all__:
        for field, info in config_of(name).model_fields.items():
            assert info.description, f"{name}.{field}"
            assert info.description[0].isupper(), f"{name}.{field}"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, FinetuneConfig()),
        ({"setting_epochs": 7}, FinetuneConfig(epochs=7)),
        ({"setting_amp": False}, FinetuneConfig(amp=False)),
        ({"setting_learning_rate": 0.5}, FinetuneConfig(learning_rate=0.5)),
    ],
)
def test_options_become_the_configuration(values: Settings, expected: FinetuneConfig) -> None:
    assert build_config("FinetuneConfig", None, (), values, {}) == expected


def test_file_option_and_assignment_win_in_this_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("epochs: 1\nbatch: 1\nfreeze: 1\n".replace("views: {}\n", ""))
    values = {"setting_batch": 2, "setting_freeze": 2}
    config = build_config(
        "FinetuneConfig", tmp_path / "a.yaml", ("freeze=3",), values, {"epochs": 9}
    )
    assert config == FinetuneConfig(epochs=1, batch=2, freeze=3)


def test_a_nested_setting_and_a_choice_of_numbers_reach_their_place() -> None:
    views = build_config("SegmentConfig", None, (), {"setting_views_tta": 4}, {})
    assert views == SegmentConfig(views=ViewsConfig(tta=4))
    assert build_config(
        "SynthesizeConfig", None, (), {"setting_size": "1024"}, {}
    ) == SynthesizeConfig(size=1024)
