"""What all objects have: names, uids, times (mostly pure).

Source: Kubernetes documentation, "Object Names and IDs"; API conventions, "Metadata".
"""

from __future__ import annotations

import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.resource import Object
from controlplane.api.selectors import LABEL_KEY, LABEL_VALUE

# apimachinery: no vowels and nothing that looks like something else.
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
_MAX_BASE: Final = 58
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN: Final = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII
)
_MAX_ANNOTATIONS: Final = 256 << 10


def now() -> str:
    """Return the time as objects tell it: RFC 3339, UTC, seconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_uid() -> str:
    """Return a uid that nothing else has."""
    return str(uuid.uuid4())


def generate_name(base: str) -> str:
    """Return a name that begins with ``base``."""
    return base[:_MAX_BASE] + "".join(secrets.choice(_ALPHABET) for _ in range(5))


def is_dns_label(text: str) -> bool:
    """Say whether it is an RFC 1123 label: at most 63 of a-z, 0-9 and dashes inside."""
    return len(text) <= 63 and _LABEL.fullmatch(text) is not None


def is_dns_subdomain(text: str) -> bool:
    """Say whether it is an RFC 1123 subdomain: labels with dots, at most 253 characters."""
    return len(text) <= 253 and _SUBDOMAIN.fullmatch(text) is not None


def is_path_segment(text: str) -> bool:
    """Say whether it can be one part of a path, which some kinds take as a name."""
    return text not in ("", ".", "..") and "/" not in text and "%" not in text


def check_metadata(meta: Object, *, namespaced: bool, path_segment: bool = False) -> list[Cause]:
    """Return what is wrong with an object's metadata.

    Args:
        meta: ``metadata``.
        namespaced: it must have a namespace.
        path_segment: names need be no more than part of a path (roles, for instance).
    """
    causes: list[Cause] = []
    name = meta.get("name", "")
    if not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    elif not (is_path_segment(name) if path_segment else is_dns_subdomain(name)):
        causes.append(
            wrong(
                "metadata.name",
                name,
                "a name has small letters, digits, '-' and '.', begins and ends with a letter or "
                "digit, and has at most 253 characters",
            )
        )
    if namespaced and not is_dns_label(meta.get("namespace", "")):
        causes.append(wrong("metadata.namespace", meta.get("namespace", ""), "is no DNS label"))
    causes += check_labels(meta.get("labels", {}), "metadata.labels")
    causes += _check_annotations(meta.get("annotations", {}))
    causes += _check_owners(meta.get("ownerReferences", []))
    for index, finalizer in enumerate(meta.get("finalizers", [])):
        if not LABEL_KEY.fullmatch(finalizer):
            causes.append(wrong(f"metadata.finalizers[{index}]", finalizer, "is no qualified name"))
    return causes


def check_labels(labels: dict[str, str], path: str) -> list[Cause]:
    """Return what is wrong with labels."""
    causes: list[Cause] = []
    for key, value in labels.items():
        if not _is_key(key):
            causes.append(wrong(path, key, "is no label key: [prefix/]name, name up to 63 long"))
        if not LABEL_VALUE.fullmatch(value):
            causes.append(wrong(path, value, "is no label value: up to 63 of A-z, 0-9, '-_.'"))
    return causes


def required(path: str, text: str = "") -> Cause:
    """A field is missing."""
    message = f"Required value: {text}" if text else "Required value"
    return Cause("FieldValueRequired", message, path)


def wrong(path: str, value: Any, text: str) -> Cause:
    """A field has a value that it cannot have."""
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    return Cause("FieldValueInvalid", f"Invalid value: {shown}: {text}", path)


def unsupported(path: str, value: Any, supported: list[str]) -> Cause:
    """A field has none of the values that it may have."""
    listed = ", ".join(f'"{item}"' for item in supported)
    message = f'Unsupported value: "{value}": supported values: {listed}'
    return Cause("FieldValueNotSupported", message, path)


def forbidden(path: str, text: str) -> Cause:
    """A field may not be there, or not be changed."""
    return Cause("FieldValueForbidden", f"Forbidden: {text}", path)


def duplicate(path: str, value: Any) -> Cause:
    """A value is there twice."""
    return Cause("FieldValueDuplicate", f'Duplicate value: "{value}"', path)


def immutable(path: str, value: Any) -> Cause:
    """A field was changed that cannot be."""
    return wrong(path, value, "field is immutable")


def _is_key(key: str) -> bool:
    found = LABEL_KEY.fullmatch(key)
    return found is not None and len(found["prefix"] or "") <= 253


def _check_annotations(annotations: dict[str, str]) -> list[Cause]:
    path = "metadata.annotations"
    causes = [
        wrong(path, key, "is no annotation key: [prefix/]name, name up to 63 long")
        for key in annotations
        if not _is_key(key.lower())
    ]
    if sum(len(key) + len(value) for key, value in annotations.items()) > _MAX_ANNOTATIONS:
        causes.append(
            Cause(
                "FieldValueTooLong", f"Too long: must have at most {_MAX_ANNOTATIONS} bytes", path
            )
        )
    return causes


def _check_owners(owners: list[Object]) -> list[Cause]:
    causes: list[Cause] = []
    for index, owner in enumerate(owners):
        path = f"metadata.ownerReferences[{index}]"
        causes += [
            required(f"{path}.{key}")
            for key in ("apiVersion", "kind", "name", "uid")
            if not owner.get(key)
        ]
    controllers = [owner for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        names = ", ".join(owner.get("name", "") for owner in controllers)
        text = "only one reference can have controller set to true"
        causes.append(wrong("metadata.ownerReferences", names, text))
    return causes
