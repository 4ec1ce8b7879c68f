"""The server: asks kubelets and pods, and serves what they told by HTTPS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, ClassVar, Final

from aiohttp import web

from controlplane import addresses
from controlplane.engine.controller import Context
from controlplane.engine.informer import Informer
from controlplane.engine.resources import CONFIG_MAPS, NODES, PODS, SERVICES, Object
from controlplane.options import ADDRESS_TYPES, Options
from kubeletpy_common import logs
from kubeletpy_common.apiclient.errors import ApiError

from .access import TRUST_NAME, TRUST_NAMESPACE, Access, Trust
from .collecting import Collector, Kubelets
from .registration import register, server_name
from .serving import Answers

_log = logging.getLogger(__name__)
RESOLUTION: Final = 15.0
_AGAIN: Final = 30.0
_FIRST_PAUSE: Final = 1.0


class MetricsServer:
    """A part of a process: `run` serves until it is cancelled.

    Options (flags with underscores): ``metric_resolution`` (seconds), ``metrics_bind_address``,
    ``metrics_secure_port``, ``metrics_advertise_address``, ``kubelet_insecure_tls``,
    ``kubelet_certificate_authority``, ``kubelet_preferred_address_types``, ``kubelet_port``,
    ``metrics_tls_cert_file``, ``metrics_tls_private_key_file``, ``register_metrics``.

    Args:
        context: of the process.

    Attributes:
        port: that it listens on; 0: not yet.
    """

    name: ClassVar[str] = "metrics-server"

    def __init__(self, context: Context) -> None:
        option = self._option = context.options.get
        self._client = context.client
        informers = context.informers
        self._nodes, self._pods = informers.of(NODES), informers.of(PODS)
        self._services = informers.of(SERVICES)
        self._informers = informers
        authority = option("kubelet_certificate_authority")
        self._kubelets = Kubelets(
            context.client.access,
            Path(authority) if authority else None,
            bool(option("kubelet_insecure_tls", False)),
            tuple(option("kubelet_preferred_address_types", ADDRESS_TYPES)),
            int(option("kubelet_port", 0)),
        )
        resolution = float(option("metric_resolution", RESOLUTION))
        self.collector = Collector(self._kubelets, self._nodes, self._pods, resolution)
        self._access = Access(context.client)
        # Its own: who runs this may read this one ConfigMap only.
        self._trusted = Informer(
            context.client, CONFIG_MAPS, namespace=TRUST_NAMESPACE,
            field_selector=f"metadata.name={TRUST_NAME}",
        )  # fmt: skip
        self.port = 0

    async def run(self) -> None:
        """Serve, until cancelled.

        Raises:
            OSError: the address is taken, or a file cannot be read.
        """
        await self._informers.synced()
        async with contextlib.AsyncExitStack() as stack:
            tls, bundle = await asyncio.to_thread(_tls, self._option)
            self._trusted.listen(self._trust(tls))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            tasks.create_task(self._trusted.run(), name="follow whose word is taken")
            tasks.create_task(self.collector.run(), name="collect metrics")
            self.port = await stack.enter_async_context(self._listening(tls))
            logs.event(_log, logging.INFO, "the metrics server listens", port=self.port)
            if self._option("register_metrics", True):
                tasks.create_task(self._register(bundle), name="register")
            await asyncio.Event().wait()

    def _trust(self, tls: ssl.SSLContext) -> Callable[[Object | None, Object | None], None]:
        def changed(before: Object | None, value: Object | None) -> None:
            trust = Trust.of(value)
            try:
                for bundle in filter(None, (trust.clients, trust.proxies)):
                    tls.load_verify_locations(cadata=bundle)
            except ssl.SSLError as error:
                logs.event(_log, logging.ERROR, "authorities are no use",
                           configmap=TRUST_NAME, error=str(error))  # fmt: skip
                return
            self._access.trust = trust

        return changed

    @contextlib.asynccontextmanager
    async def _listening(self, tls: ssl.SSLContext) -> AsyncIterator[int]:
        answers = Answers(self._access, self.collector, self._nodes, self._pods, self._services)
        runner = web.AppRunner(answers.application(), access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            address = self._option("metrics_bind_address", "0.0.0.0")
            port = int(self._option("metrics_secure_port", 4443))
            await web.TCPSite(runner, address, port, ssl_context=tls).start()
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()

    async def _register(self, bundle: bytes) -> None:
        bound = Options(bind_address=self._option("metrics_bind_address", "0.0.0.0"))
        pause = _FIRST_PAUSE
        while True:
            address = self._option("metrics_advertise_address") or addresses.advertised(bound)
            try:
                await register(self._client, address, self.port, bundle)
                pause = _FIRST_PAUSE
                await asyncio.sleep(_AGAIN)
            except ApiError as error:
                logs.event(_log, logging.WARNING, "the metrics server is not registered",
                           address=address, error=error.message, seconds=pause)  # fmt: skip
                await asyncio.sleep(pause)
                pause = min(pause * 2, _AGAIN)


def _tls(option: Any) -> tuple[ssl.SSLContext, bytes]:
    """Return how TLS is served, and the authority of the certificate.

    Without files a certificate of an authority that nobody else has, made at each start.
    """
    from controlplane.auth.trust.authority import SERVER_AUTH, Subject, open_authority

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_OPTIONAL
    certificate, key = option("metrics_tls_cert_file"), option("metrics_tls_private_key_file")
    if certificate and key:
        context.load_cert_chain(certificate, key)
        return context, Path(certificate).read_bytes()
    with tempfile.TemporaryDirectory(prefix="kubeletpy-metrics-") as place:
        directory = Path(place)
        authority = open_authority(directory, "ca", "metrics-server-ca")
        name = server_name()
        pair = authority.issue(Subject(name), usages=(SERVER_AUTH,), names=[name])
        path = directory / "tls.pem"
        path.touch(mode=0o600)
        path.write_bytes(pair.certificate + pair.key)
        context.load_cert_chain(path)
    return context, authority.pem
