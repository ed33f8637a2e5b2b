"""The tables of a session file. Their text is compared when a file is opened."""

from __future__ import annotations

SUFFIX = ".review"  # of a session file, beside the labels: instances.json has instances.review

TABLES = (
    "CREATE TABLE session (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    # file_name: inside the set. place: relative to the folder of the images. record: the other
    # columns of an `ImageRecord`. missed, anomaly: why a defect may be missing; NULL if unknown.
    "CREATE TABLE images (id INTEGER PRIMARY KEY, file_name TEXT NOT NULL, place TEXT NOT NULL, "
    "height INTEGER NOT NULL, width INTEGER NOT NULL, record TEXT NOT NULL, missed REAL, "
    "anomaly REAL, state TEXT NOT NULL, revision INTEGER NOT NULL)",
    # original: as the labels have it; NULL for an object that a person added. value: as it is now;
    # NULL for one that does not exist. figures: its quality columns, and its finder. The columns
    # after them repeat what the queue needs of `value` and `figures`.
    "CREATE TABLE objects (id INTEGER PRIMARY KEY, image INTEGER NOT NULL, original TEXT, "
    "value TEXT, figures TEXT NOT NULL, revision INTEGER NOT NULL, expected_iou REAL, "
    "probability REAL, score REAL, category INTEGER, state INTEGER, x0 REAL, y0 REAL, x1 REAL, "
    "y1 REAL)",
    "CREATE INDEX objects_of_image ON objects (image)",
    "CREATE INDEX objects_of_revision ON objects (revision)",
    # Append only. object, image: those that a person had in view. target: of an undo or a redo.
    "CREATE TABLE actions (id INTEGER PRIMARY KEY, time TEXT NOT NULL, "
    "who TEXT NOT NULL, kind TEXT NOT NULL, object INTEGER, image INTEGER NOT NULL, "
    "target INTEGER, before TEXT NOT NULL, after TEXT NOT NULL)",
)

# The codes of `objects.state`, and of the queue
UNREVIEWED, ACCEPTED, CHANGED, ADDED, REJECTED = range(5)
STATE_NAMES = ("unreviewed", "accepted", "changed", "added", "rejected")

# Who found an object: its key in `objects.figures`, and the name for what a person drew
FINDER, PERSON = "finder", "person"
