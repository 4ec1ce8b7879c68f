"""CSI volumes behind the seam of volumes: attached, staged once a node, published for each pod.

What is about to be asked of a driver is written down before (`data`), so that another kubelet can
undo it. A volume is unstaged when no pod of the node has it published, or is about to.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubeletpy.api.quantity import Quantity
from kubeletpy.plugins.channels import PluginError
from kubeletpy.volumes import mountinfo, ownership
from kubeletpy.volumes.context import Context
from kubeletpy.volumes.errors import VolumeError
from kubeletpy.volumes.paths import PodPaths
from kubeletpy.volumes.payload import PayloadError
from kubeletpy.volumes.plugin import MountRecord, SetUp, VolumeRequest, VolumeSource
from kubeletpy_common import logs
from kubeletpy_proto import csi_pb2 as pb

from . import NAME, data
from .client import Capability, DriverClient, Usage
from .data import Layout
from .drivers import Drivers
from .objects import CsiObjects
from .requests import (
    EPHEMERAL,
    PERSISTENT,
    TOKENS,
    CsiVolume,
    capability,
    group_by_kubelet,
    must_attach,
    pod_attributes,
    refused_mode,
    volume_of,
)

_log = logging.getLogger(__name__)
AGAIN = 60.0
"""Seconds until a volume is published again for drivers that want that, and until a claim that can
grow is looked at; Go does so at each resync of the pod."""
_TOKEN_SECONDS = 3600
Object = Mapping[str, Any]


@dataclass
class _Shared:
    """A volume on this node.

    Attributes:
        lock: of staging and unstaging.
        users: UIDs of pods that have it published, or are about to.
        staged: whether this kubelet has staged it.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: set[str] = field(default_factory=set)
    staged: bool = False


class CsiPlugin:
    """See `VolumePlugin`.

    Args:
        root: ``--root-dir``.
        node: name of the node.
        drivers: the registered ones.
        objects: the API server.
        context: what volume plug-ins share.
    """

    name = NAME
    mount_options = True
    follows = False

    def __init__(
        self, root: Path, node: str, drivers: Drivers, objects: CsiObjects, context: Context
    ) -> None:
        self._root = root
        self._node = node
        self._layout = Layout(root)
        self._drivers = drivers
        self._objects = objects
        self._context = context
        self._shared: dict[tuple[str, str], _Shared] = {}
        self._published: set[tuple[str, str]] = set()
        self._wanted: dict[tuple[str, str], tuple[str, str]] = {}
        for _, known in self._layout.all_staged():
            if known.get("attached") == "true":
                objects.add_in_use(_unique_name(known))

    def supports(self, source: VolumeSource) -> bool:
        """See `VolumePlugin`."""
        inline = source.inline
        return (inline is not None and inline.csi is not None) or bool(source.of_volume("csi"))

    def path(self, request: VolumeRequest) -> str:
        """See `VolumePlugin`."""
        return str(self._target(request))

    def read_only(self, request: VolumeRequest) -> bool:
        """See `VolumePlugin`."""
        return volume_of(request).read_only

    def _target(self, request: VolumeRequest) -> Path:
        uid = request.pod.metadata.uid
        return self._layout.target(request.directory, request.spec_name, uid, block=request.block)

    def _of(self, driver: str, handle: str) -> _Shared:
        return self._shared.setdefault((driver, handle), _Shared())

    # Mounting -----------------------------------------------------------------------------------

    async def set_up(self, request: VolumeRequest) -> SetUp:
        """See `VolumePlugin`."""
        volume = volume_of(request)
        client = await self._drivers.get(volume.driver, "mounter.SetUpAt")
        driver = await self._objects.driver(volume.driver)
        refusal = refused_mode(volume, driver)
        if refusal or not volume.handle:
            raise VolumeError("", f"{NAME}: mounter.SetUpAt failed: {refusal or 'no volumeHandle'}")
        uid = request.pod.metadata.uid
        if volume.persistent:
            self._of(volume.driver, volume.handle).users.add(uid)
            self._wanted[uid, request.name] = (volume.driver, volume.handle)
        try:
            return await self._mount(request, volume, client, driver)
        except PluginError as error:
            raise VolumeError("", str(error)) from error
        except PayloadError as error:
            raise VolumeError("", f"{NAME}: {error}") from error

    async def _mount(
        self,
        request: VolumeRequest,
        volume: CsiVolume,
        client: DriverClient,
        driver: Object | None,
    ) -> SetUp:
        spec = (driver or {}).get("spec", {})
        republish = bool(spec.get("requiresRepublish"))
        group = None
        if await client.can(Capability.VOLUME_MOUNT_GROUP):
            group = request.fs_group
        multi = await client.can(Capability.SINGLE_NODE_MULTI_WRITER)
        usage = capability(volume, multi_writer=multi, group=group)
        key = (request.pod.metadata.uid, request.name)
        if key not in self._published or republish:
            await self._ensure(request, volume, client, usage, driver)
            self._published.add(key)
        grows = volume.persistent and await client.can(Capability.EXPAND_VOLUME)
        if grows:
            await self._expand(request, volume, client, usage)
        return SetUp(again_after=AGAIN if grows or republish else None)

    async def _ensure(
        self,
        request: VolumeRequest,
        volume: CsiVolume,
        client: DriverClient,
        usage: pb.VolumeCapability,
        driver: Object | None,
    ) -> None:
        """Do what is missing of attaching, staging, publishing and giving to the group."""
        spec = (driver or {}).get("spec", {})
        key, target = (request.pod.metadata.uid, request.name), self._target(request)
        context: dict[str, str] = {}
        attach = volume.persistent and must_attach(driver)
        if attach:
            context = await self._objects.attachment(volume)
        staging = ""
        if volume.persistent:
            staging = await self._stage(request, volume, client, usage, context, attach)
        fresh = key not in self._published and mountinfo.mounted_at(target) is None
        if fresh or spec.get("requiresRepublish"):
            await self._publish(request, volume, client, usage, context, staging, spec, fresh)
        by_driver = await client.can(Capability.VOLUME_MOUNT_GROUP)
        if fresh and not by_driver and group_by_kubelet(volume, driver, request.fs_group):
            await self._context.run(
                request,
                f"giving volume {request.spec_name} to its group",
                lambda: ownership.change(target, request.fs_group, policy=request.fs_group_policy),
            )

    async def _stage(
        self,
        request: VolumeRequest,
        volume: CsiVolume,
        client: DriverClient,
        usage: pb.VolumeCapability,
        context: Mapping[str, str],
        attach: bool,
    ) -> str:
        """Make a volume ready on the node, once; return where, "" for drivers that need not."""
        shared = self._of(volume.driver, volume.handle)
        directory = self._layout.staged(volume)
        path = self._layout.staging_path(volume, request.spec_name)
        known = {
            "volumeHandle": volume.handle,
            "driverName": volume.driver,
            "specVolID": request.spec_name,
            "attached": "true" if attach else "false",
            "block": "true" if volume.block else "false",
        }
        async with shared.lock:
            if not shared.staged:
                await self._save(request, directory, known)
            if not await client.can(Capability.STAGE_UNSTAGE_VOLUME):
                shared.staged = True
                return ""
            if shared.staged:
                return str(path)
            secrets = await self._objects.secret(volume.stage_secret, "NodeStageSecretRef")
            await self._run(request, "making the staging directory", lambda: _make(path))
            await client.stage(
                pb.NodeStageVolumeRequest(
                    volume_id=volume.handle,
                    publish_context=context,
                    staging_target_path=str(path),
                    volume_capability=usage,
                    secrets=secrets,
                    volume_context=volume.attributes,
                )
            )
            shared.staged = True
        return str(path)

    async def _publish(
        self,
        request: VolumeRequest,
        volume: CsiVolume,
        client: DriverClient,
        usage: pb.VolumeCapability,
        context: Mapping[str, str],
        staging: str,
        spec: Object,
        fresh: bool,
    ) -> None:
        pod, target = request.pod, self._target(request)
        attributes = dict(volume.attributes)
        if spec.get("podInfoOnMount"):
            attributes |= pod_attributes(pod, volume.mode)
        secrets = await self._objects.secret(volume.publish_secret, "NodePublishSecretRef")
        tokens = await self._tokens(request, spec)
        if spec.get("serviceAccountTokenInSecrets"):
            secrets |= tokens
        else:
            attributes |= tokens
        known = {
            "specVolID": request.spec_name,
            "volumeHandle": volume.handle,
            "driverName": volume.driver,
            "nodeName": self._node,
            "volumeLifecycleMode": volume.mode,
            "attachmentID": "",
        }
        await self._save(request, request.directory, known)
        await self._run(request, "making the volume's directory", lambda: _make(target.parent))
        try:
            await client.publish(
                pb.NodePublishVolumeRequest(
                    volume_id=volume.handle,
                    publish_context=context,
                    staging_target_path=staging,
                    target_path=str(target),
                    volume_capability=usage,
                    readonly=volume.read_only,
                    secrets=secrets,
                    volume_context=attributes,
                )
            )
        except PluginError as error:
            # A volume that is published already stays as it is for its pod.
            if error.final and fresh:
                await self._clean_up(pod.metadata.uid, request.name, request.directory, target)
            raise

    async def _tokens(self, request: VolumeRequest, spec: Object) -> dict[str, str]:
        """Return the tokens that a driver asks for, as one attribute."""
        wanted = spec.get("tokenRequests") or ()
        if not wanted:
            return {}
        found = {}
        for one in wanted:
            audience = str(one.get("audience") or "")
            seconds = int(one.get("expirationSeconds") or _TOKEN_SECONDS)
            token = await self._context.tokens.get(request.pod, audience, seconds)
            expires = datetime.fromtimestamp(int(token.expires), UTC)
            found[audience] = {
                "token": token.value,
                "expirationTimestamp": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        return {TOKENS: json.dumps(found, separators=(",", ":"), sort_keys=True)}

    async def _expand(
        self,
        request: VolumeRequest,
        volume: CsiVolume,
        client: DriverClient,
        usage: pb.VolumeCapability,
    ) -> None:
        """Have the file system fill a volume that is larger than its claim says."""
        found, claim = request.source.volume, request.source.claim
        if found is None or claim is None:
            return
        size = str((found["spec"].get("capacity") or {}).get("storage") or "0")
        known = str(((claim.get("status") or {}).get("capacity") or {}).get("storage") or "0")
        if Quantity(size) <= Quantity(known) or Quantity(known) == Quantity(0):
            return
        secrets = await self._objects.secret(volume.expand_secret, "NodeExpandSecretRef")
        staging = ""
        if await client.can(Capability.STAGE_UNSTAGE_VOLUME):
            staging = str(self._layout.staging_path(volume, request.spec_name))
        recorder = self._context.recorder
        try:
            await client.expand(
                pb.NodeExpandVolumeRequest(
                    volume_id=volume.handle,
                    volume_path=str(self._target(request)),
                    capacity_range=pb.CapacityRange(required_bytes=int(Quantity(size))),
                    staging_target_path=staging,
                    volume_capability=usage,
                    secrets=secrets,
                )
            )
        except PluginError as error:
            # The volume can be used as it is.
            if recorder is not None:
                text = f'NodeExpandVolume failed for volume "{request.spec_name}" : {error}'
                recorder.warning(request.pod, "VolumeResizeFailed", text)
            return
        if recorder is not None:
            text = f'MountVolume.NodeExpandVolume succeeded for volume "{request.spec_name}"'
            recorder.normal(request.pod, "FileSystemResizeSuccessful", f"{text} {self._node}")
        await self._objects.claim_resized(dict(claim), size)

    # Unmounting ---------------------------------------------------------------------------------

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        """See `VolumePlugin`."""
        directory = PodPaths(self._root, uid).volume(NAME, record.spec_name)
        target = self._layout.target(directory, record.spec_name, uid, block=record.block)
        known = data.load(directory)
        wanted = self._wanted.get((uid, record.name))
        try:
            if known is not None:
                await self._unpublish(uid, record, directory, target, known)
            elif wanted is not None:
                # It was staged, perhaps, but never published.
                client = await self._drivers.get(wanted[0], "UnmountDevice")
                await self._leave(client, *wanted, uid)
        except PluginError as error:
            message = f"{NAME}: Unmounter.TearDownAt failed: {error}"
            raise VolumeError("", message) from error
        self._published.discard((uid, record.name))
        self._wanted.pop((uid, record.name), None)

    async def _unpublish(
        self, uid: str, record: MountRecord, directory: Path, target: Path, known: data.Data
    ) -> None:
        driver, handle = known.get("driverName", ""), known.get("volumeHandle", "")
        client = await self._drivers.get(driver, "Unmounter.TearDownAt")
        await client.unpublish(handle, str(target))
        gone = known | {data.UNPUBLISHED: "true"}
        what = f"recording that volume {record.spec_name} is unmounted"
        await self._context.run_for(uid, record.name, what, lambda: data.save(directory, gone))
        if known.get("volumeLifecycleMode") != EPHEMERAL:
            await self._leave(client, driver, handle, uid)
        await self._clean_up(uid, record.name, directory, target)

    async def _leave(self, client: DriverClient, driver: str, handle: str, uid: str) -> None:
        """A pod does not use a volume any more: unstage it if no other does.

        Raises:
            PluginError, VolumeError: it could not be unstaged.
        """
        shared = self._of(driver, handle)
        async with shared.lock:
            shared.users.discard(uid)
            users = await asyncio.to_thread(self._layout.users, driver, handle)
            if shared.users or users - {uid}:
                return
            volume = CsiVolume(driver=driver, handle=handle)
            directory = self._layout.staged(volume)
            known = data.load(directory)
            if known is None:
                return
            volume = CsiVolume(driver=driver, handle=handle, block=known.get("block") == "true")
            path = self._layout.staging_path(volume, known.get("specVolID", ""))
            if await client.can(Capability.STAGE_UNSTAGE_VOLUME):
                await client.unstage(handle, str(path))
            shared.staged = False
            await self._clean_up(uid, handle, directory, path)
            self._objects.drop_in_use(volume.unique_name)
            self._shared.pop((driver, handle), None)

    async def tidy(self, driver: str) -> None:
        """Unstage what an earlier kubelet left of a driver that has just registered."""
        client = await self._drivers.get(driver, "UnmountDevice")
        for _, known in list(self._layout.all_staged()):
            if known.get("driverName") != driver:
                continue
            handle = known.get("volumeHandle", "")
            try:
                await self._leave(client, driver, handle, "")
            except (PluginError, VolumeError) as error:
                logs.event(
                    _log, logging.WARNING, "volume of an earlier kubelet not unstaged",
                    driver=driver, volume=handle, reason=str(error),
                )  # fmt: skip

    async def _clean_up(self, uid: str, name: str, directory: Path, target: Path) -> None:
        await self._context.run_for(
            uid or name, name, "removing what a volume left", lambda: data.remove(directory, target)
        )

    async def _save(self, request: VolumeRequest, directory: Path, known: data.Data) -> None:
        await self._run(request, "recording a volume", lambda: data.save(directory, known))

    async def _run(self, request: VolumeRequest, what: str, call: Any) -> None:
        await self._context.run(request, what, call)

    # Statistics ---------------------------------------------------------------------------------

    async def usage(self, uid: str, record: MountRecord, *, timeout: float = 10.0) -> Usage:
        """Return the space of a pod's volume, as its driver tells.

        Raises:
            VolumeError: the driver does not tell, or is not there.
        """
        directory = PodPaths(self._root, uid).volume(NAME, record.spec_name)
        target = self._layout.target(directory, record.spec_name, uid, block=record.block)
        known = data.load(directory)
        if known is None:
            raise VolumeError(record.name, "it is not published")
        client = await self._drivers.get(known.get("driverName", ""), "NodeGetVolumeStats")
        try:
            return await client.usage(known.get("volumeHandle", ""), str(target), timeout=timeout)
        except PluginError as error:
            raise VolumeError(record.name, str(error)) from error


def _unique_name(known: data.Data) -> str:
    driver, handle = known.get("driverName", ""), known.get("volumeHandle", "")
    return CsiVolume(driver=driver, handle=handle, mode=PERSISTENT).unique_name


def _make(path: Path) -> None:
    path.mkdir(mode=0o750, parents=True, exist_ok=True)
