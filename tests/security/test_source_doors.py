"""The source calls no loader that runs what a file says."""

from __future__ import annotations

import ast
from functools import cache

import pytest
import yaml
from canary import SOURCES

from pipeline.io.read import _WordLoader
from pipeline.runtime.signals import Stopped


@cache
def _calls() -> list[tuple[str, str, ast.Call]]:
    """(file, dotted name, call) of every call in the program's own code."""
    found = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                place = path.relative_to(SOURCES).as_posix()
                found.append((place, _dotted(node.func), node))
    return found


def _dotted(function: ast.expr) -> str:
    """As `ast.unparse`, which takes longer than all else, for the usual names."""
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        return f"{_dotted(function.value)}.{function.attr}"
    return ast.unparse(function)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("torch.load", "weights_only", True), ("np.load", "allow_pickle", False),
     ("torch_safe_load", "safe_only", True)],
)  # fmt: skip
def test_every_loader_is_called_with_its_safe_setting(name: str, key: str, value: bool) -> None:
    calls = [(place, call) for place, called, call in _calls() if called == name]
    assert calls
    for place, call in calls:
        given = {word.arg: getattr(word.value, "value", None) for word in call.keywords}
        assert given.get(key) is value, f"{place}:{call.lineno}"


def test_no_other_way_to_run_what_a_file_says_is_in_use() -> None:
    """The runners hand their own work to their own processes, and annotations that wait for their
    image are packed and unpacked in the memory of one process: neither reads a file so."""
    runs = {"eval", "exec", "pickle.load", "pickle.loads", "yaml.unsafe_load", "yaml.full_load",
            "marshal.loads", "shelve.open", "runpy.run_path", "os.system"}  # fmt: skip
    found = {(place, called) for place, called, _ in _calls() if called in runs}
    assert found <= {
        ("runners/base.py", "pickle.loads"),
        ("runners/one_work.py", "pickle.load"),
        ("runners/one_work.py", "pickle.loads"),
        ("runners/side_by_side.py", "pickle.load"),
        ("runners/training.py", "pickle.loads"),
        ("formats/packed_rows.py", "marshal.loads"),
    }
    loads = [(place, call) for place, called, call in _calls() if called == "yaml.load"]
    assert [place for place, _ in loads] == ["io/read.py"]
    assert ast.unparse(loads[0][1].args[1]) == "_WordLoader if as_written else _PlainLoader"
    assert _WordLoader.yaml_constructors is yaml.SafeLoader.yaml_constructors


@pytest.mark.parametrize(
    ("error", "passes"),
    [(ValueError("a"), False), (Stopped(15), True), (KeyboardInterrupt(), True)],
)
def test_what_goes_on_after_errors_does_not_go_on_after_a_signal(
    error: BaseException, passes: bool
) -> None:
    """ultralytics draws its plots under a TryExcept, whose own form swallows a signal too."""
    from pipeline.models import ultralytics_offline

    ultralytics_offline.load()
    from ultralytics.utils import TryExcept

    raised = False
    try:
        with TryExcept(verbose=False):
            raise error
    except BaseException as caught:
        raised = caught is error
    assert raised is passes
