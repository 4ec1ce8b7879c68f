"""The second half of the tour: a Deployment, a Service, names, scaling and healing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy.cri.client import CriClient
from kubeletpy.up.errors import UpError
from kubeletpy.up.node import Node
from kubeletpy.up.objects import Object, Objects, is_ready
from kubeletpy.up.progress import Progress

MANIFEST: Final = (
    Path(__file__).resolve().parent.parent.parent / "examples" / "tour" / "01-deployment.yaml"
)
_SELECTOR: Final = "app=web,pod-template-hash"
_NAME: Final = "web.default.svc.cluster.local"
_SCALED: Final = 5
_SECONDS: Final = 60.0


@dataclass(frozen=True)
class ClusterView:
    """What the tour saw of the cluster.

    Attributes:
        deployment: its name.
        replicas: how many pods it had at first.
        address: of its Service.
        page: that a pod of another workload got by the Service's name.
        scaled: how many pods it has now.
        lost: name of the pod that was deleted.
        healed: name of that which took its place.
    """

    deployment: str
    replicas: int
    address: str
    page: str
    scaled: int
    lost: str
    healed: str


async def see_cluster(
    node: Node, progress: Progress, registry: str, container: str
) -> ClusterView:  # fmt: skip
    """Make the example's Deployment and Service, and use them.

    Args:
        node: that runs.
        progress: is told of it.
        registry: that the example names.
        container: id of one from which the Service is asked.

    Raises:
        UpError: something did not happen.
    """
    async with node.objects() as objects:
        with progress.step(f"Running the Deployment of {MANIFEST.name}, until all pods are Ready"):
            made = await objects.apply_file(
                MANIFEST, lambda text: text.replace(registry, node.registry_address)
            )
            deployment, service = _the(made, "Deployment"), _the(made, "Service")
            replicas = int(deployment["spec"]["replicas"])
            await _ready(objects, replicas, "the Deployment's start")
        port = service["spec"]["ports"][0]["port"]
        with progress.step(f"Fetching http://{_NAME}:{port} from a pod"):
            async with node.cri() as client:
                page = await _fetch(client, container, f"http://{_NAME}:{port}/")
        with progress.step(f"Scaling to {_SCALED}"):
            await objects.scale(deployment, _SCALED)
            pods = await _ready(objects, _SCALED, "scaling")
        lost = pods[0]
        with progress.step("Deleting a pod, until another one took its place"):
            await objects.delete_pod(lost)
            healed = await _ready(objects, _SCALED, "healing", without=lost["metadata"]["uid"])
    known = {one["metadata"]["name"] for one in pods}
    new = [name for one in healed if (name := one["metadata"]["name"]) not in known]
    return ClusterView(
        deployment["metadata"]["name"], replicas, service["spec"]["clusterIP"], page, len(healed),
        lost["metadata"]["name"], new[0] if new else "",
    )  # fmt: skip


def _the(made: list[Object], kind: str) -> Object:
    for one in made:
        if one["kind"] == kind:
            return one
    raise UpError(f"{MANIFEST} has no {kind}; restore the file")


async def _ready(
    objects: Objects, count: int, what: str, without: str = ""
) -> list[Object]:  # fmt: skip
    """Wait until so many pods serve, without one of them; return these."""

    def serving(pods: list[Object]) -> list[Object]:
        return [one for one in pods if is_ready(one) and one["metadata"]["uid"] != without]

    pods = await objects.until_pods(
        _SELECTOR, lambda found: len(serving(found)) == count, _SECONDS, what
    )
    return serving(pods)


async def _fetch(client: CriClient, container: str, url: str) -> str:
    """Fetch a page from within a container."""
    answer = await client.exec_sync(container, ("wget", "-q", "-O", "-", url), timeout=10)
    if answer.exit_code != 0:
        error = (answer.stderr + answer.stdout).decode(errors="replace").strip()
        raise UpError(f"a pod cannot fetch {url}: {error}")
    return answer.stdout.decode(errors="replace")
