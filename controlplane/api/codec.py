"""Objects as the store keeps them: JSON bytes that hold their own resourceVersion.

So an answer to get, list or watch is made of bytes that are there already; only who filters by
fields has an object decoded, and who filters by labels just those.
"""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from controlplane.api.resource import Object
from controlplane.store.model import Item


class _Metadata(msgspec.Struct):
    labels: dict[str, str] = {}


class _Labelled(msgspec.Struct):
    metadata: _Metadata


_decoder = msgspec.json.Decoder(dict[str, Any])
_encoder = msgspec.json.Encoder()
# Only the labels are made into Python objects; the rest is skipped over.
_labelled = msgspec.json.Decoder(_Labelled)
_stamped = re.compile(
    rb'(\{"kind":"[^"\\]*","apiVersion":"[^"\\]*","metadata":\{"resourceVersion":")[0-9]*'
)
_known_labels: WeakKeyDictionary[Item, dict[str, str]] = WeakKeyDictionary()


def encode(value: Any) -> bytes:
    """Return JSON."""
    return _encoder.encode(value)


def decode(item: Item) -> Object:
    """Return the object of an item; each call a new one, to be changed at will."""
    return _decoder.decode(item.value)


def decode_bytes(content: bytes) -> Object:
    """Return the object of bytes that came from the store."""
    return _decoder.decode(content)


def labels(item: Item) -> dict[str, str]:
    """Return the labels of an item, not to be changed; read once from each version of it."""
    found = _known_labels.get(item)
    if found is None:
        found = _labelled.decode(item.value).metadata.labels
        _known_labels[item] = found
    return found


def stored(value: Object, revision: int) -> bytes:
    """Return the bytes to keep of an object that is written at ``revision``.

    Its kind and its revision come first, so that :func:`restamp` finds the revision.
    """
    meta = {"resourceVersion": "", **value["metadata"]}
    meta["resourceVersion"] = str(revision)
    head = {"kind": value["kind"], "apiVersion": value["apiVersion"], "metadata": meta}
    return _encoder.encode({**head, **value, "metadata": meta})


def restamp(content: bytes, revision: int) -> bytes:
    """Return what :func:`stored` gave for one revision as it is for another.

    Bytes that are no such object are returned as they are.
    """
    found = _stamped.match(content)
    if found is None:
        return content
    return b"%b%d%b" % (content[: found.end(1)], revision, content[found.end() :])


def with_revision(value: Object, revision: int) -> Object:
    """Return the object with the resourceVersion ``revision``."""
    return {**value, "metadata": {**value["metadata"], "resourceVersion": str(revision)}}
