"""Which annotation of a task is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.formats.label_studio_regions import count_kinds
from pipeline.formats.label_studio_schema import ResultSet, Task
from pipeline.formats.source import SourceLog


@dataclass(frozen=True)
class Chosen:
    """The results of a task that are read. score: of a prediction as a whole."""

    results: Sequence[object]
    is_prediction: bool = False
    score: float | None = None

    def score_of(self, own: float | None) -> float | None:
        """The score of a region, whose result may have its own. None in an annotation: what a
        person confirmed is no prediction any more."""
        if not self.is_prediction:
            return None
        return self.score if own is None else own


class Annotators:
    """Chooses the annotation of each task, and counts the others as left out.

    unlabelled: tasks without any annotation or prediction so far.
    """

    def __init__(self, log: SourceLog) -> None:
        """log: it counts, and its `annotator` is the one whose annotations are read."""
        self._log, self._wanted = log, log.annotator
        self._seen: dict[str, None] = {}  # what annotators are called, in the order of the file
        self.unlabelled = 0

    def choose(self, task: Task, where: str) -> Chosen | None:
        """One annotation: of the wanted annotator, of these the ground truth, or else the first.
        Without annotations the first prediction. None for a task that gives nothing, because all
        its annotations are cancelled or of other annotators."""
        every = task.get("annotations") or task.get("completions") or []
        usable = [each for each in every if not (each.get("was_cancelled") or each.get("skipped"))]
        self._seen |= {name: None for each in usable for name in _names(each)}
        mine = [each for each in usable if not self._wanted or self._wanted in _names(each)]
        true = [each for each in mine if each.get("ground_truth")]
        taken = next(iter(true or mine), None)
        self._leave_out((each for each in every if each not in usable), "cancelled", where)
        note = f" ({_shown(taken)} is taken)" if taken else ""
        others = (each for each in usable if each is not taken)
        self._leave_out(others, "another annotation of the task", where, note)
        self._leave_out(_whole(task.get("drafts")), "a draft", where)
        guesses = _whole(task.get("predictions"))
        if taken is None and not every and not self._wanted:
            return self._prediction(guesses, where)
        self._leave_out(guesses, "a prediction, and the task has annotations", where)
        if taken is None:
            reason = "its annotator has none" if usable or not every else "all are cancelled"
            self._log.leave_out("task", f"without an annotation: {reason}", where)
            return None
        return Chosen(taken.get("result") or [])

    def refuse_unknown(self) -> None:
        """Raise ValueError where the wanted annotator made no annotation at all."""
        if self._wanted and self._wanted not in self._seen:
            there = ", ".join([*self._seen][:10]) or "not named"
            raise ValueError(f"has no annotation of {self._wanted!r}; its annotators are {there}")

    def _prediction(self, guesses: Sequence[ResultSet], where: str) -> Chosen:
        if not guesses:
            self.unlabelled += 1
            return Chosen([])
        self._leave_out(guesses[1:], "a further prediction of the task", where)
        first = guesses[0]
        self._log.note("tasks without an annotation have predictions of a model: these are read as "
                       "its objects", where)  # fmt: skip
        return Chosen(first.get("result") or [], True, first.get("score"))

    def _leave_out(self, sets: Iterable[ResultSet], why: str, where: str, note: str = "") -> None:
        for each in sets:
            kinds = count_kinds(each.get("result") or []) or {"empty annotation": 1}
            for kind, count in kinds.items():
                self._log.leave_out(kind, why, f"{where} {_shown(each)}{note}", count)


def count_all(task: object) -> int:
    """How many results the annotations of a task have, which may be faulty; those of its
    predictions where it has no annotation."""
    entries = task if isinstance(task, dict) else {}
    for key in ("annotations", "completions", "predictions"):
        if isinstance(sets := entries.get(key), list) and sets:
            results = (each.get("result") for each in sets if isinstance(each, dict))
            return sum(sum(count_kinds(own).values()) for own in results if isinstance(own, list))
    return 0


def _whole(sets: Sequence[ResultSet | int] | None) -> list[ResultSet]:
    """Without those of which the export has the id alone."""
    return [each for each in sets or [] if not isinstance(each, int)]


def _names(each: ResultSet) -> list[str]:
    """What the annotator may be called: id, email, user name."""
    user = each.get("completed_by")
    if not isinstance(user, dict):
        return [user] if user else []
    return [name for name in (user.get("id"), user.get("email"), user.get("username")) if name]


def _shown(each: ResultSet) -> str:
    key, names = each.get("id"), _names(each)
    text = f"annotation {key}" if key else "an annotation"
    text += f" of annotator {names[0]}" if names else ""
    return text + (", the ground truth" if each.get("ground_truth") else "")
