"""How a session ended, as the ``Status`` object on its error stream tells (pure).

Source: k8s.io/apimachinery, ``metav1.Status``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a session ended.

    Attributes:
        exit_code: of the command; None if it was not run, or nobody knows.
        message: what went wrong, if anything did.
    """

    exit_code: int | None
    message: str = ""


def parse_status(data: bytes) -> Ended:
    """Return what a ``Status`` says; nothing at all means that the connection broke."""
    if not data:
        return Ended(None, "the connection ended before the session did")
    try:
        status = json.loads(data)
    except ValueError:
        return Ended(None, data.decode("utf-8", "replace"))
    if not isinstance(status, dict):
        return Ended(None, data.decode("utf-8", "replace"))
    if status.get("status") == "Success":
        return Ended(0)
    message = str(status.get("message") or status.get("reason") or "it failed without a reason")
    if status.get("reason") == "NonZeroExitCode":
        return Ended(_exit_code(status), message)
    return Ended(None, message)


def _exit_code(status: dict[str, Any]) -> int | None:
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict) and cause.get("reason") == "ExitCode":
            try:
                return int(str(cause.get("message")))
            except ValueError:
                return None
    return None
