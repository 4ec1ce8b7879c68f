"""Drivers in the API server: the node's annotation and labels, and its CSINode object."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from kubeletpy.plugins.watcher import PluginRefused
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import MERGE_PATCH, ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError

from .client import NodeInfo

_log = logging.getLogger(__name__)
Object = dict[str, Any]
ANNOTATION = "csi.volume.kubernetes.io/nodeid"
MIGRATED = "storage.alpha.kubernetes.io/migrated-plugins"
MIGRATED_PLUGINS = ",".join(
    f"kubernetes.io/{name}"
    for name in (
        "aws-ebs", "azure-disk", "azure-file", "cinder", "gce-pd", "portworx-volume",
        "vsphere-volume",
    )
)  # fmt: skip
_TRIES = 6
_PAUSE = 0.01
_FACTOR = 6.0
_LARGEST_COUNT = 2**31 - 1


def with_node_id(node: Object, driver: str, info: NodeInfo) -> Object | None:
    """Return the patch that tells a driver's name of the node and its topology; None: told (pure).

    Raises:
        PluginRefused: a label of the topology is there with another value.
    """
    meta = node.get("metadata", {})
    ids = _ids(meta)
    labels = meta.get("labels") or {}
    for key, value in info.topology.items():
        if labels.get(key, value) != value:
            raise PluginRefused(
                f'detected topology value collision: driver reported "{key}":"{value}" but '
                f'existing label is "{key}":"{labels[key]}"'
            )
    missing = {key: value for key, value in info.topology.items() if key not in labels}
    if ids.get(driver) == info.node_id and not missing:
        return None
    told = json.dumps(ids | {driver: info.node_id}, separators=(",", ":"), sort_keys=True)
    return {"metadata": {"annotations": {ANNOTATION: told}, "labels": missing}}


def without_node_id(node: Object, driver: str) -> Object | None:
    """Return the patch that takes a driver's name of the node away; None: not there (pure)."""
    ids = _ids(node.get("metadata", {}))
    if driver not in ids:
        return None
    del ids[driver]
    told = json.dumps(ids, separators=(",", ":"), sort_keys=True) if ids else None
    return {"metadata": {"annotations": {ANNOTATION: told}}}


def _ids(meta: Object) -> dict[str, str]:
    try:
        found = json.loads((meta.get("annotations") or {}).get(ANNOTATION) or "{}")
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def driver_entry(driver: str, info: NodeInfo) -> Object:
    """Return a driver as CSINode has it (pure)."""
    entry: Object = {
        "name": driver,
        "nodeID": info.node_id,
        "topologyKeys": sorted(info.topology),
    }
    if info.most_volumes > 0:
        entry["allocatable"] = {"count": min(info.most_volumes, _LARGEST_COUNT)}
    return entry


def new_csi_node(name: str, uid: str) -> Object:
    """Return a CSINode without drivers (pure)."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "CSINode",
        "metadata": {
            "name": name,
            "ownerReferences": [owner],
            "annotations": {MIGRATED: MIGRATED_PLUGINS},
        },
        "spec": {"drivers": []},
    }


def owned(csi_node: Object, name: str, uid: str) -> bool:
    """Whether a CSINode is of this node, and not of one of its name before it (pure)."""
    return any(
        (one.get("kind"), one.get("name"), one.get("uid")) == ("Node", name, uid)
        for one in csi_node.get("metadata", {}).get("ownerReferences") or ()
    )


class CsiNode:
    """Keeps the Node and the CSINode up to date.

    Args:
        api: the API server.
        name: of the node.
        uid: returns the UID of the Node object, "" as long as it is not registered.
    """

    def __init__(self, api: ApiClient, name: str, uid: Callable[[], str]) -> None:
        self._api = api
        self._name = name
        self._uid = uid
        self._node_path = object_path("v1", "nodes", name=name)
        self._collection = object_path("storage.k8s.io/v1", "csinodes")
        self._path = object_path("storage.k8s.io/v1", "csinodes", name=name)
        self._alone = asyncio.Lock()
        self._there = asyncio.Event()

    async def initialize(self) -> None:
        """Make the CSINode of a node that has just been registered.

        Raises:
            ApiError: it could not be made.
        """
        async with self._alone:
            found = await self._csi_node()
            notes = found.get("metadata", {}).get("annotations") or {}
            if notes.get(MIGRATED) != MIGRATED_PLUGINS:
                body = {"metadata": {"annotations": {MIGRATED: MIGRATED_PLUGINS}}}
                await self._api.patch(self._path, body, kind=MERGE_PATCH)

    async def run(self) -> None:
        """Make the CSINode once the node is registered; where there is no such API, do nothing.

        Raises:
            ApiError: it could not be made.
        """
        await self._there.wait()
        try:
            await self.initialize()
        except ApiError as error:
            if not error.not_found:
                raise
            logs.event(_log, logging.WARNING, "no CSINode made", reason=str(error))

    def note(self, node: Object) -> None:
        """The node is registered, or has changed."""
        self._there.set()

    async def install(self, driver: str, info: NodeInfo) -> None:
        """Tell that a driver is there.

        Raises:
            PluginRefused: the API server did not take it.
        """

        async def tell() -> None:
            patch = with_node_id(await self._api.get(self._node_path), driver, info)
            if patch is not None:
                await self._api.patch(self._node_path, patch, kind=MERGE_PATCH)
            found = await self._csi_node()
            entry = driver_entry(driver, info)
            drivers = found.get("spec", {}).get("drivers") or []
            if entry in drivers:
                return
            others = [one for one in drivers if one.get("name") != driver]
            found["spec"] = {"drivers": [*others, entry]}
            await self._api.update(self._path, found)

        await self._repeat(
            f"error updating CSINode object with CSI driver node info {driver}", tell
        )

    async def uninstall(self, driver: str) -> None:
        """Tell that a driver is not there any more; what fails is logged."""

        async def tell() -> None:
            found = await self._api.get(self._path)
            drivers = found.get("spec", {}).get("drivers") or []
            others = [one for one in drivers if one.get("name") != driver]
            if others != drivers:
                found["spec"] = {"drivers": others}
                await self._api.update(self._path, found)
            patch = without_node_id(await self._api.get(self._node_path), driver)
            if patch is not None:
                await self._api.patch(self._node_path, patch, kind=MERGE_PATCH)

        try:
            await self._repeat(f"error uninstalling CSI driver {driver}", tell)
        except PluginRefused as error:
            logs.event(_log, logging.WARNING, "CSI driver not taken back", reason=str(error))

    async def _csi_node(self) -> Object:
        """Return the CSINode, made if there is none; one of an earlier node is replaced."""
        uid = self._uid()
        try:
            found = await self._api.get(self._path)
        except ApiError as error:
            if not error.not_found:
                raise
        else:
            if not uid or owned(found, self._name, uid):
                return found
            await self._api.delete(self._path)
        return await self._api.create(self._collection, new_csi_node(self._name, uid))

    async def _repeat(self, what: str, work: Callable[[], Any]) -> None:
        """Do ``work``, again after conflicts and faults of the moment."""
        pause = _PAUSE
        async with self._alone:
            for attempt in range(1, _TRIES + 1):
                try:
                    await work()
                    return
                except ApiError as error:
                    if attempt == _TRIES or not (error.conflict or error.transient):
                        raise PluginRefused(f"{what}: {error}") from error
                await asyncio.sleep(pause)
                pause = min(pause * _FACTOR, 5.0)
