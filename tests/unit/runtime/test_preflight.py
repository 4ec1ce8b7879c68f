"""The checks before the start."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from runtime import preflight
from runtime.cli import main
from runtime.preflight import MissingRequirementError, Requirement


@pytest.mark.parametrize(
    ("requirement", "ok"),
    [
        (preflight.check_root(0), True),
        (preflight.check_root(1000), False),
        (preflight.check_capabilities("CapEff:\t000001fffeffffff\n"), True),
        (preflight.check_capabilities("CapEff:\t00000000a80425fb\n"), False),
        (preflight.check_capabilities(""), False),
        (preflight.check_kernel("6.18.44-fc"), True),
        (preflight.check_kernel("5.12.0"), True),
        (preflight.check_kernel("5.10.0-30-amd64"), False),
        (preflight.check_kernel("odd"), False),
        (preflight.check_python((3, 11)), True),
        (preflight.check_python((3, 10)), False),
        (preflight.check_overlayfs("nodev\tsysfs\nnodev\toverlay\n"), True),
        (preflight.check_overlayfs("nodev\tsysfs\n\text4\n"), False),
        (preflight.check_overlayfs("", "kernel/fs/overlayfs/overlay.ko:\n"), True),
        (preflight.check_overlayfs("", "kernel/fs/overlayfs/overlay.ko.xz: kernel/a.ko\n"), True),
        (preflight.check_overlayfs("", "kernel/x.ko: kernel/fs/overlayfs/overlay.ko\n"), False),
        (preflight.check_namespaces({"mnt", "net", "pid", "ipc", "uts", "cgroup"}), True),
        (preflight.check_namespaces({"mnt", "net"}), False),
        (preflight.check_program("iptables", "/sbin/iptables-restore", "iptables"), True),
        (preflight.check_program("iptables", None, "iptables"), False),
        (preflight.check_disk(Path("/x"), lambda path: "ext4"), True),
        (preflight.check_disk(Path("/x"), lambda path: ""), True),
        (preflight.check_disk(Path("/x"), lambda path: "overlay"), False),
        (preflight.check_disk(Path("/x"), lambda path: "nfs4"), False),
        (preflight.check_disk(Path("/x"), lambda path: "x" * os.stat("/nothing").st_size), False),
        (preflight.check_seccomp(lambda: 1), True),
        (preflight.check_seccomp(lambda: os.stat("/nothing/here")), False),
        (preflight.check_cgroups("/nothing/here"), False),
    ],
)
def test_checks(requirement: Requirement, ok: bool) -> None:
    assert requirement.ok is ok
    assert requirement.detail
    assert ok or requirement.remedy


def test_a_missing_thing_is_one_line_with_its_remedy() -> None:
    found = [preflight.check_root(0), preflight.check_root(5), preflight.check_overlayfs("")]
    with pytest.raises(MissingRequirementError) as caught:
        preflight.require(found)
    text = str(caught.value)
    assert "\n" not in text
    assert "sudo" in text
    assert "modprobe overlay" in text
    preflight.require([preflight.check_root(0)])


def test_check_prints_json_for_the_doctor() -> None:
    result = CliRunner().invoke(main, ["--check", "-o", "json"])
    items = json.loads(result.output)
    assert {"root", "overlayfs", "cgroups", "iptables", "libseccomp"} <= {
        item["name"] for item in items
    }
    assert all(set(item) == {"name", "ok", "detail", "remedy"} for item in items)
    assert result.exit_code == (0 if all(item["ok"] for item in items) else 1)


def test_help_teaches() -> None:
    result = CliRunner().invoke(main, ["--help"])
    for words in ("--address", "unix:///run/kubeletpy/runtime.sock", "SIGTERM", "allowed_unsafe"):
        assert words in result.output


def test_a_bad_config_is_one_line() -> None:
    result = CliRunner().invoke(main, ["--config", "/no/such/file"])
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 1
    assert "/no/such/file" in result.output
