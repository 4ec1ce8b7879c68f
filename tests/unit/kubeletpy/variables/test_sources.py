from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest

from kubeletpy.cri.environment import PodAddresses, Sources, environment
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.security import ConfigError
from kubeletpy.variables.services import Services
from kubeletpy.variables.sources import LARGEST_FILE, VariableSources, read_files
from kubeletpy.volumes.objects import NoObjects, ObjectMissing
from kubeletpy.volumes.plugin import MountRecord

from ..api.pods import make_pod, with_container


class Cluster(NoObjects):
    """A few objects."""

    objects: ClassVar = {
        ("configmaps", "conf"): {"data": {"A": "1", "b.c": "2"}, "binaryData": {"raw": "/w=="}},
        ("secrets", "hidden"): {"data": {"KEY": "dmFsdWU=", "BAD": "/w=="}},
    }

    async def get(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        assert namespace == "default"
        try:
            return self.objects[resource, name]
        except KeyError:
            raise ObjectMissing("no") from None


def variables_of(services: dict[str, str] | None = None, **container: Any) -> dict[str, str]:
    pod = make_pod(**with_container(**container))
    main = pod.spec.containers[0]
    collect = VariableSources(Cluster(), Services(None)).collect
    sources = asyncio.run(collect(pod, main))
    sources = Sources(sources.objects, services or {}, {})
    return environment(pod, main, NodeFacts(name="n"), PodAddresses(), sources)


def of_key(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": "V", "valueFrom": {f"{kind}KeyRef": {"name": name, "key": key, **more}}}


def test_order_and_precedence() -> None:
    found = variables_of(
        {"WEB_PORT": "80", "A": "service"},
        envFrom=[
            {"configMapRef": {"name": "conf"}},
            {"prefix": "P_", "secretRef": {"name": "hidden"}},
        ],
        env=[
            {"name": "A", "value": "own $(b.c) $(WEB_PORT) $(LATER) $$(A)"},
            {"name": "LATER", "value": "$(A)"},
            of_key("configMap", "conf", "A"),
        ],
    )
    assert list(found.items()) == [
        ("A", "own 2 80 $(LATER) $(A)"),
        ("b.c", "2"),
        ("P_BAD", "\udcff"),
        ("P_KEY", "value"),
        ("LATER", "own 2 80 $(LATER) $(A)"),
        ("V", "1"),
        ("WEB_PORT", "80"),
    ]


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({"env": [of_key("secret", "hidden", "KEY")]}, {"V": "value"}),
        ({"env": [of_key("secret", "hidden", "none", optional=True)]}, {}),
        ({"env": [of_key("secret", "none", "none", optional=True)]}, {}),
        ({"env": [of_key("configMap", "conf", "raw", optional=True)]}, {}),
        ({"envFrom": [{"configMapRef": {"name": "none", "optional": True}}]}, {}),
    ],
)
def test_optional(container: dict[str, Any], expected: dict[str, str]) -> None:
    assert variables_of(**container) == expected


@pytest.mark.parametrize(
    ("container", "message"),
    [
        ({"env": [of_key("secret", "none", "k")]}, 'secret "none" not found'),
        ({"env": [of_key("configMap", "none", "k")]}, 'configmap "none" not found'),
        ({"envFrom": [{"secretRef": {"name": "none"}}]}, 'secret "none" not found'),
        ({"env": [of_key("secret", "hidden", "k")]},
         "couldn't find key k in Secret default/hidden"),
        ({"env": [of_key("configMap", "conf", "raw")]},
         "couldn't find key raw in ConfigMap default/conf"),
        ({"env": [of_key("configMap", "none", "k", optional=True),
                  of_key("configMap", "none", "k")]},
         'configmap "none" not found'),
    ],
)  # fmt: skip
def test_missing(container: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        variables_of(**container)


def file_reference(path: str = "env", **more: Any) -> Any:
    reference = {"volumeName": "vol", "path": path, "key": "KEY", **more}
    pod = make_pod(
        volumes=[{"name": "vol", "emptyDir": {}}],
        **with_container(env=[{"name": "V", "valueFrom": {"fileKeyRef": reference}}]),
    )
    return pod.spec.containers[0]


def volumes(path: Path) -> dict[str, MountRecord]:
    return {"vol": MountRecord(name="vol", spec_name="vol", plugin="p", path=str(path))}


def test_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "env").write_text("KEY='value'\n")
    assert read_files(file_reference("deep/env"), volumes(tmp_path)) == {
        ("vol", "deep/env", "KEY"): "value"
    }
    (tmp_path / "deep" / "env").write_text("OTHER='value'\n")
    assert read_files(file_reference("deep/env", optional=True), volumes(tmp_path)) == {}
    with pytest.raises(ConfigError, match='environment variable key "KEY" not found in file'):
        read_files(file_reference("deep/env"), volumes(tmp_path))


def test_a_missing_file(tmp_path: Path) -> None:
    assert read_files(file_reference(optional=True), volumes(tmp_path)) == {}
    with pytest.raises(ConfigError, match="couldn't parse env file"):
        read_files(file_reference(), volumes(tmp_path))
    with pytest.raises(ConfigError, match='cannot find the volume "vol" referenced by FileKeyRef'):
        read_files(file_reference(), {})


def test_files_that_a_container_prepared(tmp_path: Path) -> None:
    """A link out of the volume, a pipe, an endless file: refused, and nobody waits."""
    volume = tmp_path / "volume"
    volume.mkdir()
    (tmp_path / "outside").write_text("KEY='stolen'\n")
    (volume / "link").symlink_to("../outside")
    (volume / "absolute").symlink_to(tmp_path / "outside")
    os.mkfifo(volume / "pipe")
    (volume / "large").write_bytes(b"#" * (LARGEST_FILE + 1))
    (volume / "bytes").write_bytes(b"KEY='\xff'\n")
    (volume / "directory").mkdir()
    for name in ("link", "absolute", "large", "bytes", "directory", "../outside"):
        with pytest.raises(ConfigError, match="couldn't parse env file"):
            read_files(file_reference(name), volumes(volume))
    with pytest.raises(ConfigError):
        read_files(file_reference("pipe"), volumes(volume))
