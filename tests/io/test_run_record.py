from __future__ import annotations

from pathlib import Path

from pipeline.io.run_record import fingerprint


def test_a_review_beside_labels_does_not_change_what_was_learned_from_them(tmp_path: Path) -> None:
    (tmp_path / "instances.json").write_text("{}")
    before = fingerprint([tmp_path])
    for name in ("instances.review", "instances.review-wal", ".instances.review.lock"):
        (tmp_path / name).write_text("an action")
    assert fingerprint([tmp_path]) == before
    (tmp_path / "more.json").write_text("{}")
    assert fingerprint([tmp_path]) != before
