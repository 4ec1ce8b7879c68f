"""Flags: what each sets, and that they win."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kubeletpy.kubelet_main import main
from kubeletpy.settings import ConfigurationError
from kubeletpy.settings.configuration import API_VERSION, FIELDS, KIND
from kubeletpy.settings.flags import FIELDS as FLAGS
from kubeletpy.settings.flags import NO_EFFECT, OWN, settings_of
from kubeletpy_common.settings.flags import value_of
from kubeletpy_common.settings.values import addresses

HEAD = f"kind: {KIND}\napiVersion: {API_VERSION}\n"


def test_every_flag_is_in_one_table_and_sets_a_field_that_there_is() -> None:
    assert not FLAGS.keys() & OWN.keys()
    assert not (FLAGS.keys() | OWN.keys()) & NO_EFFECT
    assert {path.split(".")[0] for path, _ in FLAGS.values()} <= FIELDS.keys()


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("fail-swap-on", "false", False), ("fail-swap-on", "T", True), ("max-pods", "7", 7),
        ("sync-frequency", "90s", "1m30s"),
        ("cluster-dns", ("::1,::2", "::3"), ["::1", "::2", "::3"]),
        ("kube-reserved", ("cpu=1,memory=2Gi",), {"cpu": "1", "memory": "2Gi"}),
        ("eviction-hard", ("memory.available<1Gi",), {"memory.available": "1Gi"}),
        ("eviction-hard", ("",), {}),
        ("feature-gates", ("A=true,B=false",), {"A": True, "B": False}),
        ("manifest-url-header", ("a:x,b:y", "a:z"), {"a": ["x", "z"], "b": ["y"]}),
        ("cpu-manager-policy-options", ("a=b,c",), {"a": "b,c"}),
        ("register-with-taints", ("a=b:NoSchedule,c:NoExecute",),
         [{"key": "a", "value": "b", "effect": "NoSchedule"},
          {"key": "c", "value": "", "effect": "NoExecute"}]),
        ("reserved-memory", ("0:memory=1Gi,hugepages-1Gi=2Gi", "1:memory=1Gi"),
         [{"numaNode": 0, "limits": {"memory": "1Gi", "hugepages-1Gi": "2Gi"}},
          {"numaNode": 1, "limits": {"memory": "1Gi"}}]),
    ],
)  # fmt: skip
def test_values(flag: str, text: Any, value: object) -> None:
    assert value_of(flag, FLAGS[flag][1], text) == value


@pytest.mark.parametrize(
    ("flag", "text"),
    [("max-pods", "x"), ("fail-swap-on", "maybe"), ("sync-frequency", "1"),
     ("kube-reserved", ("cpu",)), ("register-with-taints", ("a=b",)),
     ("reserved-memory", ("x:m=1",)),
     ("manifest-url-header", ("a",)), ("cpu-manager-policy-options", ("a",))],
)  # fmt: skip
def test_bad_values_name_the_flag(flag: str, text: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"^--{flag}: "):
        value_of(flag, FLAGS[flag][1], text)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        HEAD + "healthzPort: 1\nstaticPodPath: /f\nmaxParallelImagePulls: 3\n"
        "featureGates: {MemoryQoS: true, NodeLogQuery: true}\n"
        "evictionHard: {nodefs.available: 1%}\n"
    )
    given = {
        "healthz-port": "2", "node-ip": "::1", "feature-gates": ("MemoryQoS=false",),
        "anonymous-auth": "true", "eviction-hard": ("memory.available<1Gi",),
    }  # fmt: skip
    settings = settings_of(path, None, given)
    one = settings.configuration
    assert (settings.healthz_port, settings.static_pod_path) == (2, Path("/f"))
    assert settings.node_ips == ("::1",)
    assert one.feature_gates == {"MemoryQoS": False, "NodeLogQuery": True}
    assert one.authentication.anonymous.enabled
    assert one.authentication.webhook.enabled
    assert one.eviction_hard == {"memory.available": "1Gi"}
    assert settings.parallel_pulls == 3


def test_a_zero_of_a_flag_is_a_zero() -> None:
    assert settings_of(None, None, {"registry-burst": "0"}).configuration.registry_burst == 0
    with pytest.raises(ConfigurationError, match="port"):
        settings_of(None, None, {"port": "0"})


def test_own_flags() -> None:
    settings = settings_of(None, None, {
        "kubeconfig": "/k", "bootstrap-kubeconfig": "/b", "cert-dir": "/c", "root-dir": "/r",
        "hostname-override": "n", "node-labels": ("a=b,node.kubernetes.io/x=y", "c="),
        "cloud-provider": "external", "minimum-container-ttl-duration": "1m",
        "experimental-allocatable-ignore-eviction": "true",
    })  # fmt: skip
    assert (settings.kubeconfig, settings.bootstrap_kubeconfig) == (Path("/k"), Path("/b"))
    assert (settings.cert_dir, settings.root_dir, settings.node_name) == (
        Path("/c"), Path("/r"), "n",
    )  # fmt: skip
    assert settings.node_labels == (("a", "b"), ("node.kubernetes.io/x", "y"), ("c", ""))
    assert (settings.cloud_provider, settings.container_minimum_age) == ("external", 60)
    assert settings.ignore_eviction_in_allocatable
    assert not settings.standalone


@pytest.mark.parametrize(
    ("text", "found"),
    [("10.0.0.1", ("10.0.0.1",)), ("10.0.0.1,fd::1", ("10.0.0.1", "fd::1")), ("", ())],
)
def test_addresses(text: str, found: tuple[str, ...]) -> None:
    assert addresses(text, "x") == found


@pytest.mark.parametrize("text", ["10.0.0.1,10.0.0.2", "node", "fd::1,10.0.0.1,fd::2"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(ConfigurationError):
        addresses(text, "--node-ip")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--bootstrap-kubeconfig", "x"], "--bootstrap-kubeconfig needs --kubeconfig"),
        (["--healthz-port", "-1"], "--healthz-port"),
        (["--healthz_port=-1"], "--healthz-port"),
        (["--root-dir", "relative"], "not an absolute path"),
        (["--pod-logs-dir", "relative"], "not an absolute path"),
        (["--node-ip", "x"], "--node-ip"),
        (["--node-labels", "kubernetes.io/x=y"], "--node-labels: 'kubernetes.io/x'"),
        (["--node-labels", "a=b c"], "--node-labels: 'a': value 'b c'"),
        (["--cloud-provider", "aws"], "--cloud-provider: 'aws' must be external"),
        (["--fail-swap-on=maybe"], "--fail-swap-on: 'maybe'"),
        (["--runonce"], "runOnce"),
    ],
)
def test_bad_flags_are_one_line(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert text in result.output
    assert len(result.output.strip().splitlines()) == 1
