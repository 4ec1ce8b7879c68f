"""The spawner: one small single-threaded process from which shims are forked.

The daemon has threads (gRPC), and a fork of a process with threads can inherit a locked lock. The
spawner has none, has all of the shim's code loaded, and so gives birth to a shim in the time of a
fork instead of that of an interpreter's boot.
"""
