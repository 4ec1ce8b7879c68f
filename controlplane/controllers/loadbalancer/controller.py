"""Gives Services of type LoadBalancer their addresses, and takes them back.

What was given is in the statuses of the Services and nowhere else. One worker looks at one Service
after the other, and the writer's answers are learned, so no address is given twice.

Source: Kubernetes documentation, "Service", type LoadBalancer; the finalizer is that of cloud
controllers (KEP-980).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final

from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import SERVICES, Object, key_of
from kubeletpy_common import logs

from .announcer import AnnounceError, Announcer
from .pool import CLASS, Address, Pool, PoolError, addresses_of, choose, is_served

_log = logging.getLogger(__name__)
FINALIZER: Final = "service.kubernetes.io/load-balancer-cleanup"
_ANNOUNCE: Final = ""
"""Key of the queue for the addresses of the link."""
_AGAIN: Final = 30.0
_SOON: Final = 1.0
"""Seconds after which a link that could not be had is looked for again."""


class LoadBalancerController(Controller):
    """See the module.

    Options of the context: ``load_balancer_pool`` (networks and ranges; none: nothing is done) and
    ``load_balancer_interface`` (link that answers for the addresses; none: others announce them).
    """

    name: ClassVar[str] = "service-lb-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pool = Pool.parse(context.options.get("load_balancer_pool") or "")
        link = context.options.get("load_balancer_interface") or ""
        self._announcer = Announcer(link) if link else None
        self._services = context.informers.of(SERVICES)
        self._taken: dict[Address, set[str]] = {}
        self._waiting: set[str] = set()
        self._services.listen(self._follow)

    async def run(self) -> None:
        """Work, until cancelled; the addresses are taken off the link then."""
        if not self._pool.ranges:
            # There is nothing to give; what others gave is theirs.
            await asyncio.Event().wait()
        try:
            await super().run()
        finally:
            if self._announcer is not None:
                # pyroute2's calls have an event loop of their own, and this thread has one already.
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(self._announce, frozenset()).result()

    def _follow(self, before: Object | None, value: Object | None) -> None:
        key = key_of(value or before or {})
        for address in addresses_of(before) if before is not None else ():
            holders = self._taken.get(address, set())
            holders.discard(key)
            if not holders:
                self._taken.pop(address, None)
            for waiting in self._waiting:
                self.queue.add(waiting)
        for address in addresses_of(value) if value is not None else ():
            self._taken.setdefault(address, set()).add(key)
        self.queue.add(key)
        if self._announcer is not None:
            self.queue.add(_ANNOUNCE)

    async def sync(self, key: str) -> float | None:
        """Look at a Service, see `Controller.sync`; or at the link."""
        if key == _ANNOUNCE:
            # Others may take addresses off a link that goes down: it is looked at now and then.
            told = await asyncio.to_thread(self._announce, self._given())
            return _AGAIN if told else _SOON
        service = self._services.get(key)
        self._waiting.discard(key)
        if service is None:
            return None
        if not is_served(service):
            await self._release(service)
            return None
        try:
            wanted = choose(service, self._pool, _Others(self._taken, key, self._is_older))
        except PoolError as error:
            # Until an address is free, or what is asked for changes; others may be told meanwhile.
            self._waiting.add(key)
            self.context.recorder.warning(
                service, "SyncLoadBalancerFailed", f"Error syncing load balancer: {error}"
            )
            return None
        await self._give(service, wanted)
        return None

    def _is_older(self, key: str, address: Address) -> bool:
        """Whether a Service has an address before all others that have it, too."""
        mine = self._services.get(key)
        if mine is None or key not in self._taken.get(address, ()):
            return False

        def age(one: str) -> tuple[str, str]:
            found = self._services.get(one)
            return (found["metadata"].get("creationTimestamp", "") if found else "", one)

        return min(self._taken[address], key=age) == key

    async def _give(self, service: Object, wanted: list[Address]) -> None:
        if addresses_of(service) == wanted and FINALIZER in _finalizers(service):
            return
        recorder, writer = self.context.recorder, self.context.writer
        recorder.normal(service, "EnsuringLoadBalancer", "Ensuring load balancer")
        if FINALIZER not in _finalizers(service):
            service = await writer.change(SERVICES, service, _with_finalizer)
        ingress = [{"ip": str(one), "ipMode": "VIP"} for one in wanted]
        service = await writer.patch(
            SERVICES, service, {"status": {"loadBalancer": {"ingress": ingress}}},
            subresource="status",
        )  # fmt: skip
        recorder.normal(service, "EnsuredLoadBalancer", "Ensured load balancer")

    async def _release(self, service: Object) -> None:
        """Take back what a Service has that is to have nothing any longer."""
        # Also what an earlier pool gave: nobody else would ever let the Service go.
        ours = service["spec"].get("loadBalancerClass") in (None, CLASS)
        if not ours or FINALIZER not in _finalizers(service):
            return
        recorder, writer = self.context.recorder, self.context.writer
        recorder.normal(service, "DeletingLoadBalancer", "Deleting load balancer")
        if addresses_of(service):
            service = await writer.patch(
                SERVICES, service, {"status": {"loadBalancer": None}}, subresource="status"
            )
        await writer.change(SERVICES, service, _without_finalizer)
        recorder.normal(service, "DeletedLoadBalancer", "Deleted load balancer")

    def _given(self) -> frozenset[Address]:
        return frozenset(
            address for service in self._services if is_served(service)
            for address in addresses_of(service) if address in self._pool
        )  # fmt: skip

    def _announce(self, addresses: frozenset[Address]) -> bool:
        """Have the link answer for addresses; return whether it does."""
        assert self._announcer is not None
        try:
            self._announcer.announce(addresses)
        except AnnounceError as error:
            logs.event(_log, logging.ERROR, "load balancer addresses are not announced",
                       reason=str(error))  # fmt: skip
            return False
        return True


class _Others(Mapping[Address, str]):
    """Addresses that a Service cannot have, and who has them; looked up, never copied.

    Args:
        taken: all addresses, and who has them.
        key: of the Service.
        is_older: whether it has an address before all others that have it, too.
    """

    def __init__(
        self, taken: Mapping[Address, set[str]], key: str, is_older: Callable[[str, Address], bool]
    ) -> None:
        self._taken = taken
        self._key = key
        self._is_older = is_older

    def __getitem__(self, address: Address) -> str:
        others = self._taken[address] - {self._key}
        if not others or self._is_older(self._key, address):
            raise KeyError(address)
        return min(others)

    def __iter__(self) -> Iterator[Address]:
        return (address for address in self._taken if address in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _finalizers(service: Object) -> list[Any]:
    found: list[Any] = service["metadata"].get("finalizers") or []
    return found


def _with_finalizer(service: Object) -> Object | None:
    if FINALIZER in _finalizers(service):
        return None
    service["metadata"]["finalizers"] = [*_finalizers(service), FINALIZER]
    return service


def _without_finalizer(service: Object) -> Object | None:
    if FINALIZER not in _finalizers(service):
        return None
    rest = [one for one in _finalizers(service) if one != FINALIZER]
    service["metadata"]["finalizers"] = rest
    return service
