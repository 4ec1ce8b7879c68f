"""A client certificate that somebody else replaces."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from kubeletpy.certificates.follow import follow
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError


class Client:
    """Takes certificates; the first one is refused, as if the key did not fit yet."""

    def __init__(self) -> None:
        self.tried: asyncio.Queue[bool] = asyncio.Queue()
        self.refuse = 1

    def renew(self) -> None:
        if self.refuse:
            self.refuse -= 1
            self.tried.put_nowait(False)
            raise KubeconfigError("they do not fit")
        self.tried.put_nowait(True)


async def test_a_replaced_certificate_is_taken_once_it_fits(tmp_path: Path) -> None:
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    certificate.write_text("old")
    key.write_text("old")
    client = Client()
    task = asyncio.create_task(follow(lambda: [certificate, key], client.renew))
    try:
        async with asyncio.timeout(20):
            # The watch is there once the task waits for it.
            await asyncio.sleep(0)
            (tmp_path / "new").write_text("new")
            os.replace(tmp_path / "new", certificate)
            assert not await client.tried.get()
            key.write_text("new")
            assert await client.tried.get()
            # The same content again is no change.
            key.write_text("new")
            (tmp_path / "link").symlink_to(key)
            certificate.write_text("newer")
            assert await client.tried.get()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert client.tried.empty()
