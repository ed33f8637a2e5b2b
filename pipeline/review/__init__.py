"""Review in the browser: a session of corrections, a local server, and its page.

source      which labels are reviewed, and where their images are
values      what a person can change of an object or an image
schema      the tables of a session
store       the session: every action is a row, undo and redo are actions
replay      the stacks of undo and redo, from the rows
reviewed    the set that a session makes of its labels, for `export`
history     every action as CSV, and those of an object
wire        masks as the page has them
figures     the queue's columns
"""
