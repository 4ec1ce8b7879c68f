"""``kubeletpy apiserver``: the command line of the API server."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import click

from controlplane import flags
from controlplane.auth.trust.authority import TrustError
from controlplane.operation.durations import parse_duration
from controlplane.options import ADDRESS_TYPES, DEFAULT_DATA, Options, OptionsError
from controlplane.serving import serving
from controlplane.store.model import StoreError
from kubeletpy_common import logs, watchdog
from kubeletpy_common.readiness import tell_ready, tell_stopping

_log = logging.getLogger(__name__)
# Objects made since the last collection; requests make many that die by themselves.
_COLLECT_AFTER = 20_000
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
# From here on the Go daemons tell what they do, rather than what happens.
_DEBUG = 4
_OWN = "own"
_LEVELS = ("error", "warning", "info", "debug")


class Duration(click.ParamType[float]):
    """A duration as Go writes it, in seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds; not negative."""
        try:
            seconds = value if isinstance(value, float) else parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds < 0:
            self.fail(f"{value} is less than nothing", param, ctx)
        return seconds


class Authority(click.Path):
    """A file with certificates, or the word for this server's own."""

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the path; that of the own one is known once the data directory is."""
        return Path(_OWN) if value == _OWN else super().convert(value, param, ctx)  # type: ignore[arg-type]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--data-dir",
    type=Path,
    default=DEFAULT_DATA,
    show_default=True,
    help="Store, authorities and keys.",
)
@click.option(
    "--bind-address",
    type=flags.ADDRESS,
    default="127.0.0.1",
    show_default=True,
    help="That is listened on.",
)
@click.option(
    "--extra-bind-address",
    "extra_bind_addresses",
    type=flags.ADDRESS,
    multiple=True,
    help="One more that is listened on, as that of a bridge of pods; it need not be there yet.",
)
@click.option(
    "--secure-port",
    type=click.IntRange(0, 65535),
    default=6443,
    show_default=True,
    help="TCP port; 0: any that is free.",
)
@click.option(
    "--advertise-address", type=flags.ADDRESS, help="IP address that clients reach it by."
)
@click.option("--tls-san", multiple=True, help="One more name of the serving certificate.")
@click.option("--node-name", default="", help="Of this machine's node; the host's name.")
@click.option("--kubeconfig", type=Path, help="Where the administrator's one is written.")
@click.option("--audit-log-path", type=Path, help="Audit log; - for standard output.")
@click.option("--audit-policy-file", type=Path, help="What it holds; all requests' metadata.")
@click.option("--token-auth-file", type=Path, help="Users with static tokens, as CSV.")
@click.option(
    "--service-cluster-ip-range",
    type=flags.RANGES,
    default="10.96.0.0/16",
    show_default=True,
    help="Networks of ClusterIPs: one, or one of each family; the first one is primary.",
)
@click.option(
    "--service-node-port-range",
    type=flags.PORTS,
    default="30000-32767",
    show_default=True,
    help="Node ports.",
)
@click.option(
    "--service-account-issuer",
    type=flags.ISSUER,
    default="https://kubernetes.default.svc.cluster.local",
    show_default=True,
    help="Of the tokens of service accounts.",
)
@click.option(
    "--kubelet-preferred-address-types",
    type=flags.TYPES,
    default=",".join(ADDRESS_TYPES),
    show_default=True,
    help="Addresses of a node that its kubelet is reached by, the best first.",
)
@click.option(
    "--kubelet-certificate-authority",
    type=Authority(exists=True, dir_okay=False, path_type=Path),
    help=f"Signs the certificates of kubelets, '{_OWN}': this server's own; without it they are "
    "not checked.",
)
@click.option(
    "--kubelet-client-certificate",
    type=_FILE,
    help="Shown to kubelets; without it one of the own authority.",
)
@click.option("--kubelet-client-key", type=_FILE, help="Its key.")
@click.option(
    "--etcd-servers",
    default="",
    help="URLs of an etcd that keeps the objects, with commas; otherwise SQLite in --data-dir.",
)
@click.option("--etcd-prefix", default="/registry", show_default=True, help="Of the keys in it.")
@click.option("--etcd-cafile", type=Path, help="Certificates that sign those of an etcd.")
@click.option("--etcd-certfile", type=Path, help="Certificate that is shown to an etcd.")
@click.option("--etcd-keyfile", type=Path, help="Its key.")
@click.option(
    "--etcd-compaction-interval",
    type=Duration(),
    default="5m",
    show_default=True,
    help="0s: others compact it.",
)
@click.option(
    "--request-timeout",
    type=Duration(),
    default="60s",
    show_default=True,
    help="Of requests, but for streams.",
)
@click.option(
    "--max-requests-inflight",
    type=click.IntRange(1),
    default=400,
    show_default=True,
    help="That read, at once; more get 429.",
)
@click.option(
    "--max-mutating-requests-inflight",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="That write, at once.",
)
@click.option(
    "--controllers",
    default="*",
    show_default=True,
    help="Which controllers run, as of kube-controller-manager: *, foo, -foo; none: ''.",
)
@click.option(
    "--cluster-signing-duration", type=Duration(), default="8760h", show_default=True,
    help="Of certificates that are signed on request.",
)  # fmt: skip
@click.option(
    "--event-ttl", type=Duration(), default="1h", show_default=True, help="Events go after it."
)
@click.option("--v", "verbosity", type=int, default=0, help="4 and more is --log-level=debug.")
@click.option("--log-level", type=click.Choice(_LEVELS), default="info", show_default=True,
              help="What is logged, as JSON, on standard error.")  # fmt: skip
def main(
    data_dir: Path,
    bind_address: str,
    extra_bind_addresses: tuple[str, ...],
    secure_port: int,
    advertise_address: str | None,
    tls_san: tuple[str, ...],
    node_name: str,
    kubeconfig: Path | None,
    audit_log_path: Path | None,
    audit_policy_file: Path | None,
    token_auth_file: Path | None,
    service_cluster_ip_range: tuple[str, ...],
    service_node_port_range: tuple[int, int],
    service_account_issuer: str,
    kubelet_preferred_address_types: tuple[str, ...],
    kubelet_certificate_authority: Path | None,
    kubelet_client_certificate: Path | None,
    kubelet_client_key: Path | None,
    etcd_servers: str,
    etcd_prefix: str,
    etcd_cafile: Path | None,
    etcd_certfile: Path | None,
    etcd_keyfile: Path | None,
    etcd_compaction_interval: float,
    request_timeout: float,
    max_requests_inflight: int,
    max_mutating_requests_inflight: int,
    controllers: str,
    cluster_signing_duration: float,
    event_ttl: float,
    verbosity: int,
    log_level: str,
) -> None:
    """Serve the Kubernetes API on this machine, with an embedded store.

    The administrator's kubeconfig is admin.kubeconfig in the data directory.
    Stops on SIGTERM or SIGINT. What it has answered is on the disk.
    """
    if (kubelet_client_certificate is None) != (kubelet_client_key is None):
        raise click.UsageError("--kubelet-client-certificate needs --kubelet-client-key")
    logs.configure("debug" if verbosity >= _DEBUG else log_level)
    options = Options(
        data_dir=data_dir,
        bind_address=bind_address,
        extra_bind_addresses=extra_bind_addresses,
        secure_port=secure_port,
        advertise_address=advertise_address or "",
        service_ranges=service_cluster_ip_range,
        node_ports=service_node_port_range,
        issuer=service_account_issuer,
        kubelet_preferred_address_types=kubelet_preferred_address_types,
        kubelet_certificate_authority=(
            data_dir / "pki" / "ca.crt"
            if kubelet_certificate_authority == Path(_OWN)
            else kubelet_certificate_authority
        ),
        kubelet_client_certificate=kubelet_client_certificate,
        kubelet_client_key=kubelet_client_key,
        extra_names=tls_san,
        node_name=node_name,
        kubeconfig=kubeconfig,
        audit_log=audit_log_path,
        audit_policy=audit_policy_file,
        token_auth_file=token_auth_file,
        cluster_signing_duration=cluster_signing_duration,
        controllers=tuple(word.strip() for word in controllers.split(",") if word.strip()),
        event_ttl=event_ttl,
        etcd_servers=tuple(url.strip() for url in etcd_servers.split(",") if url.strip()),
        etcd_prefix=etcd_prefix,
        etcd_cafile=etcd_cafile,
        etcd_certfile=etcd_certfile,
        etcd_keyfile=etcd_keyfile,
        etcd_compaction=etcd_compaction_interval,
        request_timeout=request_timeout,
        max_requests_inflight=max_requests_inflight,
        max_mutating_inflight=max_mutating_requests_inflight,
    )
    try:
        asyncio.run(_run(options))
    except (OptionsError, StoreError, TrustError, OSError) as error:
        click.echo(f"apiserver: {error}", err=True)
        sys.exit(1)


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(options) as running:
        # What is there now stays; the collector is not to look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, 20, 50)
        logs.event(_log, logging.INFO, "the API server listens", port=running.port)
        tell_ready(f"listens on https://{options.bind_address}:{running.port}")
        alive = asyncio.create_task(watchdog.run(), name="watchdog")
        await stop.wait()
        alive.cancel()
        tell_stopping()


if __name__ == "__main__":
    main(prog_name="kubeletpy apiserver")
