from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from runtime.images.resolver import GuardedResolver, is_near


class Answers(AbstractResolver):
    """Resolves every name to the same addresses."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=0)
            for each in self._addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.9.9.9", "::1", "169.254.169.254", "fe80::1%eth0", "0.0.0.0", "::",
     "::ffff:127.0.0.1", "::ffff:169.254.169.254", "224.0.0.1"],
)  # fmt: skip
async def test_names_that_lead_to_what_only_the_node_can_reach(address: str) -> None:
    with pytest.raises(OSError, match=r"evil\.example.*not followed"):
        await GuardedResolver(Answers(address)).resolve("evil.example", 443)
    mixed = await GuardedResolver(Answers(address, "198.51.100.7")).resolve("evil.example", 443)
    assert [each["host"] for each in mixed] == ["198.51.100.7"]


@pytest.mark.parametrize("address", ["10.0.0.1", "192.168.1.1", "2001:db8::1", "fd00::1"])
async def test_names_of_ordinary_hosts(address: str) -> None:
    found = await GuardedResolver(Answers(address)).resolve("storage.example", 443)
    assert [each["host"] for each in found] == [address]


async def test_what_is_near() -> None:
    assert await is_near("127.0.0.1")
    assert await is_near("localhost")
    assert not await is_near("198.51.100.7")
