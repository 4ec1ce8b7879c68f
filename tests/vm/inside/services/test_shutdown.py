"""The kubelet and the real logind: the lock that delays a shutdown."""

from __future__ import annotations

from pathlib import Path

import pytest

from . import host
from .conftest import Cluster

pytestmark = pytest.mark.root


def test_the_lock_is_held(cluster: Cluster) -> None:
    what, who, _, mode, uid, pid = host.inhibitors()[0]
    assert (what, who, mode, uid, pid) == (
        "shutdown", "kubelet", "delay", 0, host.main_pid(host.KUBELET),
    )  # fmt: skip
    assert len(host.inhibitors()) == 1
    # logind's own limit is 5 s, and was raised.
    assert host.longest_delay() == host.GRACE
    assert "InhibitDelayMaxSec=60" in Path("/etc/systemd/logind.conf.d/99-kubelet.conf").read_text()
