"""System call filters on the real kernel: what each profile denies, in start and exec alike."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node

pytestmark = pytest.mark.root

Profile = cri.SecurityProfile
DEFAULT = {"seccomp": Profile(profile_type=Profile.RuntimeDefault)}
ADMIN = cri.Capability(add_capabilities=["SYS_ADMIN"])
STATUS = "grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status"


def localhost(directory: Path, **fields: Any) -> dict[str, Any]:
    path = directory / "profile.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", **fields}))
    return {"seccomp": Profile(profile_type=Profile.Localhost, localhost_ref=str(path))}


def facts(node: Node, container: str) -> dict[str, str]:
    """What exec says of itself, and what the first process is."""
    own = node.shell(container, STATUS)
    first = node.shell(container, STATUS.replace("self", "1"))
    assert own == first
    return dict(line.split(":\t") for line in own.splitlines())


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("no_new_privs", [False, True])
def test_runtime_default_in_start_and_exec(node: Node, user: int, no_new_privs: bool) -> None:
    security = DEFAULT | {
        "no_new_privs": no_new_privs,
        "run_as_user": cri.Int64Value(value=user),
    }
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, security=security)
        seen = facts(node, container)
        assert seen["Seccomp"] == "2"
        assert seen["NoNewPrivs"] == str(int(no_new_privs))
        # CAP_SYS_ADMIN, which loading needed, is gone again.
        assert int(seen["CapEff"], 16) == (0 if user else 0xA80425FB)
        for command in ("unshare -U true", "unshare -m true", "mount -t tmpfs none /tmp"):
            result = node.exec(container, "sh", "-c", command)
            assert result.exit_code != 0, command
            assert re.search(b"not permitted|permission denied", result.stderr), result
        node.shell(container, "mkdir -p /tmp/a && echo x > /tmp/a/b && (sleep 0 & wait) && id")


def test_runtime_default_follows_the_capabilities(node: Node) -> None:
    with node.pod() as sandbox:
        security = DEFAULT | {"capabilities": ADMIN}
        container = node.run(sandbox, *SLEEP, security=security)
        node.shell(container, "mkdir -p /t && mount -t tmpfs none /t")
        dropped = DEFAULT | {"capabilities": cri.Capability(drop_capabilities=["ALL"])}
        container = node.run(sandbox, *SLEEP, name="none", security=dropped)
        assert facts(node, container)["CapEff"].strip("0") == ""
        assert node.exec(container, "chroot", "/", "true").exit_code != 0


def test_unconfined_is_unconfined_and_so_are_privileged_containers(node: Node) -> None:
    with node.pod(privileged=True) as sandbox:
        for number, security in enumerate((
            {},
            {"seccomp": Profile(profile_type=Profile.Unconfined)},
            DEFAULT | {"privileged": True},
        )):  # fmt: skip
            container = node.run(sandbox, *SLEEP, name=f"c{number}", security=security)
            assert facts(node, container)["Seccomp"] == "0"
            node.shell(container, "unshare -U true")


@pytest.mark.parametrize("no_new_privs", [False, True])
def test_a_localhost_profile(node: Node, tmp_path: Path, no_new_privs: bool) -> None:
    security = localhost(
        tmp_path,
        syscalls=[
            {"names": ["chmod", "fchmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 121},
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["rmdir"], "action": "SCMP_ACT_LOG"},
        ],
    ) | {"no_new_privs": no_new_privs}
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, security=security)
        assert facts(node, container)["Seccomp"] == "2"
        # 121 is EREMOTEIO, which no file system says by itself.
        assert b"Remote I/O error" in node.exec(container, "chmod", "600", "/etc").stderr
        # SIGSYS, 31.
        assert node.exec(container, "mkdir", "/tmp/x").exit_code == 128 + 31
        assert b"No such file" in node.exec(container, "rmdir", "/tmp/x").stderr
        status = node.run_to_end(sandbox, "mkdir", "/tmp/x", name="once", security=security)
        assert status.exit_code == 128 + 31


def test_a_profile_changed_after_creation_changes_nothing(node: Node, tmp_path: Path) -> None:
    rule = {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 121}
    security = localhost(tmp_path, syscalls=[rule])
    with node.pod() as sandbox:
        config = node.container_config(*SLEEP, security=security)
        container = node.create(sandbox, config)
        (tmp_path / "profile.json").unlink()
        node.start(container)
        assert b"Remote I/O error" in node.exec(container, "chmod", "600", "/etc").stderr
