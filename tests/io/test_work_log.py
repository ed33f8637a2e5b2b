from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.io.work_log import WorkLog


def test_an_empty_journal_knows_nothing(tmp_path: Path) -> None:
    with WorkLog(tmp_path / "j") as journal:
        assert not journal.done
        assert list(journal.rows()) == []


@pytest.mark.parametrize("torn", [b"", b'{"half', b'{"a": 3}\n', b'{"a": 3}\n#{"done": 7'])
def test_whatever_a_killed_process_wrote_beyond_the_last_item_is_cut_off(
    tmp_path: Path, torn: bytes
) -> None:
    with WorkLog(tmp_path / "j") as journal:
        journal.add(5, ['{"a": 1}', '{"a": 2}'], {"lost": 4})
    with (tmp_path / "j").open("ab") as stream:
        stream.write(torn)
    with WorkLog(tmp_path / "j") as journal:
        assert journal.done == {5}
        journal.add(7, ['{"a": 3}'], {"lost": 0})
        rows = list(journal.rows())
        assert [row for _, row in rows] == ['{"a": 1}', '{"a": 2}', '{"a": 3}']
        assert journal.row_at(rows[2][0]) == '{"a": 3}'
        assert [note["lost"] for note in journal.notes()] == [4, 0]


def filled(path: Path, items: int = 3) -> None:
    with WorkLog(path) as journal:
        for item in range(items):
            journal.add(item, [f'{{"a": {item}}}'], {})


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        ((b'"a": 1', b'"a": 7'), {0}),  # a row is not what was written: its checksum says so
        ((b'#{"crc32"', b"#{"), {0}),  # of the second item's end: the first stays
        ((b"boot", b"toob"), set()),
    ],
)
def test_damage_costs_the_items_from_there_on_and_nothing_else(
    tmp_path: Path, damage: tuple[bytes, bytes], left: set[int]
) -> None:
    path = tmp_path / "j"
    filled(path)
    data = path.read_bytes()
    at = data.index(damage[0], data.index(b'"a": 1') if damage[0] != b"boot" else 0)
    path.write_bytes(data[:at] + damage[1] + data[at + len(damage[0]) :])
    with WorkLog(path) as journal:
        assert journal.done == left
        for item in {0, 1, 2} - left:
            journal.add(item, [f'{{"a": {item}}}'], {})
    with WorkLog(path) as journal:
        assert journal.done == {0, 1, 2}
        assert [row for _, row in journal.rows()] == [f'{{"a": {item}}}' for item in range(3)]


def test_after_a_power_cut_only_what_was_on_the_disk_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mark comes once 10 s have passed: after the items at 4 s and 11 s, not the one at 12 s."""
    times = iter([0.0, 4.0, 11.0, 11.0, 12.0])
    with WorkLog(tmp_path / "j", clock=lambda: next(times)) as journal:
        for item in range(3):
            journal.add(item, [], {})
    with WorkLog(tmp_path / "j") as journal:
        assert journal.done == {0, 1, 2}  # killed, and nothing more
    monkeypatch.setattr("pipeline.io.work_log._boot_id", lambda: "another boot")
    with WorkLog(tmp_path / "j") as journal:
        assert journal.done == {0, 1}
