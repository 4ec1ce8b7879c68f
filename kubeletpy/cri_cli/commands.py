"""The group ``kubeletpy cri``, and its commands that list."""

from __future__ import annotations

import time

import click

from kubeletpy.cri_cli import find, text
from kubeletpy.cri_cli.connection import Connection, group_options, runtime_options
from kubeletpy.cri_cli.events import events
from kubeletpy.cri_cli.execute import attach, execute
from kubeletpy.cri_cli.images import list_images
from kubeletpy.cri_cli.inspect import inspect
from kubeletpy.cri_cli.lists import list_containers, list_pods
from kubeletpy.cri_cli.logs import logs
from kubeletpy.cri_cli.output import output_option, plain, show, table
from kubeletpy.cri_cli.port_forward import port_forward
from kubeletpy.cri_cli.stats import stats
from kubeletpy_proto import cri_pb2 as cri


@click.group("cri", context_settings={"help_option_names": ["-h", "--help"]})
@group_options
def cri_group() -> None:
    """Look into a container runtime: any that serves CRI v1, ours or another.

    \b
    What runs here:                kubeletpy cri pods; kubeletpy cri ps
    What did it write:             kubeletpy cri logs -f web
    What is wrong with it:         kubeletpy cri inspect web
    What does it use:              kubeletpy cri stats
    What happens right now:        kubeletpy cri events
    Look around inside:            kubeletpy cri exec -it web sh
    Reach a port of it:            kubeletpy cri port-forward web 8080:80
    Another runtime:               kubeletpy cri -r unix:///run/containerd/containerd.sock ps

    A container is named by its id, the beginning of its id, its name, pod/name, or
    namespace/pod/name; a pod by its id, the beginning of it, its name, or namespace/name.
    """


def labels_of(given: tuple[str, ...]) -> dict[str, str]:
    """Return ``--label`` options as a mapping.

    Raises:
        click.BadParameter: one has no ``=``.
    """
    labels = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key:
            raise click.BadParameter(f"{item!r} is not key=value", param_hint="--label")
        labels[key] = value
    return labels


label_option = click.option(
    "-l", "--label", "labels", multiple=True, metavar="KEY=VALUE", help="Only with this label."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Only ids, one a line.")


@cri_group.command("ps")
@click.option("-a", "--all", "everything", is_flag=True, help="Also those that do not run.")
@click.option("-p", "--pod", metavar="POD", help="Only of this pod.")
@label_option
@quiet_option
@output_option("table", "json", "yaml")
@runtime_options
def ps(
    connection: Connection,
    everything: bool,
    pod: str | None,
    labels: tuple[str, ...],
    quiet: bool,
    output: str,
) -> None:
    """List containers; those that run, unless -a.

    \b
    Those of one pod, ended ones too:     kubeletpy cri ps -a -p default/web
    All ids, for a script:                kubeletpy cri ps -q
    """
    wanted = cri.ContainerFilter(label_selector=labels_of(labels))
    if pod:
        wanted.pod_sandbox_id = find.one_pod(list_pods(connection), pod).id
    if not everything:
        wanted.state.state = cri.CONTAINER_RUNNING
    containers = list_containers(connection, wanted)
    containers.sort(key=lambda item: -item.created_at)
    if quiet:
        click.echo("".join(f"{item.id}\n" for item in containers), nl=False)
    elif output != "table":
        show(plain(cri.ListContainersResponse(containers=containers)), output)
    else:
        pods = {item.id: item for item in list_pods(connection)}
        now = time.time_ns()
        table(
            ("CONTAINER", "NAME", "STATE", "AGE", "ATTEMPT", "POD", "IMAGE"),
            [_container_row(item, pods.get(item.pod_sandbox_id), now) for item in containers],
        )


def _container_row(item: cri.Container, pod: cri.PodSandbox | None, now: int) -> tuple[str, ...]:
    image = item.image.user_specified_image or item.image.image
    return (
        text.short(item.id),
        item.metadata.name,
        cri.ContainerState.Name(item.state).removeprefix("CONTAINER_").capitalize(),
        text.age(item.created_at, now),
        str(item.metadata.attempt),
        find.pod_names(pod)[-1] if pod else text.short(item.pod_sandbox_id),
        text.short(image) if image.startswith("sha256:") else image,
    )


@cri_group.command("pods")
@click.option("--ready", is_flag=True, help="Only pods that are up.")
@label_option
@quiet_option
@output_option("table", "json", "yaml")
@runtime_options
def pods(
    connection: Connection, ready: bool, labels: tuple[str, ...], quiet: bool, output: str
) -> None:
    """List pod sandboxes, those that are down included."""
    wanted = cri.PodSandboxFilter(label_selector=labels_of(labels))
    if ready:
        wanted.state.state = cri.SANDBOX_READY
    found = list_pods(connection, wanted)
    found.sort(key=lambda item: -item.created_at)
    if quiet:
        click.echo("".join(f"{item.id}\n" for item in found), nl=False)
    elif output != "table":
        show(plain(cri.ListPodSandboxResponse(items=found)), output)
    else:
        now = time.time_ns()
        rows = [
            (
                text.short(item.id),
                item.metadata.namespace,
                item.metadata.name,
                "Ready" if item.state == cri.SANDBOX_READY else "NotReady",
                text.age(item.created_at, now),
                str(item.metadata.attempt),
                item.runtime_handler or "(default)",
            )
            for item in found
        ]
        table(("POD", "NAMESPACE", "NAME", "STATE", "AGE", "ATTEMPT", "RUNTIME"), rows)


for _command in (
    *(list_images("images"), inspect, logs, stats, events),
    *(execute, attach, port_forward),
):
    cri_group.add_command(_command)
