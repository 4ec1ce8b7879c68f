"""Files, drop-ins, and what the rest of the kubelet gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeletpy.settings import ConfigurationError, Settings
from kubeletpy.settings.configuration import API_VERSION, KIND
from kubeletpy.settings.files import from_document, read, read_file
from kubeletpy_common.settings.documents import merge

HEAD = f"kind: {KIND}\napiVersion: {API_VERSION}\n"


def document(**fields: Any) -> dict[str, Any]:
    return {"kind": KIND, "apiVersion": API_VERSION, **fields}


def test_what_the_kubelet_gets() -> None:
    settings = from_document(document(
        staticPodPath="/m", podLogsDir="/l", containerRuntimeEndpoint="unix:///r", cgroupRoot="/k",
        healthzPort=0, healthzBindAddress="::1", runtimeRequestTimeout="1m30s",
        serializeImagePulls=False, maxParallelImagePulls=4, seccompDefault=True,
        crashLoopBackOff={"maxContainerRestartPeriod": "20s"}, clusterDNS=["10.96.0.10"],
        clusterDomain="cluster.local", resolvConf="", syncFrequency="2m",
    ))  # fmt: skip
    assert settings.static_pod_path == Path("/m")
    assert settings.pod_logs_dir == Path("/l")
    assert (settings.runtime_endpoint, settings.image_endpoint) == ("unix:///r", "")
    assert (settings.cgroup_root, settings.runtime_timeout) == ("/k", 90)
    assert (settings.healthz_address, settings.healthz_port) == ("::1", 0)
    assert (settings.parallel_pulls, settings.crash_loop_maximum) == (4, 20)
    assert (settings.cluster_dns, settings.cluster_domain) == (("10.96.0.10",), "cluster.local")
    assert (settings.resolv_conf, settings.seccomp_default) == ("", True)
    assert settings.unsupported == ()


@pytest.mark.parametrize(
    ("fields", "parallel"),
    [({}, 5), ({"serializeImagePulls": True}, 1), ({"serializeImagePulls": False}, 5),
     ({"maxParallelImagePulls": 9}, 9), ({"maxParallelImagePulls": 1}, 1)],
)  # fmt: skip
def test_parallel_pulls(fields: dict[str, Any], parallel: int) -> None:
    assert from_document(document(**fields)).parallel_pulls == parallel


def test_fields_without_effect_are_listed_if_they_say_something() -> None:
    settings = from_document(document(qosReserved={"memory": "50%"}, readOnlyPort=0, address=""))
    assert settings.unsupported == ("qosReserved",)
    fields = {"tlsCurvePreferences": [23, 29], "logging": {"format": "json", "verbosity": 4}}
    assert from_document(document(**fields)).unsupported == ("tlsCurvePreferences",)
    assert from_document(document(tlsCurvePreferences=[29])).unsupported == ()


def test_feature_gates() -> None:
    settings = from_document(document(featureGates={"MemoryQoS": True}))
    assert settings.feature("MemoryQoS")
    assert settings.feature("NodeSwap")
    assert not Settings().feature("MemoryQoS")
    with pytest.raises(KeyError):
        settings.feature("NoSuch")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "Pod"}, "kind and apiVersion"),
        ({"healthzBindAddress": "localhost"}, "healthzBindAddress: 'localhost'"),
        ({"clusterDNS": ["dns"]}, "clusterDNS: 'dns'"),
        ({"maxPods": -1}, "maxPods"),
    ],
)
def test_what_cannot_be_taken(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        from_document({**document(), **fields})


def test_file_is_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigurationError, match=r"config\.yaml: No such file"):
        read_file(path)
    path.write_text("a: [")
    with pytest.raises(ConfigurationError, match=r"config\.yaml: malformed YAML"):
        read_file(path)
    path.write_text(HEAD + "maxPod: 1\n")
    with pytest.raises(ConfigurationError, match=r"config\.yaml: no such field"):
        read_file(path)


def test_relative_paths_are_those_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        HEAD + "staticPodPath: m\nresolvConf: /r\n"
        "authentication: {x509: {clientCAFile: ca.crt}, anonymous: {enabled: true}}\n"
    )
    settings = read_file(path)
    assert settings.static_pod_path == tmp_path / "m"
    assert settings.resolv_conf == "/r"
    authentication = settings.configuration.authentication
    assert authentication.x509.client_ca_file == str(tmp_path / "ca.crt")
    assert authentication.anonymous.enabled


def test_drop_ins_are_merged_in_order(tmp_path: Path) -> None:
    base, folder = tmp_path / "config.yaml", tmp_path / "config.d"
    (folder / "20-sub").mkdir(parents=True)
    base.write_text(
        HEAD + "maxPods: 1\nevictionHard: {memory.available: 1Gi}\nclusterDNS: ['::1']\n"
    )
    (folder / "10-a.conf").write_text(HEAD + "maxPods: 2\nevictionHard: {nodefs.available: 1%}\n")
    (folder / "20-sub" / "z.conf").write_text(HEAD + "maxPods: 3\nclusterDNS: ['::2']\n")
    (folder / "30-b.conf").write_text(HEAD + "evictionHard: {memory.available: null}\n")
    (folder / "40-b.yaml").write_text("no configuration")
    settings = read(base, folder, {"port": 7})
    one = settings.configuration
    assert (one.max_pods, one.port, one.cluster_dns) == (3, 7, ["::2"])
    assert one.eviction_hard == {"nodefs.available": "1%"}
    assert {"maxPods", "port", "clusterDNS"} <= settings.given


@pytest.mark.parametrize(
    ("text", "match"),
    [("maxPods: 1\n", "kind and apiVersion"), (HEAD + "maxPod: 1\n", "no such field"),
     (HEAD + "maxPods: x\n", "maxPods")],
)  # fmt: skip
def test_bad_drop_ins_are_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "a.conf").write_text(text)
    with pytest.raises(ConfigurationError, match=rf"a\.conf: .*{match}"):
        read(None, tmp_path, {})


def test_missing_directory_of_drop_ins(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--config-dir"):
        read(None, tmp_path / "none", {})


def test_merge_patch() -> None:
    target = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(target, {"a": {"b": None}, "d": [2], "e": {"f": None}}) == {
        "a": {"c": 2}, "d": [2], "e": {},
    }  # fmt: skip
