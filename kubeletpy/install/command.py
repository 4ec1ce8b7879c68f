"""``kubeletpy install``."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from kubeletpy.install import configs, facts, installation, places, report
from kubeletpy.install.applying import Installer, Wishes, alone, plan
from kubeletpy.install.changes import read_memory
from kubeletpy.install.choosing import Asked, choose, with_both_families
from kubeletpy.install.errors import InstallError
from kubeletpy.install.ingress import check_ingress
from kubeletpy.install.installation import NodeInstallation
from kubeletpy.install.joining import Invitation, Joined, is_joined, join
from kubeletpy.install.options import how, node, words
from kubeletpy.install.places import Places
from kubeletpy.up.progress import Progress

_ASK_FOR_TOKEN = "kubeletpy token create --print-join-command"
_NO_SYSTEMD = (
    "this machine does not run systemd as PID 1, which keeps the services: run `kubeletpy up` "
    "instead, or the daemons by hand (kubeletpy --help); --dry-run and --no-start work all the same"
)


@click.group(invoke_without_command=True)
@click.option("--upgrade", is_flag=True, help="Write again what was installed here and start anew "
              "what changed; no pod is touched. Packages call this.")  # fmt: skip
@how
@click.pass_context
def install(context: click.Context, /, upgrade: bool, **given: Any) -> None:
    """Install a server or a node as services of systemd.

    \b
    A cluster's first machine:  kubeletpy install server
    One more:                   kubeletpy install node --server https://A:6443 --token T
    A node of any cluster:      kubeletpy install node --kubeconfig FILE
    How it is:                  kubeletpy install status
    Remove it:                  kubeletpy uninstall

    To run it again is no harm: it does what is missing, and restarts only what changed. Choices
    that are not named again stay as they are. Files that you changed are kept.
    """
    if context.invoked_subcommand is not None:
        return
    if not upgrade:
        click.echo(context.get_help())
        return
    if not Places(given["root"]).of(places.NODE).exists():
        click.echo("nothing is installed here: nothing to upgrade", err=True)
        return
    _end(_install(Asked(), Invitation(), given, upgrade=True))


@install.command("server")
@click.option("--advertise-address", metavar="IP", help="That nodes reach the API server by; that "
              "of the default route.")  # fmt: skip
@click.option("--port", type=click.IntRange(1, 65535), help="Of the API server.  [default: 6443]")
@click.option("--pod-cidr", metavar="CIDRS", help="Networks of all pods, one of each family.  "
              "[default: 10.244.0.0/16]")  # fmt: skip
@click.option("--service-cidr", metavar="CIDRS", help="Networks of Services.  [default: "
              "10.96.0.0/16]")  # fmt: skip
@click.option("--cluster-domain", help="Of the cluster's names.  [default: cluster.local]")
@click.option("--token", help="Bootstrap token for the nodes; one is made.")
@click.option("--node/--no-node", "with_node", default=None, help="Whether this machine runs pods, "
              "too.  [default: node]")  # fmt: skip
@click.option("--storage/--no-storage", default=None, help="Whether volumes of class standard are "
              "directories of this machine.  [default: storage]")  # fmt: skip
@click.option("--ingress/--no-ingress", default=None, help="Whether an nginx of this machine "
              "(Debian: nginx-light) serves Ingresses, at ports 80 and 443.  [default: no-ingress]",
)  # fmt: skip
@click.option("--load-balancer-pool", metavar="CIDRS", help="Networks that Services of type "
              "LoadBalancer get addresses from.  [default: none]")  # fmt: skip
@click.option("--load-balancer-interface", metavar="LINK", help="Of this machine, that answers "
              "for these addresses.  [default: they are routed here by somebody else]",
)  # fmt: skip
@click.option("--dns-allow-from", metavar="CIDRS", help="Networks whose queries the cluster's DNS "
              "answers besides those of nodes and pods; 'any': everybody's.  [default: none]",
)  # fmt: skip
@node
@how
def install_server(**given: Any) -> None:
    """Install API server, controllers, scheduler and DNS; and a node, too."""
    asked = _asked(
        given, role="server", pod_cidrs=words(given["pod_cidr"]),
        service_cidrs=words(given["service_cidr"]), domain=given["cluster_domain"],
        advertise_address=given["advertise_address"], port=given["port"],
        node=given["with_node"], storage=given["storage"],
        dns_clients=words(given["dns_allow_from"]), ingress=given["ingress"],
        balancer_pool=words(given["load_balancer_pool"]),
        balancer_link=given["load_balancer_interface"],
    )  # fmt: skip
    _end(_install(asked, Invitation(), given, token=given["token"] or ""))


@install.command("node")
@click.option("--server", default="", metavar="URL", help="Of the API server, with --token.")
@click.option("--token", default="", help="Bootstrap token of the cluster.")
@click.option("--ca-cert-hash", "ca_hashes", multiple=True, metavar="sha256:HEX", help="Of the "
              "cluster's authority; may be given again.")  # fmt: skip
@click.option("--ca-file", type=click.Path(path_type=Path), help="The cluster's authority.")
@click.option("--kubeconfig", type=click.Path(path_type=Path), help="Credentials of this node in "
              "an existing cluster.")  # fmt: skip
@click.option("--bootstrap-kubeconfig", type=click.Path(path_type=Path), help="Credentials that "
              "may ask for those.")  # fmt: skip
@click.option("--pod-cidr", metavar="CIDRS", help="Networks of all pods; asked of the cluster.")
@click.option("--cluster-dns", metavar="IPS", help="Of the cluster's DNS; asked of the cluster.")
@click.option("--cluster-domain", help="Of the cluster's names; asked of the cluster.")
@node
@how
def install_node(**given: Any) -> None:
    """Install runtime, kubelet and proxy, and join a cluster."""
    invitation = Invitation(
        server=given["server"], token=given["token"], ca_hashes=given["ca_hashes"],
        ca_file=given["ca_file"], kubeconfig=given["kubeconfig"],
        bootstrap_kubeconfig=given["bootstrap_kubeconfig"],
    )  # fmt: skip
    asked = _asked(
        given, role="node", pod_cidrs=words(given["pod_cidr"]), dns=words(given["cluster_dns"]),
        domain=given["cluster_domain"], server=given["server"] or None,
        kubeconfig=str(given["kubeconfig"]) if given["kubeconfig"] else None,
    )  # fmt: skip
    _end(_install(asked, invitation, given))


@install.command("status")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def install_status(output: str) -> None:
    """Show services, versions and the node; ends with 1 when something is not well."""
    from kubeletpy.install import status

    try:
        one = installation.read(places.NODE)
        if one is None:
            raise InstallError("nothing is installed here: see `kubeletpy install --help`")
        found = status.look(one)
    except InstallError as error:
        Progress().fail(str(error))
        sys.exit(1)
    if output == "json":
        click.echo(json.dumps(status.as_json(found), indent=2))
    else:
        status.show(found, Console())
    sys.exit(0 if found.well else 1)


def _asked(given: dict[str, Any], **more: Any) -> Asked:
    """Return what was asked for, of the options of a node and others."""
    return Asked(
        node_name=given["node_name"], node_ip=given["node_ip"], labels=given["labels"] or None,
        taints=given["taints"] or None, runtime_endpoint=given["runtime_endpoint"],
        cgroup_driver=given["cgroup_driver"], proxy=given["proxy"],
        proxy_mode=given["proxy_mode"], pod_network=given["pod_network"],
        program=tuple(given["program"].split()) if given["program"] else None, **more,
    )  # fmt: skip


def _end(code: int) -> None:
    sys.exit(code)


def _install(
    asked: Asked, invitation: Invitation, given: dict[str, Any], *,
    token: str = "", upgrade: bool = False,
) -> int:  # fmt: skip
    """Do it; return the exit code."""
    progress = Progress()
    at = Places(given["root"].resolve())
    dry = given["dry_run"]
    wishes = Wishes(
        start=not given["no_start"] and at.is_machine, overwrite=given["overwrite"],
        seconds=given["seconds"],
    )  # fmt: skip
    try:
        invitation.check()
        found = facts.gather(invitation.server)
        previous = installation.read(at.of(places.NODE))
        one = choose(previous, asked, found)
        fresh = previous is None and asked.node_ip is None
        if fresh:
            one = with_both_families(one, found)
        if dry:
            return _show_plan(one, found, at, given)
        if os.geteuid() != 0:
            raise InstallError("needs root, to write below /etc and to start services; use sudo")
        if wishes.start and not found.systemd:
            raise InstallError(_NO_SYSTEMD)
        if wishes.start and not given["skip_checks"]:
            check_ingress(one, previous)
        with alone(at):
            if wishes.start and previous is None and not given["skip_checks"]:
                _check_machine(one, progress)
            joined = _join(one, invitation, at, progress)
            if joined is not None:
                one = msgspec.structs.replace(one, cluster=joined.cluster, renewed=joined.renewed)
                one = with_both_families(one, found) if fresh else one
            installer = Installer(one, at, wishes, progress)
            with progress.step("Writing files"):
                installer.write(configs.MachineFacts(found.cgroup_version),
                                joined.files if joined else ())  # fmt: skip
            if wishes.start:
                _start(installer, one, progress, token, upgrade)
            installer.outcome.notes[:0] = joined.notes if joined else ()
    except (InstallError, OSError) as error:
        progress.fail(str(error))
        return 1
    report.print_outcome(one, installer.outcome, given["output"], started=wishes.start)
    return 0


def _start(
    installer: Installer, one: NodeInstallation, progress: Progress, token: str, upgrade: bool
) -> None:
    with progress.step("Preparing the machine"):
        installer.prepare_machine()
    installer.start()
    if one.server is None or upgrade:
        return
    if not token and set(installer.outcome.services.values()) == {"runs on"}:
        # Nothing was done, so nobody waits for another token.
        installer.outcome.join_command = _ASK_FOR_TOKEN
    else:
        installer.outcome.join_command = _join_command(one, token)


def _join_command(one: NodeInstallation, token: str) -> str:
    """Make a token and return what to run on a machine that shall join."""
    from kubeletpy.install.machine import run

    words = [token] if token else []
    try:
        return run(
            *one.program, "token", "create", *words, "--print-join-command",
            "--kubeconfig", str(places.ADMIN),
        ).strip()  # fmt: skip
    except InstallError as error:
        if token and "exists" in str(error):
            return _ASK_FOR_TOKEN
        return f"# no token was made: {error}"


def _join(
    one: NodeInstallation, invitation: Invitation, at: Places, progress: Progress
) -> Joined | None:
    if one.role != "node":
        return None
    if invitation.empty:
        if is_joined(at):
            return None
        raise InstallError(
            "a node needs a cluster: --server and --token (the server's "
            "`kubeletpy token create --print-join-command` prints them), or --kubeconfig"
        )
    if at.of(places.KUBECONFIG).exists() and invitation.token:
        return None  # joined already; tokens end, and this has to be possible again
    with progress.step("Finding the cluster"):
        return asyncio.run(join(one, invitation))


def _check_machine(one: NodeInstallation, progress: Progress) -> None:
    """Ask `doctor` whether this machine can be what it is to be.

    Raises:
        InstallError: something required is missing.
    """
    from kubeletpy import doctor

    joined = one.cluster.server if one.role == "node" else ""
    with progress.step("Checking the machine"):
        absent = doctor.errors(doctor.examine(one.role, joined))
    if absent:
        lines = "\n".join(f"  {item.name}: {item.found}\n    {item.remedy}" for item in absent)
        raise InstallError(f"this machine lacks what a {one.role} needs:\n{lines}")


def _show_plan(one: NodeInstallation, found: facts.Facts, at: Places, given: dict[str, Any]) -> int:
    memory = read_memory(at.of(places.STATE))
    changes = plan(one, configs.MachineFacts(found.cgroup_version), memory, at,
                   overwrite=given["overwrite"])  # fmt: skip
    report.print_plan(one, changes, given["output"], systemd=found.systemd)
    return 0
