"""The examples are what the README and the tour take them for."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from kubeletpy.api.pod import Pod
from kubeletpy.sources.static_pods import static_pod
from kubeletpy.up.tour import MANIFEST

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "web.yaml"


def pod() -> Pod:
    """Return the example as the kubelet takes it; a manifest that does not validate raises."""
    seen = datetime(2026, 1, 1, tzinfo=UTC)
    data = EXAMPLE.read_bytes()
    return static_pod(data, file=EXAMPLE.name, node_name="node", seen=seen).pod


def test_tour_uses_the_example() -> None:
    assert MANIFEST == EXAMPLE


def test_pod_shows_what_the_readme_promises() -> None:
    spec = pod().spec
    assert [container.name for container in spec.init_containers] == ["first-page"]
    assert [container.name for container in spec.containers] == ["server", "writer"]
    assert spec.volumes[0].empty_dir is not None
    everyone = [*spec.init_containers, *spec.containers]
    shared = spec.volumes[0].name
    assert all(container.volume_mounts[0].name == shared for container in everyone)
    assert {container.image for container in everyone} == {"127.0.0.1:5000/demo/web:1"}


def test_containers_are_limited_and_the_server_is_probed() -> None:
    for container in pod().spec.containers:
        assert {"cpu", "memory"} <= container.resources.limits.keys()
    probe = pod().spec.containers[0].readiness_probe
    assert probe is not None
    assert probe.http_get is not None
    assert probe.http_get.path == "/index.html"
