"""The tour: an image is made and pushed, a pod runs from it, and is looked at from all sides."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.up import image
from kubeletpy.up.cluster_tour import ClusterView, see_cluster
from kubeletpy.up.errors import UpError
from kubeletpy.up.layout import REGISTRY_PORT
from kubeletpy.up.node import ApiFacts, Node
from kubeletpy.up.progress import Progress, Timing
from kubeletpy.up.push import push

MANIFEST = Path(__file__).resolve().parent.parent.parent / "examples" / "web.yaml"
# As examples/web.yaml names it.
_REGISTRY = f"127.0.0.1:{REGISTRY_PORT}"
_REPOSITORY, _TAG = "demo/web", "1"
_POD = "web"
_SERVER, _WRITER = "server", "writer"
_PORT = 8080
_COMMAND = ("ps", "-o", "pid,user,comm")
_READY_SECONDS = 90.0
_POLL_SECONDS = 0.05
_LOG_LINES = 5
_TIMEOUT = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True)
class PodView:
    """A pod as the kubelet reports it: the status part of its JSON, and its name."""

    name: str
    status: dict[str, Any]

    @property
    def ready(self) -> bool:
        """Whether the condition Ready is true."""
        return any(
            condition.get("type") == "Ready" and condition.get("status") == "True"
            for condition in self.status.get("conditions", [])
        )

    @property
    def ip(self) -> str:
        """The first address, or ""."""
        return str(self.status.get("podIP", ""))

    @property
    def containers(self) -> list[dict[str, Any]]:
        """The statuses of init containers, then of the others."""
        names = ("initContainerStatuses", "containerStatuses")
        return [status for name in names for status in self.status.get(name, [])]

    def trouble(self) -> str:
        """Say why the pod is not ready yet, as far as its containers tell."""
        found = []
        for container in self.containers:
            for state in container.get("state", {}).values():
                if state.get("reason") and state["reason"] != "Completed":
                    message = f" ({state['message']})" if state.get("message") else ""
                    found.append(f"{container['name']}: {state['reason']}{message}")
        return "; ".join(found) or f"phase {self.status.get('phase', 'unknown')}"


@dataclass(frozen=True)
class Exec:
    """A command run in a container."""

    container: str
    command: tuple[str, ...]
    exit_code: int
    output: str


@dataclass
class Findings:
    """What the tour saw."""

    api: ApiFacts
    node: str
    image: str
    runtime: str
    pod: PodView
    url: str
    page: str
    log: list[str]
    exec: Exec
    cluster: ClusterView
    timings: list[Timing] = field(default_factory=list)


async def take_tour(node: Node, progress: Progress) -> Findings:
    """Start ``node`` and run the example pod on it; return what can be seen of it.

    Raises:
        UpError: a step failed; the message says which daemon's log tells more.
    """
    await node.start_api()
    with progress.step("Starting a registry (docker-registry)"):
        await node.start_registry()
    with progress.step("Making an OCI image from busybox-static and pushing it"):
        built = await asyncio.to_thread(image.build)
        reference = await push(built, node.registry_address, _REPOSITORY, _TAG)
    with progress.step("Starting the runtime"):
        runtime = await node.start_runtime()
    with progress.step("Starting the API server (begun first, beside the others)"):
        api = await node.await_api()
    await node.start_cluster()
    with progress.step("Starting the kubelet, which joins the API server"):
        name = await node.start_kubelet()
    with progress.step(f"Running the pod of {MANIFEST.name} until it is Ready"):
        place_manifest(node)
        pod = await _wait_ready(node, name)
    await node.start_metrics()
    url = f"http://{pod.ip}:{_PORT}/index.html"
    with progress.step(f"Fetching {url}"):
        page = await _fetch(url)
    try:
        async with node.cri() as client:
            ids = await _container_ids(client)
            with progress.step(f"Running `{' '.join(_COMMAND)}` in container {_WRITER}"):
                seen = await _exec(client, ids[_WRITER])
            with progress.step(f"Reading the log of container {_WRITER}"):
                log = await _log(client, ids[_WRITER])
        with progress.step("Starting controllers, proxy, DNS and metrics (begun before)"):
            await node.await_cluster()
            await node.route_services()
        cluster = await see_cluster(node, progress, _REGISTRY, ids[_WRITER])
    except CriError as error:
        raise UpError(str(error)) from error
    return Findings(
        api,
        name,
        reference,
        runtime,
        pod,
        url,
        page,
        log,
        seen,
        cluster,
        list(progress.timings),
    )


def place_manifest(node: Node) -> None:
    """Write the example, with the registry of ``node`` in its image names, where the kubelet looks.

    Raises:
        UpError: the example is not there, or does not name the registry.
    """
    try:
        text = MANIFEST.read_text()
    except OSError as error:
        raise UpError(f"cannot read the example: {error}") from error
    if _REGISTRY not in text:
        raise UpError(f"{MANIFEST} has no image of {_REGISTRY}; restore the file")
    target = node.layout.manifests / MANIFEST.name
    temporary = target.with_name(f".{target.name}.new")
    temporary.write_text(text.replace(_REGISTRY, node.registry_address))
    temporary.rename(target)


async def _wait_ready(node: Node, name: str) -> PodView:
    pod: PodView | None = None
    try:
        async with (
            asyncio.timeout(_READY_SECONDS),
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
        ):
            while True:
                pod = await _pod(session, node, name)
                if pod is not None and pod.ready:
                    return pod
                ended = [daemon for daemon in node.daemons if not daemon.running]
                if ended:
                    raise UpError(ended[0].obituary())
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as error:
        why = pod.trouble() if pod else "the kubelet did not take it up"
        raise UpError(
            f"the pod did not become Ready within {_READY_SECONDS:.0f} s: {why}; "
            f"see the logs in {node.layout.logs}"
        ) from error


async def _pod(session: aiohttp.ClientSession, node: Node, name: str) -> PodView | None:
    """Return the pod as the kubelet sees it now, None if it does not know it yet."""
    try:
        async with session.get(f"{node.kubelet_url}/pods") as answer:
            pods = await answer.json(content_type=None)
    except aiohttp.ClientError:
        return None  # it may be ending: the caller looks after that
    for pod in pods.get("items") or []:
        # A static pod's name ends with that of its node.
        if pod["metadata"]["name"] == f"{_POD}-{name}":
            return PodView(pod["metadata"]["name"], pod.get("status", {}))
    return None


async def _fetch(url: str) -> str:
    try:
        async with (
            aiohttp.ClientSession(timeout=_TIMEOUT) as session,
            session.get(url) as answer,
        ):
            answer.raise_for_status()
            return await answer.text()
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UpError(
            f"the pod is Ready, but {url} cannot be fetched: {error or type(error).__name__}"
        ) from error


async def _container_ids(client: CriClient) -> dict[str, str]:
    """Return the ids of the pod's containers by name, the newest of each name."""
    containers = sorted(await client.list_containers(), key=lambda item: item.created_at)
    ids = {item.metadata.name: item.id for item in containers}
    missing = {_SERVER, _WRITER} - ids.keys()
    if missing:
        raise UpError(f"the runtime has no container {' and '.join(sorted(missing))}")
    return ids


async def _exec(client: CriClient, container_id: str) -> Exec:
    answer = await client.exec_sync(container_id, _COMMAND, timeout=10)
    output = (answer.stdout + answer.stderr).decode(errors="replace")
    if answer.exit_code != 0:
        raise UpError(f"`{' '.join(_COMMAND)}` ended with {answer.exit_code}: {output.strip()}")
    return Exec(_WRITER, _COMMAND, answer.exit_code, output)


async def _log(client: CriClient, container_id: str) -> list[str]:
    """Return the last lines of a container's log, as it wrote them."""
    answer = await client.container_status(container_id)
    path = Path(answer.status.log_path)
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError as error:
        raise UpError(f"cannot read the log of {_WRITER}: {error}") from error
    return [message_of(line) for line in lines[-_LOG_LINES:]]


def message_of(line: str) -> str:
    """Return what the container wrote: a CRI log line is ``time stream tag message``."""
    parts = line.split(" ", 3)
    return parts[3] if len(parts) == 4 else line
