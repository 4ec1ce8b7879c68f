from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kubeletpy import debian
from kubeletpy.debian import Package, services_held

DPKG = Package("dpkg", "", "dpkg")
NONE = Package("no-such-package-of-ours", "is not there", "no-such-program-of-ours")


def test_missing_asks_dpkg() -> None:
    assert debian.missing([DPKG, NONE]) == [NONE]


def test_a_program_of_any_origin_will_do_where_that_is_said() -> None:
    there = Package("no-such-package-of-ours", "", "sh", any_origin=True)
    absent = Package("no-such-package-of-ours", "", NONE.program, any_origin=True)
    assert debian.missing([DPKG, there, absent]) == [absent]


def test_missing_looks_for_programs_where_there_is_no_dpkg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    there = [Package("a", "", "tool"), Package("b", "", str(tmp_path / "tool"))]
    absent = [Package("c", "", "other"), Package("d", "", str(tmp_path / "other"))]
    assert debian.missing([*there, *absent]) == absent


def test_other_systems_are_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(debian.PackageError, match=r"no-such-program-of-ours \(is not there\)"):
        debian.install([NONE])


class TestServicesHeld:
    """A policy-rc.d gets a service's name and an action; exit status 101 forbids it."""

    @pytest.fixture
    def policy(self, tmp_path: Path) -> Path:
        return tmp_path / "policy-rc.d"

    def ask(self, policy: Path, service: str) -> int:
        return subprocess.run([policy, service, "start"], check=False).returncode

    def test_denies_only_ours(self, policy: Path) -> None:
        with services_held(["docker-registry"], policy):
            assert self.ask(policy, "docker-registry") == 101
            assert self.ask(policy, "ssh") == 0
        assert not policy.exists()

    def test_existing_policy_is_asked_for_others_and_restored(self, policy: Path) -> None:
        policy.write_text("#!/bin/sh\nexit 104\n")
        policy.chmod(0o755)
        with services_held(["docker-registry"], policy):
            assert self.ask(policy, "docker-registry") == 101
            assert self.ask(policy, "ssh") == 104
        assert policy.read_text() == "#!/bin/sh\nexit 104\n"
        assert list(policy.parent.iterdir()) == [policy]

    def test_restored_after_a_failure(self, policy: Path) -> None:
        policy.write_text("old")
        with pytest.raises(KeyError), services_held(["a"], policy):
            raise KeyError
        assert policy.read_text() == "old"

    def test_what_a_killed_run_left_is_mended(self, policy: Path) -> None:
        policy.write_text("old")
        killed = services_held(["a"], policy)
        killed.__enter__()
        with services_held(["b"], policy):
            assert self.ask(policy, "b") == 101
        assert policy.read_text() == "old"
