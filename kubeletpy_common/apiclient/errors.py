"""What a request to the API server can fail with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """A request that failed.

    Attributes:
        code: HTTP status; 0 if there was no answer (not reachable, timeout, TLS).
        reason: of the Status object: NotFound, Conflict, AlreadyExists, Forbidden ...; ``Timeout``
            or ``Unreachable`` where there was no answer.
        message: for people.
        retry_after: seconds that the server asks to wait for, None if it does not.
        details: of the Status object.
    """

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after = retry_after
        self.details = details or {}

    @property
    def not_found(self) -> bool:
        """Whether the object does not exist."""
        return self.code == 404

    @property
    def conflict(self) -> bool:
        """Whether the object changed meanwhile, or exists already."""
        return self.code == 409

    @property
    def expired(self) -> bool:
        """Whether the resource version is too old: list again (410 Gone)."""
        return self.code == 410

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later: no answer, overload, a server's fault."""
        return self.code in (0, 408, 429) or self.code >= 500


def of_status(code: int, body: object, retry_after: str | None = None) -> ApiError:
    """Return the error of an answer whose body is a Status object, or anything else (pure)."""
    seconds: float | None = None
    if retry_after is not None and retry_after.isdigit():
        seconds = float(retry_after)
    if isinstance(body, dict) and body.get("kind") == "Status":
        status_code = body.get("code")
        details = body.get("details")
        return ApiError(
            status_code if isinstance(status_code, int) else code,
            str(body.get("reason") or ""),
            str(body.get("message") or f"the API server answered {code}"),
            retry_after=seconds,
            details=details if isinstance(details, dict) else None,
        )
    return ApiError(code, "", f"the API server answered {code}", retry_after=seconds)
