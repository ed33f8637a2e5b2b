"""Hostile values that attacks put into files: numbers, texts, names, code that leaves a mark."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from random import Random

TOKEN = "canary-7f3c1e5a9b"  # in the secret, and nowhere else
DEEP = 20_000  # levels of nesting


@dataclass(frozen=True)
class Places:
    """Where one attack happens. `outside` must not change, `secret` must not come out, `marker`
    must not appear."""

    root: Path

    @property
    def sample(self) -> Path:
        return self.root / "sample"

    @property
    def results(self) -> Path:
        return self.root / "results"

    @property
    def output(self) -> Path:
        return self.results / "out"

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def secret(self) -> Path:
        return self.outside / "secret.txt"

    @property
    def photo(self) -> Path:
        return self.outside / "photo.png"

    @property
    def marker(self) -> Path:
        return self.root / "ran"

    @property
    def cwd(self) -> Path:
        return self.root / "cwd"


NUMBERS = (
    "NaN", "Infinity", "-Infinity", "-1", "0", "1", "7", "-0.0", "0.5", "1e300", "-1e300", "1e400",
    "1e-320", "1e9", "1e15", "255", "65536", "2147483647", "2147483648", "-2147483649",
    "4294967296", "9223372036854775807", "9223372036854775808", "-9223372036854775809",
    "18446744073709551616", str(10**400), "-" + str(10**400), "9" * 5000, "1e99999999999",
)  # fmt: skip
_SHAPES = (
    "null", "true", "false", '""', "[]", "{}", "[[]]", "[null]", "[[[1]]]", '{"a": 1}', "[1]",
    '["a"]', '[{"id": 1}]', "[NaN]", "[1, 2, 3, 4]", '"12"', '"1_0"', '"nan"', '"inf"', '"1e400"',
    '"\\u0663"', '" 5 "', '"0x10"', "[0, 0, 0, 0]", "[0, 0, -5, -5]", "[1e300, 0, 1e300, 5]",
    "[Infinity, 0, 3, 3]", "[1, 2, 3]", '["a", 2, 3, 4]', "[[1, 2, 3, 4]]", "[true, 2, 3, 4]",
)  # fmt: skip
_MASKS = (
    '{"size": [48, 64], "counts": "abc"}', '{"size": [48, 64], "counts": ""}',
    '{"size": [48, 64], "counts": [3072]}', '{"size": [48, 64], "counts": [-5, 3077]}',
    '{"size": [48, 64], "counts": [0, 99999999]}', '{"size": [48, 64], "counts": [1.5, 3070.5]}',
    '{"size": [48, 64], "counts": [4294967295, 4294967295]}', '{"size": [48, 64], "counts": null}',
    '{"size": [1000000, 1000000], "counts": [0, 1000000000000]}',
    '{"size": [1000000, 1000000], "counts": "PPPPPPPPPPYPPPP0"}',
    '{"size": [48], "counts": [3072]}', '{"size": "48x64", "counts": [3072]}',
    '{"size": [-48, -64], "counts": [3072]}', '{"size": [48, 64]}', '{"counts": [3072]}',
    '{"size": [48, 64], "counts": "\\u00ff\\u0100"}', '{"size": [48, 64], "counts": "oooooooo"}',
    '{"size": [0, 0], "counts": []}', '{"size": [48.0, 64.0], "counts": [3072]}',
    "[[1e300, 1, 2, 3, 4, 5]]", "[[NaN, 1, 2, 3, 4, 5]]", "[[1, 2]]", "[[1, 2, 3, 4]]",
    "[[1e9, 1e9, -1e9, 5, 3, 4]]", "[[1, 2, 3, 4, 5]]", "[[-1e300, 0, 1e300, 0, 0, 1e300]]",
    "[[], []]", "[[2147483648, 0, 4, 4, 0, 4]]", '[["a", "b", "c", "d", "e", "f"]]', "[1, 2, 3]",
    "[[[1, 2], [3, 4], [5, 6]]]", "[null, [1, 2, 3, 4, 5, 6]]", "[{}]",
)  # fmt: skip


def names(places: Places) -> list[str]:
    """Texts that are bad as names: absolute, above their folder, of other systems, too long."""
    outside = str(places.outside)
    up = [f"{'../' * depth}outside/{name}" for depth in (1, 2, 3, 4) for name in ("photo.png", "x")]
    return [
        *up, f"{outside}/victim.png", f"{outside}/photo.png", f"{outside}/new/x.png", outside,
        "..", ".", "", "/", " ", "a/../../outside/x.png", "../run.json", "images/../../x.png",
        "..\\..\\outside\\photo.png", "C:\\x.png", "C:x", "\\\\host\\share\\x", "con", "nul.png",
        "COM1", "x" * 255, "x" * 300, "\u00e9" * 200, "y" * 70_000, "a\0b", "a\nb", "a\rb.png",
        "\u202egnp.exe", "~", "$HOME", "-rf", ".hidden", "a/b/c/d.png", "a//b.png", "a/./b.png",
        "secret.txt", f"file://{outside}/photo.png", "http://127.0.0.1:9/x.png",
        "%2e%2e%2foutside%2fphoto.png", "%2e%2e/%2e%2e/outside/photo.png", "a:b", "a?b*|",
        "=cmd()", "<script>", "run.json", "manifest.jsonl", "instances.json", ".work/work.sqlite",
        "\ud800", "a\udcffb.png", "\x1b[31mred", "\u2028", "\u00e9.png", "e\u0301.png", "good",
        "train", "default", "a.b.c", "a.", "a ", "0", "/dev/zero", "/dev/stdin", "/etc/passwd",
        "/data/local-files/?d=../outside/photo.png", f"/data/local-files/?d={outside}/photo.png",
    ]  # fmt: skip


def json_value(random: Random, places: Places) -> str:
    """A hostile value as raw JSON text, or what some would take for it."""
    kind = random.random()
    if kind < 0.4:
        return random.choice(NUMBERS)
    if kind < 0.6:
        return random.choice(_SHAPES)
    if kind < 0.7:
        return random.choice(_MASKS)
    if kind < 0.95:
        return json.dumps(random.choice(names(places)))
    return random.choice(
        [
            "[" * DEEP + "]" * DEEP,
            '{"a":' * DEEP + "1" + "}" * DEEP,
            "[" + ",".join(["1"] * 50_000) + "]",
            json.dumps("z" * 300_000),
            "'single'",
            "undefined",
            "01",
            "+1",
            '"\\x41"',
            '"\\ud800\\ud800"',
            '"unclosed',
        ]
    )


def plain_text(random: Random, places: Places) -> str:
    """A hostile text for a cell, an attribute or the text of an element."""
    kind = random.random()
    if kind < 0.45:
        return random.choice(
            [*NUMBERS, "nan", "inf", "-inf", "1_0", "\u0663", "0x10", " 5 ", "1,5"]
        )
    if kind < 0.55:
        return random.choice(["", "abc", "true", "None", "[]", "{}", "1 2 3", ";" * 5, ",,,"])
    if kind < 0.6:
        return random.choice(["1,2;" * 20_000, "9," * 50_000, "0, 1e12", "-4, 5", "1, 3071"])
    return random.choice(names(places))


class Planted:
    """What runs a command when it is unpickled: it makes the marker."""

    def __init__(self, marker: Path) -> None:
        self.marker = str(marker)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.marker, "w")


def planted_pickle(places: Places) -> bytes:
    """A pickle that makes the marker when it is loaded."""
    return pickle.dumps(Planted(places.marker))


def yaml_value(random: Random, places: Places) -> str:
    """A hostile value as raw YAML on one line."""
    mark = str(places.marker)
    tags = [
        f"!!python/object/apply:os.system ['touch {mark}']",
        f"!!python/object/apply:builtins.open ['{mark}', 'w']",
        f"!!python/object/new:os.system ['touch {mark}']",
        "!!python/name:os.system", "!!python/module:os", "!!python/tuple [1, 2]",
        "!!binary gIGCg4SF", "!!binary '*'", "!!timestamp 2001-99-99", "2001-99-99", "2001-12-14",
        "!!int abc", "!!float abc", "!!set {a, b}", "!!omap [a: 1]", "!!pairs [a]", "!!bool maybe",
        ".nan", ".inf", "-.inf", "1e400", "0o9", "0x_", "0b", "1:99:99", "1_000", "~", "null", "[]",
        "{}", "''", "'a'", "[1, 2]", "{a: 1}", "{[1, 2]: 3}", "{{a: 1}: 2}", "? [a]", "*unknown",
        "&a [*a, *a]", "&a {b: *a}", "<<: 3", "{<<: [1, 2]}", "- - -", "!x y", "%TAG", "@", "`",
        "|", ">", "\"\\x00\"", "\"\\ud800\"", "'\ufffe'", "0", "-1", "true", "yes", "1.5", "1e3",
        f"__import__('os').system('touch {mark}')", f"import os; os.system('touch {mark}')",
    ]  # fmt: skip
    kind = random.random()
    if kind < 0.5:
        return random.choice(tags)
    if kind < 0.6:
        return random.choice(NUMBERS)
    if kind < 0.9:
        return json.dumps(random.choice(names(places)))
    return random.choice(["[" * 3000 + "]" * 3000, "[" * DEEP, alias_bomb(), "{a: " * 2000])


def alias_bomb(levels: int = 9, wide: int = 9) -> str:
    """YAML in one line of `wide` ** `levels` values."""
    lists = [f"&l0 [{','.join(['x'] * wide)}]"]
    for level in range(1, levels):
        below = ",".join([f"*l{level - 1}"] * wide)
        lists.append(f"&l{level} [{below}]")
    return f"[{', '.join(lists)}]"


def entity_bomb(levels: int = 9, wide: int = 10) -> str:
    """A DOCTYPE whose entity `e` expands to `wide` ** `levels` letters."""
    rows = ['<!ENTITY e0 "x">']
    for level in range(1, levels + 1):
        below = f"&e{level - 1};" * wide
        rows.append(f'<!ENTITY e{level} "{below}">')
    rows.append(f'<!ENTITY e "&e{levels};">')
    return f"<!DOCTYPE annotations [{''.join(rows)}]>"
