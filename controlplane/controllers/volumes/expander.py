"""Lets volumes grow as their claims ask.

Source: Kubernetes documentation, "Expanding Persistent Volumes Claims". A directory of a node has
no size of its own, so growing is to write it down; who enforces nothing has nothing to resize.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from controlplane.engine.controller import Context, Controller
from controlplane.engine.recorder import NORMAL, WARNING
from controlplane.engine.resources import CLAIMS, VOLUMES, Object, key_of
from controlplane.kinds.quantity import QuantityError, parse

from .provisioning import is_ours
from .saying import Sayings


class Expander(Controller):
    """Grows the volumes of `provisioner.Provisioner`; of others it says who has to."""

    name: ClassVar[str] = "persistentvolume-expander-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._claims = context.informers.of(CLAIMS)
        self._volumes = context.informers.of(VOLUMES)
        self._claims.listen(self._changed)
        self._say = Sayings(context.recorder.of("volume_expand"))

    def _changed(self, before: Object | None, claim: Object | None) -> None:
        if claim is not None and grows(claim):
            self.queue.add(key_of(claim))

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        claim = self._claims.get(key)
        if claim is None or not grows(claim):
            return None
        volume = self._volumes.find("", claim["spec"]["volumeName"])
        if (
            volume is None
            or (volume["spec"].get("claimRef") or {}).get("uid") != (claim["metadata"]["uid"])
        ):
            return None
        if not is_ours(volume):
            kind = NORMAL if "csi" in volume["spec"] else WARNING
            self._say.say(claim, kind, "ExternalExpanding",
                          "waiting for an external controller to expand this PVC")  # fmt: skip
            return None
        size = requested(claim)
        self._say.say(claim, NORMAL, "Resizing",
                      f"External resizer is resizing volume {key_of(volume)}")  # fmt: skip
        if _amount(volume["spec"].get("capacity")) < _amount({"storage": size}):
            await self.context.writer.patch(
                VOLUMES, volume, _locked(volume, {"spec": {"capacity": {"storage": size}}})
            )
        await self.context.writer.patch(
            CLAIMS, claim, _locked(claim, {"status": grown(claim)}), subresource="status"
        )
        self._say.say(claim, NORMAL, "VolumeResizeSuccessful", "Resize volume succeeded")
        return None


def requested(claim: Object) -> str:
    """Return the size that a claim asks for (pure)."""
    size: str = claim["spec"]["resources"]["requests"]["storage"]
    return size


def grows(claim: Object) -> bool:
    """Whether a bound claim asks for more than it has (pure)."""
    status = claim.get("status") or {}
    if status.get("phase") != "Bound" or not claim["spec"].get("volumeName"):
        return False
    return _amount(claim["spec"]["resources"].get("requests")) > _amount(status.get("capacity"))


def grown(claim: Object) -> dict[str, Any]:
    """Return what is to be changed of a claim's status once its volume has grown (pure)."""
    status, size = claim.get("status") or {}, requested(claim)
    changes: dict[str, Any] = {
        "capacity": {"storage": size}, "allocatedResources": {"storage": size},
        "allocatedResourceStatuses": {"storage": None},
    }  # fmt: skip
    if status.get("conditions"):
        resizes = ("Resizing", "FileSystemResizePending", "ControllerResizeError")
        changes["conditions"] = [one for one in status["conditions"] if one["type"] not in resizes]
    return changes


def _amount(amounts: Any) -> Decimal:
    try:
        return parse(str((amounts or {}).get("storage", "0")))
    except QuantityError:
        return parse("0")


def _locked(value: Object, changes: dict[str, Any]) -> dict[str, Any]:
    known = {name: value["metadata"][name] for name in ("uid", "resourceVersion")}
    return {**changes, "metadata": known}
