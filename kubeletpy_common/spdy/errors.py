"""What can go wrong on a SPDY connection."""

from __future__ import annotations


class SpdyError(Exception):
    """The peer broke the protocol; the connection is of no more use."""


class StreamClosedError(ConnectionError):
    """The stream was reset, or its connection has ended."""
