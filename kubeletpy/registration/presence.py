"""The node in the cluster: registers it, and keeps its status and its lease true."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from kubeletpy.api.events import NORMAL, WARNING
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.cri.node import NodeFacts
from kubeletpy.events import Recorder
from kubeletpy.settings import Settings
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import MERGE_PATCH, STRATEGIC_PATCH, ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

from .lease import NodeLease
from .machine import Machine
from .objects import metadata_patch, new_node, status_patch, without_extended
from .runtime_health import RuntimeHealth
from .status import NodeKnowledge, changed, node_status

if TYPE_CHECKING:
    from kubeletpy.core import Core

_log = logging.getLogger(__name__)
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 7.0
"""Seconds between attempts to register."""
IMAGES_EVERY = 30.0
_TIMEOUT = 10.0
_RETRY = 1.0

Object = dict[str, Any]


class NodePresence:
    """One node's place in the API server.

    Args:
        settings: of the kubelet.
        facts: of the node.
        machine: what the machine is.
        api: the API server.
        cri: the runtime.
        recorder: takes events.

    Attributes:
        node: the node as the API server has it; None as long as it is not there.
        adders: each changes a status before it is compared and sent: volumes, extended resources.
        listeners: each is called with the node when it came or changed.
    """

    def __init__(
        self,
        settings: Settings,
        facts: NodeFacts,
        machine: Machine,
        api: ApiClient,
        cri: CriClient,
        recorder: Recorder,
    ) -> None:
        self.node: Object | None = None
        self.adders: list[Callable[[Object], None]] = []
        self.listeners: list[Callable[[Object], None]] = []
        self._settings = settings
        self._name = facts.name
        self._api = api
        self._cri = cri
        self._recorder = recorder
        self._health = RuntimeHealth(cri, self.report)
        self._known = NodeKnowledge(
            name=facts.name, hostname=facts.name, settings=settings, machine=machine,
            ips=facts.ips, port=settings.configuration.port,
        )  # fmt: skip
        self._core: Core | None = None
        self._wake = asyncio.Event()
        self._there = asyncio.Event()
        self._sent_at = float("-inf")
        self._delay = 0.0
        self._told: set[str] = set()
        self._unschedulable = False
        self._pod_cidrs: list[str] = []

    def attach(self, core: Core) -> None:
        """Take the readiness checks and pressure of an assembled kubelet into the status."""
        self._core = core
        self.report()

    def report(self) -> None:
        """Have the status looked at now, and sent if it changed."""
        self._wake.set()

    async def run(self) -> None:
        """Register the node and keep it up to date, for ever."""
        lease = NodeLease(
            self._api, self._name, self._settings.configuration.node_lease_duration_seconds,
            self._uid,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            group.create_task(self._health.run(), name="runtime health")
            group.create_task(self._list_images(), name="images")
            if self._settings.configuration.register_node:
                await self._register()
            group.create_task(self._follow(), name="own node")
            group.create_task(lease.run(), name="lease")
            group.create_task(self._keep_status(), name="node status")

    def _uid(self) -> str:
        return str((self.node or {}).get("metadata", {}).get("uid") or "")

    # Registration ------------------------------------------------------------------------------

    async def _register(self) -> None:
        pause, told = FIRST_PAUSE, ""
        while True:
            try:
                await self._create_or_reconcile()
                return
            except ApiError as error:
                if told != str(error):
                    told = str(error)
                    logs.event(
                        _log, logging.WARNING, "node cannot be registered; it is tried again",
                        node=self._name, code=error.code, reason=told,
                    )  # fmt: skip
            self._wake.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._wake.wait()
            except TimeoutError:
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _create_or_reconcile(self) -> None:
        status, _ = self._status({})
        try:
            made = await self._api.create(
                object_path("v1", "nodes"), new_node(self._known, status), timeout=_TIMEOUT
            )
            logs.event(_log, logging.INFO, "node registered", node=self._name)
            self._take(made)
            return
        except ApiError as error:
            # Who may not create may have been given a node that is there.
            if not error.conflict and error.code != 403:
                raise
            refused = error
        path = object_path("v1", "nodes", name=self._name)
        try:
            node = await self._api.get(path, timeout=_TIMEOUT)
        except ApiError as error:
            raise refused if error.not_found else error from error
        if patch := metadata_patch(self._known, node):
            node = await self._api.patch(path, patch, kind=MERGE_PATCH, timeout=_TIMEOUT)
        self._note_boot(node)
        logs.event(_log, logging.INFO, "node was registered before", node=self._name)
        self._take(node)

    def _note_boot(self, node: Object) -> None:
        """Tell of a reboot; what device plug-ins had announced is gone with it."""
        status = node.get("status") or {}
        boot = (status.get("nodeInfo") or {}).get("bootID")
        ours = self._known.machine.boot_id
        if boot and ours and boot != ours:
            self._recorder.node(
                WARNING, "Rebooted", f"Node {self._name} has been rebooted, boot id: {ours}"
            )
            node["status"] = without_extended(status)

    # The node as others change it ----------------------------------------------------------------

    async def _follow(self) -> None:
        selector = f"metadata.name={self._name}"
        async for each in Reflector(self._api, object_path("v1", "nodes"), field_selector=selector):
            if isinstance(each, Synced):
                nodes = each.items
                gone = not nodes
            else:
                assert isinstance(each, Changed)
                nodes, gone = [each.object], each.kind == "DELETED"
            if gone:
                self._lost()
            else:
                self._take(nodes[0])
            await self._tell_pod_cidrs()

    def _lost(self) -> None:
        if self.node is not None:
            logs.event(
                _log, logging.ERROR, "the Node object was deleted; a restart registers it again",
                node=self._name,
            )  # fmt: skip
        self.node = None
        self._there.clear()

    def _take(self, node: Object) -> None:
        """Keep a node that is newer than what is here."""
        if self.node is not None and self._uid() == node["metadata"].get("uid"):
            old = str(self.node["metadata"].get("resourceVersion") or "")
            new = str(node["metadata"].get("resourceVersion") or "")
            if old.isdigit() and new.isdigit() and int(new) < int(old):
                return
        self.node = node
        self._there.set()
        self._note_schedulable(bool((node.get("spec") or {}).get("unschedulable")))
        for each in self.listeners:
            each(node)
        self.report()

    def _note_schedulable(self, unschedulable: bool) -> None:
        if unschedulable != self._unschedulable:
            self._unschedulable = unschedulable
            self._tell_event("NodeNotSchedulable" if unschedulable else "NodeSchedulable")

    async def _tell_pod_cidrs(self) -> None:
        """Tell the runtime which addresses the node's pods get."""
        spec = (self.node or {}).get("spec") or {}
        ranges = spec.get("podCIDRs") or ([spec["podCIDR"]] if spec.get("podCIDR") else [])
        if not ranges or ranges == self._pod_cidrs:
            return
        try:
            await self._cri.update_runtime_config(",".join(ranges))
            self._pod_cidrs = ranges
        except CriError as error:
            logs.event(
                _log, logging.WARNING, "the runtime did not take the addresses of the node's pods",
                ranges=ranges, reason=str(error),
            )  # fmt: skip

    # Status --------------------------------------------------------------------------------------

    def _status(self, before: Object) -> tuple[Object, list[str]]:
        known, core = self._known, self._core
        known.runtime = self._health.state
        if core is not None:
            known.pressure = frozenset(core.pressure)
            reasons = [check() for check in core.ready_checks.values()]
            known.faults = tuple(reason for reason in reasons if reason)
        status, events = node_status(known, before, datetime.now(UTC))
        for add in self.adders:
            add(status)
        return status, events

    async def _keep_status(self) -> None:
        # A node that is Ready stays so over a restart: nothing is said before the runtime answered.
        await self._health.checked.wait()
        every = self._settings.configuration.node_status_update_frequency
        while True:
            await self._there.wait()
            self._wake.clear()
            try:
                await self._send_if_due()
            except ApiError as error:
                self._warn(str(error))
                await asyncio.sleep(_RETRY)
                continue
            try:
                async with asyncio.timeout(every):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _send_if_due(self) -> None:
        node = self.node
        if node is None:
            return
        before = node.get("status") or {}
        after, events = self._status(before)
        period = self._settings.configuration.node_status_report_frequency
        now = asyncio.get_running_loop().time()
        differs = changed(before, after)
        if not differs and now < self._sent_at + period + self._delay:
            return
        path = object_path("v1", "nodes", name=self._name, subresource="status")
        answer = await self._api.request(
            "PATCH", path, status_patch(before, after), content_type=STRATEGIC_PATCH,
            timeout=_TIMEOUT, urgent=True,
        )  # fmt: skip
        # Nodes that changed together (a server came back) do not report together for ever.
        first = self._sent_at == float("-inf")
        self._delay = period * random.uniform(-0.5, 0.5) if differs or first else 0.0
        self._sent_at = now
        self._told.clear()
        for reason in events:
            self._tell_event(reason)
        self._take(answer)

    def _tell_event(self, reason: str) -> None:
        self._recorder.node(NORMAL, reason, f"Node {self._name} status is now: {reason}")

    def _warn(self, reason: str) -> None:
        if reason not in self._told:
            self._told = {reason}
            logs.event(
                _log, logging.WARNING, "status of the node cannot be sent; it is tried again",
                node=self._name, reason=reason,
            )  # fmt: skip

    async def _list_images(self) -> None:
        await self._health.checked.wait()
        while True:
            try:
                found = await self._cri.list_images()
            except CriError:
                found = list(self._known.images)
            if [one.id for one in found] != [one.id for one in self._known.images]:
                self.report()
            self._known.images = found
            await asyncio.sleep(IMAGES_EVERY)
