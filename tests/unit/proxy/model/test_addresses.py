from __future__ import annotations

import pytest

from proxy.model.addresses import endpoint_problem, network, parse
from proxy.model.portal import Family

V4, V6 = Family.V4, Family.V6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.1", (V4, "10.0.0.1")),
        ("010.000.0.01", (V4, "10.0.0.1")),
        ("fd00:0::0001", (V6, "fd00::1")),
        ("FD00::A", (V6, "fd00::a")),
        ("::ffff:10.0.0.1", (V4, "10.0.0.1")),
        ("::ffff:a00:1", (V4, "10.0.0.1")),
        ("256.0.0.1", None), ("10.0.0", None), ("", None), ("fd00::1%eth0", None),
        ("1.2.3.4\n", None), ("0x10.0.0.1", None), ("1.2.3.4 ", None), ("::1::", None),
        ("99999999999.0.0.1", None), ("\0", None),
    ],
)  # fmt: skip
def test_addresses(text: str, expected: object) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.1.2.3/8", (V4, "10.0.0.0/8")),
        (" 10.0.0.0/8\t", (V4, "10.0.0.0/8")),
        ("0.0.0.0/0", (V4, "0.0.0.0/0")),
        ("fd00::1/64", (V6, "fd00::/64")),
        ("::ffff:10.0.0.0/104", (V4, "10.0.0.0/8")),
        ("::ffff:10.0.0.0/8", None),
        ("10.0.0.0", None), ("10.0.0.0/33", None), ("10.0.0.0/-1", None), ("x/8", None),
        ("10.0.0.0/", None), ("10.0.0.0/8/8", None), ("", None),
    ],
)  # fmt: skip
def test_networks(text: str, expected: object) -> None:
    assert network(text) == expected


@pytest.mark.parametrize(
    ("ip", "reason"),
    [
        ("127.0.0.1", "loopback"), ("127.255.0.1", "loopback"), ("::1", "loopback"),
        ("0.0.0.0", "unspecified"), ("::", "unspecified"),
        ("224.0.0.1", "multicast"), ("255.255.255.255", "multicast"), ("ff02::1", "multicast"),
        ("169.254.169.254", "link-local"), ("fe80::1", "link-local"), ("febf::1", "link-local"),
        ("10.0.0.1", ""), ("169.253.0.1", ""), ("fd00::1", ""), ("ff::1", ""), ("fec0::1", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_an_endpoint(ip: str, reason: str) -> None:
    found = endpoint_problem(ip)
    assert reason in found
    assert bool(found) == bool(reason)
