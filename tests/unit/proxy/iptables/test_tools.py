"""What programs say is told in one line that names the rule; the lock's holder has a name."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path

import pytest

from proxy.backend import RuleOptions, SyncError, Wanted
from proxy.iptables.backend import IptablesBackend
from proxy.iptables.tools import BackEnd, Tools, detect, explain, lock_holder, tools_for
from proxy.model.portal import Family

TEXT = "*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -j NOWHERE\nCOMMIT\n"


@pytest.mark.parametrize(
    "said",
    [
        "iptables-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (No such file or "
        "directory): rule in chain KUBE-SERVICES\n",
        "iptables-restore v1.8.9 (legacy): Couldn't load target `NOWHERE'\n\nError occurred at "
        "line: 3\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
        "iptables-restore: line 3 failed\n",
    ],
)
def test_a_failure_names_the_rule(said: str) -> None:
    reason = explain(said, TEXT, 1)
    assert reason.endswith("(exit status 1); line 3 is: -A KUBE-SERVICES -j NOWHERE")
    assert "\n" not in reason


@pytest.mark.parametrize(
    ("said", "status", "expected"),
    [
        ("", 1, "it said nothing (exit status 1)"),
        ("", -11, " (killed by signal 11)"),
        ("line 99 failed", 1, "line 99 failed (exit status 1)"),
    ],
)
def test_a_failure_that_names_no_rule_is_told_all_the_same(
    said: str, status: int, expected: str
) -> None:
    assert explain(said, TEXT, status) == expected


def test_the_holder_of_a_lock_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert lock_holder(str(path)) == "an unknown process"
    with path.open("w") as file:
        assert lock_holder(str(path)) == "nobody any more"
        fcntl.flock(file, fcntl.LOCK_EX)
        assert lock_holder(str(path)).startswith(f"process {os.getpid()} (")


def program(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def programs(directory: Path, back_end: str, saved: str = "", restore: str = "cat >&2") -> str:
    """Make programs of a back end that say what they are told; return where they are."""
    for name in ("iptables", "ip6tables"):
        stem = f"{name}-{back_end}"
        said = "nf_tables" if back_end == "nft" else "legacy"
        program(directory, stem, f"echo '{name} v1.8.9 ({said})'")
        program(directory, f"{stem}-save", f"cat <<'E'\n{saved}\nE")
        program(directory, f"{stem}-restore", restore)
    return str(directory)


RULE = "*nat\n-A PREROUTING -j ACCEPT\nCOMMIT"


@pytest.mark.parametrize(
    ("nft", "legacy", "expected"),
    [
        ("", None, BackEnd.NFT),
        (None, "", BackEnd.LEGACY),
        ("", "", BackEnd.NFT),
        ("", RULE, BackEnd.LEGACY),
        (RULE, "", BackEnd.NFT),
        (RULE, "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT", BackEnd.LEGACY),
        ("*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT", RULE, BackEnd.NFT),
    ],
)
def test_the_back_end_is_the_one_that_the_machine_uses(
    tmp_path: Path, nft: str | None, legacy: str | None, expected: BackEnd
) -> None:
    for back_end, saved in (("nft", nft), ("legacy", legacy)):
        if saved is not None:
            programs(tmp_path, back_end, saved)
    for family in Family:
        found = detect(family, str(tmp_path))
        assert (found.back_end, found.version, found.random_fully) == (expected, (1, 8, 9), True)


def test_without_programs_it_is_said_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(SyncError, match="ip6tables-restore are not installed"):
        detect(Family.V6, str(tmp_path))
    assert tools_for(Family.V4, BackEnd.NFT, str(tmp_path)) is None
    # The watch is asked for before the first sync, which is the one to say so.
    assert IptablesBackend(RuleOptions(Family.V4), directories=str(tmp_path)).watch(print) is None


def failing(tmp_path: Path, script: str) -> Tools:
    tools = tools_for(Family.V4, BackEnd.NFT, programs(tmp_path, "nft", restore=script))
    assert tools
    return tools


def test_a_program_that_dies_halfway_fails_the_sync_and_the_next_is_full(tmp_path: Path) -> None:
    script = "head -c 100 >/dev/null; kill -SEGV $$"
    backend = IptablesBackend(RuleOptions(Family.V4), failing(tmp_path, script))
    for _ in range(2):
        # The second one asks for little, and cannot have it.
        with pytest.raises(SyncError, match=r"write all rules: .*killed by signal 11"):
            backend.sync(Wanted({}, frozenset(), False))
    assert not backend.intact()


def test_a_program_that_is_gone_fails_the_sync(tmp_path: Path) -> None:
    tools = failing(tmp_path, "cat >/dev/null")
    os.unlink(tools.restore)
    with pytest.raises(SyncError, match="No such file or directory"):
        tools.write(TEXT, "write all rules")


def test_who_waits_for_the_lock_says_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    lock = tmp_path / "lock"
    monkeypatch.setenv("XTABLES_LOCKFILE", str(lock))
    said = "Another app is currently holding the xtables lock. Stopped waiting after 1s."
    tools = tools_for(
        Family.V4,
        BackEnd.LEGACY,
        programs(tmp_path, "legacy", restore=f"echo '{said}' >&2; exit 4"),
    )
    assert tools
    with lock.open("w") as file, caplog.at_level(logging.WARNING):
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(SyncError, match=rf"{lock} is held by process {os.getpid()} "):
            tools.write(TEXT, "write all rules")
    begin, end = (vars(one)["fields"] for one in caplog.records)
    assert begin["holder"].startswith(f"process {os.getpid()} (")
    assert begin["path"] == end["path"] == str(lock)
