"""A server with everything that guards it, and clients with names."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from controlplane.options import Options
from controlplane.plane import Plane
from controlplane.serving import serving


class Client:
    """One that asks over TLS, by what a kubeconfig says or a token."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.other: Client = self

    async def call(
        self, method: str, path: str, body: Any = None, token: str = "", **more: Any
    ) -> tuple[int, Any]:
        """Return status and answer, decoded if it is JSON."""
        headers = {"Content-Type": "application/json", **more.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body)
        url = self.url + path
        async with self.session.request(method, url, data=data, headers=headers, **more) as answer:
            content = await answer.read()
            if answer.content_type == "application/json":
                return answer.status, json.loads(content)
            return answer.status, content.decode()


@asynccontextmanager
async def client_of(kubeconfig: Path, *, anonymous: bool = False) -> AsyncIterator[Client]:
    """Be the user of a kubeconfig; or, anonymous, nobody that trusts the same authority."""
    value = yaml.load(kubeconfig.read_bytes(), Loader=yaml.CSafeLoader)
    cluster, user = value["clusters"][0]["cluster"], value["users"][0]["user"]
    context = ssl.create_default_context(
        cadata=base64.b64decode(cluster["certificate-authority-data"]).decode()
    )
    if not anonymous:
        pem = b"".join(
            base64.b64decode(user[key]) for key in ("client-certificate-data", "client-key-data")
        )
        chain = kubeconfig.with_suffix(".pem")
        chain.write_bytes(pem)
        context.load_cert_chain(chain)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(session, cluster["server"])


async def make_template(directory: Path) -> None:
    """Make the data of a server that has been started before: keys and default objects."""
    async with serving(Options(data_dir=directory, secure_port=0, node_name="edge-1")):
        pass


@asynccontextmanager
async def secure_server(directory: Path, **options: Any) -> AsyncIterator[Plane]:
    """Run a whole server, as ``kubeletpy apiserver`` does.

    Args:
        directory: for its data; may hold those of an earlier start.
        options: besides.
    """
    wanted = Options(data_dir=directory, secure_port=0, node_name="edge-1", **options)
    async with serving(wanted) as running:
        yield running.plane
