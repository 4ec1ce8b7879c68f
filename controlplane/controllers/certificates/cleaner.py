"""Deletes CertificateSigningRequests that are of no use any more.

Source: kube-controller-manager 1.36: an hour after a request was signed, denied or failed, a day
after it was made or approved and nothing came of it, and when its certificate is at its end.
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from controlplane.engine.controller import Context, Controller, moment_of
from controlplane.engine.resources import SIGNING_REQUESTS, Object, is_deleting

from .conditions import has_certificate

_DONE: Final = timedelta(hours=1)
_PENDING: Final = timedelta(hours=24)


class Cleaner(Controller):
    """Deletes each request when its time has come."""

    name: ClassVar[str] = "certificatesigningrequest-cleaner-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = context.informers.of(SIGNING_REQUESTS)
        self._requests.listen(self.enqueue)

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        value = self._requests.get(key)
        if value is None or is_deleting(value):
            return None
        moment = due(value)
        left = (moment - self.context.clock()).total_seconds() if moment is not None else None
        if left is not None and left <= 0:
            await self.context.writer.delete(SIGNING_REQUESTS, value, versioned=True)
            return None
        return left


def due(value: Object) -> datetime | None:
    """Return when a request is to be deleted (pure); None: never, as it is now."""
    conditions: list[dict[str, Any]] = (value.get("status") or {}).get("conditions") or []
    signed = has_certificate(value)
    moments: list[datetime] = []
    for one in conditions:
        after = _PENDING if one["type"] == "Approved" and not signed else _DONE
        if one.get("lastUpdateTime"):
            moments.append(moment_of(one["lastUpdateTime"]) + after)
        if one["type"] == "Approved" and signed and (end := _end_of(value)) is not None:
            moments.append(end)
    if not conditions:
        moments.append(moment_of(value["metadata"]["creationTimestamp"]) + _PENDING)
    return min(moments, default=None)


def _end_of(value: Object) -> datetime | None:
    """Return when the certificate of a request ends; None: it cannot be read."""
    from cryptography import x509

    try:
        pem = base64.b64decode(value["status"]["certificate"])
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except (binascii.Error, ValueError):
        return None
