"""The scale of whatever is scaled: any kind with the subresource ``scale``."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final

from controlplane.engine.controller import monotonic
from controlplane.engine.resources import Object
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError

_KEEP: Final = 300.0
_ATTEMPTS: Final = 5


class TargetError(Exception):
    """A target has no scale; the text says why."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A resource of a kind.

    Attributes:
        group_version: that serves it.
        plural: its name in paths.
        namespaced: whether its objects are in namespaces.
    """

    group_version: str
    plural: str
    namespaced: bool

    @property
    def qualified(self) -> str:
        """Plural and group: ``deployments.apps``, ``pods``."""
        group, _, _ = self.group_version.rpartition("/")
        return f"{self.plural}.{group}" if group else self.plural


def group_of(api_version: str) -> str:
    """Return the group of an ``apiVersion`` (pure).

    Raises:
        TargetError: it is none.
    """
    if api_version.count("/") > 1:
        raise TargetError(f"unexpected GroupVersion string: {api_version}")
    return api_version.rpartition("/")[0]


class Kinds:
    """Which resources a kind has; asks the server, and keeps the answer for some time.

    Args:
        client: of the API server.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._groups: dict[str, tuple[float, dict[str, list[Mapping]]]] = {}

    async def mappings(self, group: str, kind: str) -> list[Mapping]:
        """Return the resources of a kind, that of the preferred version first.

        Raises:
            TargetError: there is none.
            ApiError: the server does not say.
        """
        until, kinds = self._groups.get(group, (0.0, {}))
        if until < monotonic() or kind not in kinds:
            kinds = await self._read(group)
            self._groups[group] = (monotonic() + _KEEP, kinds)
        if kind not in kinds:
            raise TargetError(f'no matches for kind "{kind}" in group "{group}"')
        return kinds[kind]

    async def _read(self, group: str) -> dict[str, list[Mapping]]:
        found: dict[str, list[Mapping]] = {}
        for version in await self._versions(group):
            path = f"/apis/{version}" if "/" in version else f"/api/{version}"
            try:
                listed = (await self._client.get(path)).get("resources") or ()
            except ApiError as error:
                if not error.not_found:
                    raise
                continue
            for one in listed:
                if "/" not in one["name"]:
                    made = Mapping(version, one["name"], bool(one.get("namespaced")))
                    found.setdefault(one["kind"], []).append(made)
        return found

    async def _versions(self, group: str) -> list[str]:
        if not group:
            return ["v1"]
        try:
            answer = await self._client.get(f"/apis/{group}")
        except ApiError as error:
            if error.not_found:
                return []
            raise
        return [one["groupVersion"] for one in answer.get("versions") or ()]


class Scales:
    """Reads and writes scales.

    Args:
        client: of the API server.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def get(
        self, namespace: str, name: str, mappings: list[Mapping]
    ) -> tuple[Object, Mapping]:
        """Return the scale of an object, and the resource that has it.

        Raises:
            ApiError: there is none; of several resources the error of the first.
        """
        first: ApiError | None = None
        for mapping in mappings:
            try:
                return await self._client.get(_path(namespace, name, mapping)), mapping
            except ApiError as error:
                first = first or error
        assert first is not None
        raise first

    async def set(
        self, namespace: str, name: str, mapping: Mapping, scale: Object, replicas: int
    ) -> None:
        """Set the replicas; again if the object changed meanwhile.

        Raises:
            ApiError: they cannot be set.
        """
        path = _path(namespace, name, mapping)
        for attempt in range(_ATTEMPTS):
            wanted = copy.deepcopy(scale)
            wanted.setdefault("spec", {})["replicas"] = replicas
            try:
                await self._client.update(path, wanted)
                return
            except ApiError as error:
                if error.reason != "Conflict" or attempt == _ATTEMPTS - 1:
                    raise
            scale = await self._client.get(path)


def _path(namespace: str, name: str, mapping: Mapping) -> str:
    where = namespace if mapping.namespaced else ""
    return object_path(mapping.group_version, mapping.plural, where, name, "scale")
