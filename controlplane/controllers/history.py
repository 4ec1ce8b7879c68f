"""ControllerRevisions: the templates that a StatefulSet or DaemonSet had, for ``kubectl rollout``.

What is kept of an owner is the patch that brings its template back. Its bytes, and the hash that
names the revision of a StatefulSet, are those of the Go controllers, so that one may take over from
the other without a rollout, and kubectl can tell whether an undo changes anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final

from controlplane.api.selectors import LabelSelector
from controlplane.controllers.pods import BY_OWNER, ORPHANS, orphan_of
from controlplane.controllers.podtemplates import name_of, safe_encode
from controlplane.engine.controller import Context
from controlplane.engine.informer import of_owner
from controlplane.engine.ownership import Claims, reference_to
from controlplane.engine.resources import REVISIONS, Object, Resource
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH
from kubeletpy_common.apiclient.errors import ApiError

HASH_LABEL: Final = "controller.kubernetes.io/hash"
"""On revisions: the hash of their data."""
REVISION_LABEL: Final = "controller-revision-hash"
"""On pods: which revision they are of. A StatefulSet's is a name, a DaemonSet's the end of one."""
_LONGEST_PREFIX: Final = 223
_FNV_BASIS: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193
_ESCAPED: Final = {
    ord(one): f"\\u{ord(one):04x}" for one in ("<", ">", "&", "\N{LINE SEPARATOR}",
                                               "\N{PARAGRAPH SEPARATOR}")
}  # fmt: skip


def data_of(owner: Object) -> Object:
    """Return the patch that brings back the template that an owner has now (pure)."""
    return {"spec": {"template": _clean({**owner["spec"]["template"], "$patch": "replace"})}}


def template_of(revision: Object) -> Object:
    """Return the template that a revision keeps (pure)."""
    template = dict(revision["data"]["spec"]["template"])
    template.pop("$patch", None)
    return template


def encoded(data: Object) -> bytes:
    """Return data as Go's encoding/json writes a map (pure)."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.translate(_ESCAPED).encode()


def hash_of(data: Object, collisions: int) -> str:
    """Return the hash of a revision's data, as in names (FNV-1 of 32 bits; pure)."""
    number = _FNV_BASIS
    for byte in encoded(data) + str(collisions).encode():
        number = (number * _FNV_PRIME & 0xFFFFFFFF) ^ byte
    return safe_encode(str(number))


def is_same(one: Object, other: Object) -> bool:
    """Whether data of two revisions bring back the same (pure)."""
    return one == other or _clean(one) == _clean(other)


def ordered(revisions: Iterable[Object]) -> list[Object]:
    """Return revisions by number; of one number the oldest first (pure)."""
    return sorted(revisions, key=lambda one: (
        one["revision"], one["metadata"].get("creationTimestamp", ""), one["metadata"]["name"]
    ))  # fmt: skip


def beyond(revisions: list[Object], live: Callable[[Object], bool], limit: int) -> list[Object]:
    """Return which revisions are too many, the oldest first (pure).

    Args:
        revisions: ordered.
        live: says whether one is in use; those are not counted.
        limit: of those that are not in use; below 0 all are kept.
    """
    old = [one for one in revisions if not live(one)]
    return old[: max(len(old) - limit, 0)] if limit >= 0 else []


def _clean(value: Any) -> Any:
    """Return data in Go's order, without what is null (as older ``creationTimestamp: null``)."""
    if isinstance(value, dict):
        return {key: _clean(one) for key, one in sorted(value.items()) if one is not None}
    if isinstance(value, list):
        return [_clean(one) for one in value]
    return value


class History:
    """The revisions of the owners of one kind.

    Args:
        context: of the process.
        resource: of the owners.
        label: on each revision, with its hash.
    """

    def __init__(self, context: Context, resource: Resource, label: str) -> None:
        self._context = context
        self._resource = resource
        self._label = label
        self._claims = Claims(context.writer, resource, REVISIONS)
        self._same: dict[str, tuple[int, str]] = {}
        self.revisions = context.informers.of(REVISIONS)
        self.revisions.index(BY_OWNER, of_owner)
        self.revisions.index(ORPHANS, orphan_of)

    async def claimed(self, owner: Object, selector: LabelSelector | None) -> list[Object]:
        """Return the revisions of an owner, ordered; those that nobody owns are adopted.

        Raises:
            ApiError: the server refused, or did not answer.
        """
        meta = owner["metadata"]
        found = self.revisions.indexed(BY_OWNER, meta["uid"])
        found += self.revisions.indexed(ORPHANS, meta["namespace"])
        return ordered(await self._claims.claim(owner, selector, found))

    async def create(self, owner: Object, data: Object, number: int, collisions: int
                     ) -> tuple[Object | None, int]:  # fmt: skip
        """Keep data as a revision of an owner.

        Args:
            collisions: of names, as the status of the owner says.

        Returns:
            The revision, None if its name is that of another one; and the number of collisions.

        Raises:
            ApiError: it was refused.
        """
        meta = owner["metadata"]
        digest = hash_of(data, collisions)
        name = name_of(meta["name"][:_LONGEST_PREFIX], digest)
        labels = dict((owner["spec"]["template"].get("metadata") or {}).get("labels") or {})
        made: dict[str, Any] = {
            "namespace": meta["namespace"], "name": name,
            "labels": {**labels, self._label: digest},
            "ownerReferences": [reference_to(owner, self._resource)],
        }  # fmt: skip
        if meta.get("annotations"):
            made["annotations"] = dict(meta["annotations"])
        body = {"metadata": made, "data": data, "revision": number}
        writer = self._context.writer
        try:
            return await writer.create(REVISIONS, body), collisions
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        there = await writer.read(REVISIONS, body)
        if is_same(there["data"], data):
            return there, collisions
        return None, collisions + 1

    async def renumber(self, revision: Object, number: int) -> Object:
        """Give a revision another number: it is the newest again.

        Raises:
            ApiError: it was refused.
        """

        def changed(value: Object) -> Object | None:
            return None if value["revision"] == number else {**value, "revision": number}

        return await self._context.writer.change(REVISIONS, revision, changed)

    async def relabel(self, revision: Object, value: str) -> Object:
        """Give a revision its label, where it has none.

        Raises:
            ApiError: it was refused.
        """
        changes = {"metadata": {"labels": {self._label: value}}}
        return await self._context.writer.patch(REVISIONS, revision, changes)

    async def delete(self, revisions: Iterable[Object]) -> None:
        """Delete revisions.

        Raises:
            ApiError: one was refused.
        """
        for one in revisions:
            await self._context.writer.delete(REVISIONS, one)

    async def is_unchanged(self, owner: Object, revision: Object) -> bool:
        """Whether bringing a revision back would change nothing.

        A server that is newer than the revision fills in more fields by default; the owner has
        them, the revision has not. The server is asked what it would make of the revision.

        Raises:
            ApiError: it did not answer.
        """
        meta = owner["metadata"]
        seen = (meta.get("generation", 0), revision["metadata"]["resourceVersion"])
        if self._same.get(meta["uid"]) == seen:
            return True
        try:
            restored = await self._context.client.patch(
                self._resource.path_of(owner), revision["data"], kind=STRATEGIC_PATCH,
                params={"dryRun": "All"},
            )  # fmt: skip
        except ApiError as error:
            if error.transient:
                raise
            return False
        if not is_same(data_of(restored), data_of(owner)):
            return False
        self._same[meta["uid"]] = seen
        return True

    def forget(self, uid: str) -> None:
        """Take note that an owner is gone."""
        self._same.pop(uid, None)
