"""Leader election: of several processes of a name one works, by a Lease that it renews.

Source: client-go's leader election, whose Leases these are: one of ours and one of the Go peer may
stand beside each other. Times are counted by the own clock, from when a change of the lease was
seen; the clocks of the candidates need not agree.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError

from .controller import micro_timestamp, monotonic, now
from .resources import LEASES, Object

_log = logging.getLogger(__name__)
_JITTER: Final = 1.2


class LeadershipLostError(Exception):
    """The lease could not be renewed in time: another may work now, so this one must not."""


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of an election.

    Attributes:
        lease: that others wait, after the lease was last renewed, before they take it.
        renew: within which the leader must renew it, or gives up.
        retry: between attempts.
    """

    lease: float = 15.0
    renew: float = 10.0
    retry: float = 2.0


class Election:
    """One candidate.

    Args:
        client: of the API server.
        namespace, name: of the lease.
        identity: of this candidate, unlike all others.
        times: of the election.
    """

    def __init__(
        self, client: ApiClient, namespace: str, name: str, identity: str, times: Times
    ) -> None:
        self._client = client
        self._path = LEASES.path(namespace, name)
        self._collection = LEASES.path(namespace)
        self._name = {"namespace": namespace, "name": name}
        self._identity = identity
        self._times = times
        self._lease: Object | None = None
        self._changed = monotonic()
        self.leads = False

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait until the lease is ours, work, and give it back at the end.

        Raises:
            LeadershipLostError: it was lost meanwhile; the work was cancelled.
        """
        while not await self._attempt():  # noqa: ASYNC110 - a lease is watched by reading it
            await asyncio.sleep(self._times.retry * random.uniform(1.0, _JITTER))
        logs.event(_log, logging.INFO, "this process leads", lease=self._name["name"],
                   identity=self._identity)  # fmt: skip
        self.leads = True
        working = asyncio.ensure_future(work())
        renewing = asyncio.create_task(self._renew(), name="renew the lease of the leader")
        try:
            await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return await working
            await renewing
        finally:
            for task in (working, renewing):
                task.cancel()
            await asyncio.gather(working, renewing, return_exceptions=True)
            if self.leads:
                await self._release()

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._times.retry)
            try:
                async with asyncio.timeout(self._times.renew):
                    while not await self._attempt():  # noqa: ASYNC110 - as above
                        await asyncio.sleep(self._times.retry)
            except TimeoutError:
                self.leads = False
                raise LeadershipLostError(
                    f"the lease {self._name['namespace']}/{self._name['name']} was not renewed "
                    f"within {self._times.renew:g} s"
                ) from None

    async def _attempt(self) -> bool:
        """Take or renew the lease; return whether it is ours."""
        try:
            # The one that is known is good enough as long as nobody else wrote it.
            ours = self.leads and self._holder() == self._identity
            if not (ours and await self._write(self._lease)):
                await self._read()
                held = self._is_held_by_other()
                return not held and await self._write(self._lease)
        except ApiError as error:
            logs.event(_log, logging.DEBUG, "no answer about the lease of the leader",
                       reason=str(error))  # fmt: skip
            return False
        return True

    def _holder(self) -> str:
        return str(((self._lease or {}).get("spec") or {}).get("holderIdentity") or "")

    async def _read(self) -> None:
        try:
            lease = await self._client.get(self._path, timeout=self._times.renew)
        except ApiError as error:
            if not error.not_found:
                raise
            self._lease = None
            return
        if self._lease is None or lease["spec"] != self._lease["spec"]:
            self._changed = monotonic()
        self._lease = lease

    def _is_held_by_other(self) -> bool:
        spec = (self._lease or {}).get("spec") or {}
        seconds = spec.get("leaseDurationSeconds") or self._times.lease
        return self._holder() not in ("", self._identity) and monotonic() < self._changed + seconds

    async def _write(self, known: Object | None) -> bool:
        wanted = taken(known, self._name, self._identity, self._times.lease)
        try:
            if known is None:
                self._lease = await self._client.create(
                    self._collection, wanted, timeout=self._times.renew
                )
            else:
                self._lease = await self._client.update(
                    self._path, wanted, timeout=self._times.renew, urgent=True
                )
        except ApiError as error:
            if error.conflict or error.not_found:
                return False
            raise
        self._changed = monotonic()
        return True

    async def _release(self) -> None:
        """Let another one begin at once."""
        self.leads = False
        if self._lease is None:
            return
        freed = copy.deepcopy(self._lease)
        freed["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1,
                          "renewTime": micro_timestamp(now())}  # fmt: skip
        try:
            await self._client.update(self._path, freed, timeout=self._times.retry, urgent=True)
        except ApiError as error:
            logs.event(_log, logging.INFO, "the lease of the leader runs out by itself",
                       reason=str(error))  # fmt: skip


def taken(
    known: Object | None, meta: dict[str, str], identity: str, seconds: float
) -> dict[str, Any]:
    """Return a lease that ``identity`` holds from now on (pure but for the time)."""
    stamp = micro_timestamp(now())
    spec: dict[str, Any] = dict((known or {}).get("spec") or {})
    if spec.get("holderIdentity") != identity:
        spec["acquireTime"] = stamp
        before = spec.get("leaseTransitions")
        spec["leaseTransitions"] = 0 if before is None else before + 1
    spec |= {
        "holderIdentity": identity,
        "leaseDurationSeconds": max(int(seconds), 1),
        "renewTime": stamp,
    }
    metadata: dict[str, Any] = dict(known["metadata"]) if known is not None else dict(meta)
    return {"apiVersion": LEASES.group_version, "kind": LEASES.kind, "metadata": metadata,
            "spec": spec}  # fmt: skip
