from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.cri.hostname import hostname_and_domain, kernel_hostname
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.sandbox_config import sandbox_config
from kubeletpy.cri.security import ConfigError
from kubeletpy_proto import cri_pb2

from ..api.pods import make_pod, with_container

NODE = NodeFacts(name="node", pod_logs=Path("/logs"))


def config_of(**spec: Any) -> cri_pb2.PodSandboxConfig:
    return sandbox_config(make_pod(**spec), NODE, attempt=2, cgroup_parent="/kubepods/x").config


def test_identity_logs_and_cgroup() -> None:
    pod = make_pod()
    pod.metadata.labels = {"app": "web", "io.kubernetes.pod.uid": "forged"}
    pod.metadata.annotations = {"note": "x"}
    config = sandbox_config(pod, NODE, attempt=2, cgroup_parent="/kubepods/x").config
    assert config.metadata == cri_pb2.PodSandboxMetadata(
        name="web", namespace="default", uid="11111111-2222", attempt=2
    )
    assert dict(config.labels) == {
        "app": "web",
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "default",
        "io.kubernetes.pod.uid": "11111111-2222",
    }
    assert dict(config.annotations) == {"note": "x"}
    assert config.log_directory == "/logs/default_web_11111111-2222"
    assert config.linux.cgroup_parent == "/kubepods/x"
    assert config.hostname == "web"


@pytest.mark.parametrize(
    ("spec", "network", "pid", "ipc"),
    [
        ({}, cri_pb2.POD, cri_pb2.CONTAINER, cri_pb2.POD),
        ({"hostNetwork": True}, cri_pb2.NODE, cri_pb2.CONTAINER, cri_pb2.POD),
        ({"hostPID": True}, cri_pb2.POD, cri_pb2.NODE, cri_pb2.POD),
        ({"hostIPC": True}, cri_pb2.POD, cri_pb2.CONTAINER, cri_pb2.NODE),
        ({"shareProcessNamespace": True}, cri_pb2.POD, cri_pb2.POD, cri_pb2.POD),
    ],
)
def test_namespaces(spec: dict[str, Any], network: int, pid: int, ipc: int) -> None:
    options = config_of(**spec).linux.security_context.namespace_options
    assert (options.network, options.pid, options.ipc) == (network, pid, ipc)


def test_user_namespaces() -> None:
    pod = make_pod(hostUsers=False)
    config = sandbox_config(pod, NODE, ids=(65536, 65536)).config
    users = config.linux.security_context.namespace_options.userns_options
    mapping = cri_pb2.IDMapping(host_id=65536, container_id=0, length=65536)
    assert users == cri_pb2.UserNamespace(mode=cri_pb2.POD, uids=[mapping], gids=[mapping])
    for spec in ({}, {"hostUsers": True}):
        options = config_of(**spec).linux.security_context.namespace_options
        assert options.userns_options == cri_pb2.UserNamespace(mode=cri_pb2.NODE)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("kernel.shm_rmid_forced", "kernel.shm_rmid_forced"),
        ("net/ipv4/ip_local_port_range", "net.ipv4.ip_local_port_range"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
        ("net.ipv4.conf.eno2/100.rp_filter", "net.ipv4.conf.eno2/100.rp_filter"),
    ],
)
def test_sysctls_are_written_with_dots(written: str, name: str) -> None:
    config = config_of(securityContext={"sysctls": [{"name": written, "value": "1"}]})
    assert dict(config.linux.sysctls) == {name: "1"}


def test_security() -> None:
    spec = {
        "securityContext": {
            "runAsUser": 1000,
            "runAsGroup": 0,
            "fsGroup": 2000,
            "supplementalGroups": [3000],
            "supplementalGroupsPolicy": "Strict",
            "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "0"}],
            "seccompProfile": {"type": "Unconfined"},
        },
        **with_container(securityContext={"privileged": True}),
    }
    linux = config_of(**spec).linux
    context = linux.security_context
    assert context.run_as_user.value == 1000
    assert context.HasField("run_as_group")
    assert list(context.supplemental_groups) == [2000, 3000]
    assert context.supplemental_groups_policy == cri_pb2.Strict
    assert context.privileged
    assert context.seccomp.profile_type == cri_pb2.SecurityProfile.RuntimeDefault
    assert dict(linux.sysctls) == {"net.ipv4.tcp_syncookies": "0"}


def test_resources_are_those_of_the_whole_pod() -> None:
    resources = {"limits": {"cpu": "500m", "memory": "64Mi"}}
    linux = config_of(
        containers=[
            {"name": "a", "image": "x:1", "resources": resources},
            {"name": "b", "image": "x:1", "resources": resources},
        ]
    ).linux
    assert linux.resources.cpu_shares == 1024
    assert linux.resources.cpu_quota == 100_000
    assert linux.resources.memory_limit_in_bytes == 128 * 2**20


def test_port_mappings() -> None:
    ports = [
        {"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"},
        {"containerPort": 53, "hostPort": 53, "protocol": "UDP"},
        {"containerPort": 90},
    ]
    config = config_of(**with_container(ports=ports))
    assert list(config.port_mappings) == [
        cri_pb2.PortMapping(container_port=80, host_port=8080, host_ip="127.0.0.1"),
        cri_pb2.PortMapping(protocol=cri_pb2.UDP, container_port=53, host_port=53),
    ]
    assert not config_of(hostNetwork=True, **with_container(ports=ports)).port_mappings


@pytest.mark.parametrize(
    ("spec", "short", "domain"),
    [
        ({}, "web", ""),
        ({"hostname": "front"}, "front", ""),
        ({"hostname": "front", "subdomain": "sub"}, "front", "sub.default.svc.cluster.local"),
        ({"hostNetwork": True}, "node", ""),
        ({"hostnameOverride": "other.example"}, "other.example", ""),
    ],
)
def test_hostname(spec: dict[str, Any], short: str, domain: str) -> None:
    node = replace(NODE, cluster_domain="cluster.local")
    assert hostname_and_domain(make_pod(**spec), node) == (short, domain)


def test_long_names_are_cut_where_a_hostname_may_end() -> None:
    pod = make_pod()
    pod.metadata.name = f"{'a' * 61}.-b"
    assert hostname_and_domain(pod, NODE)[0] == "a" * 61


def test_fqdn_as_hostname() -> None:
    node = replace(NODE, cluster_domain="cluster.local")
    pod = make_pod(subdomain="sub", setHostnameAsFQDN=True)
    assert kernel_hostname(pod, node) == "web.sub.default.svc.cluster.local"
    pod.spec.hostname = "h" * 60
    with pytest.raises(ConfigError, match="too long"):
        kernel_hostname(pod, node)
