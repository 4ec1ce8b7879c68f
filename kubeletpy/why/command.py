"""``kubeletpy why POD``: ask the kubelet of this machine for the story of a pod."""

from __future__ import annotations

import http.client
import json
import time
from urllib.parse import urlencode, urlsplit

import click
import msgspec

from .story import Story
from .text import render

DEFAULT_KUBELET = "http://127.0.0.1:10248"
TIMEOUT = 10.0
LARGEST_ANSWER = 16 * 1024 * 1024


@click.command()
@click.argument("pod")
@click.option("-n", "--namespace", default="", help="Its namespace; without it all are looked at.")
@click.option(
    "--kubelet",
    default=DEFAULT_KUBELET,
    show_default=True,
    help="Where the kubelet serves /healthz (--healthz-port); loopback only.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def why(pod: str, namespace: str, kubelet: str, output: str) -> None:
    """Tell what POD waits for, since when, what was tried, and what comes next.

    POD is a name, or namespace/name; for a static pod the node's name may be left out.
    """
    if "/" in pod and not namespace:
        namespace, _, pod = pod.partition("/")
    content = ask(kubelet, pod, namespace)
    stories = msgspec.json.decode(content, type=list[Story])
    if output == "json":
        click.echo(json.dumps(json.loads(content), indent=2))
        return
    click.echo("\n".join(render(story, time.time()) for story in stories), nl=False)


def ask(kubelet: str, pod: str, namespace: str) -> bytes:
    """Return what the kubelet answers: stories as JSON.

    Raises:
        click.ClickException: it is not there, or knows no such pod.
    """
    address = urlsplit(kubelet)
    if address.scheme != "http" or not address.hostname:
        raise click.ClickException(f"--kubelet {kubelet!r}: write it as {DEFAULT_KUBELET}")
    connection = http.client.HTTPConnection(
        address.hostname, address.port or 10248, timeout=TIMEOUT
    )
    try:
        query = urlencode({"pod": pod, "namespace": namespace})
        connection.request("GET", f"/why?{query}")
        answer = connection.getresponse()
        content = answer.read(LARGEST_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise click.ClickException(
            f"no kubelet answers at {kubelet}: {error}; is it running, and is its --healthz-port "
            "another? Then name it by --kubelet"
        ) from None
    finally:
        connection.close()
    if answer.status != 200:
        raise click.ClickException(content.decode(errors="replace").strip())
    return content
