"""The pages: short where they are the first, whole where they are the reference, and true."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

from pipeline import cli

ROOT = Path(__file__).parent.parent
FIRST_PAGES = ("README", "CHANGELOG", "CONTRIBUTING", "SECURITY")
FOLDERS = ("annotations", "benchmarks", "examples", "weights")
PAGES = sorted(
    [
        *(ROOT / f"{name}.md" for name in FIRST_PAGES),
        *(ROOT / name / "README.md" for name in FOLDERS),
        *(ROOT / "docs").rglob("*.md"),
    ]
)
RETIRED = (
    "anew|asked|betters|could not be had|halfway|heeds?|in turn|kinds|must be had|of it|said|shop"
    "|stands? in|told|at a look|close looks?"
)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("_generate", ROOT / "docs" / "_generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prose(text: str) -> str:
    """A page without code."""
    return re.sub(r"`[^`]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def blocks(page: Path, language: str) -> Iterator[str]:
    text = page.read_text("utf-8")
    yield from re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(page: Path) -> Iterator[list[str]]:
    """The words of every call of `pipeline` in a page's shell code, without comments."""
    for block in blocks(page, "sh"):
        for line in block.splitlines():
            for call in line.split(" && "):
                words = shlex.split(call, comments=True)
                if words and words[0].rpartition("/")[2] == "pipeline":
                    yield words[1:]


def test_the_readme_has_at_most_8_kilobytes() -> None:
    assert len((ROOT / "README.md").read_bytes()) <= 8 * 1024


@pytest.mark.parametrize(
    ("mark", "language"), [("run", "sh"), ("test", "sh"), ("python", "python")]
)
def test_the_readme_marks_each_block_that_a_machine_runs(mark: str, language: str) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(re.findall(rf"^<!-- {mark} -->\n```{language}\n", text, re.MULTILINE)) == 1


def test_the_readmes_python_is_ten_lines_that_compile() -> None:
    (code,) = blocks(ROOT / "README.md", "python")
    assert len(code.splitlines()) == 10
    compile(code, "README.md", "exec")


@every_page
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", prose(page.read_text("utf-8"))):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@every_page
def test_pages_use_the_words_of_the_field(page: Path) -> None:
    if page.name != "CHANGELOG.md":  # it names what was renamed
        assert re.findall(rf"\b(?:{RETIRED})\b", prose(page.read_text("utf-8"))) == []


@every_page
def test_tests_that_pages_name_exist(page: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", page.read_text("utf-8")))
    if named:
        sources = (path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
        assert named <= {name for text in sources for name in re.findall(r"def (test_\w+)", text)}


def test_docstrings_use_the_words_of_the_field() -> None:
    """Without code, and without the names of arguments, such as `kinds:`."""
    found = []
    for path in sorted((ROOT / "pipeline").rglob("*.py")):
        for text in re.findall(r'"""(.*?)"""', path.read_text("utf-8"), re.DOTALL):
            words = re.findall(rf"\b(?:{RETIRED})\b", re.sub(r"\b\w+:", "", prose(text)))
            found += [f"{path.relative_to(ROOT)}: {word}" for word in words]
    assert found == []


@every_page
def test_commands_on_pages_have_options_that_exist(page: Path) -> None:
    for words in commands(page):
        command: click.Command = cli.command
        context = click.Context(command, info_name="pipeline")
        while isinstance(command, click.Group) and words and not words[0].startswith("-"):
            found = command.get_command(context, words.pop(0))
            assert found is not None, words
            command, context = found, click.Context(found, parent=context)
        known = {name for param in command.get_params(context) for name in param.opts}
        used = {word for word in words if re.match(r"--?[a-z]", word)} - {"--version"}
        assert used <= known, context.command_path


def test_the_reference_lists_every_command_with_its_options(generate: ModuleType) -> None:
    page = generate.commands()
    for name, command in cli.command.commands.items():
        assert f"## pipeline {name}\n" in page
        for param in command.get_params(click.Context(command)):
            assert all(option in page for option in param.opts if option.startswith("--"))
    assert "## pipeline weights fetch\n" in page  # a command of a command


def test_the_reference_lists_every_configuration_with_its_fields(generate: ModuleType) -> None:
    page = generate.config()
    names = [kind.__name__ for kind in generate.config_classes()]
    assert {"RunConfig", "SegmentConfig", "ViewsConfig", "Augmentation"} <= set(names)
    for kind in generate.config_classes():
        section = page.split(f"## {kind.__name__}\n")[1].split("\n## ")[0]
        for field in kind.model_fields:
            assert f"| `{field}` |" in section


def test_the_reference_gives_bounds_choices_and_defaults(generate: ModuleType) -> None:
    page = generate.config()
    row = next(line for line in page.splitlines() if line.startswith("| `image_side` | integer"))
    assert "integer from 64 a multiple of 32 | `640`" in row  # FinetuneConfig's: the first
    assert "`auto`, `torch`, `openvino` | `auto`" in page
    assert "| [ViewsConfig](#viewsconfig) |" in page


@pytest.mark.parametrize("name", ["commands", "config", "formats", "weights", "api"])
def test_a_page_shows_what_is_generated(generate: ModuleType, name: str) -> None:
    page = (ROOT / "docs" / "reference" / f"{name}.md").read_text("utf-8")
    assert f"<!-- generated: {name} -->" in page
    assert generate.GENERATORS[name]() in generate.fill(page)


def test_text_of_the_program_is_shown_as_it_is(generate: ModuleType) -> None:
    assert generate._prose("a_b | <c> `d|e`") == r"a\_b \| \<c\> `d\|e`"
    assert generate._rst("a * b_ `c_d`") == r"a \* b\_ ``c_d``"
