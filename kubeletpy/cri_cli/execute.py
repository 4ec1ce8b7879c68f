"""``kubeletpy cri exec``: a command in a running container."""

from __future__ import annotations

import sys

import click

from kubeletpy.cri_cli import find, lists
from kubeletpy.cri_cli.connection import Connection, runtime_options
from kubeletpy_proto import cri_pb2 as cri

_SLACK_SECONDS = 10.0


@click.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("--limit", type=click.IntRange(1), default=3600, show_default=True,
              help="Seconds after which the runtime kills the command.")  # fmt: skip
@runtime_options
def execute(connection: Connection, container: str, command: tuple[str, ...], limit: int) -> None:
    """Run COMMAND in a running CONTAINER and show what it wrote once it has ended.

    The exit code is the command's. There is no terminal and no input. Options go before the
    container's name.

    \b
    kubeletpy cri exec web -- cat /etc/hosts
    kubeletpy cri exec default/web/nginx -- sh -c 'ls /proc | wc -l'
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("there is no command behind --")
    found = find.one_container(lists.list_containers(connection), container, running=True)
    request = cri.ExecSyncRequest(container_id=found.id, cmd=words, timeout=limit)
    answer = connection.call(
        f"run {words[0]} in {container}",
        connection.runtime.ExecSync,
        request,
        limit + _SLACK_SECONDS,
    )
    for stream, data in ((sys.stdout, answer.stdout), (sys.stderr, answer.stderr)):
        stream.buffer.write(data)
        stream.buffer.flush()
    raise click.exceptions.Exit(answer.exit_code)
