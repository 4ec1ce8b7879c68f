"""What goes wrong with an installation."""

from __future__ import annotations


class InstallError(Exception):
    """Something cannot be installed or removed; the text says what, why, and what to do."""
