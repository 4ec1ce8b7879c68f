"""Each node gets a part of the range of all pods: ``spec.podCIDRs``."""

from __future__ import annotations

import contextlib
from typing import ClassVar

from controlplane.engine.controller import Context, Controller, OptionError
from controlplane.engine.resources import NODES, Object, is_deleting
from kubeletpy_common.apiclient.errors import ApiError

from .ranges import Network, networks_of, pieces_of


class NodeIpamController(Controller):
    """Gives parts to nodes; it does nothing without ``--allocate-node-cidrs``.

    What is taken is what the nodes say; one worker gives, so that none is given twice.

    Raises:
        OptionError: the flags contradict each other.
    """

    name: ClassVar[str] = "node-ipam-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._works = bool(context.options.get("allocate_node_cidrs"))
        if not self._works:
            return
        try:
            self._pieces = pieces_of(context.options)
        except ValueError as error:
            raise OptionError(str(error)) from error
        self._recorder = context.recorder.of("cidrAllocator")
        self._nodes = context.informers.of(NODES)
        self._nodes.listen(self._changed)

    async def run(self) -> None:
        """Work, until cancelled, if there is anything to do."""
        if self._works:
            await super().run()

    def _changed(self, before: Object | None, node: Object | None) -> None:
        if before is None or node is None or _ranges(before) != _ranges(node):
            for network in _ranges(node):
                for each in self._pieces:
                    each.take(network)
            for network in _ranges(before):
                for each in self._pieces:
                    each.give(network)
        if before is not None and node is None and self._waiting:
            # There may be one for a node that got none.
            for name in self._waiting:
                self.queue.add(name)
        if node is not None:
            self.enqueue(before, node)

    @property
    def _waiting(self) -> list[str]:
        return [node["metadata"]["name"] for node in self._nodes if not _ranges(node)]

    async def sync(self, key: str) -> float | None:
        """Give a node its ranges, if it has none."""
        node = self._nodes.get(key)
        if node is None or is_deleting(node) or node["spec"].get("podCIDRs"):
            return None
        found = [each.next() for each in self._pieces]
        chosen = [str(one) for one in found if one is not None]
        if len(chosen) < len(found):
            self._tell(node, "CIDRNotAvailable")
            full = ", ".join(str(each.whole) for each, one in zip(self._pieces, found, strict=True)
                             if one is None)  # fmt: skip
            raise RuntimeError(f"no part of {full} is left for the node {key}")
        changes = {"metadata": {"resourceVersion": node["metadata"]["resourceVersion"]},
                   "spec": {"podCIDR": chosen[0], "podCIDRs": chosen}}  # fmt: skip
        try:
            await self.context.writer.patch(NODES, node, changes)
        except ApiError as error:
            if not error.conflict:
                self._tell(node, "CIDRAssignmentFailed")
            raise
        return None

    def _tell(self, node: Object, state: str) -> None:
        name = node["metadata"]["name"]
        self._recorder.normal(node, state, f"Node {name} status is now: {state}")


def _ranges(node: Object | None) -> list[Network]:
    """Return the ranges that a node has; what is none is passed over."""
    found: list[Network] = []
    for text in (node["spec"].get("podCIDRs") or ()) if node is not None else ():
        with contextlib.suppress(ValueError):
            found += networks_of(text)
    return found
