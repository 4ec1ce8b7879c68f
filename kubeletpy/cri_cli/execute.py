"""``kubeletpy cri exec`` and ``attach``: commands in a running container, and its own streams."""

from __future__ import annotations

import asyncio
import sys

import click

from kubeletpy.cri_cli import find, lists
from kubeletpy.cri_cli.connection import Connection, runtime_options
from kubeletpy.cri_cli.streaming.remote import StreamingError, Streams
from kubeletpy.cri_cli.streaming.session import UrlMaker, run
from kubeletpy.cri_cli.streaming.status import Ended
from kubeletpy_proto import cri_pb2 as cri

_SLACK_SECONDS = 10.0
_INTERRUPTED = 130

stdin_option = click.option("-i", "--stdin", is_flag=True, help="Pass our stdin on.")
tty_option = click.option("-t", "--tty", is_flag=True, help="With a terminal.")


@click.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@click.argument("container")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@stdin_option
@tty_option
@click.option("--sync", is_flag=True, help="By ExecSync: the output comes at the end.")
@click.option("--limit", type=click.IntRange(1), help="With --sync: seconds after which the "
              "runtime kills the command [default: 3600].")  # fmt: skip
@runtime_options
def execute(
    connection: Connection, container: str, command: tuple[str, ...], stdin: bool, tty: bool,
    sync: bool, limit: int | None,
) -> None:  # fmt: skip
    """Run COMMAND in a running CONTAINER; the exit code is the command's.

    Options go before the container's name.

    \b
    kubeletpy cri exec -it web sh
    kubeletpy cri exec web -- cat /etc/hosts
    kubeletpy cri exec -i web tar x -C /srv < site.tar
    kubeletpy cri exec --sync --limit 5 default/web/nginx -- nginx -t
    """
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise click.UsageError("there is no command behind --")
    if sync and (stdin or tty):
        raise click.UsageError("--sync has neither input nor terminal")
    if limit is not None and not sync:
        raise click.UsageError("--limit goes with --sync: a session ends when you leave it")
    found = find.one_container(lists.list_containers(connection), container, running=True)
    what = f"run {words[0]} in {container}"
    if sync:
        _sync(connection, found.id, words, limit or 3600, what)
        return
    streams = _streams(stdin, tty)
    request = cri.ExecRequest(
        container_id=found.id, cmd=words, tty=tty, stdin=stdin, stdout=True, stderr=not tty
    )

    def url() -> str:
        return connection.call(what, connection.runtime.Exec, request).url

    _stream(url, streams, what)


@click.command("attach")
@click.argument("container")
@stdin_option
@tty_option
@runtime_options
def attach(connection: Connection, container: str, stdin: bool, tty: bool) -> None:
    """Take part in what CONTAINER's own process reads and writes, until it ends or Ctrl-C.

    -t goes with containers that were made with a terminal, -i with those that have a stdin.

    \b
    kubeletpy cri attach web
    kubeletpy cri attach -it shell
    """
    found = find.one_container(lists.list_containers(connection), container, running=True)
    what = f"attach to {container}"
    request = cri.AttachRequest(
        container_id=found.id, tty=tty, stdin=stdin, stdout=True, stderr=not tty
    )

    def url() -> str:
        return connection.call(what, connection.runtime.Attach, request).url

    _stream(url, _streams(stdin, tty), what)


def _streams(stdin: bool, tty: bool) -> Streams:
    if tty and stdin and not sys.stdin.isatty():
        click.echo("stdin is no terminal: its end is not told to the command", err=True)
    return Streams(stdin=stdin, stdout=True, stderr=not tty, tty=tty)


def _sync(
    connection: Connection, container_id: str, words: tuple[str, ...], limit: int, what: str
) -> None:
    request = cri.ExecSyncRequest(container_id=container_id, cmd=words, timeout=limit)
    answer = connection.call(what, connection.runtime.ExecSync, request, limit + _SLACK_SECONDS)
    for stream, data in ((sys.stdout, answer.stdout), (sys.stderr, answer.stderr)):
        stream.buffer.write(data)
        stream.buffer.flush()
    raise click.exceptions.Exit(answer.exit_code)


def _stream(url: UrlMaker, streams: Streams, what: str) -> None:
    try:
        ended = asyncio.run(run(url, streams))
    except StreamingError as error:
        raise click.ClickException(f"{what}: {error}") from error
    except BrokenPipeError:
        # Whoever read our output has left, as `head` does.
        raise click.exceptions.Exit(1) from None
    except KeyboardInterrupt:
        raise click.exceptions.Exit(_INTERRUPTED) from None
    _leave(ended, what)


def _leave(ended: Ended, what: str) -> None:
    if ended.exit_code is None:
        raise click.ClickException(f"{what}: {ended.message}")
    raise click.exceptions.Exit(ended.exit_code)
