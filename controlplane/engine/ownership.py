"""Controller references: which object made which, and who takes over what lost its owner.

Source: Kubernetes documentation, "Owners and Dependents"; design proposal "ControllerRef".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controlplane.api.selectors import LabelSelector
from kubeletpy_common.apiclient.errors import ApiError

from .resources import Object, Resource, is_deleting
from .writes import Writer


def controller_of(value: Object) -> dict[str, Any] | None:
    """Return the owner reference of an object's controller, None if it has none (pure)."""
    for one in value["metadata"].get("ownerReferences") or ():
        if one.get("controller"):
            found: dict[str, Any] = one
            return found
    return None


def is_controlled_by(value: Object, owner: Object) -> bool:
    """Whether ``owner`` is the controller of ``value`` (pure)."""
    found = controller_of(value)
    return found is not None and found["uid"] == owner["metadata"]["uid"]


def reference_to(owner: Object, resource: Resource) -> dict[str, Any]:
    """Return the reference by which ``owner`` controls what it makes (pure)."""
    return {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


class Claims:
    """Makes what an owner controls fit its selector.

    Args:
        writer: of the process.
        resource: of the owner.
        owned: resource of what is claimed.
        finalizer: that what is adopted gets, and what is released loses; "": none.
    """

    def __init__(
        self, writer: Writer, resource: Resource, owned: Resource, *, finalizer: str = ""
    ) -> None:
        self._writer = writer
        self._resource = resource
        self._owned = owned
        self._finalizer = finalizer

    async def claim(
        self, owner: Object, selector: LabelSelector | None, found: list[Object],
        may_belong: Callable[[Object], bool] | None = None,
    ) -> list[Object]:  # fmt: skip
        """Adopt those of ``found`` that fit and have no controller, release ours that do not fit.

        An owner that is being deleted adopts nothing: the server is asked first.

        Args:
            owner: as it is known.
            selector: of it; None fits nothing.
            found: objects of the owner's namespace.
            may_belong: says what else must be so for one to be the owner's, besides its labels.

        Returns:
            Those that it controls now.

        Raises:
            ApiError: the server refused, or did not answer.
        """
        ours: list[Object] = []
        alive: bool | None = None
        for value in found:
            controller = controller_of(value)
            fits = selector is not None and selector.matches(value["metadata"].get("labels") or {})
            fits = fits and (may_belong is None or may_belong(value))
            if controller is not None:
                if controller["uid"] != owner["metadata"]["uid"]:
                    continue
                if fits:
                    ours.append(value)
                elif not is_deleting(owner):
                    await self._release(owner, value)
                continue
            if not fits or is_deleting(value) or is_deleting(owner):
                continue
            if alive is None:
                alive = await self._is_alive(owner)
            if alive and (adopted := await self._adopt(owner, value)) is not None:
                ours.append(adopted)
        return ours

    async def _is_alive(self, owner: Object) -> bool:
        """Ask the server: memory may not know yet that the owner is to go."""
        try:
            fresh = await self._writer.read(self._resource, owner)
        except ApiError as error:
            if error.not_found:
                return False
            raise
        same: bool = fresh["metadata"]["uid"] == owner["metadata"]["uid"]
        return same and not is_deleting(fresh)

    async def _adopt(self, owner: Object, value: Object) -> Object | None:
        meta = value["metadata"]
        mine = [*(meta.get("ownerReferences") or ()), reference_to(owner, self._resource)]
        return await self._rewrite(value, mine, [*self._other_finalizers(value), self._finalizer])

    async def _release(self, owner: Object, value: Object) -> None:
        uid = owner["metadata"]["uid"]
        others = [one for one in value["metadata"]["ownerReferences"] if one["uid"] != uid]
        await self._rewrite(value, others, self._other_finalizers(value))

    def _other_finalizers(self, value: Object) -> list[str]:
        found = value["metadata"].get("finalizers") or ()
        return [one for one in found if one != self._finalizer]

    async def _rewrite(
        self, value: Object, references: list[dict[str, Any]], finalizers: list[str]
    ) -> Object | None:
        meta = value["metadata"]
        wanted: dict[str, Any] = {
            "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
            "ownerReferences": references or None,
        }  # fmt: skip
        if self._finalizer:
            wanted["finalizers"] = finalizers or None
        try:
            return await self._writer.patch(self._owned, value, {"metadata": wanted})
        except ApiError as error:
            # Gone, or another of this name: there is nothing to own any more.
            if error.not_found or error.reason == "Invalid":
                return None
            raise
