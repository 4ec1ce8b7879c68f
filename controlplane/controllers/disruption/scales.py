"""How many pods those who made them want."""

from __future__ import annotations

from typing import Any

from controlplane.engine.controller import Context
from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import (
    DEPLOYMENTS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Object,
    Resource,
)
from kubeletpy_common.apiclient.errors import ApiError

FOLLOWED = (REPLICATION_CONTROLLERS, REPLICA_SETS, STATEFUL_SETS, DEPLOYMENTS)
_OLD_GROUP = "extensions"


class ScaleError(Exception):
    """How many pods there should be cannot be found out."""


class Scales:
    """Finds the scale of whoever controls a pod.

    Args:
        context: of the process.
    """

    def __init__(self, context: Context) -> None:
        self._client = context.client
        self._informers = {one: context.informers.of(one) for one in FOLLOWED}
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}

    async def expected(self, pods: list[Object]) -> tuple[int, list[str]]:
        """Return how many pods all controllers together want, and names of pods that have none.

        Raises:
            ScaleError: the controller of one cannot be found, or says no scale.
            ApiError: the server did not answer.
        """
        scales: dict[str, int] = {}
        seen: set[str] = set()
        alone = []
        for pod in pods:
            reference = controller_of(pod)
            if reference is None:
                alone.append(pod["metadata"]["name"])
            elif reference["uid"] not in seen:
                seen.add(reference["uid"])
                found = await self._scale(pod["metadata"]["namespace"], reference)
                if found is None:
                    raise ScaleError(f'found no controllers for pod "{pod["metadata"]["name"]}"')
                scales[found[0]] = found[1]
        return sum(scales.values()), alone

    async def _scale(self, namespace: str, reference: dict[str, Any]) -> tuple[str, int] | None:
        """Return uid and scale of what a reference names; None: it is not there."""
        group = reference["apiVersion"].rpartition("/")[0]
        if reference["kind"] == REPLICA_SETS.kind and group in ("apps", _OLD_GROUP):
            owner = self._find(REPLICA_SETS, namespace, reference)
            above = controller_of(owner) if owner is not None else None
            if above is not None and above["kind"] == DEPLOYMENTS.kind:
                owner = self._find(DEPLOYMENTS, namespace, above)
            if owner is not None:
                return owner["metadata"]["uid"], owner["spec"].get("replicas", 1)
        for resource in (REPLICATION_CONTROLLERS, STATEFUL_SETS):
            of_group = resource.group_version.rpartition("/")[0]
            if (reference["kind"], group) == (resource.kind, of_group):
                owner = self._find(resource, namespace, reference)
                if owner is not None:
                    return owner["metadata"]["uid"], owner["spec"].get("replicas", 1)
        return await self._subresource(namespace, reference)

    def _find(
        self, resource: Resource, namespace: str, reference: dict[str, Any]
    ) -> Object | None:  # fmt: skip
        found = self._informers[resource].find(namespace, reference["name"])
        return found if found is not None and found["metadata"]["uid"] == reference["uid"] else None

    async def _subresource(
        self, namespace: str, reference: dict[str, Any]
    ) -> tuple[str, int] | None:  # fmt: skip
        """Ask the server: of any kind that has the subresource ``scale``."""
        version, kind = reference["apiVersion"], reference["kind"]
        plural, scales = await self._kind(version, kind)
        group = version.rpartition("/")[0]
        if not scales:
            name = f"{plural}.{group}" if group else plural
            raise ScaleError(f"{name} does not implement the scale subresource")
        resource = Resource(version, plural, kind)
        try:
            scale = await self._client.get(resource.path(namespace, reference["name"], "scale"))
        except ApiError as error:
            if error.not_found:
                # The kind may be another one by now.
                self._kinds.pop((version, kind), None)
                return None
            raise
        if scale["metadata"].get("uid") != reference["uid"]:
            return None
        return reference["uid"], (scale.get("spec") or {}).get("replicas", 0)

    async def _kind(self, version: str, kind: str) -> tuple[str, bool]:
        """Return the resource of a kind, and whether it has a scale."""
        known = self._kinds.get((version, kind))
        if known is not None:
            return known
        path = f"/apis/{version}" if "/" in version else f"/api/{version}"
        nothing = ScaleError(f'no matches for kind "{kind}" in version "{version}"')
        try:
            listed = (await self._client.get(path)).get("resources") or []
        except ApiError as error:
            if error.not_found:
                raise nothing from error
            raise
        names = {one["name"] for one in listed}
        plural = next(
            (one["name"] for one in listed if one["kind"] == kind and "/" not in one["name"]), None
        )
        if plural is None:
            raise nothing
        found = plural, f"{plural}/scale" in names
        if found[1]:
            self._kinds[version, kind] = found
        return found
