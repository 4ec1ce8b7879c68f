"""What the API server keeps: keys with values, one revision counter, and who is told of changes.

:mod:`.model` names things, :mod:`.log` makes writes durable (SQLite), :mod:`.store` holds what is
there in memory, checks conditions, and serves reads and watches.
"""
