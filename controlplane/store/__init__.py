"""What the API server keeps: keys with values, one revision counter, and who is told of changes.

:mod:`.model` names things, :mod:`.store` holds in memory what is there and serves reads and
watches, :mod:`.local` checks conditions, gives revisions and has :mod:`.log` (SQLite) make writes
durable; :mod:`.etcd` has an etcd do all that.
"""
