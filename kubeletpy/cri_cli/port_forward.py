"""``kubeletpy cri port-forward``: ports of a pod, reached from here."""

from __future__ import annotations

import asyncio

import click

from kubeletpy.cri_cli import find, lists
from kubeletpy.cri_cli.connection import Connection, runtime_options
from kubeletpy.cri_cli.output import printable
from kubeletpy.cri_cli.streaming.forward import Ports, forward, parse_ports
from kubeletpy.cri_cli.streaming.remote import StreamingError
from kubeletpy_proto import cri_pb2 as cri


def _parsed(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[Ports, ...]:
    try:
        return tuple(parse_ports(text) for text in given)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("port-forward")
@click.argument("pod")
@click.argument("ports", nargs=-1, required=True, callback=_parsed,
                metavar="[LOCAL:]REMOTE...")  # fmt: skip
@click.option("--address", default="127.0.0.1", show_default=True,
              help="Of this machine, to listen on.")  # fmt: skip
@runtime_options
def port_forward(connection: Connection, pod: str, ports: tuple[Ports, ...], address: str) -> None:
    """Carry connections to ports of this machine to ports inside POD, until Ctrl-C.

    \b
    kubeletpy cri port-forward web 8080:80
    kubeletpy cri port-forward default/web :80       (any port that is free; it is printed)
    """
    found = find.one_pod(lists.list_pods(connection), pod)
    request = cri.PortForwardRequest(pod_sandbox_id=found.id, port=[each.remote for each in ports])
    what = f"forward ports of {pod}"
    url = connection.call(what, connection.runtime.PortForward, request).url
    try:
        asyncio.run(forward(url, address, ports, lambda line: click.echo(printable(line))))
    except KeyboardInterrupt:
        return
    except (StreamingError, OSError) as error:
        raise click.ClickException(f"{what}: {error}") from error
    raise click.ClickException(f"{what}: the runtime ended the session")
