"""Structured logs: one JSON object a line on stderr, so that people and programs read the same."""

from __future__ import annotations

import faulthandler
import json
import logging
import sys
import time
from typing import Any

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING,
           "error": logging.ERROR}  # fmt: skip
_STDERR = 2


class StructuredFormatter(logging.Formatter):
    """Formats a record as one JSON object.

    Keys: ``ts`` (RFC 3339, UTC, microseconds), ``level``, ``logger``, ``msg``, then whatever the
    caller gave as ``extra={"fields": {...}}``, then ``error`` with a traceback, if any.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its line feed."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, Any] = {
            "ts": f"{seconds}.{int(record.created % 1 * 1e6):06d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            entry.update(fields)
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        # ASCII: what others named may hold control characters beyond those that JSON escapes.
        return json.dumps(entry, default=str)


def configure(level: str = "info") -> None:
    """Send all log records of this process to stderr as structured lines.

    A crash in native code is told there, too, with where Python was.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.

    Raises:
        ValueError: ``level`` is none of these.
    """
    if level not in _LEVELS:
        raise ValueError(f"log level {level!r} is not one of {', '.join(_LEVELS)}")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(StructuredFormatter())
    logging.basicConfig(level=_LEVELS[level], handlers=[handler], force=True)
    if not faulthandler.is_enabled():
        faulthandler.enable(_STDERR)


def event(logger: logging.Logger, level: int, message: str, **fields: Any) -> None:
    """Log ``message`` with structured ``fields``, for instance ``pod="default/web"``."""
    logger.log(level, message, extra={"fields": fields})
