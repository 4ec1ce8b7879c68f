"""Whom to ask, and when: kubelets for usage, pods for what they say of themselves."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from controlplane.engine.controller import monotonic
from controlplane.engine.informer import Informer
from controlplane.engine.resources import Object, is_deleting
from controlplane.options import ADDRESS_TYPES
from kubeletpy_common import logs
from kubeletpy_common.apiclient.kubeconfig import Access, KubeconfigError

from .scraping import Bounds, ScrapeError, Scraper
from .series import MOST_OF_POD, SeriesStore, read_samples
from .usage import TextError, UsageStore, read_scrape

_log = logging.getLogger(__name__)
KUBELET_SIZE: Final = 16 << 20
POD_SIZE: Final = 1 << 20
POD_SECONDS: Final = 5.0
KUBELET_PORT: Final = 10250
PREFIX: Final = "prometheus.io/"
_PARSERS: Final = 2
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class Kubelets:
    """How kubelets are reached.

    Attributes:
        access: of the API server: kubelets see the same certificate or token.
        authority: file of the authorities that sign their certificates; None: the cluster's.
        insecure: their certificates are not looked at.
        address_types: kinds of addresses of nodes, the best first.
        port: of all of them; 0: as the node's status says.
    """

    access: Access
    authority: Path | None = None
    insecure: bool = False
    address_types: tuple[str, ...] = ADDRESS_TYPES
    port: int = 0

    def context(self) -> ssl.SSLContext:
        """Return how TLS is spoken with them.

        Raises:
            KubeconfigError: our certificate cannot be read.
            OSError: the authority cannot be read.
        """
        cadata = self.access.ca.decode("ascii", "replace") or None
        if self.authority is not None:
            cadata = self.authority.read_text("ascii", "replace")
        context = ssl.create_default_context(cadata=cadata)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        self.access.load_client_certificate(context)
        return context


class Collector:
    """Asks all, every so often.

    Args:
        kubelets: how they are reached.
        nodes, pods: those that there are.
        resolution: seconds between two questions.
    """

    def __init__(
        self, kubelets: Kubelets, nodes: Informer, pods: Informer, resolution: float
    ) -> None:
        self._kubelets = kubelets
        self._nodes = nodes
        self._pods = pods
        self._resolution = resolution
        self._parsers = asyncio.Semaphore(_PARSERS)
        self._told: dict[str, str] = {}
        self.usage = UsageStore(resolution)
        self.series = SeriesStore()
        self.rounds = 0

    async def run(self) -> None:
        """Ask, until cancelled."""
        scraper = Scraper()
        try:
            while True:
                begun = monotonic()
                await self._round(scraper)
                self.rounds += 1
                await asyncio.sleep(max(begun + self._resolution - monotonic(), 0.1))
        finally:
            await scraper.close()

    async def _round(self, scraper: Scraper) -> None:
        nodes, pods = list(self._nodes), [pod for pod in self._pods if url_of(pod)]
        self.usage.keep(node["metadata"]["name"] for node in nodes)
        self.series.keep(pod["metadata"]["uid"] for pod in pods)
        asked = {f"node {node['metadata']['name']}" for node in nodes}
        asked |= {_whose(pod) for pod in pods}
        self._told = {whose: why for whose, why in self._told.items() if whose in asked}
        try:
            context = self._kubelets.context()
        except (KubeconfigError, OSError) as error:
            self._fail("kubelets", str(error))
            return
        await asyncio.gather(
            *(self._ask_node(scraper, context, node) for node in nodes),
            *(self._ask_pod(scraper, pod) for pod in pods),
        )

    async def _ask_node(self, scraper: Scraper, context: ssl.SSLContext, node: Object) -> None:
        name, one = node["metadata"]["name"], self._kubelets
        bounds = Bounds(KUBELET_SIZE, max(self._resolution * 0.9, 1.0))

        async def ask() -> None:
            url = kubelet_url(node, one.address_types, one.port)
            text = await scraper.fetch(url, bounds, context, one.access.bearer())
            scrape = await self._parsed(lambda: read_scrape(text, time.time()))
            self.usage.take(name, scrape)

        await self._tried(f"node {name}", ask, lambda: self.usage.forget(name))

    async def _ask_pod(self, scraper: Scraper, pod: Object) -> None:
        uid, url = pod["metadata"]["uid"], url_of(pod)
        bounds = Bounds(POD_SIZE, min(POD_SECONDS, max(self._resolution * 0.9, 1.0)))

        async def ask() -> None:
            text = await scraper.fetch(url, bounds, _unchecked() if "https" in url[:5] else None)
            most = min(MOST_OF_POD, self.series.room)
            samples = await self._parsed(lambda: read_samples(text, time.time(), most))
            self.series.take(uid, samples)
            if samples.left_out:
                raise ScrapeError(f"{url}: {samples.left_out} series are too many")

        await self._tried(_whose(pod), ask, lambda: None)

    async def _parsed(self, parse: Callable[[], _Parsed]) -> _Parsed:
        # What is long must not keep others from being answered.
        async with self._parsers:
            return await asyncio.to_thread(parse)

    async def _tried(
        self, whose: str, ask: Callable[[], Awaitable[None]], forget: Callable[[], None]
    ) -> None:
        try:
            await ask()
        except (ScrapeError, TextError, KubeconfigError) as error:
            forget()
            self._fail(whose, str(error))
        else:
            if self._told.pop(whose, None) is not None:
                logs.event(_log, logging.INFO, "metrics come again", of=whose)

    def _fail(self, whose: str, why: str) -> None:
        """Say once what does not work."""
        first = whose not in self._told
        self._told[whose] = why
        if first:
            logs.event(_log, logging.WARNING, "no metrics come", of=whose, error=why)


def _whose(pod: Object) -> str:
    return f"pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"


def kubelet_url(node: Object, types: Iterable[str], port: int) -> str:
    """Return the URL of a kubelet's ``/metrics/resource`` (pure).

    Raises:
        ScrapeError: the node has no address of these kinds.
    """
    status = node.get("status") or {}
    told = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 0)
    for kind in types:
        for one in status.get("addresses") or ():
            if one.get("type") == kind and one.get("address"):
                host = f"[{one['address']}]" if ":" in one["address"] else one["address"]
                return f"https://{host}:{port or told or KUBELET_PORT}/metrics/resource"
    raise ScrapeError(
        f"node {node['metadata']['name']} has no address of the kinds {', '.join(types)}"
    )


def url_of(pod: Object) -> str:
    """Return where a pod tells its metrics; "": nowhere (pure).

    Annotations say it: ``prometheus.io/scrape``, ``port``, ``path``, ``scheme``. A pod may lead to
    its own address only, and not to this machine's.
    """
    notes = pod["metadata"].get("annotations") or {}
    status = pod.get("status") or {}
    if notes.get(f"{PREFIX}scrape", "").lower() != "true" or is_deleting(pod):
        return ""
    if status.get("phase") != "Running":
        return ""
    scheme = notes.get(f"{PREFIX}scheme", "http")
    path = notes.get(f"{PREFIX}path", "/metrics")
    port = notes.get(f"{PREFIX}port") or _first_port(pod)
    if scheme not in ("http", "https") or not path.startswith("/") or not _is_path(path):
        return ""
    if not port.isascii() or not port.isdecimal() or not 0 < int(port[:6]) < 65536:
        return ""
    host = _host(status.get("podIP", ""))
    return f"{scheme}://{host}:{int(port)}{path}" if host else ""


def _first_port(pod: Object) -> str:
    ports = [
        one["containerPort"] for each in pod["spec"].get("containers", ())
        for one in each.get("ports") or () if one.get("protocol", "TCP") == "TCP"
    ]  # fmt: skip
    return str(ports[0]) if ports else "80"


def _is_path(path: str) -> bool:
    return len(path) <= 1024 and path.isascii() and path.isprintable() and " " not in path


def _host(address: str) -> str:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return ""
    plain = getattr(ip, "ipv4_mapped", None) or ip
    if plain.is_loopback or plain.is_link_local or plain.is_multicast or plain.is_unspecified:
        return ""
    return f"[{ip}]" if ip.version == 6 else str(ip)


def _unchecked() -> ssl.SSLContext:
    """Return a context for pods: nobody knows by whom their certificates are signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
