"""Errors as the API answers them: a ``Status`` object with code, reason and causes.

Source: Kubernetes API conventions, "Error codes" and "Response status kind".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

# meta/v1 StatusReason -> HTTP status.
_CODES: Final = {
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "MethodNotAllowed": 405,
    "NotAcceptable": 406,
    "AlreadyExists": 409,
    "Conflict": 409,
    "Gone": 410,
    "Expired": 410,
    "RequestEntityTooLarge": 413,
    "UnsupportedMediaType": 415,
    "Invalid": 422,
    "TooManyRequests": 429,
    "InternalError": 500,
    "ServiceUnavailable": 503,
    "Timeout": 504,
}


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong with an object.

    Attributes:
        reason: ``FieldValueInvalid``, ``FieldValueRequired``, ``FieldValueNotSupported``,
            ``FieldValueDuplicate``, ``FieldValueForbidden``, ``FieldManagerConflict`` ...
        message: what is wrong with the field.
        field: its path, such as ``spec.containers[0].image``; "": it is about no field.
    """

    reason: str
    message: str
    field: str

    def to_json(self) -> dict[str, str]:
        """Return it as in a Status."""
        made = {"reason": self.reason, "message": self.message, "field": self.field}
        return {key: value for key, value in made.items() if value}


class ApiError(Exception):
    """A request that is answered by a failure.

    Args:
        reason: a StatusReason, such as ``NotFound``; it gives the HTTP status. "": none is told,
            then ``code`` is needed.
        message: for people.
        kind: of the object, or the resource's name, as Kubernetes has it for this reason.
        group: of the kind.
        name: of the object.
        uid: of the object.
        causes: what is wrong with it.
        retry_after: seconds after which trying again makes sense; 0: no word about it.
        code: HTTP status, where it is not that of the reason.
    """

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        kind: str = "",
        group: str = "",
        name: str = "",
        uid: str = "",
        causes: tuple[Cause, ...] = (),
        retry_after: int = 0,
        code: int = 0,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.code = code or _CODES[reason]
        self.retry_after = retry_after
        self._details: dict[str, Any] = {
            key: value
            for key, value in (
                ("name", name),
                ("group", group),
                ("kind", kind),
                ("uid", uid),
                ("causes", [cause.to_json() for cause in causes]),
                ("retryAfterSeconds", retry_after),
            )
            if value
        }

    def to_status(self) -> dict[str, Any]:
        """Return the Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            **({"reason": self.reason} if self.reason else {}),
            "code": self.code,
        }
        if self._details:
            status["details"] = self._details
        return status


def bad_request(message: str) -> ApiError:
    """The request itself makes no sense."""
    return ApiError("BadRequest", message)


def not_found(resource: str, group: str, name: str) -> ApiError:
    """There is no such object."""
    text = f'{_qualified(resource, group)} "{name}" not found'
    return ApiError("NotFound", text, kind=resource, group=group, name=name)


def already_exists(resource: str, group: str, name: str) -> ApiError:
    """The name is taken."""
    text = f'{_qualified(resource, group)} "{name}" already exists'
    return ApiError("AlreadyExists", text, kind=resource, group=group, name=name)


def conflict(resource: str, group: str, name: str, why: str) -> ApiError:
    """The object is not as the client believes."""
    text = f'Operation cannot be fulfilled on {_qualified(resource, group)} "{name}": {why}'
    return ApiError("Conflict", text, kind=resource, group=group, name=name)


def invalid(kind: str, group: str, name: str, causes: list[Cause]) -> ApiError:
    """The object breaks rules of its kind."""
    found = [f"{cause.field}: {cause.message}" for cause in causes]
    found = list(dict.fromkeys(found))
    listed = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
    text = f'{_qualified(kind, group)} "{name}" is invalid: {listed}'
    return ApiError("Invalid", text, kind=kind, group=group, name=name, causes=tuple(causes))


def expired(message: str) -> ApiError:
    """A revision or a continue token is too old."""
    return ApiError("Expired", message)


def _qualified(name: str, group: str) -> str:
    return f"{name}.{group}" if group else name
