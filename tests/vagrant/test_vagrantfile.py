"""What the Vagrantfile makes of its variables, by Vagrant's own library and command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "vagrant"
MATRIX = Path(__file__).with_name("matrix.rb")
HASH = "sha256:" + "5" * 64
EXISTING = {
    "SERVER": "https://192.0.2.10:6443",
    "TOKEN": "abcdef.0123456789abcdef",
    "CA_CERT_HASH": HASH,
}
BOXES = {
    "debian12": ("debian/bookworm64", "bento/debian-12", "cloud-image/debian-12"),
    "debian13": ("debian/trixie64", "bento/debian-13", "cloud-image/debian-13"),
    "ubuntu2404": ("cloud-image/ubuntu-24.04", "bento/ubuntu-24.04", "cloud-image/ubuntu-24.04"),
    "our/own": ("our/own", "our/own", "our/own"),
}
PROVIDERS = ("libvirt", "virtualbox", "qemu")
# Variables, with which providers they are tried, and how many of the machines are looked at: each
# of them costs Vagrant a quarter of a second.
CASES: dict[str, tuple[dict[str, str], tuple[str, ...], int]] = {
    "default": ({}, PROVIDERS, 3),
    **{box: ({"BOX": box}, PROVIDERS, 1) for box in BOXES},
    "server alone": ({"NODES": "0"}, ("libvirt",), 2),
    "three": (
        {"NODES": "3", "CPUS": "4", "MEMORY": "4096", "NETWORK": "192.168.60"},
        ("libvirt",),
        5,
    ),
    "both families": ({"DUAL_STACK": "1", "NODES": "1"}, ("libvirt",), 3),
    "existing": (EXISTING, ("libvirt",), 3),
    "file": ({"BOX": "mine", "BOX_URL": "file:///boxes/mine.box"}, ("qemu",), 1),
}

Machine = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the Vagrant folder, for Vagrant writes beside its file."""
    return _copied(tmp_path)


def _copied(parent: Path) -> Path:
    return shutil.copytree(
        FOLDER, parent / "vagrant", ignore=shutil.ignore_patterns(".vagrant", "kubeconfig")
    )


def _environment(home: Path, **variables: str) -> dict[str, str]:
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    return {**kept, "HOME": str(home), "VAGRANT_CHECKPOINT_DISABLE": "1", **variables}


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, Machine]]]:
    """Return machines by case, provider and name, all from one start of Ruby."""
    parent = tmp_path_factory.mktemp("matrix")
    folder = _copied(parent)
    done = subprocess.run(
        ["ruby", "-W0", str(MATRIX), str(folder), str(folder / ".vagrant")],
        input=json.dumps(list(CASES.values())), capture_output=True, text=True, check=False,
        timeout=120, env=_environment(parent),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, dict[str, Machine]]] = {}
    for case, answer in zip(CASES, json.loads(done.stdout), strict=True):
        found[case] = {}
        for machine in answer:
            found[case].setdefault(machine["provider"], {})[machine["name"]] = machine
    return found


@pytest.mark.parametrize("box", BOXES)
def test_each_provider_gets_a_box_that_is_made_for_it(
    machines: dict[str, dict[str, dict[str, Machine]]], box: str
) -> None:
    for provider, name in zip(PROVIDERS, BOXES[box], strict=True):
        assert {machine["box"] for machine in machines[box][provider].values()} == {name}


def test_by_default_a_server_and_two_nodes(
    machines: dict[str, dict[str, dict[str, Machine]]],
) -> None:
    for made in machines["default"].values():
        assert list(made) == ["server", "node1", "node2"]
        for last, machine in enumerate(made.values(), 10):
            assert _size(machine) == (2, 2048)
            private = next(n for n in machine["networks"] if n["kind"] == "private_network")
            assert private["ip"] == f"192.168.58.{last}"
            assert machine["hostname"] == machine["name"]
    assert machines["default"]["libvirt"]["server"]["triggers"] == ["up", "provision"]
    assert machines["default"]["libvirt"]["node1"]["triggers"] == ["destroy"]


def _size(machine: Machine) -> tuple[int, int]:
    settings = machine["provider_settings"]
    if machine["provider"] == "virtualbox":
        options = {change[2]: change[3] for change in machine["customizations"]}
        return int(options["--cpus"]), int(options["--memory"])
    if machine["provider"] == "qemu":
        return int(settings["smp"]), int(settings["memory"].removesuffix("M"))
    return settings["cpus"], settings["memory"]


def test_nodes_join_the_server_by_one_token_and_a_hash_that_it_leaves(
    machines: dict[str, dict[str, dict[str, Machine]]],
) -> None:
    made = machines["default"]["virtualbox"]
    (server,) = made["server"]["scripts"]
    token = server["env"]["TOKEN"]
    assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", token)
    assert server["env"]["RUN_PODS"] == "no"
    assert server["inline"].endswith("/vagrant/provision/server.sh")
    for name in ("node1", "node2"):
        (script,) = made[name]["scripts"]
        assert script["inline"].endswith("/vagrant/provision/node.sh")
        assert script["env"]["TOKEN"] == token
        assert script["env"]["SERVER"] == "https://192.168.58.10:6443"
        assert made[name]["files"] == [script["env"]["CA_CERT_HASH_FILE"]]


def test_variables_say_how_many_and_how_large(
    machines: dict[str, dict[str, dict[str, Machine]]],
) -> None:
    made = machines["three"]["libvirt"]
    assert list(made) == ["server", "node1", "node2", "node3"]
    assert made["node3"]["networks"][0]["ip"] == "192.168.60.13"
    assert _size(made["node3"]) == (4, 4096)
    assert made["node3"]["scripts"][0]["env"]["SERVER"] == "https://192.168.60.10:6443"


def test_a_server_without_nodes_runs_pods_itself(
    machines: dict[str, dict[str, dict[str, Machine]]],
) -> None:
    made = machines["server alone"]["libvirt"]
    assert list(made) == ["server"]
    assert made["server"]["scripts"][0]["env"]["RUN_PODS"] == "yes"


def test_both_families(machines: dict[str, dict[str, dict[str, Machine]]]) -> None:
    made = machines["both families"]["libvirt"]
    server = made["server"]["scripts"][0]["env"]
    assert server["POD_CIDR"] == "10.244.0.0/16,fd00:10:244::/56"
    assert server["SERVICE_CIDR"] == "10.96.0.0/16,fd00:10:96::/112"
    assert made["node1"]["scripts"][0]["env"]["ADDRESS6"] == "fd00:58::11"
    assert made["node1"]["networks"][0]["libvirt__guest_ipv6"] == "yes"
    assert machines["default"]["libvirt"]["server"]["scripts"][0]["env"]["ADDRESS6"] == ""


def test_an_existing_cluster_gets_nodes_only(
    machines: dict[str, dict[str, dict[str, Machine]]],
) -> None:
    made = machines["existing"]["libvirt"]
    assert list(made) == ["node1", "node2"]
    for machine in made.values():
        assert machine["scripts"][0]["env"]["SERVER"] == EXISTING["SERVER"]
        assert machine["scripts"][0]["env"]["TOKEN"] == EXISTING["TOKEN"]


def test_a_box_from_a_file(machines: dict[str, dict[str, dict[str, Machine]]]) -> None:
    server = machines["file"]["qemu"]["server"]
    assert (server["box"], server["box_url"]) == ("mine", ["file:///boxes/mine.box"])


def test_no_credential_is_copied_into_a_machine(
    machines: dict[str, dict[str, dict[str, Machine]]],
) -> None:
    for machine in machines["default"]["libvirt"].values():
        (folder,) = machine["folders"]
        assert folder["guestpath"] == "/srv/kubeletpy"
        assert {"vagrant/.vagrant/", "vagrant/kubeconfig", ".git/"} <= set(folder["rsync__exclude"])


def test_qemu_machines_see_each_other_on_this_host_alone(
    machines: dict[str, dict[str, dict[str, Machine]]],
) -> None:
    made = machines["default"]["qemu"]
    settings = [machine["provider_settings"] for machine in made.values()]
    assert len({setting["socket_opts"] for setting in settings}) == 1
    assert settings[0]["socket_opts"].startswith("mcast=239.255.")
    assert settings[0]["socket_opts"].endswith(",localaddr=127.0.0.1")
    assert all(s["advanced_network"] and s["net_mode"] == "socket" for s in settings)
    forwarded = [n for n in made["server"]["networks"] if n["kind"] == "forwarded_port"]
    assert [(n["guest"], n["host"], n["host_ip"]) for n in forwarded] == [(6443, 6443, "127.0.0.1")]
    assert [n["kind"] for n in made["node1"]["networks"]] == ["private_network"]


@pytest.mark.parametrize(
    "variables",
    [{}, {"BOX": "ubuntu2404", "NODES": "1", "DUAL_STACK": "1"}, {**EXISTING, "BOX": "debian13"}],
    ids=["default", "dual-stack", "existing"],
)
def test_vagrant_validates_it(folder: Path, tmp_path: Path, variables: dict[str, str]) -> None:
    done = _vagrant(folder, tmp_path, variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Vagrantfile validated successfully." in done.stdout
    kept = folder / ".vagrant/kubeletpy"
    assert kept.stat().st_mode & 0o777 == 0o700
    for file in kept.iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    if "SERVER" in variables:
        assert [file.name for file in kept.iterdir()] == ["ca-cert-hash"]
        assert (kept / "ca-cert-hash").read_text() == f"{HASH}\n"
    else:
        assert (kept / "ca-cert-hash").read_text() == ""
        token = (kept / "token").read_text()
        (kept / "ca-cert-hash").write_text("known by now\n")
        assert _vagrant(folder, tmp_path, variables).returncode == 0
        assert (kept / "token").read_text() == token, "nodes join a server that knows this one"
        assert (kept / "ca-cert-hash").read_text() == "known by now\n"


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"NODES": "two"}, "NODES=two has to be a number from 0 to 50"),
        ({"CPUS": "0"}, "CPUS=0 has to be a number from 1 to 64"),
        ({"MEMORY": "512"}, "MEMORY=512 has to be a number from 1024"),
        ({"BOX": "plan9"}, "BOX=plan9 is unknown: it is debian12, debian13, ubuntu2404,"),
        ({"NETWORK": "fd00::"}, "NETWORK has to be the first three numbers"),
        ({"SERVER": EXISTING["SERVER"]}, "TOKEN and CA_CERT_HASH missing"),
        ({**EXISTING, "SERVER": "192.0.2.10"}, "SERVER has to be the URL"),
        ({**EXISTING, "TOKEN": "hunter2"}, "TOKEN has to be a bootstrap token"),
        ({**EXISTING, "CA_CERT_HASH": "sha256:55"}, "CA_CERT_HASH has to be sha256:"),
        ({**EXISTING, "NODES": "0"}, "NODES=0 beside SERVER leaves no machine"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, variables: dict[str, str], message: str) -> None:
    program = "Kubeletpy::Settings.new(ENV)"
    done = subprocess.run(
        ["ruby", "-r", str(FOLDER / "settings"), "-e", program], capture_output=True, text=True,
        check=False, timeout=60, env=_environment(tmp_path, **variables),
    )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr
    assert "hunter2" not in done.stderr


def test_a_mistake_ends_vagrant_with_one_line(folder: Path, tmp_path: Path) -> None:
    done = _vagrant(folder, tmp_path, {"NODES": "-1"})
    assert done.returncode == 1
    assert done.stderr.strip() == ("vagrant/Vagrantfile: NODES=-1 has to be a number from 0 to 50")


def _vagrant(
    folder: Path, home: Path, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["vagrant", "validate", "--ignore-provider"], cwd=folder, capture_output=True, text=True,
        check=False, timeout=120, env=_environment(home, **variables),
    )  # fmt: skip
