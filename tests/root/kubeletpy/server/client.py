"""A client of the kubelet's API, in the network of the kubelet."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import aiohttp

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.certificates import Certificates
from tests.support.circumstances import patient

PORT = 10250
READ_ONLY_PORT = 10255
URL = f"https://127.0.0.1:{PORT}"
_T = TypeVar("_T")
Session = aiohttp.ClientSession


class Client:
    """Asks by HTTP, and by upgraded connections.

    Args:
        netns: network of the kubelet.
        certificates: of the client and of who signed the server's.
    """

    def __init__(self, netns: Path, certificates: Certificates) -> None:
        self._netns = netns
        self._certificates = certificates

    def context(self, *, anonymous: bool = False) -> ssl.SSLContext:
        """Return TLS by which the kubelet is checked, and knows us unless ``anonymous``."""
        context = ssl.create_default_context(cafile=str(self._certificates.ca))
        if not anonymous:
            context.load_cert_chain(self._certificates.client, self._certificates.client_key)
        return context

    def talk(self, work: Callable[[Session], Awaitable[_T]], *, anonymous: bool = False) -> _T:
        """Run ``work`` with a session in the kubelet's network."""

        async def run() -> _T:
            connector = aiohttp.TCPConnector(ssl=self.context(anonymous=anonymous))
            async with aiohttp.ClientSession(URL, connector=connector) as session:
                async with asyncio.timeout(patient(20)):
                    return await work(session)

        with in_namespace(self._netns):
            return asyncio.run(run())

    def get(self, path: str, *, method: str = "GET", anonymous: bool = False) -> tuple[int, str]:
        """Return status and body of an answer."""

        async def ask(session: Session) -> tuple[int, str]:
            async with session.request(method, path, allow_redirects=False) as answer:
                return answer.status, await answer.text()

        return self.talk(ask, anonymous=anonymous)
