"""Writes to the API server, whose answers the informers learn before the writer goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from kubeletpy_common.apiclient.client import MERGE_PATCH, ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.plain import copied

from .informer import Informers
from .resources import Object, Resource

BACKGROUND: Final = "Background"
FOREGROUND: Final = "Foreground"
ORPHAN: Final = "Orphan"
_ATTEMPTS: Final = 5
_UNSURE: Final = (0, 500, 502, 504)
"""Status of answers that do not say whether a write was done; 0: none came."""


class UncertainError(ApiError):
    """No answer came to a write, or one that does not say what became of it.

    Before the next key is looked at the server is asked (`Informers.certain`).
    """


class Writer:
    """Creates, changes and deletes objects.

    Args:
        client: of the API server.
        informers: that learn; a resource that nobody follows is written all the same.
    """

    def __init__(self, client: ApiClient, informers: Informers) -> None:
        self._client = client
        self._informers = informers

    async def create(self, resource: Resource, value: Object) -> Object:
        """Create an object, in the namespace that it says.

        Raises:
            UncertainError: no answer came; it may be there.
            ApiError: it was refused.
        """
        namespace = value["metadata"].get("namespace", "")
        body = {"apiVersion": resource.group_version, "kind": resource.kind, **value}
        return await self._learned(
            resource, self._client.create(resource.path(namespace), body)
        )  # fmt: skip

    async def read(self, resource: Resource, value: Object) -> Object:
        """Return the object called as ``value`` is, as the server has it now.

        Raises:
            ApiError: NotFound: it is gone.
        """
        return await self._learned(resource, self._client.get(resource.path_of(value)))

    async def update(self, resource: Resource, value: Object, subresource: str = "") -> Object:
        """Replace an object; it must be as new as its resource version.

        Raises:
            ApiError: Conflict: it changed meanwhile; or it was refused.
        """
        path = resource.path_of(value, subresource)
        return await self._learned(resource, self._client.update(path, value))

    async def patch(
        self, resource: Resource, value: Object, changes: object, *,
        subresource: str = "", kind: str = MERGE_PATCH,
    ) -> Object:  # fmt: skip
        """Patch the object called as ``value`` is (by default RFC 7386, a merge patch).

        Raises:
            ApiError: it was refused.
        """
        path = resource.path_of(value, subresource)
        return await self._learned(resource, self._client.patch(path, changes, kind=kind))

    async def change(
        self, resource: Resource, value: Object, changed: Callable[[Object], Object | None], *,
        subresource: str = "",
    ) -> Object:  # fmt: skip
        """Replace an object by what ``changed`` makes of a copy of it; again after a conflict.

        Args:
            value: the object as it is known; after a conflict it is read from the server.
            changed: returns the new object; None: nothing is to be done any more.

        Raises:
            ApiError: it was refused, is gone, or another of its name is there now (Conflict).
        """
        uid = value["metadata"].get("uid")
        for attempt in range(_ATTEMPTS):
            wanted = changed(copied(value))
            if wanted is None:
                return value
            try:
                return await self.update(resource, wanted, subresource)
            except ApiError as error:
                if error.reason != "Conflict" or attempt == _ATTEMPTS - 1:
                    raise
            value = await self.read(resource, value)
            if value["metadata"].get("uid") != uid:
                raise ApiError(409, "Conflict", f"{resource.plural} {value['metadata']['name']!r}: "
                               "another object has this name now")  # fmt: skip
        raise AssertionError("unreachable")

    async def delete(
        self, resource: Resource, value: Object, *, policy: str = "", grace: int | None = None,
        versioned: bool = False,
    ) -> bool:  # fmt: skip
        """Delete this very object, not another of its name; one that is gone is no fault.

        Args:
            policy: what becomes of what it owns (`BACKGROUND` ...); "": the resource's default.
            grace: seconds that a pod has; None: what it says itself.
            versioned: only if it is still what is known.

        Returns:
            Whether it was there.

        Raises:
            UncertainError: no answer came; it may be gone.
            ApiError: it was refused.
        """
        meta = value["metadata"]
        conditions: dict[str, Any] = {"uid": meta["uid"]}
        if versioned:
            conditions["resourceVersion"] = meta["resourceVersion"]
        body: dict[str, Any] = {"kind": "DeleteOptions", "apiVersion": "v1",
                                "preconditions": conditions}  # fmt: skip
        if policy:
            body["propagationPolicy"] = policy
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        was_there = True
        try:
            answer = await self._client.delete(resource.path_of(value), body)
        except ApiError as error:
            # With a conflict another object has the name now.
            if not error.not_found and (error.reason != "Conflict" or versioned):
                self._doubt(resource, error)
                raise
            answer, was_there = {"kind": "Status"}, False
        except asyncio.CancelledError:
            self._doubt(resource)
            raise
        informer = self._informers.followed(resource)
        if informer is not None:
            if _is_gone(answer):
                informer.forget(value)
            elif answer.get("kind") == resource.kind:
                informer.learn(answer)
        return was_there

    async def _learned(self, resource: Resource, call: Any) -> Object:
        try:
            answer: Object = await call
        except ApiError as error:
            self._doubt(resource, error)
            raise
        except asyncio.CancelledError:
            self._doubt(resource)
            raise
        informer = self._informers.followed(resource)
        if informer is not None:
            informer.learn(answer)
        return answer

    def _doubt(self, resource: Resource, error: ApiError | None = None) -> None:
        """Have the server asked what is there, if a write may have been done.

        Args:
            error: that was answered; None: the write was broken off.

        Raises:
            UncertainError: of an error that leaves it open.
        """
        if error is not None and error.code not in _UNSURE:
            return
        informer = self._informers.followed(resource)
        if informer is not None:
            informer.doubt()
        if error is not None:
            raise UncertainError(
                error.code, error.reason, str(error), retry_after=error.retry_after,
                details=error.details,
            ) from error  # fmt: skip


def _is_gone(answer: Object) -> bool:
    """Whether the answer to a deletion says that the object is not there any more."""
    if answer.get("kind") == "Status":
        return True
    meta = answer["metadata"]
    return not meta.get("finalizers") and not meta.get("deletionGracePeriodSeconds")
