from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from kubeletpy.config import (
    API_VERSION,
    KIND,
    ConfigurationError,
    Settings,
    addresses,
    duration,
    from_document,
    read_file,
)
from kubeletpy.kubelet_main import main, settings_of


def document(**fields: Any) -> dict[str, Any]:
    return {"kind": KIND, "apiVersion": API_VERSION, **fields}


def test_fields_that_are_honoured() -> None:
    settings = from_document(document(
        staticPodPath="/m", podLogsDir="/l", containerRuntimeEndpoint="unix:///r", cgroupRoot="/k",
        healthzPort=0, healthzBindAddress="::1", runtimeRequestTimeout="1m30s",
        serializeImagePulls=False, maxParallelImagePulls=4, seccompDefault=True,
        crashLoopBackOff={"maxContainerRestartPeriod": "20s"}, clusterDNS=["10.96.0.10"],
        clusterDomain="cluster.local", resolvConf="", syncFrequency="1m",
    ))  # fmt: skip
    assert settings == Settings(
        static_pod_path=Path("/m"), pod_logs_dir=Path("/l"), runtime_endpoint="unix:///r",
        cgroup_root="/k", healthz_port=0, healthz_address="::1", runtime_timeout=90.0,
        parallel_pulls=4, seccomp_default=True, crash_loop_maximum=20.0,
        cluster_dns=("10.96.0.10",), cluster_domain="cluster.local", resolv_conf="",
    )  # fmt: skip


def test_known_fields_that_are_not_honoured_are_listed() -> None:
    settings = from_document(document(maxPods=10, evictionHard={"memory.available": "1Gi"}))
    assert settings.unsupported == ("evictionHard", "maxPods")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"maxPod": 1}, "no such field of KubeletConfiguration: maxPod"),
        ({"healthzPort": 70000}, "healthzPort: 70000"),
        ({"healthzPort": "1"}, "healthzPort: '1' is not of type int"),
        ({"healthzPort": True}, "healthzPort: True is not of type int"),
        ({"healthzBindAddress": "localhost"}, "healthzBindAddress: 'localhost'"),
        ({"runtimeRequestTimeout": "90"}, "runtimeRequestTimeout: '90' is no duration"),
        ({"cgroupDriver": "systemd"}, "cgroupDriver: 'systemd'"),
        ({"crashLoopBackOff": {"x": 1}}, "no such field of crashLoopBackOff: x"),
        ({"crashLoopBackOff": {"maxContainerRestartPeriod": "1h"}}, "between 1 s and 300 s"),
        ({"serializeImagePulls": True, "maxParallelImagePulls": 2}, "maxParallelImagePulls"),
        ({"clusterDNS": ["dns"]}, "clusterDNS: 'dns'"),
        ({"kind": "Pod"}, "kind and apiVersion"),
    ],
)
def test_fields_that_cannot_be_taken(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text.replace("(", r"\(")):
        from_document({**document(), **fields})


def test_file_is_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    with pytest.raises(ConfigurationError, match=r"config\.yaml: No such file"):
        read_file(path)
    path.write_text("a: [")
    with pytest.raises(ConfigurationError, match=r"config\.yaml: malformed YAML"):
        read_file(path)
    path.write_text(f"kind: {KIND}\napiVersion: {API_VERSION}\nstaticPodPath: /m\n")
    assert read_file(path).static_pod_path == Path("/m")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1m30s", 90.0), ("1h", 3600.0), ("500ms", 0.5), ("0", 0.0), (0, 0.0)]
)
def test_durations(text: object, seconds: float) -> None:
    assert duration(text, "x") == seconds


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


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(f"kind: {KIND}\napiVersion: {API_VERSION}\nhealthzPort: 1\nstaticPodPath: /f\n")
    settings = settings_of(path, {"healthz_port": 2, "pod_manifest_path": None, "node_ip": "::1"})
    assert (settings.healthz_port, settings.static_pod_path) == (2, Path("/f"))
    assert settings.node_ips == ("::1",)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--bootstrap-kubeconfig", "x"], "joining by a token comes with a later release"),
        (["--healthz-port", "-1"], "--healthz-port: -1"),
        (["--root-dir", "relative"], "not an absolute path"),
        (["--node-ip", "x"], "--node-ip"),
    ],
)
def test_bad_flags_are_one_line(arguments: list[str], text: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert text in result.output
    assert len(result.output.strip().splitlines()) == 1
