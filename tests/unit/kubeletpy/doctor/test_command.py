"""The command, and the look as a whole."""

from __future__ import annotations

import json
import threading
import time

import pytest
from click.testing import CliRunner

from kubeletpy.cli import main
from kubeletpy.doctor import errors, examination, runtime_check
from kubeletpy.doctor.finding import Finding, Verdict, error, fine, warning
from kubeletpy.doctor.looking import Aside
from kubeletpy.doctor.purpose import PURPOSES, Purpose


def one(verdict: Verdict) -> Finding:
    return Finding("overlayfs", verdict, "looked", "runtime", "modprobe overlay [now]")


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ([one("ok")], 0),
        ([one("warning")], 0),
        ([one("error"), one("ok")], 1),
    ],
)
def test_errors_alone_fail(
    found: list[Finding], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def examine(purpose: str, server: str) -> list[Finding]:
        asked.append((purpose, server))
        return found

    monkeypatch.setattr(examination, "examine", examine)
    result = CliRunner().invoke(main, ["doctor", "--for", "server"])
    assert result.exit_code == code
    assert ("modprobe overlay [now]" in result.output) is (found[0].verdict != "ok")
    listed = json.loads(CliRunner().invoke(main, ["doctor", "-o", "json"]).stdout)
    assert [entry["name"] for entry in listed] == ["overlayfs"] * len(found)
    assert {"verdict", "found", "needed_by", "remedy"} < set(listed[0])
    assert asked == [("server", ""), ("up", "")]


def test_a_long_remedy_is_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = "sysctl -w " + " ".join(f"net.ipv4.conf.eth{n}.rp_filter=2" for n in range(20))
    monkeypatch.setattr(
        examination, "examine", lambda purpose, server: [warning("x", "y", "z", remedy)]
    )
    assert f"  {remedy}\n" in CliRunner().invoke(main, ["doctor"]).output


def test_a_group_that_hangs_or_breaks_takes_no_other_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forever = threading.Event()

    def hang(purpose: Purpose) -> list[Finding]:
        forever.wait()
        return []

    def broken(purpose: Purpose) -> list[Finding]:
        raise ValueError("odd file")

    groups = {"slow": hang, "bad": broken, "good": lambda purpose: [fine("good", "", "")]}
    monkeypatch.setattr(examination, "_GROUPS", groups)
    monkeypatch.setattr(examination, "_SECONDS", 0.2)
    monkeypatch.setattr(runtime_check, "look", lambda purpose: [error("r", "", "", "")])
    try:
        found = examination.examine("up")
    finally:
        forever.set()
    assert [finding.verdict for finding in found] == ["error", "warning", "warning", "ok"]
    assert "no answer" in found[1].found
    assert "odd file" in found[2].found
    assert errors(found) == [found[0]]


def test_a_thread_that_hangs_is_left_behind() -> None:
    forever = threading.Event()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        Aside(forever.wait).result(0.05)
    assert time.monotonic() - began < 30
    forever.set()


@pytest.mark.parametrize("purpose", sorted(PURPOSES))
def test_a_look_at_this_machine_finds_each_thing_once(
    purpose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime_check, "look", lambda purpose: [])
    monkeypatch.setattr(examination, "_SECONDS", 60.0)
    found = examination.examine(purpose)
    names = [finding.name for finding in found]
    assert len(set(names)) == len(names)
    assert not [finding for finding in found if finding.needed_by == "doctor"]
    assert all(finding.remedy for finding in found if finding.verdict != "ok")
    assert {"systemd", "memory", "cgroup version", "clock", "firewalld", "AppArmor"} < set(names)
