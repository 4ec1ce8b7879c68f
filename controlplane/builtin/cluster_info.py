"""``kube-public/cluster-info``: where the cluster is and whom to trust, for who wants to join.

Anybody may read it (the Role ``kubeadm:bootstrap-signer-clusterinfo``); the controller of bootstrap
tokens signs it.

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens", "ConfigMap Signing".
"""

from __future__ import annotations

import base64
from functools import partial
from typing import Final

import yaml

from controlplane import addresses
from controlplane.api import codec
from controlplane.api.errors import ApiError
from controlplane.api.resource import Object
from controlplane.builtin.following import context
from controlplane.network_changes import follow_addresses
from controlplane.plane import Plane
from kubeletpy_common.bootstrap_tokens import INFO_NAME, INFO_NAMESPACE, KUBECONFIG_KEY

PUBLISHER: Final = "kubeletpy.io/publisher"
"""Annotation of what this server keeps; without it somebody else does (a load balancer's address,
say), and it is left alone."""
_SELF: Final = "apiserver"
_MANAGER: Final = "kube-apiserver"


def kubeconfig(server: str, authority: bytes) -> str:
    """Return the kubeconfig that is published: one cluster without a name, no user (pure).

    Args:
        server: URL.
        authority: PEM.
    """
    cluster = {
        "certificate-authority-data": base64.b64encode(authority).decode(),
        "server": server,
    }
    text: str = yaml.dump(
        {
            "apiVersion": "v1",
            "clusters": [{"cluster": cluster, "name": ""}],
            "contexts": None,
            "current-context": "",
            "kind": "Config",
            "users": None,
        },
        Dumper=yaml.CSafeDumper,
        sort_keys=False,
    )
    return text


async def keep(plane: Plane) -> None:
    """Publish it anew whenever the addresses of this machine changed."""
    await follow_addresses(partial(publish, plane))


async def publish(plane: Plane) -> None:
    """See to it that cluster-info says where this server is now.

    Raises:
        ApiError: it cannot be written.
        StoreError: the store cannot be written.
    """
    try:
        authority = (plane.options.data_dir / "pki" / "ca.crt").read_bytes()
    except FileNotFoundError:
        # A server without TLS has no authority.
        return
    resource = plane.catalog.find("", "v1", "configmaps")
    assert resource is not None
    wanted = kubeconfig(addresses.public_url(plane.options), authority)
    item = plane.store.get(resource.key(INFO_NAMESPACE, INFO_NAME))
    if item is None:
        meta = {"name": INFO_NAME, "namespace": INFO_NAMESPACE, "annotations": {PUBLISHER: _SELF}}
        value = {"apiVersion": "v1", "kind": resource.kind, "metadata": meta,
                 "data": {KUBECONFIG_KEY: wanted}}  # fmt: skip
        try:
            await plane.registry.create(resource, INFO_NAMESPACE, value, context(_MANAGER))
        except ApiError as error:
            # Another server on the same etcd was faster.
            if error.reason != "AlreadyExists":
                raise
        return
    found = codec.decode(item)
    ours = found["metadata"].get("annotations", {}).get(PUBLISHER) == _SELF
    if not ours or found.get("data", {}).get(KUBECONFIG_KEY) == wanted:
        return

    async def change(value: Object) -> Object:
        value["metadata"].pop("resourceVersion", None)
        # Signatures of what it said before are of no use.
        return {**value, "data": {KUBECONFIG_KEY: wanted}}

    await plane.registry.update(resource, INFO_NAMESPACE, INFO_NAME, change, context(_MANAGER))
