from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.admission.sysctls import dotted, forbidden

from ..api.pods import make_pod


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("kernel.shmmax", "kernel.shmmax"),
        ("kernel/shmmax", "kernel.shmmax"),
        ("net/ipv4/conf/eth0.1/forwarding", "net.ipv4.conf.eth0/1.forwarding"),
        ("net.ipv4.conf.eth0/1.forwarding", "net.ipv4.conf.eth0/1.forwarding"),
    ],
)
def test_both_ways_to_write_a_name(given: str, name: str) -> None:
    assert dotted(given) == name


@pytest.mark.parametrize(
    ("sysctl", "allowed", "host", "message"),
    [
        ("kernel.shm_rmid_forced", [], {}, None),
        ("net/ipv4/tcp_syncookies", [], {}, None),
        ("kernel.msgmax", [], {}, '"kernel.msgmax" not allowlisted'),
        ("kernel.msgmax", ["kernel.msg*"], {}, None),
        ("kernel.msgmax", ["kernel/msgmax"], {}, None),
        ("kernel.msgmax", ["kernel.msgm"], {}, '"kernel.msgmax" not allowlisted'),
        ("kernel.msgmax", ["kernel.msg*"], {"hostIPC": True},
         '"kernel.msgmax" not allowed with host IPC enabled'),
        ("kernel.msgmax", ["kernel.msg*"], {"hostNetwork": True}, None),
        ("net.ipv4.tcp_syncookies", [], {"hostNetwork": True},
         '"net.ipv4.tcp_syncookies" not allowed with host Net enabled'),
        ("net.ipv4.tcp_syncookies", [], {"hostIPC": True}, None),
    ],
)  # fmt: skip
def test_sysctls_of_a_pod(
    sysctl: str, allowed: list[str], host: dict[str, Any], message: str | None
) -> None:
    pod = make_pod(securityContext={"sysctls": [{"name": sysctl, "value": "1"}]}, **host)
    refused = forbidden(pod, allowed)
    if message is None:
        assert refused is None
    else:
        assert refused is not None
        assert (refused.reason, refused.message) == (
            "SysctlForbidden",
            f"forbidden sysctl: {message}",
        )


def test_a_pod_without_sysctls() -> None:
    assert forbidden(make_pod(), []) is None
