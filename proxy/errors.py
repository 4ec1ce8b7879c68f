"""What ends a proxy."""

from __future__ import annotations


class StartError(Exception):
    """The proxy cannot start, or not go on; the message says why and what to do."""
