"""Exec, attach and port-forward: an HTTP server, and what clients speak over its connections.

``server`` takes a request and its one-time token; ``websocket`` and ``remote_spdy`` are the two
ways in which a client sends and receives the streams of a command; ``commands`` connects them to
a process; ``port_forward`` connects streams to ports of a pod. ``spdy`` knows nothing of all that.
"""
