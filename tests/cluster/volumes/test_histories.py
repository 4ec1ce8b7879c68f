"""Claims and volumes come and go at random while binders are killed: none has two."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from controlplane.engine.resources import CLAIMS, VOLUMES
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import Cluster, cluster

from .things import check_bindings, claim, phase, volume

BINDER = "persistentvolume-binder-controller"
SEEDS = int(os.environ.get("KUBELETPY_TEST_HISTORIES", "1"))
STEPS = 40


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_the_end_is_what_is_declared(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    async with cluster(tmp_path) as server:
        hosts = [await server.start(BINDER), await server.start(BINDER)]
        claims: dict[str, int] = {}
        for number in range(STEPS):
            what = chance.choice(("claim", "claim", "volume", "volume", "lose", "free", "kill"))
            size = chance.randint(1, 4)
            if what == "claim":
                claims[f"c{number}"] = size
                await server.create(CLAIMS, claim(f"c{number}", f"{size}Gi"))
            elif what == "volume":
                await server.create(VOLUMES, volume(f"v{number}", f"{size}Gi"))
            elif what == "lose" and claims:
                name = chance.choice(sorted(claims))
                del claims[name]
                await server.client.delete(CLAIMS.path("default", name))
            elif what == "free":
                await _reuse(server)
            elif what == "kill":
                await server.stop(hosts.pop(0))
                await check_bindings(server)
                hosts.append(await server.start(BINDER))
        # There is room for each: a volume of its size, and one more of the largest.
        for name in sorted(claims):
            await server.create(VOLUMES, volume(f"for-{name}", "4Gi"))
        found = await server.until(CLAIMS, lambda found: (
            {one["metadata"]["name"] for one in found} == set(claims)
            and all(phase(one) == "Bound" for one in found)))  # fmt: skip
        await server.until(VOLUMES, lambda found: all(
            phase(one) in ("Bound", "Available", "Released") for one in found))  # fmt: skip
        await check_bindings(server)
        assert len({one["spec"]["volumeName"] for one in found}) == len(claims)
        bound = {one["metadata"]["name"] for one in await server.listed(VOLUMES)
                 if phase(one) == "Bound"}  # fmt: skip
        assert bound == {one["spec"]["volumeName"] for one in found}


async def _reuse(server: Cluster) -> None:
    """Give volumes whose claims are gone back, as an administrator does."""
    for one in await server.listed(VOLUMES):
        if phase(one) == "Released":
            changes = {"spec": {"claimRef": None}}
            path = VOLUMES.path(name=one["metadata"]["name"])
            await server.client.patch(path, changes, kind=MERGE_PATCH)
