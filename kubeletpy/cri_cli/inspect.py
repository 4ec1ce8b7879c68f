"""``kubeletpy cri inspect``: all that is known of one container, pod or image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from google.protobuf.message import Message

from kubeletpy.cri_cli import find, lists
from kubeletpy.cri_cli.connection import Connection, runtime_options
from kubeletpy.cri_cli.output import output_option, plain, show, table
from kubeletpy_proto import cri_pb2 as cri


@click.command("inspect")
@click.argument("name")
@click.option(
    "-t",
    "--type",
    "kind",
    type=click.Choice(["container", "pod", "image"]),
    help="What NAME is [default: a container, else a pod, else an image].",
)
@output_option("json", "yaml", "table")
@runtime_options
def inspect(connection: Connection, name: str, kind: str | None, output: str) -> None:
    """Show the status of NAME and what the runtime tells beyond it; as a table the status only.

    \b
    The address of a pod:     kubeletpy cri inspect -t pod default/web | jq -r .status.network.ip
    """
    tried: list[str] = []
    for candidate, look in (("container", _container), ("pod", _pod), ("image", _image)):
        if kind in (None, candidate):
            try:
                found = look(connection, name)
                if output == "table":
                    table(("FIELD", "VALUE"), rows(found["status"]))
                else:
                    show(found, output)
                return
            except find.NotOne as error:
                tried.append(error.message)
    raise click.ClickException("; ".join(tried))


def _container(connection: Connection, name: str) -> dict[str, Any]:
    found = find.one_container(lists.list_containers(connection), name)
    request = cri.ContainerStatusRequest(container_id=found.id, verbose=True)
    answer = connection.call("inspect", connection.runtime.ContainerStatus, request)
    return described(answer.status, answer.info)


def _pod(connection: Connection, name: str) -> dict[str, Any]:
    found = find.one_pod(lists.list_pods(connection), name)
    request = cri.PodSandboxStatusRequest(pod_sandbox_id=found.id, verbose=True)
    answer = connection.call("inspect", connection.runtime.PodSandboxStatus, request)
    return described(answer.status, answer.info)


def _image(connection: Connection, name: str) -> dict[str, Any]:
    request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name), verbose=True)
    answer = connection.call("inspect", connection.images.ImageStatus, request)
    if not answer.HasField("image"):
        raise find.NotOne(f"there is no image {name!r}: `kubeletpy image ls` lists them")
    return described(answer.image, answer.info)


def described(status: Message, info: Mapping[str, str]) -> dict[str, Any]:
    """Return status and verbose information; what is JSON in the latter is shown as such (pure)."""
    result: dict[str, Any] = {"status": plain(status)}
    for key, value in sorted(info.items()):
        try:
            result[key] = json.loads(value)
        except ValueError:
            result[key] = value
    return result


def rows(value: object, path: str = "") -> list[tuple[str, str]]:
    """Return a row for each field that has a value, named by its path (pure)."""
    if isinstance(value, Mapping):
        return [
            row
            for key, inner in value.items()
            for row in rows(inner, f"{path}.{key}" if path else str(key))
        ]
    if isinstance(value, list):
        return [
            row for number, inner in enumerate(value) for row in rows(inner, f"{path}[{number}]")
        ]
    return [(path, str(value))] if value not in ("", None, "0", 0, False) else []
