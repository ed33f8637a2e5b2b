"""Review in the browser: a session of corrections, a local server, and its page.

source        which labels are reviewed, and where their images are
values        what a person can change of an object or an image
schema        the tables of a session; `tables` fills them
store         the session: every action is a row, undo and redo are actions
reviewed      the set that a session makes of its labels; `export` and `history` write it
pictures      tiles, close-ups and heat maps; `picture_cache` keeps decoded images
assistant     the run's SAM beside the page
figures       the queue's columns; `wire` has masks, `views` all else, as the page reads them
requests      what the page sends
guard         who may talk to the server
server        its routes; `serve` runs them
page/         the page: ES modules, as they are served
"""
