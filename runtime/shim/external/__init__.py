"""Containers of an external OCI runtime (runc, crun): called by its command line.

The shim stays what it is for every pod: parent of the containers, keeper of their streams, logs and
exit codes. Only the first process of a container, and of a command in it, comes into being by the
runtime's program instead of by a fork of the shim. Loaded in pods of such a runtime only.
"""
