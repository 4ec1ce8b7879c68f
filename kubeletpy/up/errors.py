"""What can go wrong with ``kubeletpy up``."""

from __future__ import annotations


class UpError(Exception):
    """A step failed; the message says what, why, and what to do."""
