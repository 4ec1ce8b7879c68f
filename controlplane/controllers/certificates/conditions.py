"""How far a CertificateSigningRequest is (pure)."""

from __future__ import annotations

from datetime import datetime

from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object


def kinds_of(value: Object) -> set[str]:
    """Return the kinds of the conditions of a request: Approved, Denied, Failed."""
    return {one["type"] for one in (value.get("status") or {}).get("conditions") or ()}


def has_certificate(value: Object) -> bool:
    """Whether a request is signed."""
    return bool((value.get("status") or {}).get("certificate"))


def approved(value: Object, message: str, now: datetime) -> Object:
    """Return a request with the condition that it is approved, as of ``now``."""
    condition = {
        "type": "Approved", "status": "True", "reason": "AutoApproved", "message": message,
        "lastUpdateTime": timestamp(now),
    }  # fmt: skip
    status = value.get("status") or {}
    conditions = [*(status.get("conditions") or ()), condition]
    return {**value, "status": {**status, "conditions": conditions}}
