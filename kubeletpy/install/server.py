"""What a server's installation does once its API server serves."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from kubeletpy.install import configs, machine, objects, places
from kubeletpy.install.errors import InstallError
from kubeletpy.install.installation import NodeInstallation
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError, read_kubeconfig
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced
from kubeletpy_common.atomic import write_atomic

_AGENT: Final = "kubeletpy-install"
Object = dict[str, Any]


def publish_credentials() -> None:
    """Put authority and the administrator's kubeconfig where people and the kubelet find them.

    The latter is a link: the API server renews its certificate in time.

    Raises:
        InstallError: they cannot be put there.
    """
    try:
        authority = (places.APISERVER / "pki/ca.crt").read_bytes()
        if not places.AUTHORITY.exists() or places.AUTHORITY.read_bytes() != authority:
            write_atomic(places.AUTHORITY, authority, mode=0o644, sync=True)
    except OSError as error:
        raise InstallError(f"cannot copy the API server's authority: {error}") from error
    machine.replace_link(places.ADMIN, places.APISERVER / "admin.kubeconfig")


async def furnish(one: NodeInstallation, seconds: float) -> None:
    """Make the cluster's objects, and the DNS's kubeconfig.

    Raises:
        InstallError: the server refused something, or did not answer in time.
    """
    server = one.server
    assert server is not None
    try:
        async with asyncio.timeout(seconds), client_of(places.ADMIN) as client:
            made = [await objects.apply(client, value) for value in objects.of_cluster(one)]
            uid = next(one["metadata"]["uid"] for one in made if one["kind"] == "ServiceAccount")
            await objects.apply(client, objects.dns_token(uid))
            path = object_path("v1", "secrets", "kube-system")
            name = f"{objects.DNS_ACCOUNT}-token"
            secret = await until(
                client, path, name, lambda found: bool((found.get("data") or {}).get("token"))
            )
    except TimeoutError:
        raise InstallError(
            f"the API server did not make what a cluster needs within {seconds:.0f} s; "
            "see: journalctl -u kubeletpy-apiserver"
        ) from None
    token = base64.b64decode(secret["data"]["token"]).decode()
    text = configs.kubeconfig(
        f"https://127.0.0.1:{server.port}", {"token": token}, authority="/dev/null"
    )
    text = _with_authority(text, places.AUTHORITY.read_bytes())
    if not places.DNS_KUBECONFIG.exists() or places.DNS_KUBECONFIG.read_text() != text:
        write_atomic(places.DNS_KUBECONFIG, text, mode=0o600, sync=True)


def _with_authority(text: str, authority: bytes) -> str:
    """Embed the authority: who uses this kubeconfig may not read files of ours."""
    encoded = base64.b64encode(authority).decode()
    return text.replace(
        "certificate-authority: /dev/null", f"certificate-authority-data: {encoded}"
    )


def client_of(kubeconfig: Path) -> ApiClient:
    """Return a client with the credentials of a kubeconfig.

    Raises:
        InstallError: it cannot be used.
    """
    try:
        return ApiClient(read_kubeconfig(kubeconfig), rate=0, agent=_AGENT)
    except (KubeconfigError, OSError) as error:
        raise InstallError(f"cannot use {kubeconfig}: {error}") from error


async def until(
    client: ApiClient, path: str, name: str, fits: Callable[[Object], bool],
    seen: Callable[[Object], None] = lambda _: None,
) -> Object:  # fmt: skip
    """Wait until an object fits; return it.

    Args:
        path: of its collection.
        seen: is told of each state of it.
    """
    reflector = Reflector(client, path, field_selector=f"metadata.name={name}")
    async for event in reflector:
        found: list[Object] = list(event.items) if isinstance(event, Synced) else []
        if isinstance(event, Changed) and event.kind != "DELETED":
            found = [event.object]
        for one in found:
            if one["metadata"]["name"] == name:
                seen(one)
                if fits(one):
                    return one
    raise InstallError(f"the watch of {path} ended")  # it never does


async def await_node(kubeconfig: Path, name: str, seconds: float) -> str:
    """Wait until a node is Ready; return "", or what it says of itself when time is over.

    Raises:
        InstallError: the kubeconfig cannot be used.
    """
    said = "it is not registered yet"

    def see(node: Object) -> None:
        nonlocal said
        said = node_ready(node)

    async with client_of(kubeconfig) as client:
        try:
            async with asyncio.timeout(seconds):
                path = object_path("v1", "nodes")
                await until(client, path, name, lambda node: not node_ready(node), see)
        except (TimeoutError, ApiError) as error:
            return f"{said} ({error})" if str(error) else said
    return ""


def node_ready(node: Object) -> str:
    """Return "" if a node is Ready, else why it is not (pure)."""
    for one in (node.get("status") or {}).get("conditions") or []:
        if one.get("type") == "Ready":
            if one.get("status") == "True":
                return ""
            return f"{one.get('reason', '')}: {one.get('message', '')}"
    return "its kubelet has not said anything yet"
