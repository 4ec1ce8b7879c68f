"""KubeProxyConfiguration: every default and every refusal of the Go kube-proxy; flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.settings.durations import ConfigurationError
from proxy.settings import Settings
from proxy.settings.configuration import (
    API_VERSION,
    FIELDS,
    KIND,
    KubeProxyConfiguration,
    encode,
    split_address,
    with_port,
)
from proxy.settings.flags import FIELDS as FLAGS
from proxy.settings.flags import NO_EFFECT, PORTS, settings_of_flags
from proxy.settings.settings import settings_of
from proxy.settings.validation import UNSUPPORTED


def of_file(**fields: Any) -> Settings:
    return settings_of(fields, {})


def of_flags(**flags: Any) -> Settings:
    return settings_of_flags(None, {name.replace("_", "-"): text for name, text in flags.items()})


def test_defaults_are_the_peers() -> None:
    assert encode(of_file().configuration) == {
        "kind": KIND,
        "apiVersion": API_VERSION,
        "featureGates": {},
        "clientConnection": {
            "kubeconfig": "", "acceptContentTypes": "", "burst": 10, "qps": 5.0,
            "contentType": "application/vnd.kubernetes.protobuf",
        },
        "logging": {
            "format": "text", "flushFrequency": "5s", "verbosity": 0, "vmodule": [],
            "options": {
                "text": {"splitStream": False, "infoBufferSize": "0"},
                "json": {"splitStream": False, "infoBufferSize": "0"},
            },
        },
        "hostnameOverride": "",
        "bindAddress": "0.0.0.0",
        "healthzBindAddress": "0.0.0.0:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "bindAddressHardFail": False,
        "enableProfiling": False,
        "showHiddenMetricsForVersion": "",
        "mode": "iptables",
        "iptables": {
            "masqueradeBit": 14, "masqueradeAll": False, "localhostNodePorts": True,
            "syncPeriod": "30s", "minSyncPeriod": "1s",
        },
        "ipvs": {
            "syncPeriod": "30s", "minSyncPeriod": "0s", "scheduler": "", "excludeCIDRs": [],
            "strictARP": False, "tcpTimeout": "0s", "tcpFinTimeout": "0s", "udpTimeout": "0s",
        },
        "nftables": {
            "masqueradeBit": 14, "masqueradeAll": False, "syncPeriod": "30s",
            "minSyncPeriod": "1s",
        },
        "winkernel": {
            "networkName": "", "sourceVip": "", "enableDSR": False, "rootHnsEndpointName": "",
            "forwardHealthCheckVip": False,
        },
        "detectLocalMode": "ClusterCIDR",
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""},
        "clusterCIDR": "",
        "nodePortAddresses": [],
        "oomScoreAdj": -999,
        "conntrack": {
            "maxPerCore": 32768, "min": 131072, "tcpEstablishedTimeout": "24h0m0s",
            "tcpCloseWaitTimeout": "1h0m0s", "tcpBeLiberal": False, "udpTimeout": "0s",
            "udpStreamTimeout": "0s",
        },
        "configSyncPeriod": "15m0s",
        "portRange": "",
        "windowsRunAsService": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "name", "expected"),
    [
        ({"bindAddress": "fd00::1"}, "healthz_bind_address", "[::]:10256"),
        ({"bindAddress": "::"}, "metrics_bind_address", "[::1]:10249"),
        ({"healthzBindAddress": "10.0.0.1"}, "healthz_bind_address", "10.0.0.1:10256"),
        ({"metricsBindAddress": "::1"}, "metrics_bind_address", "[::1]:10249"),
        ({"metricsBindAddress": "0.0.0.0:1"}, "metrics_bind_address", "0.0.0.0:1"),
        ({"mode": "nftables"}, "node_port_addresses", ["primary"]),
        ({"mode": "nftables", "nodePortAddresses": ["10.0.0.0/8"]}, "node_port_addresses",
         ["10.0.0.0/8"]),
        ({"configSyncPeriod": "0s"}, "config_sync_period", 900),
        ({"hostnameOverride": " Here "}, "hostname_override", "here"),
        ({"clientConnection": None}, "mode", "iptables"),
        ({"oomScoreAdj": 0}, "oom_score_adj", 0),
    ],
)  # fmt: skip
def test_what_a_file_leaves_open(fields: dict[str, Any], name: str, expected: object) -> None:
    assert getattr(of_file(**fields).configuration, name) == expected


def test_zero_in_a_file_means_the_default_and_in_a_flag_zero() -> None:
    one = of_file(iptables={"minSyncPeriod": "0s", "syncPeriod": "0s"}).configuration.iptables
    assert [float(each) for each in (one.min_sync_period, one.sync_period)] == [1, 30]
    zero = of_flags(iptables_min_sync_period="0s").configuration.pace.min_sync_period
    assert float(zero) == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"nonsense": 1}, "no such field of KubeProxyConfiguration: nonsense"),
        ({"iptables": {"nonsense": 1}}, "no such field of iptables: nonsense"),
        ({"mode": 1}, "mode: Expected `str`"),
        ({"iptables": {"syncPeriod": "soon"}}, "'soon' is no duration"),
        ({"mode": "userspace"}, "mode: 'userspace' must be iptables or nftables, or blank"),
        ({"mode": "ipvs"}, "there is no mode ipvs"),
        ({"iptables": {"masqueradeBit": 32}}, "iptables.masqueradeBit: 32 must be within"),
        ({"nftables": {"masqueradeBit": -1}}, "nftables.masqueradeBit: -1 must be within"),
        ({"oomScoreAdj": 1001}, "oomScoreAdj: 1001"),
        ({"configSyncPeriod": "-1s"}, "configSyncPeriod: -1s must be greater than 0"),
        ({"iptables": {"syncPeriod": "-1s"}}, "iptables.syncPeriod: -1s must be greater than 0"),
        ({"iptables": {"minSyncPeriod": "-1s"}}, "minSyncPeriod: -1s must not be negative"),
        ({"iptables": {"minSyncPeriod": "31s"}}, "syncPeriod: 30s must not be shorter"),
        ({"mode": "nftables", "nftables": {"minSyncPeriod": "31s"}}, "nftables.syncPeriod"),
        ({"bindAddress": "here"}, "bindAddress: 'here' is no IP address"),
        ({"healthzBindAddress": "here:1"}, "healthzBindAddress: 'here:1': 'here' is no IP"),
        ({"healthzBindAddress": "1.2.3.4:0"}, "must be IP:port"),
        ({"metricsBindAddress": "fd00::1:70000"}, "metricsBindAddress: 'fd00::1:70000' must be"),
        ({"nodePortAddresses": ["primary", "10.0.0.0/8"]}, "can't use both 'primary' and CIDRs"),
        ({"nodePortAddresses": ["10.0.0.0/8", "primary"]}, "can't use both 'primary' and CIDRs"),
        ({"nodePortAddresses": ["10.0.0.1"]}, "'10.0.0.1' must be a valid CIDR"),
        ({"conntrack": {"maxPerCore": -1}}, "conntrack.maxPerCore: -1"),
        ({"conntrack": {"min": -1}}, "conntrack.min: -1"),
        ({"conntrack": {"udpTimeout": "-1s"}}, "conntrack.udpTimeout: -1s"),
        ({"clientConnection": {"burst": -1}}, "clientConnection.burst: -1"),
        ({"detectLocalMode": "Guess"}, "detectLocalMode: 'Guess' must be ClusterCIDR"),
        ({"detectLocalMode": "BridgeInterface"}, "bridgeInterface: must not be empty"),
        ({"detectLocalMode": "InterfaceNamePrefix"}, "interfaceNamePrefix: must not be empty"),
        ({"detectLocal": {"bridgeInterface": "a b"}}, "'a b' is no name of an interface"),
        ({"detectLocal": {"bridgeInterface": "a" * 16}}, "is no name of an interface"),
        ({"clusterCIDR": "10.0.0.1"}, "clusterCIDR: '10.0.0.1' must be a valid CIDR"),
        ({"clusterCIDR": "10.0.0.0/8,10.1.0.0/16"}, "must be one CIDR, or one of each family"),
        ({"featureGates": {"Nonsense": True}}, "unrecognized feature gate: Nonsense"),
        ({"featureGates": {"NFTablesProxyMode": False}}, "locked to true"),
        ({"showHiddenMetricsForVersion": "x"}, "showHiddenMetricsForVersion"),
        ({"logging": {"format": "xml"}}, "logging.format: 'xml'"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        of_file(**fields)
    assert reason in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigurationError, match=r"mode: 'x'.*; .*oomScoreAdj"):
        of_file(mode="x", oomScoreAdj=5000)


def test_what_has_no_effect_is_told_if_it_says_something() -> None:
    assert UNSUPPORTED.keys() <= FIELDS.keys()
    found = of_file(ipvs={"scheduler": "rr"}, winkernel={}, enableProfiling=True).unsupported
    assert set(found) == {"ipvs", "enableProfiling"}
    assert of_file(logging={"verbosity": 5}).unsupported == {}


def test_every_flag_sets_a_field_that_there_is() -> None:
    assert {path.split(".")[0] for path, _ in FLAGS.values()} <= FIELDS.keys()
    assert not FLAGS.keys() & PORTS.keys()
    assert not (FLAGS.keys() | PORTS.keys()) & NO_EFFECT


@pytest.mark.parametrize(
    ("flags", "field", "expected"),
    [
        ({"proxy_mode": "nftables"}, "mode", "nftables"),
        ({"nodeport_addresses": ("10.0.0.0/8,fd00::/8",)}, "node_port_addresses",
         ["10.0.0.0/8", "fd00::/8"]),
        ({"cluster_cidr": "10.0.0.0/8, fd00::/8"}, "cluster_cidrs", ["10.0.0.0/8", "fd00::/8"]),
        ({"healthz_port": "0"}, "healthz_bind_address", ""),
        ({"healthz_port": "5"}, "healthz_bind_address", "0.0.0.0:5"),
        ({"metrics_port": "5"}, "metrics_bind_address", "127.0.0.1:5"),
        ({"metrics_bind_address": ""}, "metrics_bind_address", ""),
        ({"metrics_bind_address": "10.0.0.1", "metrics_port": "7"}, "metrics_bind_address",
         "10.0.0.1:7"),
        ({"oom_score_adj": "-5"}, "oom_score_adj", -5),
        ({"bind_address_hard_fail": "true"}, "bind_address_hard_fail", True),
        ({"feature_gates": ("AllowServiceExternalIPs=false",)}, "feature_gates",
         {"AllowServiceExternalIPs": False}),
    ],
)  # fmt: skip
def test_flags(flags: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(of_flags(**flags).configuration, field) == expected


def test_flags_of_iptables_count_in_both_modes() -> None:
    one = of_flags(
        proxy_mode="nftables", masquerade_all="true", iptables_sync_period="9s",
        iptables_min_sync_period="3s",
    ).configuration  # fmt: skip
    assert one.pace.masquerade_all
    assert [float(each) for each in (one.pace.sync_period, one.pace.min_sync_period)] == [9, 3]


@pytest.mark.parametrize(
    "flags",
    [
        {"healthz_port": "x"}, {"hostname_override": " "}, {"kube_api_qps": "x"},
        {"masquerade_all": "maybe"}, {"proxy_mode": "ipvs"}, {"conntrack_min": "x"},
    ],
)  # fmt: skip
def test_bad_flags_name_themselves(flags: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        of_flags(**flags)


def test_beside_a_file_flags_do_not_count_but_for_the_name_and_the_log(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"kind: {KIND}\napiVersion: {API_VERSION}\nmode: nftables\n")
    given = {"proxy-mode": "iptables", "hostname-override": "there", "v": "5"}
    found = settings_of_flags(path, given | {"metrics-port": "1"})
    one = found.configuration
    assert (one.mode, one.hostname_override, one.logging.verbosity) == ("nftables", "there", 5)
    assert found.overridden == ("metrics-port", "proxy-mode")
    assert found.config_file == path


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("kind: Pod\napiVersion: v1\n", "kind and apiVersion must be KubeProxyConfiguration"),
        (f"kind: {KIND}\napiVersion: {API_VERSION}\nnonsense: 1\n", "no such field"),
        ("[", "malformed YAML"),
    ],
)
def test_a_file_that_cannot_be_taken_is_named(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=reason) as caught:
        settings_of_flags(path, {})
    assert str(path) in str(caught.value)


def test_the_switch_of_external_addresses() -> None:
    assert of_file().external_ips
    assert not of_file(featureGates={"AllowServiceExternalIPs": False}).external_ips


def test_what_is_shown_can_be_read_again() -> None:
    document = encode(of_file(mode="nftables", clusterCIDR="10.0.0.0/8").configuration)
    del document["kind"], document["apiVersion"]
    assert isinstance(of_file(**document).configuration, KubeProxyConfiguration)
    assert encode(of_file(**document).configuration)["clusterCIDR"] == "10.0.0.0/8"


def test_addresses() -> None:
    assert split_address("10.0.0.1:5") == ("10.0.0.1", 5)
    assert split_address("[::1]:5") == ("::1", 5)
    assert with_port("nonsense", 5) == "nonsense"
