"""Volumes of CSI drivers that a node without a kubelet still has published or staged.

A driver keeps more than a mount: a device, a connection, an encrypted mapping. So it is asked to
let go, as long as it runs; its pods end after all others. One that is gone, or refuses, is told:
its volumes are unmounted all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kubeletpy.csi import NAME, data
from kubeletpy.csi.client import Capability, DriverClient
from kubeletpy.csi.requests import EPHEMERAL, CsiVolume
from kubeletpy.install import leftovers
from kubeletpy.install.errors import InstallError
from kubeletpy.plugins.channels import PluginError, call, connect
from kubeletpy.plugins.watcher import CSI_PLUGIN, DIRECTORY
from kubeletpy.volumes import mountinfo
from kubeletpy.volumes.paths import escaped, pods_directory
from kubeletpy_common.linux import mounts
from kubeletpy_proto import pluginregistration_pb2, pluginregistration_pb2_grpc

_INFO_SECONDS: Final = 30.0
_DETACH: Final = 2 | mounts.UMOUNT_NOFOLLOW  # MNT_DETACH of umount2(2)


@dataclass(frozen=True, slots=True)
class Held:
    """A volume that a driver holds here.

    Attributes:
        driver, handle: whose, and what it calls it.
        name: of the PersistentVolume, or of the pod's inline volume.
        directory: with its data.
        target: where it is published, or staged.
        uid: of the pod that it is published for; "": it is staged.
    """

    driver: str
    handle: str
    name: str
    directory: Path
    target: Path
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.handle} ({self.name}) of driver {self.driver}"


@dataclass
class Outcome:
    """What became of them.

    Attributes:
        released: their drivers let go of them.
        forced: were unmounted without that, and why; for people.
    """

    released: list[Held] = field(default_factory=list)
    forced: list[str] = field(default_factory=list)


def held(root: Path) -> tuple[list[Held], list[Held]]:
    """Return the volumes that are published, and those that are staged, below ``--root-dir``."""
    layout = data.Layout(root)
    staged, blocks = [], set()
    for directory, known in layout.all_staged():
        driver, handle = known.get("driverName", ""), known.get("volumeHandle", "")
        block = known.get("block") == "true"
        if block:
            blocks.add((driver, handle))
        name = known.get("specVolID", "")
        path = layout.staging_path(CsiVolume(driver=driver, handle=handle, block=block), name)
        staged.append(Held(driver, handle, name, directory, path))
    published = []
    for path in sorted(pods_directory(root).glob(f"*/volumes/{escaped(NAME)}/*/{data.FILE}")):
        pod = data.load(path.parent)
        if pod is None or pod.get(data.UNPUBLISHED) == "true":
            continue
        driver, handle = pod.get("driverName", ""), pod.get("volumeHandle", "")
        name, uid = pod.get("specVolID", path.parent.name), path.parents[3].name
        block = (driver, handle) in blocks and pod.get("volumeLifecycleMode") != EPHEMERAL
        target = layout.target(path.parent, name, uid, block=block)
        published.append(Held(driver, handle, name, path.parent, target, uid))
    return published, staged


async def release(root: Path, seconds: float) -> Outcome:
    """Have the drivers let go of all volumes; unmount what they do not.

    Their pods have ended. ``seconds`` is the time for all of it.
    """
    published, staged = held(root)
    outcome = Outcome()
    if not published and not staged:
        return outcome
    for uid in sorted({one.uid for one in published}):
        # Mounts of parts of a volume keep it busy.
        with contextlib.suppress(InstallError):
            leftovers.unmount(pods_directory(root) / uid / "volume-subpaths")
    clients = {name: DriverClient(path) for name, path in (await _drivers(root)).items()}
    try:
        deadline = asyncio.get_running_loop().time() + seconds
        for one in (*published, *staged):
            await _release(one, clients.get(one.driver), deadline, outcome)
    finally:
        for client in clients.values():
            await client.close()
    return outcome


async def _release(
    one: Held, client: DriverClient | None, deadline: float, outcome: Outcome
) -> None:
    try:
        if client is None:
            raise FileNotFoundError("its driver does not run")
        async with asyncio.timeout_at(deadline):
            if one.uid:
                await client.unpublish(one.handle, str(one.target))
            elif await client.can(Capability.STAGE_UNSTAGE_VOLUME):
                await client.unstage(one.handle, str(one.target))
        await asyncio.to_thread(data.remove, one.directory, one.target)
    except (PluginError, OSError) as error:
        # A TimeoutError is an OSError.
        reason = str(error) or "its driver did not answer in time"
        outcome.forced.append(f"{one}: {reason}{await asyncio.to_thread(_unmount, one.target)}")
    else:
        outcome.released.append(one)


def _unmount(target: Path) -> str:
    """Unmount what is left; return what is to be told of that."""
    try:
        if mountinfo.mounted_at(target) is None:
            return ""
        mounts.umount(target, _DETACH)
    except OSError as error:
        return f"; {target} cannot be unmounted: {error.strerror}"
    return f"; {target} was unmounted"


async def _drivers(root: Path) -> dict[str, Path]:
    """Return the sockets of the drivers that are there, by name, as their registrars tell."""
    found: dict[str, Path] = {}
    for path in sorted((root / DIRECTORY).glob("**/*.sock")):
        channel = connect(path)
        try:
            stub: pluginregistration_pb2_grpc.RegistrationAsyncStub
            stub = pluginregistration_pb2_grpc.RegistrationStub(channel)
            info = await call(
                stub.GetInfo, pluginregistration_pb2.InfoRequest(), timeout=_INFO_SECONDS
            )
        except PluginError:
            continue
        finally:
            await channel.close()
        if info.type == CSI_PLUGIN and info.name:
            found[info.name] = Path(info.endpoint or path)
    return found
