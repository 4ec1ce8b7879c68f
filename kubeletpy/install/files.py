"""Waiting for a file that another process makes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from asyncinotify import Inotify, Mask

from kubeletpy.install.errors import InstallError


def await_file(path: Path, seconds: float) -> None:
    """Wait until a file is there.

    Raises:
        InstallError: it is not, in time.
    """
    try:
        asyncio.run(_there(path, seconds))
    except TimeoutError:
        raise InstallError(
            f"the kubelet did not write {path} within {seconds:.0f} s: it has no certificate "
            "yet; see: journalctl -u kubeletpy-kubelet, and whether its request was approved and "
            "signed: kubectl get csr"
        ) from None


async def _there(path: Path, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        with Inotify() as watch:
            while not path.exists():
                nearest = next(each for each in path.parents if each.is_dir())
                watch.add_watch(nearest, Mask.CREATE | Mask.MOVED_TO)
                # Asked only once changes are seen; a directory may have come meanwhile.
                if path.exists() or next(each for each in path.parents if each.is_dir()) != nearest:
                    continue
                await watch.get()
