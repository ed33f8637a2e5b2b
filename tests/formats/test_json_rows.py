from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.formats import json_window
from pipeline.formats.json_rows import JsonRows
from pipeline.formats.png_masks import read_png_mask
from pipeline.formats.text_stream import json_lines_list, json_list, text_file
from pipeline.geometry import masks as mask_geometry
from pipeline.io.images import write_png
from pipeline.io.write import json_text

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
quick = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def rows_of(folder: Path, text: str) -> JsonRows:
    (folder / "x.json").write_text(text, encoding="utf-8")
    return JsonRows(folder / "x.json", ("rows", "more"))


@pytest.mark.slow
@quick
@given(
    rows=st.lists(values), other=values, indent=st.sampled_from([None, 0, 3]),
    window=st.sampled_from([1, 2, 7, 1 << 20]), escaped=st.booleans(), mark=st.booleans(),
)  # fmt: skip
def test_the_rows_are_those_that_json_reads_wherever_the_window_ends(
    tmp_path: Path, rows: list[Any], other: Any, indent: int | None, window: int, escaped: bool,
    mark: bool,
) -> None:  # fmt: skip
    def written(content: Any) -> JsonRows:
        text = json.dumps(content, indent=indent, ensure_ascii=escaped)
        return rows_of(tmp_path, "\ufeff" * mark + text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_window, "_WINDOW", window)
        found = written({"a": other, "rows": rows, "more": other})
        assert list(found.rows("rows")) == rows
        assert found.values["a"] == other
        assert found.has("more") == isinstance(other, list)
        assert list(written(rows).rows()) == rows


@pytest.mark.parametrize("window", [1, 5, 1 << 20])
@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"", "line 1 column 1: Expecting value"),
        (b'{"rows": [1,\n 22,\n 3x]}', r"line 3 column 3: Expecting '\]'"),
        (b'\xef\xbb\xbf["a",\n"b', "line 2 column 1: Unterminated string"),
        (b'{"a": 1}\n\n ]', "line 3 column 2: Extra data"),
        (b'["a",\n "\xc3\xa9\xff"]', r"not UTF-8 text \(byte 10\)"),
    ],
)
def test_a_fault_is_named_by_its_place_wherever_the_window_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: int, text: bytes, place: str
) -> None:
    monkeypatch.setattr(json_window, "_WINDOW", window)
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(DataError, match=place):
        JsonRows(tmp_path / "x.json", ("rows",))


def test_of_two_lists_of_one_name_the_last_counts(tmp_path: Path) -> None:
    assert list(rows_of(tmp_path, '{"rows": [1], "rows": [2]}').rows("rows")) == [2]
    assert not rows_of(tmp_path, '{"rows": [1], "rows": 2}').has("rows")


@pytest.mark.parametrize("text", [
    "", "x", "[", "[1", "[1 2]", "[1,]", "[,1]", "[1}", '{"rows": [1}', '{"rows"}', '{"rows": }',
    '{"rows": [1] "a": 2}', '{"rows": [1],}', "{1: 2}", "[] []", '{"a": 1} x', '{"rows": [}',
    "[" + "9" * 5000 + "]", "[" * 5000,
])  # fmt: skip
def test_what_is_no_json_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"x\.json: is not .*JSON|nested too deeply") as caught:
        rows_of(tmp_path, text)
    assert "\n" not in str(caught.value)


@quick
@given(rows=st.lists(values))
def test_pieces_of_a_list_are_the_text_of_the_whole(tmp_path: Path, rows: list[Any]) -> None:
    assert "".join(json_list(rows)) + "\n" == json_text(rows)
    assert json.loads("".join(json_lines_list(rows))) == rows
    assert '{\n "a": ' + "".join(json_list(rows, depth=1)) + "\n}\n" == json_text({"a": rows})


def test_text_that_is_no_unicode_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not Unicode"), text_file(tmp_path / "x.txt") as file:
        file.write("\ud800")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 16, 17, 300])
def test_the_objects_of_a_png_mask_are_its_values(tmp_path: Path, count: int) -> None:
    values = np.random.default_rng(count).integers(0, count + 1, (20, 30)).astype(np.uint16)
    values[values == 2] = 0  # an object without pixels
    write_png(tmp_path / "m.png", values)
    found = read_png_mask(tmp_path / "m.png", count)
    assert found.masks is not None
    for number, rle in enumerate(found.masks, start=1):
        assert (mask_geometry.decode(rle) == (values == number)).all()


@pytest.mark.parametrize("odd", ["\ud800", "\u0000", 10**40, -0.0, 1e-320])
def test_entries_are_those_of_json_whatever_decodes_them(tmp_path: Path, odd: object) -> None:
    """Half of a pair of surrogates is no text for pydantic's decoder, but it is for json."""
    path = tmp_path / "rows.json"
    entries = [{"id": 1, "odd": odd}, {"id": 2, "odd": [odd, 0.1]}]
    path.write_text(json.dumps({"rows": entries}))
    assert repr(list(JsonRows(path, ["rows"]).rows("rows"))) == repr(entries)
