"""What volumes need of the API server, behind one small interface."""

from __future__ import annotations

from typing import Any, Protocol

from kubeletpy.api.pod import Pod
from kubeletpy.object_cache import ObjectCache
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError

Object = dict[str, Any]


class ObjectMissing(Exception):
    """The API server says that there is no such object."""


class ObjectsUnreachable(Exception):
    """The API server could not be asked, or refused; the message says why."""


class Objects(Protocol):
    """Reads objects that pods refer to, and asks for tokens."""

    def register(self, pod: Pod) -> None:
        """Follow the ConfigMaps and Secrets that a pod names; again when it has changed."""

    def unregister(self, uid: str) -> None:
        """Follow those of a pod no longer."""

    async def get(self, resource: str, namespace: str, name: str) -> Object:
        """Return an object as it is now.

        Args:
            resource: ``configmaps``, ``secrets``, ``persistentvolumeclaims``, ...
            namespace: "" for resources that have none.
            name: of the object.

        Raises:
            ObjectMissing: there is none.
            ObjectsUnreachable: it cannot be had for now.
        """

    async def create_token(self, namespace: str, account: str, request: Object) -> Object:
        """Return the answer to a TokenRequest (authentication.k8s.io/v1).

        Raises:
            ObjectMissing: there is no such service account.
            ObjectsUnreachable: it cannot be had for now.
        """


class NoObjects:
    """What a kubelet without an API server has."""

    def register(self, pod: Pod) -> None:
        """Nothing to follow."""

    def unregister(self, uid: str) -> None:
        """Nothing was followed."""

    async def get(self, resource: str, namespace: str, name: str) -> Object:
        """Refuse.

        Raises:
            ObjectsUnreachable: always.
        """
        raise ObjectsUnreachable(
            f"{resource} {namespace}/{name}: this kubelet has no API server; set --kubeconfig"
        )

    async def create_token(self, namespace: str, account: str, request: Object) -> Object:
        """Refuse.

        Raises:
            ObjectsUnreachable: always.
        """
        raise ObjectsUnreachable("cannot use TokenManager when kubelet is in standalone mode")


class ApiObjects:
    """The API server; ConfigMaps and Secrets come from the watches that pods have registered.

    Args:
        client: of the API server.
        cache: what is watched.
    """

    def __init__(self, client: ApiClient, cache: ObjectCache) -> None:
        self._client = client
        self._cache = cache

    def register(self, pod: Pod) -> None:
        """See `Objects`."""
        self._cache.register(pod)

    def unregister(self, uid: str) -> None:
        """See `Objects`."""
        self._cache.unregister(uid)

    async def get(self, resource: str, namespace: str, name: str) -> Object:
        """See `Objects`."""
        try:
            if resource in ("configmaps", "secrets"):
                return await self._cache.get(resource, namespace, name)
            return await self._client.get(object_path("v1", resource, namespace, name))
        except ApiError as error:
            raise _translated(error) from error

    async def create_token(self, namespace: str, account: str, request: Object) -> Object:
        """See `Objects`."""
        path = object_path("v1", "serviceaccounts", namespace, account, "token")
        try:
            return await self._client.create(path, request)
        except ApiError as error:
            raise _translated(error) from error


def _translated(error: ApiError) -> Exception:
    return ObjectMissing(str(error)) if error.not_found else ObjectsUnreachable(str(error))
