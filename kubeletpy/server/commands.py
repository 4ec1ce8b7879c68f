"""``/exec``, ``/attach``, ``/portForward``, ``/run``: the runtime does it, we pass it on.

The runtime gives a URL of its streaming server, good once; the client's upgrade goes there as it
is and every byte after it, so whatever the two speak (SPDY, WebSocket) works. The URL must be one
of this machine, and no answer of the runtime's can lead the request elsewhere: a redirect is
refused (CVE-2020-8559, and its kin of the years before).
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import SplitResult, urlsplit

import psutil
from aiohttp import web

from kubeletpy.api.pod import Pod
from kubeletpy.core import Core
from kubeletpy.cri.client import CriError
from kubeletpy_common.relaying import (
    NoUpgradeError,
    read_head,
    read_refusal,
    relay,
    request_head,
)
from kubeletpy_common.upgrades import CHUNK, Connection, Upgraded, take_over
from kubeletpy_proto import cri_pb2

from .finding import Refused, find_container, find_pod, ready_sandbox, running_container

_CONNECT_SECONDS: Final = 10.0
_RUN_SECONDS: Final = 4 * 3600
_WEBSOCKET_TOKEN: Final = "base64url.bearer.authorization.k8s.io."
_CODES: Final = {"NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429}


class Commands:
    """Answers requests that reach into containers.

    Args:
        core: the kubelet's parts.
    """

    def __init__(self, core: Core) -> None:
        self._core = core

    async def execute(self, request: web.Request) -> web.StreamResponse:
        """``/exec/NAMESPACE/POD[/UID]/CONTAINER``."""
        try:
            streams = streams_of(request)
            pod, container_id = await self._container(request)
            del pod
            asked = cri_pb2.ExecRequest(
                container_id=container_id, cmd=request.query.getall("command", []), **streams
            )
            return await self._pass_on(request, await self._core.cri.exec(asked))
        except (Refused, CriError) as error:
            return _refusal(error)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """``/attach/NAMESPACE/POD[/UID]/CONTAINER``."""
        try:
            streams = streams_of(request)
            pod, container_id = await self._container(request)
            spec = find_container(pod, request.match_info["container"])
            # Whether a process has a terminal was settled when it was started.
            streams["tty"] = spec is not None and spec.tty
            streams["stderr"] = streams["stderr"] and not streams["tty"]
            asked = cri_pb2.AttachRequest(container_id=container_id, **streams)
            return await self._pass_on(request, await self._core.cri.attach(asked))
        except (Refused, CriError) as error:
            return _refusal(error)

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        """``/portForward/NAMESPACE/POD[/UID]``."""
        try:
            ports = ports_of(request)
            pod = self._pod(request)
            sandbox = await ready_sandbox(self._core.cri, pod)
            if not sandbox:
                raise Refused(500, f'sandbox of pod "{pod.metadata.name}" not found')
            asked = cri_pb2.PortForwardRequest(pod_sandbox_id=sandbox, port=ports)
            return await self._pass_on(request, await self._core.cri.port_forward(asked))
        except (Refused, CriError) as error:
            return _refusal(error)

    async def run(self, request: web.Request) -> web.StreamResponse:
        """``POST /run/NAMESPACE/POD[/UID]/CONTAINER?cmd=...``: its output when it has ended."""
        try:
            _, container_id = await self._container(request)
            command = request.query.get("cmd", "").split(" ")
            result = await self._core.cri.exec_sync(container_id, command, _RUN_SECONDS)
        except (Refused, CriError) as error:
            return _refusal(error)
        output = result.stdout + result.stderr
        if result.exit_code != 0:
            text = output.decode("utf-8", "replace")
            told = f"command '{' '.join(command)}' exited with {result.exit_code}: {text}"
            return web.Response(status=500, text=told)
        return web.Response(body=output, content_type="application/json")

    def _pod(self, request: web.Request) -> Pod:
        found = find_pod(
            self._core.manager.pods(),
            request.match_info["namespace"],
            request.match_info["pod"],
            request.match_info.get("uid", ""),
        )
        if found is None:
            raise Refused(404, "pod does not exist")
        return found

    async def _container(self, request: web.Request) -> tuple[Pod, str]:
        pod, name = self._pod(request), request.match_info["container"]
        container_id = await running_container(self._core.cri, pod, name)
        if not container_id:
            raise Refused(500, f'container not found ("{name}")')
        return pod, container_id

    async def _pass_on(self, request: web.Request, url: str) -> web.StreamResponse:
        target = urlsplit(url)
        backend = await _connect(target)
        try:
            path = target.path + (f"?{target.query}" if target.query else "")
            headers = passed_headers(request.headers.items())
            await backend.write(request_head(request.method, path, target.netloc, headers))
            head, status = await read_head(backend)
            if status != 101:
                refusal = await read_refusal(backend, head, status)
                kind = {"Content-Type": refusal.content_type}
                return web.Response(status=refusal.status, body=refusal.body, headers=kind)
            await relay(take_over(request, head), backend)
            return Upgraded()
        except NoUpgradeError as error:
            raise Refused(500, f"the runtime's streaming server: {error}") from error
        except ConnectionError as error:
            if request.transport is None or request.transport.is_closing():
                raise ConnectionResetError("the client went away") from error
            raise Refused(500, f"the runtime's streaming server: {error}") from error
        finally:
            backend.abort()


def streams_of(request: web.Request) -> dict[str, bool]:
    """Return which streams a request wants, as fields of a CRI request.

    Raises:
        Refused: none, or no upgrade of the connection is asked for.
    """
    names = {"input": "stdin", "output": "stdout", "error": "stderr", "tty": "tty"}
    found = {name: request.query.get(asked) == "1" for asked, name in names.items()}
    if found["tty"]:
        # A terminal has one stream of output.
        found["stderr"] = False
    if not (found["stdin"] or found["stdout"] or found["stderr"]):
        raise Refused(400, "you must specify at least 1 of stdin, stdout, stderr")
    _require_upgrade(request)
    return found


def ports_of(request: web.Request) -> list[int]:
    """Return the ports that are asked for; none by SPDY, whose streams name them.

    Raises:
        Refused: one is none, or no upgrade of the connection is asked for.
    """
    _require_upgrade(request)
    listed = [text for value in request.query.getall("port", []) for text in value.split(",")]
    ports: list[int] = []
    for text in listed:
        if not (text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536):
            raise Refused(400, f'unable to parse "{text[:20]}" as a port')
        ports.append(int(text))
    return ports


def _require_upgrade(request: web.Request) -> None:
    tokens = (one.strip().lower() for one in request.headers.get("Connection", "").split(","))
    if "upgrade" not in tokens or not request.headers.get("Upgrade"):
        raise Refused(400, "Upgrade request required")


def passed_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers that go on to the runtime: none that tell who asks (pure)."""
    kept: list[tuple[str, str]] = []
    for name, value in headers:
        lower = name.lower()
        if lower in ("host", "authorization"):
            continue
        if lower == "sec-websocket-protocol":
            protocols = (one.strip() for one in value.split(","))
            value = ", ".join(one for one in protocols if not one.startswith(_WEBSOCKET_TOKEN))
            if not value:
                continue
        kept.append((name, value))
    return kept


async def _connect(target: SplitResult) -> Connection:
    """Connect to the runtime's streaming server.

    Raises:
        Refused: it cannot be reached, or is not on this machine.
    """
    host, what = target.hostname or "", f"the runtime's streaming server at {target.netloc!r}"
    if target.scheme not in ("http", "https") or not host:
        raise Refused(500, f"{what}: not an absolute URL of HTTP")
    if not is_here(host, _own_addresses):
        raise Refused(
            500, f"{what} is not on this machine: set the runtime's to listen on loopback"
        )
    context = None
    if target.scheme == "https":
        # Runtimes sign such certificates themselves; it is this machine's loopback.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    port = target.port or (443 if context else 80)
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(host, port, ssl=context, limit=CHUNK)
    except (OSError, TimeoutError) as error:
        why = str(error) or f"no answer within {_CONNECT_SECONDS:g} s"
        raise Refused(500, f"{what}: {why}") from error
    return Connection(reader, writer)


def is_here(host: str, own: Callable[[], Iterable[str]]) -> bool:
    """Say whether a host of a URL is this machine (pure).

    Args:
        host: an address, or ``localhost``; no other name is looked up.
        own: returns the addresses of this machine.
    """
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or str(address) in own()


def _own_addresses() -> list[str]:
    listed = psutil.net_if_addrs().values()
    return [one.address.partition("%")[0] for addresses in listed for one in addresses]


def _refusal(error: Refused | CriError) -> web.Response:
    if isinstance(error, Refused):
        return error.answer()
    status = _CODES.get(error.code.name, 500)
    headers = {"Retry-After": "1"} if status == 429 else {}
    return web.Response(status=status, text=error.message, headers=headers)
