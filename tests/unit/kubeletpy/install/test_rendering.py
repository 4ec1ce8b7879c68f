from __future__ import annotations

import configparser
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kubeletpy.install import configs, units
from kubeletpy.install.configs import MachineFacts
from kubeletpy.install.errors import InstallError
from kubeletpy.install.ingress import check_ingress
from kubeletpy.install.installation import NodeInstallation
from kubeletpy.settings.files import read_file

from .installations import node, server

MOUNT_NAMESPACE = (
    "PrivateTmp", "PrivateDevices", "PrivateMounts", "ProtectSystem", "ProtectHome",
    "ProtectKernelTunables", "ProtectKernelModules", "ProtectKernelLogs", "ProtectControlGroups",
    "ProtectProc", "ProcSubset", "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths",
    "TemporaryFileSystem", "BindPaths", "MountFlags", "DynamicUser", "RootDirectory",
)  # fmt: skip
"""Each of them gives a service a mount namespace of its own, systemd.exec(5)."""
INHERITED = ("NoNewPrivileges", "SystemCallFilter", "CapabilityBoundingSet", "RestrictSUIDSGID",
             "RestrictNamespaces", "RestrictAddressFamilies", "LockPersonality",
             "MemoryDenyWriteExecute", "SystemCallArchitectures", "RestrictRealtime")  # fmt: skip


def unit(one: NodeInstallation, name: str) -> dict[str, dict[str, list[str]]]:
    """Return the sections of a unit: values by key."""
    text = next(each.text for each in units.rendered(one) if each.path.name == name)
    sections: dict[str, dict[str, list[str]]] = {}
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            current.setdefault(key, []).append(" ".join(value.split()))
    return sections


def file(one: NodeInstallation, name: str, version: int = 2) -> str:
    found = configs.rendered(one, MachineFacts(version))
    return next(each.text for each in found if each.path.name == name)


def document(one: NodeInstallation, name: str, version: int = 2) -> Any:
    return yaml.safe_load(file(one, name, version))


def test_which_services_there_are() -> None:
    assert units.names(server()) == units.ALL
    assert units.names(node()) == (units.RUNTIME, units.KUBELET, units.PROXY)
    assert units.names(server(node=False)) == (units.APISERVER, units.CONTROLLERS, units.DNS)
    foreign = node(runtime_endpoint="unix:///run/containerd/containerd.sock", proxy=False)
    assert units.names(foreign) == (units.KUBELET,)


@pytest.mark.parametrize(
    ("one", "path"),
    [
        (node(), "/etc/kubeletpy/kubelet.kubeconfig"),
        (server(), "/etc/kubeletpy/kubelet.kubeconfig"),
        (msgspec.structs.replace(node(), kubeconfig="/k", renewed=True),
         "/etc/kubeletpy/node.kubeconfig"),
    ],
)  # fmt: skip
def test_the_proxy_has_credentials_that_stay_good(one: NodeInstallation, path: str) -> None:
    assert document(one, "proxy.yaml")["clientConnection"] == {"kubeconfig": path}


@pytest.mark.parametrize("name", units.ALL)
def test_every_service_is_kept_running_and_watched(name: str) -> None:
    found = unit(server(), name)
    service = found["Service"]
    assert service["Type"] == ["notify"]
    assert service["Restart"] == ["always"]
    assert int(service["WatchdogSec"][0]) > 1
    assert found["Unit"]["StartLimitIntervalSec"] == ["0"]
    assert found["Unit"]["PartOf"] == found["Install"]["WantedBy"] == ["kubeletpy.target"]
    assert "Requires" not in found["Unit"]


@pytest.mark.parametrize("name", [units.RUNTIME, units.KUBELET])
def test_who_mounts_shares_the_mounts_of_the_host(name: str) -> None:
    service = unit(server(), name)["Service"]
    assert not service.keys() & set(MOUNT_NAMESPACE)
    assert service["KillMode"] == ["process"]
    assert service["Delegate"] == ["yes"]
    assert service["TasksMax"] == ["infinity"]


def test_containers_inherit_nothing_from_the_runtime() -> None:
    assert not unit(node(), units.RUNTIME)["Service"].keys() & set(INHERITED)


@pytest.mark.parametrize("name", [units.APISERVER, units.CONTROLLERS, units.DNS])
def test_who_needs_no_root_is_none(name: str) -> None:
    service = unit(server(storage=False), name)["Service"]
    assert service.get("User") == [units.USER] or service["DynamicUser"] == ["yes"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["ProtectSystem"] == ["strict"]
    assert service["NoNewPrivileges"] == ["yes"]
    assert "~@privileged @resources" in service["SystemCallFilter"]


def test_only_storage_gives_controllers_capabilities() -> None:
    service = unit(server(), units.CONTROLLERS)["Service"]
    assert service["CapabilityBoundingSet"] == ["CAP_DAC_OVERRIDE CAP_FOWNER"]
    assert service["ReadWritePaths"] == ["/var/lib/kubeletpy/storage"]
    directory = "/var/lib/kubeletpy/apiserver"
    assert service["LoadCredential"] == [
        f"kubeconfig:{directory}/admin.kubeconfig", f"authority:{directory}/pki/ca.crt",
    ]  # fmt: skip
    assert " --kubeconfig=%d/kubeconfig " in service["ExecStart"][0]
    assert service["ExecStart"][0].endswith(" --kubelet-certificate-authority=%d/authority")


def test_the_order_of_starting() -> None:
    before: list[str] = []
    for name in units.names(server()):
        after = unit(server(), name)["Unit"]["After"][0].split()
        assert not [each for each in after if each in units.ALL and each not in before]
        before.append(name)
    assert units.RUNTIME in unit(server(), units.KUBELET)["Unit"]["After"][0].split()


def test_words_of_a_command_stay_words() -> None:
    text = unit(node(program=("/opt/a b/kubeletpy",), labels=("a=50",)), units.KUBELET)
    command = text["Service"]["ExecStart"][0]
    assert command.startswith('"/opt/a b/kubeletpy" kubelet ')
    assert "--node-labels=a=50" in command


def test_a_program_at_home_can_be_seen() -> None:
    here = unit(server(program=("/home/me/.venv/bin/kubeletpy",)), units.DNS)["Service"]
    assert here["ProtectHome"] == ["read-only"]
    assert unit(server(), units.DNS)["Service"]["ProtectHome"] == ["yes"]


def test_the_kubelet_asks_for_its_certificate() -> None:
    def command(one: NodeInstallation) -> str:
        return unit(one, units.KUBELET)["Service"]["ExecStart"][0]

    flag = "--bootstrap-kubeconfig="
    assert flag + "/var/lib/kubeletpy/apiserver/kubelet.kubeconfig" in command(server())
    assert flag + "/etc/kubeletpy/bootstrap-kubelet.kubeconfig" in command(node())
    assert flag not in command(node(kubeconfig="/root/node.conf"))


def test_runtime_and_kubelet_agree() -> None:
    one = node()
    runtime, kubelet = tomllib.loads(file(one, "runtime.toml")), document(one, "kubelet.yaml")
    assert runtime["cgroups"]["driver"] == kubelet["cgroupDriver"] == "systemd"
    assert "network" not in runtime
    command = unit(one, units.RUNTIME)["Service"]["ExecStart"][0]
    assert f"--address={kubelet['containerRuntimeEndpoint']}" in command


def test_pods_of_other_nodes_see_the_addresses_of_pods() -> None:
    text = file(server(pod_cidrs=("10.1.0.0/16", "fd01::/48")), "runtime.toml")
    assert tomllib.loads(text)["network"] == {
        "from_node": True, "no_masquerade": ["10.1.0.0/16", "fd01::/48"],
    }  # fmt: skip


def test_the_kubelet_takes_its_configuration(tmp_path: Path) -> None:
    one = server(taints=("key=value:NoSchedule", "bare:NoExecute"))
    settings = document(one, "kubelet.yaml", version=1)
    assert settings["failCgroupV1"] is False
    assert settings["clusterDNS"] == ["10.96.0.10"]
    assert settings["registerWithTaints"] == [
        {"key": "key", "value": "value", "effect": "NoSchedule"},
        {"key": "bare", "value": "", "effect": "NoExecute"},
    ]

    path = tmp_path / "kubelet.yaml"
    path.write_text(yaml.safe_dump(settings))
    decoded = read_file(path).configuration
    assert decoded.static_pod_path == "/etc/kubeletpy/manifests"


def test_routes_between_nodes_are_made_where_the_network_is_ours() -> None:
    def flags(one: NodeInstallation) -> str:
        return unit(one, units.PROXY)["Service"]["ExecStart"][0]

    pods = ("10.1.0.0/16",)
    assert "--pod-network=auto" in flags(server())
    assert "--pod-network=vxlan" in flags(node(pod_cidrs=pods, pod_network="vxlan"))
    assert "--pod-network" not in flags(node(pod_cidrs=pods, pod_network="none"))
    assert "--pod-network" not in flags(node())
    foreign = "unix:///run/containerd/containerd.sock"
    assert "--pod-network" not in flags(node(pod_cidrs=pods, runtime_endpoint=foreign))


def test_forwarding_of_ipv6_keeps_router_advertisements() -> None:
    names = [*configs.sysctls(server(pod_cidrs=("10.1.0.0/16", "fd01::/48")))]
    assert names.index("net.ipv6.conf.all.accept_ra") < names.index("net.ipv6.conf.all.forwarding")
    assert "net.ipv6.conf.all.forwarding" not in configs.sysctls(server())


def test_modules_are_those_that_are_needed() -> None:
    assert configs.modules(node()) == ("overlay", "br_netfilter", "nf_conntrack", "nf_tables",
                                       "vxlan")  # fmt: skip
    bare = node(proxy=False, pod_network="none", runtime_endpoint="unix:///run/crio/crio.sock")
    assert configs.modules(bare) == ()


@pytest.mark.parametrize("one", [server(), node()])
def test_every_file_says_who_wrote_it(one: NodeInstallation) -> None:
    found = [*configs.rendered(one, MachineFacts()), *units.rendered(one)]
    assert all(each.text.startswith("# Written by `kubeletpy install`") for each in found)
    private = {each.path.name for each in found if each.mode == 0o600}
    assert private == {"runtime.toml", "kubelet.yaml", "proxy.yaml"}


def test_units_are_in_the_form_of_ini_files() -> None:
    for each in units.rendered(server()):
        parser = configparser.RawConfigParser(strict=False)
        parser.read_string(each.text)
        assert "Install" in parser


@pytest.mark.parametrize(
    ("more", "allowed"),
    [((), []), (("192.0.2.0/24", "fd09::/16"), ["192.0.2.0/24", "fd09::/16"]), (("any",), ["any"])],
)
def test_the_dns_answers_only_the_cluster(more: tuple[str, ...], allowed: list[str]) -> None:
    both = server(
        dns_clients=more, pod_cidrs=("10.0.0.0/16", "fd01::/48"), service_cidrs=("10.96.0.0/16",)
    )
    [command] = unit(both, units.DNS)["Service"]["ExecStart"]
    found = [word.partition("=")[2] for word in command.split() if "--allow-from" in word]
    assert found == ["cluster", "10.0.0.0/16", "fd01::/48", *allowed]


STORAGE = {"CAP_DAC_OVERRIDE", "CAP_FOWNER"}


@pytest.mark.parametrize(
    ("asked", "capabilities", "words"),
    [
        ({"storage": False}, set(), set()),
        ({}, STORAGE, set()),
        (
            {"storage": False, "ingress": True}, {"CAP_NET_BIND_SERVICE"},
            {"--ingress-run-dir=/run/kubeletpy-ingress", "--ingress-nginx-user=",
             "--ingress-publish-addresses=192.0.2.7"},
        ),
        (
            {"balancer_pool": ("192.0.2.32/28",), "balancer_link": "eth0"},
            {*STORAGE, "CAP_NET_ADMIN", "CAP_NET_RAW"},
            {"--load-balancer-pool=192.0.2.32/28", "--load-balancer-interface=eth0"},
        ),
        ({"balancer_pool": ("192.0.2.32/28",)}, STORAGE, {"--load-balancer-pool=192.0.2.32/28"}),
    ],
)  # fmt: skip
def test_controllers_have_the_rights_that_their_work_needs(
    asked: dict[str, Any], capabilities: set[str], words: set[str]
) -> None:
    service = unit(server(**asked), units.CONTROLLERS)["Service"]
    for key in ("CapabilityBoundingSet", "AmbientCapabilities"):
        assert set(service[key][0].split()) == capabilities
    assert service["PrivateUsers"] == ["no" if capabilities else "yes"]
    assert ("AF_PACKET" in service["RestrictAddressFamilies"][0]) == bool(
        asked.get("balancer_link")
    )
    assert service.get("RuntimeDirectory") == (
        ["kubeletpy-ingress"] if asked.get("ingress") else None
    )
    [command] = service["ExecStart"]
    assert words <= set(command.split())
    extra = {word for word in command.split() if word.startswith(("--ingress", "--load"))}
    assert extra == words
    named = next(word for word in command.split() if "--controllers=" in word)
    assert ("ingress-controller" in named) == bool(asked.get("ingress"))


@pytest.mark.parametrize(
    ("wanted", "before", "nginx", "free", "message"),
    [
        (False, False, "", True, ""),
        (True, False, "", True, "apt-get install nginx-light"),
        (True, False, "/usr/sbin/nginx", False, "somebody listens on 80, 443"),
        (True, False, "/usr/sbin/nginx", True, ""),
        # They are ours then.
        (True, True, "/usr/sbin/nginx", False, ""),
    ],
)
def test_what_ingresses_need(
    monkeypatch: pytest.MonkeyPatch, wanted: bool, before: bool, nginx: str, free: bool,
    message: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("kubeletpy.install.ingress.shutil.which", lambda *_, **__: nginx or None)
    monkeypatch.setattr("kubeletpy.install.ingress.is_free", lambda _: free)
    previous = server(ingress=True) if before else None
    if not message:
        check_ingress(server(ingress=wanted), previous)
        return
    with pytest.raises(InstallError, match=message):
        check_ingress(server(ingress=wanted), previous)
