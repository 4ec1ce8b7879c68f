from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy_common.settings.durations import Duration
from proxy.host.kernel import apply, conntrack_max, conntrack_sysctls
from proxy.settings.configuration import Conntrack


@pytest.mark.parametrize(
    ("per_core", "least", "cores", "expected"),
    [
        (32768, 131072, 2, 131072), (32768, 131072, 8, 262144), (32768, 131072, 64, 1048576),
        (0, 131072, 8, 0), (10, 0, 1, 10),
    ],
)  # fmt: skip
def test_how_many_connections(per_core: int, least: int, cores: int, expected: int) -> None:
    assert conntrack_max(Conntrack(max_per_core=per_core, min=least), cores) == expected


def test_zero_leaves_the_kernels() -> None:
    nothing = Conntrack(
        max_per_core=0, tcp_established_timeout=Duration(0), tcp_close_wait_timeout=Duration(0)
    )
    assert conntrack_sysctls(nothing, 4) == {}
    assert conntrack_sysctls(Conntrack(tcp_be_liberal=True, udp_timeout=Duration(7)), 1) == {
        "net/netfilter/nf_conntrack_max": 131072,
        "net/netfilter/nf_conntrack_tcp_timeout_established": 86400,
        "net/netfilter/nf_conntrack_tcp_timeout_close_wait": 3600,
        "net/netfilter/nf_conntrack_tcp_be_liberal": 1,
        "net/netfilter/nf_conntrack_udp_timeout": 7,
    }


def test_what_cannot_be_set_is_told_and_the_rest_is_set(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1\n")
    (tmp_path / "b").write_text("2\n")
    failed = apply({"a": 5, "gone": 1, "b": 2}, tmp_path)
    assert failed == ["gone could not be set to 1: No such file or directory"]
    assert (tmp_path / "a").read_text() == "5"
    # What is right is not written again: some may be read by all and written by few.
    assert (tmp_path / "b").read_text() == "2\n"
