"""Which certificates a kubelet renews: its own as a client, and that of its API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError, read_kubeconfig

from .follow import follow
from .identity import Identity, bare, by_store
from .manager import CertificateManager
from .pairs import CLIENT_SIGNER, SERVING_SIGNER, CertificateError, Template
from .store import CertificateStore

if TYPE_CHECKING:
    from kubeletpy.core import Core

SERVER_PREFIX = "kubelet-server"
_HOSTNAME, _DNS = "Hostname", ("InternalDNS", "ExternalDNS")
_IPS = ("InternalIP", "ExternalIP")


def client_renewal(
    identity: Identity,
    client: ApiClient,
    node: str,
    kubeconfig: Path,
    changed: Callable[[], None],
    told: Callable[[float | None], None] = lambda lived: None,
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return what keeps the client's certificate valid, and follows who replaces the kubeconfig.

    Args:
        identity: how the kubelet began.
        client: gets each new certificate, authority and address.
        node: name of the node.
        kubeconfig: where it was read.
        changed: called after that.
        told: of each renewal, see `CertificateManager`.
    """
    given = identity.store
    following = _following(given, client, kubeconfig, changed)
    if given is None:
        return following
    store = given

    @contextlib.asynccontextmanager
    async def requester() -> AsyncIterator[ApiClient]:
        if identity.bootstrap is None or client.access.certificate_file is not None:
            yield client
            return
        async with ApiClient(identity.bootstrap) as bootstrap:
            yield bootstrap

    async def renewed() -> None:
        try:
            client.renew(by_store(client.access, store))
        except KubeconfigError as error:
            raise CertificateError(str(error)) from error
        changed()

    template = Template(node=node)
    manager = CertificateManager(
        store,
        CLIENT_SIGNER,
        lambda: template,
        requester,
        renewed,
        force=identity.force,
        told=told,
    )

    async def run() -> None:
        async with asyncio.TaskGroup() as both:
            both.create_task(manager.run(once=identity.once), name="client certificate")
            both.create_task(following(), name="kubeconfig")

    return run


def _following(
    store: CertificateStore | None,
    client: ApiClient,
    kubeconfig: Path,
    changed: Callable[[], None],
) -> Callable[[], Coroutine[Any, Any, None]]:
    """Return what takes over a replaced kubeconfig, authority or certificate."""

    def files() -> list[Path]:
        found = client.access
        own = () if store is not None else (found.certificate_file, found.key_file)
        return [kubeconfig, *(path for path in (found.ca_file, *own) if path is not None)]

    def renew() -> None:
        access = read_kubeconfig(kubeconfig)
        if store is not None:
            # As long as there is no certificate, there is nothing to prove who we are by.
            known = client.access.certificate_file is not None
            access = by_store(access, store) if known else bare(access)
        client.renew(access)
        changed()

    return partial(follow, files, renew)


def serving_template(node: str, addresses: list[dict[str, str]]) -> Template | None:
    """Return what the certificate of the kubelet's API must say; None without addresses (pure)."""
    names: set[str] = set()
    ips: set[str] = set()
    for address in addresses:
        kind, text = address.get("type"), address.get("address", "")
        if kind in _DNS or kind == _HOSTNAME:
            names.add(text)
        elif kind in _IPS:
            ips.add(text)
    if not names | ips:
        return None
    return Template(node=node, names=tuple(sorted(names)), ips=tuple(sorted(ips)))


def install(core: Core) -> None:
    """Have the certificate of the kubelet's API signed by the cluster (serverTLSBootstrap)."""
    presence, api = core.presence, core.api
    if not core.settings.configuration.server_tls_bootstrap or presence is None or api is None:
        return
    given, client = presence, api

    def template() -> Template | None:
        status = (given.node or {}).get("status") or {}
        return serving_template(core.facts.name, status.get("addresses") or [])

    @contextlib.asynccontextmanager
    async def requester() -> AsyncIterator[ApiClient]:
        yield client

    async def renewed() -> None:
        """Do nothing: the server looks at the file at each handshake."""

    manager = CertificateManager(
        CertificateStore(core.settings.cert_dir, SERVER_PREFIX), SERVING_SIGNER, template,
        requester, renewed, told=partial(core.tools.measures.certificate, "server"),
    )  # fmt: skip
    given.listeners.append(lambda _: manager.changed())
    core.background.append(("serving certificate", manager.run))
