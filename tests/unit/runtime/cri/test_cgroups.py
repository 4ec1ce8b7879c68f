"""Where pods' and containers' cgroups are, by driver."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy_common.cgroups import CgroupError
from runtime.config import CgroupSettings, ConfigError, load_config
from runtime.cri.cgroups import container_path, pod_path

SYSTEMD = CgroupSettings(driver="systemd")
CGROUPFS = CgroupSettings()


@pytest.mark.parametrize(
    ("settings", "asked", "pod", "container"),
    [
        (CGROUPFS, "", "/kubeletpy/p1", "/kubeletpy/p1/c1"),
        (CGROUPFS, "/kubepods/pod1/", "/kubepods/pod1", "/kubepods/pod1/c1"),
        (SYSTEMD, "", "/kubeletpy.slice/kubeletpy-podp1.slice", "kubeletpy-c1.scope"),
        (SYSTEMD, "a-b.slice", "/a.slice/a-b.slice", "kubeletpy-c1.scope"),
        (SYSTEMD, "/a.slice/a-b.slice", "/a.slice/a-b.slice", "kubeletpy-c1.scope"),
    ],
)
def test_places(settings: CgroupSettings, asked: str, pod: str, container: str) -> None:
    assert pod_path(settings, asked, "p1") == pod
    wanted = container if container.startswith("/") else f"{pod}/{container}"
    assert container_path(pod, "c1") == wanted


@pytest.mark.parametrize(
    ("settings", "asked"), [(CGROUPFS, "/a.slice"), (SYSTEMD, "/kubepods/pod1"), (SYSTEMD, "/")]
)
def test_a_parent_of_the_other_driver_is_refused(settings: CgroupSettings, asked: str) -> None:
    with pytest.raises(CgroupError, match="slice"):
        pod_path(settings, asked, "p1")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('driver = "docker"', "not cgroupfs or systemd"),
        ('driver = "systemd"\nparent = "/kubeletpy"', "must be a slice"),
        ('driver = "systemd"\nparent = "-.slice"', "must be a path"),
        ('parent = "kubeletpy"', "must be a path"),
    ],
)
def test_settings_that_cannot_work(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f"[cgroups]\n{text}\n")
    with pytest.raises(ConfigError, match=reason):
        load_config(file, {})


def test_the_flag_wins(tmp_path: Path) -> None:
    config = load_config(None, {"cgroups": {"driver": "systemd"}})
    assert config.cgroups.parent_path == "/kubeletpy.slice"
