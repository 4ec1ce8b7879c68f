"""How extension servers know this server, and the users of this cluster.

The ConfigMap ``kube-system/extension-apiserver-authentication``: they accept who asks in the name
of somebody else if it shows a certificate of ``requestheader-client-ca-file``, and others by a
certificate of ``client-ca-file``.

Source: Kubernetes documentation, "Configure the Aggregation Layer", "Extension Apiserver
Authenticates the Request".
"""

from __future__ import annotations

import json
from typing import Final

from controlplane.aggregation.forwarding import (
    CLIENT,
    EXTRA_HEADER,
    GROUP_HEADER,
    UID_HEADER,
    USER_HEADER,
)
from controlplane.api import codec, metadata
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context, Object
from controlplane.auth.trust.authority import read
from controlplane.builtin.following import follow
from controlplane.plane import Plane

NAMESPACE: Final = "kube-system"
NAME: Final = "extension-apiserver-authentication"


class PublishedTrust:
    """Keeps the ConfigMap as it must be.

    Args:
        plane: the parts.
    """

    def __init__(self, plane: Plane) -> None:
        found = plane.catalog.find("", "v1", "configmaps")
        assert found is not None
        self._plane = plane
        self._resource = found

    async def start(self) -> None:
        """Make it, or put right what is wrong in it.

        Raises:
            TrustError: a certificate cannot be read.
        """
        wanted = self._wanted()
        resource, plane = self._resource, self._plane
        context = Context(namespace=NAMESPACE, name=NAME, now=metadata.now(),
                          manager="kube-apiserver")  # fmt: skip
        item = plane.store.get(resource.key(NAMESPACE, NAME))
        if item is None:
            value: Object = {
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"namespace": NAMESPACE, "name": NAME}, "data": wanted,
            }  # fmt: skip
            await plane.registry.create(resource, NAMESPACE, value, context)
            return
        if wanted.items() <= (codec.decode(item).get("data") or {}).items():
            return

        async def change(old: Object) -> Object:
            return {**old, "data": {**(old.get("data") or {}), **wanted}}

        await plane.registry.update(resource, NAMESPACE, NAME, change, context)

    async def run(self) -> None:
        """Look after it."""
        async for _ in follow(self._plane.store, self._resource.key(NAMESPACE, NAME)):
            try:
                await self.start()
            except ApiError as error:
                # Somebody else was faster, and that is told as well.
                if error.reason not in ("AlreadyExists", "Conflict", "NotFound"):
                    raise

    def _wanted(self) -> dict[str, str]:
        directory = self._plane.options.data_dir / "pki"
        return {
            "client-ca-file": read(directory / "ca.crt").decode(),
            "requestheader-client-ca-file": read(directory / "front-proxy-ca.crt").decode(),
            "requestheader-allowed-names": json.dumps([CLIENT]),
            "requestheader-username-headers": json.dumps([USER_HEADER]),
            "requestheader-uid-headers": json.dumps([UID_HEADER]),
            "requestheader-group-headers": json.dumps([GROUP_HEADER]),
            "requestheader-extra-headers-prefix": json.dumps([EXTRA_HEADER]),
        }
