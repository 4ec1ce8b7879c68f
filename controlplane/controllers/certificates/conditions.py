"""How far a CertificateSigningRequest is (pure)."""

from __future__ import annotations

from controlplane.engine.resources import Object


def kinds_of(value: Object) -> set[str]:
    """Return the kinds of the conditions of a request: Approved, Denied, Failed."""
    return {one["type"] for one in (value.get("status") or {}).get("conditions") or ()}


def has_certificate(value: Object) -> bool:
    """Whether a request is signed."""
    return bool((value.get("status") or {}).get("certificate"))
