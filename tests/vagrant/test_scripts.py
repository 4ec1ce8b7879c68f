"""The provisioning scripts: their style, what they ask for, and which commands they give.

That those commands make a cluster is tried in virtual machines, see tests/vm.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROVISION = Path(__file__).resolve().parents[2] / "vagrant/provision"
SCRIPTS = sorted(path.name for path in PROVISION.glob("*.sh"))
HASH = "sha256:" + "5" * 64
JOIN = {
    "SERVER": "https://192.0.2.10:6443",
    "TOKEN": "abcdef.0123456789abcdef",
    "CA_CERT_HASH": HASH,
}


def test_all_are_here() -> None:
    assert SCRIPTS == ["common.sh", "forget.sh", "node.sh", "package.sh", "server.sh"]


def test_shellcheck_finds_nothing() -> None:
    # -x: what they source is looked at with them; it finds that from the checkout.
    done = subprocess.run(
        ["shellcheck", "-x", *(f"vagrant/provision/{name}" for name in SCRIPTS)],
        cwd=PROVISION.parents[1], capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_plain_shell_can_read_it(name: str) -> None:
    done = subprocess.run(
        ["dash", "-n", str(PROVISION / name)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "common.sh"])
def test_each_stops_at_the_first_failure_and_at_unset_variables(name: str) -> None:
    assert "\nset -eu\n" in (PROVISION / name).read_text()


class Box:
    """A machine's commands: stand-ins that note how they are called, first on PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.calls = directory / "calls"
        self.deb = directory / "kubeletpy_1.0_amd64.deb"
        self.deb.touch()
        self.command("id", "echo 0", noted=False)
        self.command("dpkg-query", "exit 1", noted=False)
        self.command("dpkg")
        self.command("apt-get")
        self.command("kubeletpy")

    def command(self, name: str, body: str = "", *, noted: bool = True) -> None:
        note = f'echo "{name} $*" >>"{self.calls}"\n' if noted else ""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{note}{body}\n")
        path.chmod(0o755)

    def run(self, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "DEB": str(self.deb),
            "UNITS": str(self.directory),
            **variables,
        }
        return subprocess.run(
            ["sh", str(PROVISION / name)], capture_output=True, text=True, check=False,
            timeout=60, env={key: value for key, value in environment.items() if value},
        )  # fmt: skip

    def called(self, program: str) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        return [line for line in lines if line.startswith(program + " ")]


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path)


@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ({}, "install server --advertise-address 192.0.2.10"),
        (
            {"ADDRESS6": "fd00::10"},
            "install server --advertise-address 192.0.2.10 --node-ip 192.0.2.10,fd00::10",
        ),
        (
            {
                "TOKEN": JOIN["TOKEN"],
                "RUN_PODS": "no",
                "POD_CIDR": "10.244.0.0/16,fd00::/56",
                "SERVICE_CIDR": "10.96.0.0/16",
            },
            f"install server --advertise-address 192.0.2.10 --token {JOIN['TOKEN']} "
            "--pod-cidr 10.244.0.0/16,fd00::/56 --service-cidr 10.96.0.0/16 --no-node",
        ),
        ({"RUN_PODS": "yes"}, "install server --advertise-address 192.0.2.10 --node"),
    ],
)
def test_the_server_is_installed_as_asked(
    box: Box, variables: dict[str, str], command: str
) -> None:
    box.command("systemctl")
    done = box.run("server.sh", ADDRESS="192.0.2.10", **variables)
    assert done.returncode == 0, done.stderr
    assert box.called("kubeletpy") == [f"kubeletpy {command}"]
    (apt,) = box.called("apt-get")
    assert apt.endswith(f"install --no-install-recommends --allow-downgrades {box.deb}")


def test_a_second_address_stays_over_boots(box: Box) -> None:
    box.command("systemctl")
    done = box.run("node.sh", **JOIN, ADDRESS="192.0.2.11", ADDRESS6="fd00::11")
    assert done.returncode == 0, done.stderr
    unit = (box.directory / "kubeletpy-second-address.service").read_text()
    assert "show to 192.0.2.11 " in unit
    assert "ip -6 address replace fd00::11/64 " in unit
    assert "systemctl --quiet enable kubeletpy-second-address.service" in box.called("systemctl")
    assert box.called("kubeletpy")[0].endswith("--node-ip 192.0.2.11,fd00::11")


def test_a_node_joins_with_the_hash_of_the_servers_authority(box: Box) -> None:
    done = box.run("node.sh", **JOIN, ADDRESS="192.0.2.11")
    assert done.returncode == 0, done.stderr
    assert box.called("kubeletpy") == [
        f"kubeletpy install node --server {JOIN['SERVER']} --token {JOIN['TOKEN']} "
        f"--ca-cert-hash {HASH} --node-ip 192.0.2.11"
    ]


def test_the_hash_may_be_in_a_file(box: Box, tmp_path: Path) -> None:
    file = tmp_path / "hash"
    file.write_text(f"{HASH}\n")
    done = box.run("node.sh", **{**JOIN, "CA_CERT_HASH": ""}, CA_CERT_HASH_FILE=str(file))
    assert done.returncode == 0, done.stderr
    assert box.called("kubeletpy")[0].endswith(f"--ca-cert-hash {HASH}")


@pytest.mark.parametrize(
    ("script", "variables", "message"),
    [
        ("server.sh", {}, "server.sh: ADDRESS is not set: it is the address at which nodes"),
        ("server.sh", {"ADDRESS": "a", "RUN_PODS": "maybe"}, "RUN_PODS=maybe has to be yes or no"),
        ("node.sh", {**JOIN, "SERVER": ""}, "node.sh: SERVER is not set: it is the URL"),
        ("node.sh", {**JOIN, "TOKEN": ""}, "TOKEN is not set: it is a bootstrap token"),
        ("node.sh", {**JOIN, "CA_CERT_HASH": ""}, "CA_CERT_HASH is not set: it is the hash"),
        (
            "node.sh",
            {**JOIN, "CA_CERT_HASH": "", "CA_CERT_HASH_FILE": "/dev/null"},
            "start the server first (vagrant up server), then this node",
        ),
        ("forget.sh", {}, "NODE is not set"),
        ("server.sh", {"ADDRESS": "192.0.2.10", "DEB": "/nowhere"}, "DEB=/nowhere is no file"),
    ],
)
def test_what_is_missing_is_named_before_anything_is_installed(
    box: Box, script: str, variables: dict[str, str], message: str
) -> None:
    done = box.run(script, **variables)
    assert done.returncode == 1
    assert message in done.stderr
    assert box.called("kubeletpy") == []


def test_they_have_to_run_as_root(box: Box) -> None:
    box.command("id", "echo 1000", noted=False)
    done = box.run("node.sh", **JOIN)
    assert done.returncode == 1
    assert done.stderr == "node.sh: has to run as root: start it with sudo\n"


def test_an_installed_package_is_not_installed_again(box: Box) -> None:
    box.command("dpkg-query", "printf installed", noted=False)
    box.command("dpkg-deb", noted=False)
    box.command("cmp", noted=False)
    box.command("tar", noted=False)
    done = box.run("node.sh", **JOIN)
    assert done.returncode == 0, done.stderr
    assert box.called("apt-get") == []
    assert len(box.called("kubeletpy")) == 1


def test_one_of_the_same_version_with_other_contents_is_installed(box: Box) -> None:
    box.command("dpkg-query", "printf installed", noted=False)
    box.command("cmp", "exit 1", noted=False)
    box.command("dpkg-deb", noted=False)
    box.command("tar", noted=False)
    done = box.run("node.sh", **JOIN)
    assert done.returncode == 0, done.stderr
    assert len(box.called("apt-get")) == 1
    assert box.called("dpkg") == [f"dpkg --install {box.deb}"]


def test_lists_are_refreshed_only_when_that_helps(box: Box) -> None:
    box.command("apt-get", f'case $* in *update*) touch "{box.directory}/fresh" ;; '
                f'*) [ -e "{box.directory}/fresh" ] ;; esac')  # fmt: skip
    done = box.run("node.sh", **JOIN)
    assert done.returncode == 0, done.stderr
    assert [call.split(" -o ")[-1].split()[1] for call in box.called("apt-get")] == [
        "install", "update", "install",
    ]  # fmt: skip


def test_a_failed_install_says_what_to_do(box: Box) -> None:
    box.command("apt-get", "echo E: no network >&2; exit 100")
    done = box.run("node.sh", **JOIN)
    assert done.returncode == 1
    assert "apt-get update failed, see above: look at the network" in done.stderr
    assert box.called("kubeletpy") == []


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a checkout whose scripts are ours, with one module and a package newer than that."""
    made = tmp_path / "checkout"
    (made / "vagrant").mkdir(parents=True)
    (made / "vagrant/provision").symlink_to(PROVISION)
    (made / "dist").mkdir()
    (made / "kubeletpy").mkdir()
    (made / "kubeletpy/cli.py").touch()
    (made / "dist/kubeletpy_1.0_amd64.deb").touch()
    return made


def _package(box: Box, checkout: Path) -> subprocess.CompletedProcess[str]:
    built = box.directory / "built"
    box.command("python3", f'touch "{built}/kubeletpy_1.1_amd64.deb"')
    return subprocess.run(
        ["sh", str(checkout / "vagrant/provision/package.sh")], capture_output=True, text=True,
        check=False, timeout=60,
        env={"PATH": f"{box.bin}:/usr/bin:/bin", "BUILT": str(built)},
    )  # fmt: skip


def test_a_package_that_is_there_is_used(box: Box, checkout: Path) -> None:
    done = _package(box, checkout)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{checkout}/dist/kubeletpy_1.0_amd64.deb\n"
    assert box.called("python3") == []


def test_one_that_is_older_than_the_code_is_built_anew(box: Box, checkout: Path) -> None:
    os.utime(checkout / "dist/kubeletpy_1.0_amd64.deb", (1, 1))
    done = _package(box, checkout)
    assert done.returncode == 0, done.stderr
    assert "older than the code (than kubeletpy/cli.py)" in done.stderr
    built = box.directory / "built"
    assert done.stdout == f"{built}/kubeletpy_1.1_amd64.deb\n"
    assert box.called("python3") == [f"python3 -m kubeletpy package deb --output {built}"]
    again = _package(box, checkout)
    assert (again.stdout, len(box.called("python3"))) == (done.stdout, 1)


def test_one_for_another_python_is_built_anew(box: Box, checkout: Path) -> None:
    box.command("apt-get", "case $* in *dist/*) exit 100 ;; esac")
    done = _package(box, checkout)
    assert done.returncode == 0, done.stderr
    assert "does not fit this machine" in done.stderr
    assert done.stdout == f"{box.directory}/built/kubeletpy_1.1_amd64.deb\n"


def test_a_build_that_fails_says_what_else_to_do(box: Box, checkout: Path) -> None:
    (checkout / "dist/kubeletpy_1.0_amd64.deb").unlink()
    done = _package(box, checkout)
    assert done.returncode == 0, done.stderr
    (box.directory / "built/kubeletpy_1.1_amd64.deb").unlink()
    box.command("python3", "exit 1")
    failed = subprocess.run(
        ["sh", str(checkout / "vagrant/provision/package.sh")], capture_output=True, text=True,
        check=False, timeout=60,
        env={"PATH": f"{box.bin}:/usr/bin:/bin", "BUILT": str(box.directory / "built")},
    )  # fmt: skip
    assert failed.returncode == 1
    assert "the package could not be built" in failed.stderr
    assert failed.stdout == ""
