"""Pods made from templates, and names made from what a template says (pure)."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import msgspec

from controlplane.engine.ownership import reference_to
from controlplane.engine.resources import Object, Resource

ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"
"""Of generated names and hashes: no vowels and nothing that looks alike, so that no words arise."""
HASH_LABEL: Final = "pod-template-hash"
_LONGEST_NAME: Final = 253


def safe_encode(text: str) -> str:
    """Return ``text`` written in `ALPHABET`, a letter for each; not reversible.

    Source: apimachinery, ``rand.SafeEncodeString``.
    """
    return "".join(ALPHABET[byte % len(ALPHABET)] for byte in text.encode())


def hash_of(value: object, collisions: int | None = None) -> str:
    """Return a short hash of plain data, usable in names and as a label.

    It is the same in every process and version of Python. Its form is that of the Go controllers
    (a number of 32 bits in `ALPHABET`), its value is not.

    Args:
        value: to be hashed; the order of keys does not matter.
        collisions: how often the name made of it was taken; another number gives another hash.
    """
    data = msgspec.json.encode([value, collisions], order="sorted")
    number = int.from_bytes(hashlib.sha256(data).digest()[:4], "big")
    return safe_encode(str(number))


def name_of(owner: str, suffix: str) -> str:
    """Return ``owner-suffix``; the owner's name is cut where that would be longer than 253."""
    return f"{owner[: _LONGEST_NAME - 1 - len(suffix)]}-{suffix}"


def same_template(one: Object, other: Object) -> bool:
    """Whether two templates are the same but for their `HASH_LABEL`.

    Lists and maps of metadata that are empty are as those that are not there.
    """
    return one["spec"] == other["spec"] and _metadata(one) == _metadata(other)


def _metadata(template: Object) -> dict[str, Any]:
    meta: dict[str, Any] = dict(template.get("metadata") or {})
    meta.pop("creationTimestamp", None)
    labels = dict(meta.get("labels") or {})
    labels.pop(HASH_LABEL, None)
    meta["labels"] = labels
    return {name: value for name, value in meta.items() if value}


def pod_from(template: Object, owner: Object, resource: Resource) -> Object:
    """Return the pod that a template says, controlled by ``owner`` and named after it.

    ``metadata`` and ``spec`` are new and may be changed; what is within ``spec`` is the template's
    and must not be.

    Args:
        template: of the owner.
        owner: that makes it.
        resource: of the owner.
    """
    meta = template.get("metadata") or {}
    prefix = f"{owner['metadata']['name']}-"
    made: dict[str, Any] = {
        "namespace": owner["metadata"]["namespace"],
        # A name that is as long as can be has no room for the dash.
        "generateName": prefix if len(prefix) <= _LONGEST_NAME else prefix[:-1],
        "labels": dict(meta.get("labels") or {}),
        "ownerReferences": [reference_to(owner, resource)],
    }
    if meta.get("annotations"):
        made["annotations"] = dict(meta["annotations"])
    if meta.get("finalizers"):
        made["finalizers"] = list(meta["finalizers"])
    return {"metadata": made, "spec": dict(template["spec"])}
