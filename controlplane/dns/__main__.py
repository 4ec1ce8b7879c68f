"""``kubeletpy dns``: the command line of the cluster's DNS."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from controlplane.engine.flags import LEVELS
from controlplane.flags import ADDRESS, Checked
from kubeletpy_common import logs, watchdog
from kubeletpy_common.apiclient.access import access_of
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError
from kubeletpy_common.readiness import tell_ready, tell_stopping

from .cache import ENTRIES, Cache
from .clients import ANYBODY, CLUSTER, Clients, read_source
from .directory import INSECURE, POD_MODES, ClusterDirectory
from .forwarding import RESOLV_CONF, Forwarder, Upstream, Upstreams, parse_upstream
from .monitoring import Counts, monitoring
from .publishing import Place, Publisher, reached
from .resolving import Resolver, probe_loop
from .server import DnsServer
from .zone import Zone

_log = logging.getLogger(__name__)
_NOBODY = "none"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the flags say; see their help."""

    kubeconfig: str
    master: str
    bind_address: tuple[str, ...]
    port: int
    allow_from: tuple[str, ...]
    cluster_domain: str
    ttl: int
    negative_ttl: int
    pods: str
    forward: tuple[Upstream, ...] | None
    resolv_conf: Path
    cache_size: int
    cache_ttl: int
    publish: tuple[str, str] | None
    publish_address: tuple[str, ...]
    healthz_bind_address: str
    healthz_port: int


def _forward(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> tuple[Upstream, ...] | None:
    if value == (_NOBODY,):
        return None
    try:
        return tuple(parse_upstream(one) for one in value)
    except ValueError as error:
        raise click.BadParameter(f"{error}; or {_NOBODY} alone", ctx, param) from error


def _service(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, str] | None:
    namespace, slash, name = value.partition("/")
    if value and not (namespace and slash and name and "/" not in name):
        raise click.BadParameter(f"{value!r} is not NAMESPACE/NAME", ctx, param)
    return (namespace, name) if value else None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--kubeconfig", default="", help="How to reach the API server; without it as a pod.")
@click.option("--master", default="", help="URL of the API server, before the kubeconfig's.")
@click.option(
    "--bind-address",
    multiple=True,
    default=("127.0.0.1",),
    show_default=True,
    help="Where to listen, UDP and TCP; may be given again, and need not be there yet.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=53,
    show_default=True,
    help="0: any that is free.",
)
@click.option(
    "--allow-from",
    type=Checked("who", read_source),
    multiple=True,
    default=(ANYBODY,),
    show_default=True,
    help="Who is answered; others get REFUSED. A network; 'cluster': all nodes and the networks "
    "of their pods, as the API server tells them; 'any'. May be given again. This machine's "
    "loopback and --bind-address always are.",
)
@click.option("--cluster-domain", default="cluster.local", show_default=True)
@click.option(
    "--ttl",
    type=click.IntRange(0, 3600),
    default=30,
    show_default=True,
    help="Seconds for which names of the cluster are good.",
)
@click.option(
    "--negative-ttl",
    type=click.IntRange(0, 3600),
    default=5,
    show_default=True,
    help="Seconds for which it is good that there is no such name.",
)
@click.option(
    "--pods",
    type=click.Choice(POD_MODES),
    default=INSECURE,
    show_default=True,
    help="Whether 1-2-3-4.NAMESPACE.pod is a name: of no, any, or a real address.",
)
@click.option(
    "--forward",
    multiple=True,
    callback=_forward,
    help="Whom to ask for other names: IP address, with or without port; may be given "
    "again; 'none': nobody. Without it: those of --resolv-conf.",
)
@click.option(
    "--resolv-conf",
    type=click.Path(path_type=Path),
    default=RESOLV_CONF,
    show_default=True,
    help="Read again when it changes.",
)
@click.option(
    "--cache-size",
    type=click.IntRange(0, 1_000_000),
    default=ENTRIES,
    show_default=True,
    help="Answers of others that are kept.",
)
@click.option(
    "--cache-ttl",
    type=click.IntRange(0, 3600),
    default=30,
    show_default=True,
    help="Seconds for which they are kept at most.",
)
@click.option(
    "--publish",
    default="",
    callback=_service,
    help="NAMESPACE/NAME of a Service without a selector, as kube-system/kube-dns, that this "
    "daemon is an endpoint of for as long as it runs.",
)
@click.option(
    "--publish-address",
    type=ADDRESS,
    multiple=True,
    help="Its address there; may be given again; by default those of --bind-address.",
)
@click.option(
    "--healthz-bind-address",
    default="127.0.0.1",
    show_default=True,
    help="Where /health, /ready and /metrics are, by HTTP.",
)
@click.option(
    "--healthz-port",
    type=click.IntRange(-1, 65535),
    default=9153,
    show_default=True,
    help="0: any that is free; -1: nowhere.",
)
@click.option("--log-level", type=click.Choice(LEVELS), default="info", show_default=True)
def main(log_level: str, **given: object) -> None:
    """Answer for the names of a cluster's Services and pods; ask others for other names.

    It follows Services, EndpointSlices and namespaces of any API server, and goes on with what it
    knows while that is away. It is ready, and answers, once it knows all of them.
    """
    logs.configure(log_level)
    settings = Settings(**given)  # type: ignore[arg-type]
    if settings.publish and not (settings.publish_address or reached(settings.bind_address)):
        raise click.UsageError("--publish needs a --bind-address that others reach, or "
                               "--publish-address")  # fmt: skip
    try:
        asyncio.run(_run(settings))
    except (KubeconfigError, OSError) as error:
        click.echo(f"dns: {error}", err=True)
        sys.exit(1)


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    access = access_of(settings.kubeconfig, settings.master, os.environ)
    async with contextlib.AsyncExitStack() as stack:
        client = ApiClient(access, rate=0, agent="kubeletpy-dns/1.36")
        await stack.enter_async_context(client)
        clients = _clients(settings)
        directory = ClusterDirectory(
            client, settings.pods, clients if CLUSTER in settings.allow_from else None
        )
        zone = Zone(
            settings.cluster_domain, directory, ttl=settings.ttl,
            negative_ttl=settings.negative_ttl,
        )  # fmt: skip
        counts = Counts()
        bound: set[tuple[str, int]] = set()
        forwarder = _forwarder(settings, bound)
        resolver = Resolver(zone, forwarder)
        server = DnsServer(resolver, counts, bound, clients)
        directory.listen(lambda *_: resolver.forget())
        ready = asyncio.Event()
        port = await stack.enter_async_context(
            server.listening(settings.bind_address, settings.port, ready)
        )
        if settings.healthz_port >= 0:
            await stack.enter_async_context(monitoring(
                counts, resolver, directory, settings.healthz_bind_address, settings.healthz_port
            ))  # fmt: skip
        works = [directory.run(), _serve(directory, resolver, ready, port), watchdog.run()]
        if settings.publish is not None:
            works.append(_publish(client, settings, settings.publish, ready, port))
        tasks = [asyncio.create_task(each) for each in works]
        try:
            await _until_stopped(stop, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if forwarder is not None:
                await forwarder.close()


async def _publish(
    client: ApiClient, settings: Settings, service: tuple[str, str], ready: asyncio.Event, port: int
) -> None:
    """Be an endpoint of a Service, once there are answers."""
    addresses = settings.publish_address or reached(settings.bind_address)
    machine = socket.gethostname().partition(".")[0]
    await ready.wait()
    await Publisher(client, Place(*service, machine, addresses, port)).run()


def _clients(settings: Settings) -> Clients:
    """Return who is answered, besides the cluster's nodes and pods.

    Packets from an own address come from this machine: the kernel takes no others (martians).
    """
    networks = [one for one in settings.allow_from if one not in (ANYBODY, CLUSTER)]
    return Clients(
        (*networks, *reached(settings.bind_address)), anybody=ANYBODY in settings.allow_from
    )


def _forwarder(settings: Settings, own: set[tuple[str, int]]) -> Forwarder | None:
    if settings.forward is None:
        return None
    upstreams = Upstreams(settings.forward, settings.resolv_conf, own)
    longest = settings.cache_ttl
    return Forwarder(upstreams, Cache(settings.cache_size), longest, longest)


async def _serve(
    directory: ClusterDirectory, resolver: Resolver, ready: asyncio.Event, port: int
) -> None:
    await directory.synced()
    ready.set()
    tell_ready(f"answers on port {port}")
    logs.event(_log, logging.INFO, "the names of the cluster are known",
               zone=resolver.domain, port=port)  # fmt: skip
    await probe_loop(resolver)
    if resolver.loops:
        logs.event(
            _log, logging.ERROR, "those whom we ask ask us: other names are not asked of anybody "
            "until this process starts again; name others with --forward",
        )  # fmt: skip


async def _until_stopped(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    stopped = asyncio.create_task(stop.wait())
    try:
        running = set(tasks)
        while not stopped.done():
            done, _ = await asyncio.wait(
                {stopped, *running}, return_when=asyncio.FIRST_COMPLETED
            )  # fmt: skip
            running -= done
            for task in done - {stopped}:
                task.result()
        tell_stopping()
    finally:
        stopped.cancel()


if __name__ == "__main__":
    main(prog_name="kubeletpy dns")
