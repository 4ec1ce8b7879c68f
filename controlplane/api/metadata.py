"""What all objects have: names, uids, times (mostly pure).

Source: Kubernetes documentation, "Object Names and IDs"; API conventions, "Metadata".
"""

from __future__ import annotations

import json
import re
import secrets
import uuid
from datetime import UTC, datetime
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import (
    label_key_problems,
    label_problems,
    label_value_problems,
    subdomain_problems,
)
from controlplane.api.resource import Object
from controlplane.api.selectors import LABEL_KEY

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


def path_problems(text: str) -> list[str]:
    """Return what keeps it from being one part of a path, which some kinds take as a name."""
    if text in (".", ".."):
        return [f"may not be '{text}'"]
    return [f"may not contain '{character}'" for character in "/%" if character in text]


def check_metadata(meta: Object, *, namespaced: bool, names: str = "subdomain") -> list[Cause]:
    """Return what is wrong with an object's metadata.

    Args:
        meta: ``metadata``.
        namespaced: it must have a namespace.
        names: what the name may be: ``subdomain`` or ``label`` (RFC 1123), or ``path``, one part of
            a path (roles, for instance).
    """
    causes: list[Cause] = []
    name = meta.get("name", "")
    if not name:
        causes.append(required("metadata.name", "name or generateName is required"))
    else:
        problems = {"label": label_problems, "path": path_problems}.get(names, subdomain_problems)
        causes += [wrong("metadata.name", name, why) for why in problems(name)]
    if namespaced:
        namespace = meta.get("namespace", "")
        causes += [wrong("metadata.namespace", namespace, why) for why in label_problems(namespace)]
    causes += check_labels(meta.get("labels", {}), "metadata.labels")
    causes += check_annotations(meta.get("annotations", {}))
    causes += _check_owners(meta.get("ownerReferences", []))
    for index, finalizer in enumerate(meta.get("finalizers", [])):
        if not LABEL_KEY.fullmatch(finalizer):
            causes.append(wrong(f"metadata.finalizers[{index}]", finalizer, "is no qualified name"))
    return causes


def check_labels(labels: dict[str, str], path: str) -> list[Cause]:
    """Return what is wrong with labels."""
    causes: list[Cause] = []
    for key, value in labels.items():
        causes += [wrong(path, key, why) for why in label_key_problems(key)]
        causes += [wrong(path, value, why) for why in label_value_problems(value)]
    return causes


def required(path: str, text: str = "") -> Cause:
    """A field is missing."""
    message = f"Required value: {text}" if text else "Required value"
    return Cause("FieldValueRequired", message, path)


def wrong(path: str, value: Any, text: str) -> Cause:
    """A field has a value that it cannot have."""
    return Cause("FieldValueInvalid", f"Invalid value: {_shown(value)}: {text}", path)


def unsupported(path: str, value: Any, supported: list[str]) -> Cause:
    """A field has none of the values that it may have."""
    listed = ", ".join(f'"{item}"' for item in supported)
    message = f"Unsupported value: {_shown(value)}: supported values: {listed}"
    return Cause("FieldValueNotSupported", message, path)


def forbidden(path: str, text: str) -> Cause:
    """A field may not be there, or not be changed."""
    return Cause("FieldValueForbidden", f"Forbidden: {text}", path)


def duplicate(path: str, value: Any) -> Cause:
    """A value is there twice."""
    return Cause("FieldValueDuplicate", f"Duplicate value: {_shown(value)}", path)


def missing(path: str, value: Any, text: str = "") -> Cause:
    """What a field names is not there."""
    message = f"Not found: {_shown(value)}"
    return Cause("FieldValueNotFound", f"{message}: {text}" if text else message, path)


def too_long(path: str, most: int) -> Cause:
    """A text has too many bytes."""
    return Cause("FieldValueTooLong", f"Too long: may not be more than {most} bytes", path)


def too_many(path: str, count: int, most: int) -> Cause:
    """A list has too many items."""
    message = f"Too many: {count}: must have at most {most} items"
    return Cause("FieldValueTooMany", message, path)


def immutable(path: str, value: Any) -> Cause:
    """A field was changed that cannot be."""
    return wrong(path, value, "field is immutable")


def _shown(value: Any) -> str:
    """Return a value as Kubernetes writes it into sentences: as JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def check_annotations(
    annotations: dict[str, str], path: str = "metadata.annotations"
) -> list[Cause]:
    """Return what is wrong with annotations."""
    causes = [
        wrong(path, key, why) for key in annotations for why in label_key_problems(key.lower())
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
    for owner in owners:
        # Kubernetes does not say which of them it is.
        causes += [
            wrong(f"metadata.ownerReferences.{key}", "", f"{what}must not be empty")
            for key, what in (("apiVersion", "version "), ("kind", ""), ("name", ""), ("uid", ""))
            if not owner.get(key)
        ]
    controllers = [owner for owner in owners if owner.get("controller")]
    if len(controllers) > 1:
        names = ", ".join(owner.get("name", "") for owner in controllers)
        text = "only one reference can have controller set to true"
        causes.append(wrong("metadata.ownerReferences", names, text))
    return causes
