"""CNI configurations, what plugins are told, and what is made of their answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.network.cni.attachment import (
    Record,
    arguments,
    capability_arguments,
    plugin_input,
    read_result,
    unserved,
)
from runtime.network.cni.cache import Cache
from runtime.network.cni.configuration import NetworkList, candidates, load, negotiate, parse
from runtime.network.cni.errors import CniError
from runtime.network.errors import NetworkError
from runtime.network.request import Bandwidth, Dns, PodFacts, PortMapping, Protocol

PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True, "dns": False}, "snat": True}
BRIDGE = {"type": "bridge", "bridge": "cni0", "ipam": {"type": "host-local"}}


def conflist(**fields: Any) -> str:
    return json.dumps(
        {"cniVersion": "1.0.0", "name": "pods", "plugins": [BRIDGE, PORTMAP], **fields}
    )


def network(**fields: Any) -> NetworkList:
    return parse(conflist(**fields), "10-pods.conflist")


def test_configuration_list() -> None:
    found = network()
    assert (found.name, found.version, found.types) == ("pods", "1.0.0", ("bridge", "portmap"))
    assert (found.check, found.collect) == (True, True)
    assert (found.has("1.0.0"), found.has("1.1.0")) == (True, False)
    assert NetworkList.from_record(json.loads(json.dumps(found.to_record()))) == found


def test_a_single_plugins_file_is_a_list_of_one() -> None:
    found = parse(json.dumps({"cniVersion": "0.4.0", "name": "pods", **BRIDGE}), "x.conf")
    assert found.types == ("bridge",)
    assert "disableCheck" not in plugin_input(found, found.plugins[0])


@pytest.mark.parametrize("value", [True, "true", "True"])
def test_flags_may_be_text(value: object) -> None:
    assert not network(disableCheck=value).check
    assert not network(disableGC=value).collect


def test_versions_are_negotiated() -> None:
    assert negotiate("1.0.0", []) == "1.0.0"
    assert negotiate("1.0.0", ["0.4.0", "1.1.0", "9.0.0"]) == "1.1.0"
    assert network(cniVersions=["1.0.0", "1.1.0"]).version == "1.1.0"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "no JSON"),
        ("[]", "no JSON object"),
        (conflist(name=""), "name ''"),
        (conflist(name="../x"), "name"),
        (conflist(plugins=[]), "no list with a plugin"),
        (conflist(plugins=[{"type": "../../bin/sh"}]), "no name of a program"),
        (conflist(plugins=[{"type": ".."}]), "no name of a program"),
        (conflist(plugins=["bridge"]), "no name of a program"),
        (conflist(plugins=[{"type": "a", "capabilities": []}]), "capabilities"),
        (conflist(cniVersion="0.2.0"), "0.2.0"),
        (conflist(cniVersion="2.0.0"), "2.0.0"),
        (conflist(disableCheck="maybe"), "disableCheck"),
    ],
)
def test_what_is_wrong_names_the_file(text: str, words: str) -> None:
    with pytest.raises(NetworkError, match=r"^CNI configuration there\.conflist: ") as raised:
        parse(text, "there.conflist")
    assert words in str(raised.value)


def test_the_first_file_counts(tmp_path: Path) -> None:
    assert load(tmp_path / "missing") is None
    assert load(tmp_path) is None
    for name in ("20-b.conf", "30-c.json", ".05-hidden.conflist", "00-notes.txt"):
        (tmp_path / name).write_text("{")
    (tmp_path / "10-a.conflist").write_text(conflist())
    assert [path.name for path in candidates(tmp_path)] == ["10-a.conflist", "20-b.conf",
                                                            "30-c.json"]  # fmt: skip
    found = load(tmp_path)
    assert found is not None
    assert found.source == str(tmp_path / "10-a.conflist")
    (tmp_path / "10-a.conflist").write_text("{")
    with pytest.raises(NetworkError, match=r"10-a\.conflist"):
        load(tmp_path)


FACTS = PodFacts(
    "web", "shop", "uid-1",
    ports=(PortMapping(Protocol.TCP, 8080, 80, "192.0.2.1"),),
    bandwidth=Bandwidth(ingress=10**6),
    dns=Dns(servers=("10.96.0.10",), options=("ndots:5",)),
    cgroup="/kubepods/pod1",
)  # fmt: skip


def test_capabilities_go_to_plugins_that_declare_them() -> None:
    everything = capability_arguments(FACTS, ["10.1.0.0/24", "fd01::/64"])
    assert everything == {
        "portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}
        ],
        "bandwidth": {"ingressRate": 10**6, "ingressBurst": (1 << 31) - 1},
        "dns": {"servers": ["10.96.0.10"], "options": ["ndots:5"]},
        "ipRanges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]],
        "cgroupPath": "/kubepods/pod1",
    }
    assert plugin_input(network(), PORTMAP, capabilities=everything, previous={"ips": []}) == {
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": "portmap",
        "snat": True,
        "runtimeConfig": {"portMappings": everything["portMappings"]},
        "prevResult": {"ips": []},
    }
    assert "runtimeConfig" not in plugin_input(network(), BRIDGE, capabilities=everything)
    assert unserved(network(), everything) == ["bandwidth"]
    assert capability_arguments(PodFacts(), []) == {}


def test_valid_attachments() -> None:
    given = plugin_input(network(), BRIDGE, valid_attachments=["b", "a"])
    assert given["cni.dev/valid-attachments"] == [
        {"containerID": "a", "ifname": "eth0"}, {"containerID": "b", "ifname": "eth0"},
    ]  # fmt: skip


def test_arguments() -> None:
    assert arguments("id", FACTS) == (
        "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;"
        "K8S_POD_INFRA_CONTAINER_ID=id;K8S_POD_UID=uid-1"
    )
    with pytest.raises(NetworkError, match="K8S_POD_NAME"):
        arguments("id", PodFacts("web;K8S_POD_NAMESPACE=kube-system"))


INSIDE = {"name": "eth0", "sandbox": "/ns", "mac": "0a:00:00:00:00:01", "mtu": 1400}
RESULT: dict[str, Any] = {
    "interfaces": [{"name": "cni0"}, {"name": "veth1"}, INSIDE],
    "ips": [
        {"address": "fd01::5/64", "interface": 2, "gateway": "fd01::1"},
        {"address": "10.1.0.5/24", "interface": 2, "gateway": "10.1.0.1"},
        {"address": "10.9.0.1/24", "interface": 0},
    ],
}


def test_result() -> None:
    attachment = read_result(RESULT)
    assert attachment.ips == ["10.1.0.5", "fd01::5"]
    assert attachment.gateways == ["10.1.0.1", "fd01::1"]
    assert (attachment.mac, attachment.mtu) == ("0a:00:00:00:00:01", 1400)
    assert read_result({"ips": [{"address": "10.1.0.5/24"}]}).ips == ["10.1.0.5"]


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({}, "no address"),
        ({"ips": [], "interfaces": None}, "no address"),
        ({"ips": [{"address": "10.1.0.5/24", "interface": 7}]}, "no address"),
        ({"ips": [{"address": "ten"}]}, "malformed"),
        ({"ips": [{}]}, "malformed"),
        ({"ips": ["10.1.0.5/24"]}, "malformed"),
        ({"interfaces": ["eth0"]}, "malformed"),
    ],
)
def test_results_that_cannot_be_used(result: dict[str, Any], words: str) -> None:
    with pytest.raises(NetworkError, match=words):
        read_result(result)


def test_errors_name_plugin_and_code() -> None:
    assert str(CniError("bridge", "ADD", 11, "busy")) == (
        "CNI plugin bridge failed at ADD with code 11 (try again later): busy"
    )
    assert str(CniError("bridge", "DEL", 999, "x")) == (
        "CNI plugin bridge failed at DEL with code 999: x"
    )


def test_records_survive_and_broken_ones_are_set_aside(tmp_path: Path) -> None:
    record = Record("pod1", "/ns", network(), "A=1", {"dns": {}}, RESULT)
    cache = Cache(tmp_path / "cni")
    cache.put(record)
    (tmp_path / "cni/pod2.json").write_text("{")
    (tmp_path / "cni/pod3.json").write_text((tmp_path / "cni/pod1.json").read_text())
    again = Cache(tmp_path / "cni")
    assert again.all() == [record]
    again.drop("pod1")
    again.drop("pod1")
    assert Cache(tmp_path / "cni").all() == []
    left = sorted(path.name for path in (tmp_path / "cni").iterdir())
    assert left == ["pod2.broken", "pod3.broken"]
