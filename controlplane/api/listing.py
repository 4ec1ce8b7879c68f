"""Lists and watches: what they hold, and in which pieces (no HTTP here).

Source: Kubernetes documentation, "Kubernetes API Concepts": "Resource versions", "Retrieving large
results sets in chunks", "Efficient detection of changes", "Streaming lists".
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from controlplane.api import codec
from controlplane.api.errors import ApiError, Cause, bad_request, expired
from controlplane.api.resource import Resource
from controlplane.api.selectors import FieldSelector, LabelSelector, parse_fields, parse_labels
from controlplane.store.model import Change, CompactedError, FutureRevisionError, Item
from controlplane.store.store import Store
from controlplane.store.watch import Watch

_COMMON_FIELDS = frozenset({"metadata.name", "metadata.namespace"})


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a resource a request is about.

    Attributes:
        resource: their kind.
        namespace: that they are in; "" for all.
        name: the only one; "" for all.
        labels: that they have.
        fields: that they have.
    """

    resource: Resource
    namespace: str
    name: str
    labels: LabelSelector
    fields: FieldSelector

    @property
    def prefix(self) -> str:
        """The beginning of their keys."""
        if self.name and (self.namespace or not self.resource.namespaced):
            return self.resource.key(self.namespace, self.name)
        return self.resource.prefix_in(self.namespace)

    def matches(self, item: Item) -> bool:
        """Say whether an item of the resource is among them."""
        if self.name and not self._is_named(item):
            return False
        if self.labels.requirements and not self.labels.matches(codec.labels(item)):
            return False
        if not self.fields.requirements:
            return True
        value = codec.decode(item)
        meta = value["metadata"]
        known = {
            "metadata.name": meta["name"],
            "metadata.namespace": meta.get("namespace", ""),
            **self.resource.strategy.fields(value),
        }
        return self.fields.matches(known)

    def _is_named(self, item: Item) -> bool:
        return item.key.rpartition("/")[2] == self.name


def select(resource: Resource, namespace: str, name: str, labels: str, fields: str) -> Selection:
    """Return what the parameters of a request select.

    Raises:
        ApiError: a selector is none, or asks for a field that the kind cannot be selected by.
    """
    known = _COMMON_FIELDS | resource.strategy.selectable
    selector = parse_fields(fields, known)
    wanted = selector.required("metadata.name") or ""
    if name and wanted and name != wanted:
        raise bad_request(f"field selector metadata.name={wanted} does not match the name {name}")
    within = selector.required("metadata.namespace") or ""
    return Selection(resource, namespace or within, name or wanted, parse_labels(labels), selector)


@dataclass(frozen=True, slots=True)
class Listed:
    """A list, or a piece of one.

    Attributes:
        items: in the order of their keys.
        revision: as of which they are.
        token: to go on with; "" at the end.
        remaining: how many more there are, None if a selector makes that unknown or there are none.
    """

    items: list[Item]
    revision: int
    token: str = ""
    remaining: int | None = None


def read_list(
    store: Store, selection: Selection, *, limit: int, token: str, revision: str, match: str
) -> Listed:
    """Return a list.

    Args:
        store: where the objects are.
        selection: which ones.
        limit: of items; 0: all.
        token: ``continue`` of the piece before; "" for the first.
        revision: ``resourceVersion`` of the request.
        match: ``resourceVersionMatch`` of the request.

    Raises:
        ApiError: the revision or the token is too old or not understood.
    """
    if token and revision not in ("", "0"):
        raise bad_request("specifying resourceVersion is not allowed when using continue")
    at, after = _decode_token(token, selection.prefix) if token else (None, "")
    if not token:
        at = _wanted_revision(store, revision, match, limit)
    items: list[Item] = []
    last = after
    try:
        while True:
            page = store.read(selection.prefix, after=last, limit=limit, revision=at)
            for item in page.items:
                last = item.key
                if selection.matches(item):
                    items.append(item)
                    if limit and len(items) == limit:
                        break
            more = bool(page.items) and (page.remaining > 0 or last != page.items[-1].key)
            if not more or (limit and len(items) == limit):
                break
            at = page.revision
    except CompactedError as error:
        text = f"The provided continue parameter or resourceVersion is too old: {error}"
        raise expired(text) from error
    if not more:
        return Listed(items, page.revision)
    skipped = sum(1 for item in page.items if item.key > last)
    unknown = selection.labels.requirements or selection.fields.requirements
    remaining = None if unknown else page.remaining + skipped
    return Listed(items, page.revision, _encode_token(page.revision, last), remaining)


def open_watch(store: Store, revision: int, prefix: str) -> Watch:
    """Follow the changes after ``revision``.

    Raises:
        ApiError: they are no longer known, or the revision is in the future.
    """
    try:
        return store.watch(prefix, revision)
    except CompactedError as error:
        raise expired(f"too old resource version: {revision} ({error.oldest})") from error
    except FutureRevisionError as error:
        raise _too_large(revision, error.current) from error


def event_of(change: Change, matches: Callable[[Item], bool]) -> tuple[str, bytes] | None:
    """Return type and object of the watch event that a change is for those who see what matches.

    An object that begins to match is added, one that ceases to is deleted.
    """
    now = change.item is not None and matches(change.item)
    before = change.previous is not None and matches(change.previous)
    if now:
        assert change.item is not None
        return ("MODIFIED" if before else "ADDED"), change.item.value
    if before:
        assert change.previous is not None
        # The last state of what is gone, at the revision of its end.
        gone = codec.with_revision(codec.decode(change.previous), change.revision)
        return "DELETED", codec.encode(gone)
    return None


def parse_revision(text: str) -> int:
    """Return a resourceVersion; 0 for none.

    Raises:
        ApiError: it is none of this server's.
    """
    if not text:
        return 0
    if not text.isdecimal() or len(text) > 18:
        raise bad_request(f"Invalid value: {text[:40]!r}: resourceVersion must be a number")
    return int(text)


def _wanted_revision(store: Store, revision: str, match: str, limit: int) -> int | None:
    if match not in ("", "Exact", "NotOlderThan"):
        raise bad_request(f"resourceVersionMatch {match!r} is not Exact or NotOlderThan")
    if match and not revision:
        raise bad_request("resourceVersionMatch is forbidden unless resourceVersion is provided")
    wanted = parse_revision(revision)
    if match == "Exact" and not wanted:
        raise bad_request("resourceVersionMatch Exact is forbidden for resourceVersion 0")
    if wanted > store.revision:
        raise _too_large(wanted, store.revision)
    # With a limit and no word on matching, a version is meant exactly (documentation, table).
    exact = match == "Exact" or (bool(limit) and not match and wanted)
    return wanted if exact else None


def _too_large(wanted: int, current: int) -> ApiError:
    message = f"Too large resource version: {wanted}, current: {current}"
    cause = Cause("ResourceVersionTooLarge", "Too large resource version", "")
    return ApiError("Timeout", message, causes=(cause,), retry_after=1)


def _encode_token(revision: int, last: str) -> str:
    text = json.dumps({"v": "kubeletpy/v1", "rv": revision, "last": last})
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode_token(token: str, prefix: str) -> tuple[int, str]:
    try:
        value: Any = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, last = value["rv"], value["last"]
        if not isinstance(revision, int) or not last.startswith(prefix):
            raise ValueError("not of this list")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise bad_request("continue key is not valid: it is no token of this list") from error
    return revision, last
