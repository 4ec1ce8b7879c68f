"""Errors of the kubelet as a whole."""

from __future__ import annotations


class StartError(Exception):
    """The kubelet cannot run here; the message says why and what to do."""
