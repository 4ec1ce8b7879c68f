"""``kubeletpy cri events``: what happens, as it happens."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import click
import grpc

from kubeletpy.cri_cli import text
from kubeletpy.cri_cli.connection import Connection, failure, runtime_options
from kubeletpy.cri_cli.output import output_option, plain, printable, show
from kubeletpy_proto import cri_pb2 as cri


@click.command("events")
@output_option("table", "json", "yaml")
@runtime_options
def events(connection: Connection, output: str) -> None:
    """Print an event a line until Ctrl-C: containers and pods made, started, stopped, removed.

    With -o json each line is the whole event, with the state of the pod at that moment; with -o
    yaml each document.

    \b
    kubeletpy cri events
    kubeletpy cri events -o json | jq -r .containerEventType
    """
    stream = connection.runtime.GetContainerEvents(cri.GetEventsRequest())
    try:
        for event in stream:
            if output == "yaml":
                click.echo("---")
                show(plain(event), output)
            else:
                click.echo(json.dumps(plain(event)) if output == "json" else described(event))
    except grpc.RpcError as error:
        raise failure("follow events", connection.endpoint, error) from error
    except KeyboardInterrupt:
        stream.cancel()


def described(event: cri.ContainerEventResponse) -> str:
    """Return an event as one line (pure)."""
    pod = event.pod_sandbox_status
    kind = cri.ContainerEventType.Name(event.container_event_type)
    kind = kind.removeprefix("CONTAINER_").removesuffix("_EVENT").lower()
    when = datetime.fromtimestamp(event.created_at / 1e9, UTC).isoformat(timespec="milliseconds")
    names = {status.id: status for status in event.containers_statuses}
    status = names.get(event.container_id)
    if event.container_id == pod.id:
        subject = "pod      "
    else:
        subject = f"container {status.metadata.name if status else '(removed)'}"
    detail = ""
    if status is not None and kind == "stopped":
        detail = f" exit code {status.exit_code} ({status.reason or 'no reason'})"
    line = (
        f"{when} {kind:<8} {text.short(event.container_id)} "
        f"{pod.metadata.namespace}/{pod.metadata.name} {subject}{detail}"
    )
    return printable(line.rstrip())
