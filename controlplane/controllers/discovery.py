"""Which resources a server has, those of extensions included.

Source: Kubernetes documentation, "The Kubernetes API", "Discovery API" (aggregated discovery).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final

from controlplane.engine.resources import Resource
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError

_AGGREGATED: Final = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Served:
    """A resource that is served.

    Attributes:
        resource: in one version.
        verbs: that it knows.
    """

    resource: Resource
    verbs: frozenset[str]


class Discovery:
    """What a server has, as of the last `refresh`.

    Args:
        client: of the API server.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._served: list[Served] = []
        self._kinds: dict[tuple[str, str], Resource] = {}

    async def refresh(self) -> list[str]:
        """Ask the server.

        Returns:
            The group versions of extension servers that do not answer, of which nothing is known.

        Raises:
            ApiError: it does not answer, or in words that are not understood.
        """
        answers = await asyncio.gather(
            *(self._client.get(path, accept=_AGGREGATED) for path in ("/api", "/apis"))
        )
        self._served, self._kinds = parsed(answers)
        return stale(answers)

    def served(self) -> list[Served]:
        """Return each resource once, in the version that its group prefers."""
        return self._served

    def find(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource of a kind, in any version that is served; None: there is none."""
        return self._kinds.get((api_version, kind))


def parsed(
    answers: list[dict[str, Any]],
) -> tuple[list[Served], dict[tuple[str, str], Resource]]:
    """Return each resource once, and the resource of each kind in each version (pure).

    Raises:
        ApiError: an answer is no list of groups.
    """
    served: list[Served] = []
    kinds: dict[tuple[str, str], Resource] = {}
    for answer in answers:
        if answer.get("kind") != "APIGroupDiscoveryList":
            raise ApiError(0, "BadAnswer", "the server does not know aggregated discovery")
        for group in answer.get("items") or ():
            name, seen = group["metadata"].get("name", ""), set[str]()
            for version in group.get("versions") or ():
                group_version = f"{name}/{version['version']}" if name else version["version"]
                for one in version.get("resources") or ():
                    kind = (one.get("responseKind") or {}).get("kind")
                    if not kind:
                        continue
                    resource = Resource(
                        group_version, one["resource"], kind, one["scope"] == "Namespaced"
                    )
                    kinds.setdefault((group_version, kind), resource)
                    if resource.plural not in seen:
                        seen.add(resource.plural)
                        served.append(Served(resource, frozenset(one.get("verbs") or ())))
    return served, kinds


def stale(answers: list[dict[str, Any]]) -> list[str]:
    """Return the group versions whose servers do not answer (pure)."""
    return [
        f"{group['metadata'].get('name', '')}/{version['version']}"
        for answer in answers
        for group in answer.get("items") or ()
        for version in group.get("versions") or ()
        if version.get("freshness") == "Stale"
    ]
