"""What ``kubeletpy token`` and ``kubeletpy kubeconfig`` share: the administrator's access."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import click

from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import Access, KubeconfigError, read_kubeconfig
from kubeletpy_common.bootstrap_tokens import INFO_NAME, INFO_NAMESPACE, KUBECONFIG_KEY

from .discovery import cluster_of
from .errors import JoinError

ADMINISTRATOR: Final = Path("/etc/kubeletpy/admin.kubeconfig")
_T = TypeVar("_T")

kubeconfig_option = click.option(
    "--kubeconfig", "given", default="",
    help=f"Of an administrator; by default that of KUBECONFIG, else {ADMINISTRATOR}.",
)  # fmt: skip


def administrator(given: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the kubeconfig that is meant.

    Raises:
        click.ClickException: there is none.
    """
    # kubectl merges several files of KUBECONFIG; the first that is there has the administrator.
    named = [Path(part) for part in environment.get("KUBECONFIG", "").split(":") if part]
    chosen = [Path(given)] if given else [path for path in named if path.exists()] or [
        ADMINISTRATOR
    ]  # fmt: skip
    if not chosen[0].exists():
        raise click.ClickException(
            f"no kubeconfig: {chosen[0]} is not there. Run it on the server, as root, or name an "
            "administrator's by --kubeconfig or KUBECONFIG"
        )
    return chosen[0]


def connected(given: str, work: Callable[[ApiClient], Awaitable[_T]]) -> _T:
    """Do something as an administrator, and return what it returns.

    Raises:
        click.ClickException: it cannot be done; the text says why.
    """
    path = administrator(given)

    async def run() -> _T:
        async with ApiClient(read_kubeconfig(path), rate=0, agent="kubeletpy/1.36") as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except ApiError as error:
        hint = ""
        if error.code in (401, 403):
            hint = f"; {path} is not an administrator's, or its certificate is over"
        elif error.code == 0:
            hint = f"; look whether the API server that {path} names runs"
        raise click.ClickException(f"{error}{hint}") from None
    except (KubeconfigError, JoinError) as error:
        raise click.ClickException(str(error)) from None


async def reached_by_others(client: ApiClient) -> Access:
    """Return server and authority of a cluster as other machines reach it.

    They are those of the kubeconfig, unless that names this machine itself; then those that the
    cluster publishes.

    Raises:
        JoinError: what is published cannot be read.
    """
    access = client.access
    if not is_loopback(access.server):
        return access
    path = object_path("v1", "configmaps", INFO_NAMESPACE, INFO_NAME)
    try:
        data = (await client.get(path)).get("data") or {}
    except ApiError as error:
        if error.code in (403, 404):
            return access
        raise
    server, authority = cluster_of(str(data.get(KUBECONFIG_KEY, "")), f"GET {path}")
    return Access(server=server, ca=authority)


def is_loopback(server: str) -> bool:
    """Say whether a URL names the machine that it is used on (pure)."""
    host = urlsplit(server).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
