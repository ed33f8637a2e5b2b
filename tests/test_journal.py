from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.io.folders import resumable_folder
from pipeline.journal import Journal


def test_an_empty_journal_knows_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "j") as journal:
        assert not journal.done
        assert list(journal.rows()) == []


@pytest.mark.parametrize("torn", [b"", b'{"half', b'{"a": 3}\n', b'{"a": 3}\n#{"done": 7'])
def test_whatever_a_killed_process_wrote_beyond_the_last_item_is_cut_off(
    tmp_path: Path, torn: bytes
) -> None:
    with Journal(tmp_path / "j") as journal:
        journal.add(5, ['{"a": 1}', '{"a": 2}'], {"lost": 4})
    with (tmp_path / "j").open("ab") as stream:
        stream.write(torn)
    with Journal(tmp_path / "j") as journal:
        assert journal.done == {5}
        journal.add(7, ['{"a": 3}'], {"lost": 0})
        rows = list(journal.rows())
        assert [row for _, row in rows] == ['{"a": 1}', '{"a": 2}', '{"a": 3}']
        assert journal.row_at(rows[2][0]) == '{"a": 3}'
        assert [note["lost"] for note in journal.notes()] == [4, 0]


def test_an_unfinished_folder_is_there_again_for_the_same_work_alone(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(RuntimeError), resumable_folder(target, "job", "a") as folder:
        (folder / "empty").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())  # there was nothing to go on from
    with pytest.raises(RuntimeError), resumable_folder(target, "job", "a") as folder:
        (folder / "half").write_text("1")
        raise RuntimeError
    assert not target.exists()
    with pytest.raises(RuntimeError), resumable_folder(target, "job", "a") as folder:
        assert (folder / "half").exists()
        raise RuntimeError
    with resumable_folder(target, "job", "b") as folder:
        assert not (folder / "half").exists()
        (folder / "run.json").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in target.iterdir()] == ["run.json"]


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    with (
        resumable_folder(tmp_path / "out", "job", "a"),
        pytest.raises(DataError, match="is being written by another process"),
        resumable_folder(tmp_path / "out", "job", "a"),
    ):
        pass
