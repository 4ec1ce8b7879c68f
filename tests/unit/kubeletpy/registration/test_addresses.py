from __future__ import annotations

import pytest

from kubeletpy.registration.addresses import choose, usable

LOCAL = {"192.0.2.1", "2001:db8::1", "198.51.100.1", "127.0.1.1"}
DEFAULT = {4: "192.0.2.1", 6: "2001:db8::1"}


@pytest.mark.parametrize(
    ("asked", "named", "default", "found"),
    [
        ((), (), DEFAULT, ("192.0.2.1",)),
        ((), (), {6: "2001:db8::1"}, ("2001:db8::1",)),
        (("::",), (), DEFAULT, ("2001:db8::1",)),
        (("0.0.0.0",), (), DEFAULT, ("192.0.2.1",)),
        (("10.0.0.9",), ("192.0.2.1",), DEFAULT, ("10.0.0.9",)),
        (("10.0.0.9", "fd00::9"), (), DEFAULT, ("10.0.0.9", "fd00::9")),
        # What the name resolves to comes first, if it is an address of this machine.
        ((), ("127.0.1.1", "198.51.100.1"), DEFAULT, ("198.51.100.1",)),
        ((), ("203.0.113.1",), DEFAULT, ("192.0.2.1",)),
        ((), ("2001:db8::1", "198.51.100.1"), DEFAULT, ("198.51.100.1",)),
        ((), (), {}, ()),
    ],
)
def test_addresses_of_a_node(
    asked: tuple[str, ...], named: tuple[str, ...], default: dict[int, str], found: tuple[str, ...]
) -> None:
    assert choose(asked, named, default, LOCAL) == found


@pytest.mark.parametrize(
    ("address", "word"),
    [("127.0.0.1", "loopback"), ("224.0.0.1", "multicast"), ("fe80::1", "link-local"),
     ("203.0.113.1", "not on any interface"), ("192.0.2.1", "")],
)  # fmt: skip
def test_what_no_node_can_have(address: str, word: str) -> None:
    reason = usable(address, LOCAL)
    assert word in reason
    assert bool(reason) == bool(word)
