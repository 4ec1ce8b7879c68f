"""Nodes without machines, as a process of its own: arguments are KUBECONFIG, COUNT and FILE.

How many pods are bound is kept in FILE, eight bytes, for who measures: it follows no pods itself,
and so takes nothing of the two cores.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import BinaryIO

from controlplane.engine.resources import Object
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig
from tests.support.hollow import HollowNodes


def write(file: BinaryIO, count: int) -> None:
    """Say how many pods are bound; -1: the nodes are not there yet."""
    file.seek(0)
    file.write(count.to_bytes(8, "little", signed=True))


async def play(kubeconfig: str, count: int, file: BinaryIO) -> None:
    """Make the nodes and play their kubelets, until killed."""
    async with ApiClient(read_kubeconfig(Path(kubeconfig)), rate=0) as client:
        hollow = HollowNodes(client, workers=16)
        bound = 0

        def follow(before: Object | None, pod: Object | None) -> None:
            nonlocal bound
            was = before is not None and bool(before["spec"].get("nodeName"))
            now = pod is not None and bool(pod["spec"].get("nodeName"))
            if was != now:
                bound += 1 if now else -1
                write(file, bound)

        hollow.pods.listen(follow)
        await hollow.make(*(f"node-{number}" for number in range(count)))
        write(file, 0)
        await hollow.run()


if __name__ == "__main__":
    with open(sys.argv[3], "r+b", buffering=0) as opened:
        asyncio.run(play(sys.argv[1], int(sys.argv[2]), opened))
