from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.load import build, parse_settings, read_yaml
from pipeline.config.schema import FinetuneConfig, RunConfig
from pipeline.config.values import Settings
from pipeline.errors import ConfigError


def test_no_settings_give_the_defaults() -> None:
    assert build(FinetuneConfig) == FinetuneConfig()


def test_later_layers_win() -> None:
    config = build(FinetuneConfig, {"epochs": 5, "batch": 2}, {"batch": 4})
    assert (config.epochs, config.batch) == (5, 4)


@pytest.mark.parametrize("settings", [{"classify": None}, parse_settings(["classify=null"])])
def test_null_leaves_out_what_may_be_left_out(settings: Settings) -> None:
    assert build(RunConfig, {"classify": {"epochs": 3}}, settings).classify is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"finetune": {"epoch": 3}}, "unknown key: 'finetune.epoch'"),
        (
            {"finetune": {"epochs": 0}},
            "finetune.epochs: input should be greater than or equal to 1",
        ),
        ({"finetune": {"epochs": None}}, "finetune.epochs: input should be a valid integer"),
        ({"convert": {"val": "much"}}, "convert.val: input should be a valid number"),
    ],
)
def test_an_error_names_the_key(settings: Settings, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        build(RunConfig, settings)
    assert message in str(raised.value)


def test_set_takes_dotted_keys_and_yaml_values() -> None:
    assert parse_settings(["a.b=1", "a.c=[x, y]", "d=true"]) == {
        "a": {"b": 1, "c": ["x", "y"]},
        "d": True,
    }
    with pytest.raises(ConfigError, match="write it as key=value"):
        parse_settings(["oops"])


def test_every_shipped_configuration_is_valid() -> None:
    from pipeline.config import schema as configs

    folder = Path(__file__).parent.parent / "configs"
    paths = sorted(folder.rglob("*.yaml"))
    assert paths
    for path in paths:
        verb = path.read_text().splitlines()[0].split()[2]
        kind = {"run": "RunConfig", "classify": "ClassifyConfig", "study": "StudyConfig"}[verb]
        build(getattr(configs, kind), read_yaml(path))


@pytest.mark.parametrize(("content", "message"), [("a: [", "is not YAML"), ("- a", "key: value")])
def test_a_bad_file_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_yaml(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path / "none.yaml")
