"""What volumes need of the API server, behind one small interface."""

from __future__ import annotations

from typing import Any, Protocol

Object = dict[str, Any]


class ObjectMissing(Exception):
    """The API server says that there is no such object."""


class ObjectsUnreachable(Exception):
    """The API server could not be asked, or refused; the message says why."""


class Objects(Protocol):
    """Reads objects that pods refer to, and asks for tokens."""

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
