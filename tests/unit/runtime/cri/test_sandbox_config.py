"""What pod sandbox requests mean, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletpy_proto import cri_pb2 as cri
from runtime.config import SysctlSettings
from runtime.cri.errors import InvalidRequestError
from runtime.cri.sandbox_config import SandboxNeeds, read_sandbox_config, resolv_conf
from runtime.cri.sysctls import SysctlError, check_sysctls
from runtime.oci.request import HostFacts, TranslationError

Profile = cri.SecurityProfile


def needs(
    *, security: dict[str, Any] | None = None, linux: dict[str, Any] | None = None,
    host: HostFacts | None = None, **fields: Any,
) -> SandboxNeeds:  # fmt: skip
    config = cri.PodSandboxConfig(
        linux=cri.LinuxPodSandboxConfig(
            security_context=cri.LinuxSandboxSecurityContext(**(security or {})), **(linux or {})
        ),
        **{"metadata": cri.PodSandboxMetadata(name="web"), **fields},
    )
    return read_sandbox_config(config, host or HostFacts(hostname="node1"), SysctlSettings())


def options(**modes: Any) -> dict[str, Any]:
    return {"namespace_options": cri.NamespaceOption(**modes)}


def test_the_defaults() -> None:
    result = needs(hostname="web")
    assert (result.own_network, result.own_ipc, result.own_uts) == (True, True, True)
    assert result.shared_pid is True
    assert result.hostname == "web"
    assert result.resolv_conf is None
    assert result.sysctls == {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
    }


def test_host_namespaces() -> None:
    result = needs(security=options(network=cri.NODE, ipc=cri.NODE, pid=cri.NODE))
    assert (result.own_network, result.own_ipc, result.own_uts) == (False, False, False)
    assert (result.shared_pid, result.hostname, result.sysctls) == (False, "node1", {})


def test_a_sysctl_of_the_pod_wins_over_the_default() -> None:
    name = "net.ipv4.ip_unprivileged_port_start"
    assert needs(linux={"sysctls": {name: "1024"}}).sysctls[name] == "1024"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"metadata": cri.PodSandboxMetadata()}, "name is empty"),
        ({"hostname": "a/b"}, "hostname"),
        ({"hostname": "a\nb"}, "hostname"),
        ({"log_directory": "logs"}, "log_directory"),
        ({"security": options(network=cri.CONTAINER)}, "only POD and NODE"),
        ({"security": options(ipc=cri.TARGET)}, "only POD and NODE"),
        ({"security": options(pid=cri.TARGET)}, "TARGET"),
        ({"port_mappings": [cri.PortMapping(host_port=1)]}, "container port"),
        ({"windows": cri.WindowsPodSandboxConfig()}, "windows"),
    ],
)
def test_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        needs(**fields)


def test_labels_mean_nothing_without_selinux_and_are_refused_with_it() -> None:
    labels = {"selinux_options": cri.SELinuxOption(level="s0:c0,c1")}
    needs(security=labels)
    with pytest.raises(TranslationError, match="selinux_options: labels are not supported"):
        needs(security=labels, host=HostFacts(hostname="node1", selinux=True))


def test_the_sandbox_has_no_process_that_a_default_profile_could_confine() -> None:
    needs(security={"seccomp": Profile(profile_type=Profile.RuntimeDefault)})
    needs(security={"seccomp": Profile(profile_type=Profile.Localhost, localhost_ref="x")})
    needs(security={"apparmor": Profile(profile_type=Profile.Unconfined)})
    with pytest.raises(TranslationError, match="apparmor"):
        needs(security={"apparmor": Profile(profile_type=Profile.Localhost, localhost_ref="x")})


def mapping(host: int, inside: int = 0, length: int = 65536) -> cri.IDMapping:
    return cri.IDMapping(host_id=host, container_id=inside, length=length)


def user_namespace(*ids: cri.IDMapping, mode: Any = cri.POD, **others: Any) -> dict[str, Any]:
    asked = cri.UserNamespace(mode=mode, uids=ids, gids=ids)
    return options(userns_options=asked, **others)


def test_a_user_namespace() -> None:
    found = needs(security=user_namespace(mapping(100_000)))
    assert found.uid_mappings == ({"containerID": 0, "hostID": 100_000, "size": 65536},)
    assert found.gid_mappings == found.uid_mappings
    assert (
        needs(security=options(userns_options=cri.UserNamespace(mode=cri.NODE))).uid_mappings == ()
    )


@pytest.mark.parametrize(
    ("security", "words"),
    [
        (user_namespace(), "0 id mappings"),
        (user_namespace(mapping(1000), mapping(2000)), "containerID overlap"),
        (user_namespace(mapping(1000, 1)), "id 0 of the container"),
        (user_namespace(mapping(0)), "host's root"),
        (user_namespace(mode=cri.CONTAINER), "only POD and NODE"),
        (user_namespace(mode=cri.TARGET), "only POD and NODE"),
        (user_namespace(mapping(1000), mode=cri.NODE), "no sense"),
        (user_namespace(mapping(1000), network=cri.NODE), "network NODE"),
        (user_namespace(mapping(1000), ipc=cri.NODE), "ipc NODE"),
        (user_namespace(mapping(1000), pid=cri.NODE), "pid NODE"),
    ],
)
def test_user_namespaces_that_cannot_be(security: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidRequestError, TranslationError), match=words):
        needs(security=security)


def test_container_ports_without_a_host_port_are_fine() -> None:
    needs(port_mappings=[cri.PortMapping(container_port=80)])


@pytest.mark.parametrize(
    ("dns", "expected"),
    [
        ({}, None),
        (
            {"servers": ["1.1.1.1", "fd00::1"], "searches": ["a.b", "c"], "options": ["ndots:5"]},
            "nameserver 1.1.1.1\nnameserver fd00::1\nsearch a.b c\noptions ndots:5\n",
        ),
        ({"searches": ["."]}, "search .\n"),
    ],
)
def test_resolv_conf(dns: dict[str, Any], expected: str | None) -> None:
    assert resolv_conf(cri.DNSConfig(**dns)) == expected


@pytest.mark.parametrize(
    "dns",
    [
        {"servers": ["example.com"]},
        {"servers": ["1.1.1.1\n"]},
        {"searches": ["a b"]},
        {"options": ["x\ny"]},
        {"options": [""]},
        {"searches": ["a"] * 65},
    ],
)
def test_dns_that_would_change_the_file(dns: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        resolv_conf(cri.DNSConfig(**dns))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kernel.core_pattern", "x", "no namespace"),
        ("vm.swappiness", "x", "no namespace"),
        ("kernel.hostname", "x", "no namespace"),
        ("kernel/core_pattern", "x", "no namespace"),
        ("net.core.somaxconn", "1", "safe list"),
        ("kernel.msgmax", "1", "safe list"),
        ("net.ipv4.tcp_syncookies", "1\n", "one line"),
        ("net.ipv4.tcp_syncookies", "1\0", "one line"),
        ("net.ipv4.tcp_syncookies", "", "one line"),
        ("net.ipv4/../../kernel/core_pattern", "x", "malformed"),
        ("net.ipv4.tcp_syncookies+kernel.core_pattern", "x", "malformed"),
        ("", "x", "malformed"),
    ],
)
def test_sysctls_that_reach_the_host_are_refused(name: str, value: str, words: str) -> None:
    with pytest.raises(SysctlError, match=words):
        check_sysctls({name: value}, own_network=True, own_ipc=True, allowed_unsafe=())


@pytest.mark.parametrize(
    ("name", "network", "ipc"),
    [("net.ipv4.tcp_syncookies", False, True), ("kernel.shm_rmid_forced", True, False)],
)
def test_sysctls_of_a_namespace_that_is_the_hosts(name: str, network: bool, ipc: bool) -> None:
    with pytest.raises(SysctlError, match="would change the host"):
        check_sysctls({name: "1"}, own_network=network, own_ipc=ipc)


def test_which_sysctls_of_its_namespaces_a_pod_may_set_is_for_the_client_to_say() -> None:
    given = {"net.core.somaxconn": "1", "kernel.msgmax": "9"}
    assert check_sysctls(given, own_network=True, own_ipc=True) == given


def test_sysctls_with_slashes_and_allowed_ones() -> None:
    given = {"net/ipv4/conf/eth0.1/forwarding": "1", "kernel.msgmax": "9", "fs.mqueue.msg_max": "1"}
    checked = check_sysctls(
        given,
        own_network=True,
        own_ipc=True,
        allowed_unsafe=["net.*", "kernel.msgmax", "fs.mqueue.*"],
    )
    assert checked == {
        "net.ipv4.conf.eth0/1.forwarding": "1",
        "kernel.msgmax": "9",
        "fs.mqueue.msg_max": "1",
    }
