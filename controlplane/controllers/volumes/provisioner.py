"""Makes volumes that are directories of a node, and removes them.

A directory of this machine is made before the server is told of its volume, and noted until then:
after a crash it is taken up, or removed when its claim is gone. On another node the kubelet makes
it, and a provisioner there removes it: which machine a node is, its boot id tells.

Nothing holds a pod to the size of its volume: it is the whole file system's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar, Final

from controlplane.engine.controller import Context, Controller
from controlplane.engine.recorder import NORMAL, WARNING
from controlplane.engine.resources import (
    CLAIMS,
    NODES,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    is_deleting,
    key_of,
)
from kubeletpy_common.apiclient.errors import ApiError

from .directories import Directories, DirectoryError
from .flags import DEFAULT_ROOT
from .matching import BIND_COMPLETED, SELECTED_NODE, annotations_of, class_of, default_class
from .provisioning import (
    FINALIZER,
    HOSTNAME,
    NAME,
    RefusalError,
    check_claim,
    default_storage_class,
    hostname_of,
    is_asked,
    is_here,
    is_ours,
    is_to_go,
    parameters_of,
    place,
    volume_name,
    volume_of,
)
from .saying import Sayings

_PENDING: Final = "provisioner/pending"
_HOSTNAME: Final = "provisioner/hostname"
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_SWEEP: Final = "unfinished directories"


class Provisioner(Controller):
    """Provisions volumes of classes whose provisioner is ``kubeletpy.io/host-path``.

    Options: ``host_path_root``, an absolute path; ``host_path_class``, a storage class that is made
    at the start if it is not there.
    """

    name: ClassVar[str] = "volume-provisioner"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        of = context.informers.of
        self._claims, self._volumes = of(CLAIMS), of(VOLUMES)
        self._classes, self._nodes = of(STORAGE_CLASSES), of(NODES)
        root = Path(context.options.get("host_path_root") or DEFAULT_ROOT)
        self._directories = Directories(root)
        self._class = str(context.options.get("host_path_class") or "")
        self._boot = _BOOT_ID.read_text().strip()
        self._claims.index(_PENDING, _pending)
        self._nodes.index(_HOSTNAME, _hostnames)
        self._claims.listen(self._claim_changed)
        self._volumes.listen(self.enqueue)
        self._classes.listen(self._class_changed)
        self._nodes.listen(self._node_changed)
        self._say = Sayings(context.recorder.of(NAME))

    async def run(self) -> None:
        """See `Controller`."""
        await self.context.informers.synced()
        self.queue.add(_SWEEP)
        await super().run()

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        if key == _SWEEP:
            await self._make_class()
            await self._sweep()
        elif "/" in key:
            claim = self._claims.get(key)
            if claim is not None:
                await self._sync_claim(claim)
        else:
            volume = self._volumes.get(key)
            if volume is not None and is_ours(volume):
                await self._sync_volume(volume)
        return None

    # What is to be looked at.

    def _claim_changed(self, before: Object | None, claim: Object | None) -> None:
        found = claim or before
        assert found is not None
        if claim is None:
            self._say.forget(found)
            # Its directory may have been made, and nobody told of it.
            self.queue.add(_SWEEP)
        elif _pending(claim):
            self.queue.add(key_of(claim))

    def _class_changed(self, before: Object | None, value: Object | None) -> None:
        found = value or before
        assert found is not None
        for claim in self._claims.indexed(_PENDING, found["metadata"]["name"]):
            self.queue.add(key_of(claim))

    def _node_changed(self, before: Object | None, node: Object | None) -> None:
        if before is not None and node is not None:
            return
        for name in {class_of(one) for one in self._claims if _pending(one)}:
            for claim in self._claims.indexed(_PENDING, name):
                self.queue.add(key_of(claim))
        for volume in self._volumes:
            if is_ours(volume) and is_to_go(volume):
                self.queue.add(key_of(volume))

    # Claims.

    async def _sync_claim(self, claim: Object) -> None:
        storage_class = self._classes.find("", class_of(claim)) if class_of(claim) else None
        if not is_asked(claim, storage_class):
            return
        assert storage_class is not None
        if self._volumes.find("", volume_name(claim)) is not None:
            return
        name = storage_class["metadata"]["name"]
        try:
            node = self._node_for(claim, storage_class)
            if node is None:
                await self._choose_again(claim)
                return
            parameters = parameters_of(storage_class)
            check_claim(claim, storage_class)
            self._say.say(claim, NORMAL, "Provisioning", "External provisioner is provisioning "
                          f'volume for claim "{key_of(claim)}"')  # fmt: skip
            meta, volume = claim["metadata"], volume_name(claim)
            path = self._directories.path(
                parameters.directory, volume, meta["namespace"], meta["name"]
            )
            here = is_here(node, self._boot)
            if here:
                await asyncio.to_thread(self._directories.make, volume, path, parameters.mode)
            await self._create(volume_of(claim, storage_class, node, path, here=here), claim)
        except RefusalError as error:
            # It stays so until one of the objects changes.
            self._tell_failure(claim, name, str(error))
        except (DirectoryError, ApiError) as error:
            self._tell_failure(claim, name, str(error))
            raise

    def _tell_failure(self, claim: Object, name: str, why: str) -> None:
        text = f'failed to provision volume with StorageClass "{name}": {why}'
        self._say.say(claim, WARNING, "ProvisioningFailed", text)

    def _node_for(self, claim: Object, storage_class: Object) -> Object | None:
        """Return the node that is to have the volume; None: the one that was chosen is gone."""
        chosen = annotations_of(claim).get(SELECTED_NODE)
        if chosen is not None:
            return self._nodes.find("", chosen)
        node = place(self._nodes, storage_class, self._boot)
        if node is None:
            raise RefusalError("no node fits the allowedTopologies of the class, or there is none")
        return node

    async def _choose_again(self, claim: Object) -> None:
        """Tell the scheduler that the node it has chosen is not there."""
        node = annotations_of(claim)[SELECTED_NODE]
        text = f'failed to get target node: nodes "{node}" not found'
        self._say.say(claim, WARNING, "ProvisioningFailed", text)
        version = claim["metadata"]["resourceVersion"]
        changes = {"metadata": {"annotations": {SELECTED_NODE: None}, "resourceVersion": version}}
        await self.context.writer.patch(CLAIMS, claim, changes)

    async def _create(self, volume: Object, claim: Object) -> None:
        name = volume["metadata"]["name"]
        try:
            await self.context.writer.create(VOLUMES, volume)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        await asyncio.to_thread(self._directories.told, name)
        self._say.say(claim, NORMAL, "ProvisioningSucceeded",
                      f"Successfully provisioned volume {name}")  # fmt: skip

    async def _sweep(self) -> None:
        """Finish what was begun before a crash: directories of which the server knows nothing."""
        uids = {volume_name(claim) for claim in self._claims if _pending(claim)}
        for volume, path in await asyncio.to_thread(self._directories.unfinished):
            if volume in uids:
                # Its claim is looked at, and goes on with it.
                continue
            if not await self._is_known(volume):
                await asyncio.to_thread(self._directories.remove, volume, path)
            await asyncio.to_thread(self._directories.told, volume)

    async def _is_known(self, volume: str) -> bool:
        if self._volumes.find("", volume) is not None:
            return True
        try:
            await self.context.writer.read(VOLUMES, {"metadata": {"name": volume}})
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return True

    # Volumes.

    async def _sync_volume(self, volume: Object) -> None:
        volume = await self._keep_finalizer(volume)
        if not is_to_go(volume) or await self._has_claim(volume):
            return
        path, name = volume["spec"]["hostPath"].get("path", ""), key_of(volume)
        nodes = self._nodes.indexed(_HOSTNAME, hostname_of(volume))
        try:
            if any(is_here(node, self._boot) for node in nodes):
                await asyncio.to_thread(self._directories.remove, name, path)
            elif nodes:
                where = nodes[0]["metadata"]["name"]
                self._say.say(volume, WARNING, "VolumeFailedDelete", f"{path} is on node {where}: "
                              "it is removed by a provisioner that runs there")  # fmt: skip
                return
            # A node that is not there any more has taken its directories along.
        except DirectoryError as error:
            self._say.say(volume, WARNING, "VolumeFailedDelete", str(error))
            raise
        if not is_deleting(volume):
            await self.context.writer.delete(VOLUMES, volume)
        left = self._volumes.find("", name)
        if left is not None and left["metadata"]["uid"] == volume["metadata"]["uid"]:
            await self._set_finalizer(left, wanted=False)
        self._say.forget(volume)

    async def _keep_finalizer(self, volume: Object) -> Object:
        """Hold a volume that has a directory to be removed with it, and no other."""
        wanted = volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete"
        there = FINALIZER in (volume["metadata"].get("finalizers") or [])
        if wanted == there or (wanted and is_deleting(volume)):
            return volume
        return await self._set_finalizer(volume, wanted=wanted)

    async def _set_finalizer(self, volume: Object, *, wanted: bool) -> Object:
        others = [one for one in volume["metadata"].get("finalizers") or [] if one != FINALIZER]
        finalizers = [*others, FINALIZER] if wanted else others
        version = volume["metadata"]["resourceVersion"]
        changes = {"metadata": {"finalizers": finalizers, "resourceVersion": version}}
        try:
            return await self.context.writer.patch(VOLUMES, volume, changes)
        except ApiError as error:
            if error.not_found:
                return volume
            raise

    async def _has_claim(self, volume: Object) -> bool:
        """Ask the server whether the claim is there: what is removed does not come back."""
        reference = volume["spec"].get("claimRef")
        if not reference:
            return False
        known = {"metadata": {"namespace": reference["namespace"], "name": reference["name"]}}
        try:
            claim = await self.context.writer.read(CLAIMS, known)
        except ApiError as error:
            if error.not_found:
                return False
            raise
        if claim["metadata"]["uid"] != reference.get("uid"):
            return False
        return claim["spec"].get("volumeName", "") in ("", key_of(volume))

    async def _make_class(self) -> None:
        """Make the storage class that a cluster begins with."""
        if not self._class or self._classes.find("", self._class) is not None:
            return
        default = default_class(self._classes) is None
        try:
            await self.context.writer.create(
                STORAGE_CLASSES, default_storage_class(self._class, default=default)
            )
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
        finally:
            # Who deletes it later means it.
            self._class = ""


def _pending(claim: Object) -> list[str]:
    if claim["spec"].get("volumeName") or BIND_COMPLETED in annotations_of(claim):
        return []
    return [class_of(claim)]


def _hostnames(node: Object) -> list[str]:
    labels = node["metadata"].get("labels") or {}
    return [labels.get(HOSTNAME) or node["metadata"]["name"]]
