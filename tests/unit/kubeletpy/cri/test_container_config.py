from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.cri.container_config import ContainerRequest, container_config
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.security import ConfigError
from kubeletpy.volumes.plugin import MountRecord
from kubeletpy_proto import cri_pb2

from ..api.pods import make_pod, with_container

NODE = NodeFacts(name="node", cpu_milli=2000, memory_bytes=10 * 2**30, cgroup_version=1)


def config_of(
    spec: dict[str, Any] | None = None, request: dict[str, Any] | None = None, **container: Any
) -> cri_pb2.ContainerConfig:
    pod = make_pod(**(spec or {}), **with_container(**container))
    return container_config(
        ContainerRequest(
            pod=pod,
            container=pod.spec.containers[0],
            **{"node": NODE, "attempt": 3, "image_ref": "sha256:1", **(request or {})},
        )
    )


def test_identity() -> None:
    config = config_of(
        ports=[{"containerPort": 80}], lifecycle={"preStop": {"sleep": {"seconds": 5}}}
    )
    assert config.metadata == cri_pb2.ContainerMetadata(name="main", attempt=3)
    assert config.image.image == "sha256:1"
    assert config.image.user_specified_image == "registry.example/web:1"
    assert config.log_path == "main/3.log"
    assert dict(config.labels) == {
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.uid": "11111111-2222",
        "io.kubernetes.container.name": "main",
    }
    annotations = dict(config.annotations)
    assert len(annotations.pop("io.kubernetes.container.hash")) == 8
    assert annotations == {
        "io.kubernetes.container.restartCount": "3",
        "io.kubernetes.container.terminationMessagePath": "/dev/termination-log",
        "io.kubernetes.container.terminationMessagePolicy": "File",
        "io.kubernetes.container.preStopHandler": '{"sleep":{"seconds":5}}',
        "io.kubernetes.container.ports": '[{"containerPort":80,"protocol":"TCP"}]',
        "io.kubernetes.pod.terminationGracePeriod": "30",
    }


def test_hash_follows_name_and_image_only() -> None:
    def hash_of(**container: Any) -> str:
        return config_of(**container).annotations["io.kubernetes.container.hash"]

    assert hash_of() == hash_of(args=["x"])
    assert hash_of() != hash_of(image="registry.example/web:2")


def test_command_line_and_environment() -> None:
    config = config_of(
        env=[{"name": "PORT", "value": "80"}],
        command=["serve", "$(PORT)"],
        args=["$$(PORT)", "$(NONE)"],
        workingDir="/srv",
        tty=True,
        stdin=True,
        stdinOnce=True,
    )
    assert list(config.command) == ["serve", "80"]
    assert list(config.args) == ["$(PORT)", "$(NONE)"]
    assert [(each.key, each.value) for each in config.envs] == [("PORT", b"80")]
    assert config.working_dir == "/srv"
    assert (config.tty, config.stdin, config.stdin_once) == (True, True, True)


def test_stop_signal() -> None:
    config = config_of(lifecycle={"stopSignal": "SIGRTMIN+2"})
    assert config.stop_signal == cri_pb2.SIGNAL_SIGRTMINPLUS2
    assert config_of().stop_signal == cri_pb2.SIGNAL_RUNTIME_DEFAULT


def test_resources() -> None:
    resources = config_of(
        resources={"limits": {"cpu": "250m", "memory": "1Gi"}, "requests": {"cpu": "100m"}}
    ).linux.resources
    assert resources == cri_pb2.LinuxContainerResources(
        cpu_shares=102,
        cpu_quota=25_000,
        cpu_period=100_000,
        memory_limit_in_bytes=2**30,
        oom_score_adj=900,
    )


def test_resources_on_version_2() -> None:
    node = NodeFacts(name="n", cgroup_version=2, hugepage_sizes=(2 * 2**20, 2**30))
    resources = config_of(
        request={"node": node}, resources={"limits": {"memory": "1Gi"}}
    ).linux.resources
    assert resources.unified["memory.oom.group"] == "1"
    assert [(each.page_size, each.limit) for each in resources.hugepage_limits] == [
        ("2MB", 0),
        ("1GB", 0),
    ]


VOLUMES = {"volumes": [{"name": "data", "emptyDir": {}}]}
DATA = MountRecord(name="data", spec_name="data", plugin="p", path="/host/data")


def mount_of(**mount: Any) -> cri_pb2.Mount:
    config = config_of(
        VOLUMES,
        {"volumes": {"data": DATA}, "sub_paths": {0: "/host/sub"}},
        volumeMounts=[{"name": "data", "mountPath": "/data", **mount}],
    )
    (result,) = config.mounts
    return result


@pytest.mark.parametrize(
    ("mount", "expected"),
    [
        ({}, cri_pb2.Mount(container_path="/data", host_path="/host/data")),
        ({"readOnly": True},
         cri_pb2.Mount(container_path="/data", host_path="/host/data", readonly=True)),
        ({"mountPath": "data"}, cri_pb2.Mount(container_path="/data", host_path="/host/data")),
        ({"mountPropagation": "HostToContainer"},
         cri_pb2.Mount(container_path="/data", host_path="/host/data",
                       propagation=cri_pb2.PROPAGATION_HOST_TO_CONTAINER)),
        ({"subPath": "a/b"}, cri_pb2.Mount(container_path="/data", host_path="/host/sub")),
        ({"readOnly": True, "recursiveReadOnly": "Enabled"},
         cri_pb2.Mount(container_path="/data", host_path="/host/data", readonly=True,
                       recursive_read_only=True)),
        ({"readOnly": True, "recursiveReadOnly": "IfPossible"},
         cri_pb2.Mount(container_path="/data", host_path="/host/data", readonly=True)),
    ],
)  # fmt: skip
def test_volume_mounts(mount: dict[str, Any], expected: cri_pb2.Mount) -> None:
    assert mount_of(**mount) == expected


def test_files_of_the_kubelet() -> None:
    request = {"hosts_file": "/pods/etc-hosts", "termination_log": "/pods/log"}
    assert list(config_of(request=request).mounts) == [
        cri_pb2.Mount(container_path="/etc/hosts", host_path="/pods/etc-hosts"),
        cri_pb2.Mount(container_path="/dev/termination-log", host_path="/pods/log"),
    ]


def test_a_volume_over_etc_hosts_wins() -> None:
    config = config_of(
        VOLUMES,
        {"hosts_file": "/pods/etc-hosts", "volumes": {"data": DATA}},
        volumeMounts=[{"name": "data", "mountPath": "/etc//hosts"}],
    )
    assert [each.host_path for each in config.mounts] == ["/host/data"]


def test_a_volume_that_is_not_mounted() -> None:
    with pytest.raises(ConfigError, match="data"):
        config_of(VOLUMES, volumeMounts=[{"name": "data", "mountPath": "/data"}])


def test_mounts_of_a_pod_with_its_own_users_are_mapped() -> None:
    request = {"hosts_file": "/pods/x/etc-hosts", "ids": (65536, 65536)}
    config = config_of({"hostUsers": False}, request)
    users = config.linux.security_context.namespace_options.userns_options
    assert users.mode == cri_pb2.POD
    assert [(one.host_id, one.container_id, one.length) for one in users.uids] == [
        (65536, 0, 65536)
    ]  # fmt: skip
    mount = config.mounts[0]
    assert (list(mount.uidMappings), list(mount.gidMappings)) == (
        list(users.uids),
        list(users.gids),
    )
    assert not config_of({}, {"hosts_file": "/x"}).mounts[0].uidMappings
