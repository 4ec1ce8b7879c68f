"""The addresses that the server listens on."""

from __future__ import annotations

import ssl
from pathlib import Path

import aiohttp

from controlplane.options import Options
from controlplane.serving import serving

ABSENT = "192.0.2.77"
"""Of no machine (RFC 5737)."""


async def test_it_listens_on_more_addresses_also_on_those_that_come_later(tmp_path: Path) -> None:
    options = Options(
        data_dir=tmp_path, secure_port=0, extra_bind_addresses=("127.0.0.2", ABSENT),
        advertise_address=ABSENT,
    )  # fmt: skip
    async with serving(options) as running, aiohttp.ClientSession() as session:
        authority = ssl.create_default_context(cafile=str(tmp_path / "pki" / "ca.crt"))
        for address in ("127.0.0.1", "127.0.0.2"):
            url = f"https://{address}:{running.port}/livez"
            async with session.get(url, ssl=authority) as answer:
                assert answer.status == 200
        url = f"https://127.0.0.1:{running.port}/livez"
        async with session.get(url, ssl=authority, server_hostname=ABSENT) as answer:
            assert answer.status == 200
