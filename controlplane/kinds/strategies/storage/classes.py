"""storage.k8s.io: classes of storage, and what drivers tell of themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import duplicate, forbidden, required, too_long, wrong
from controlplane.api.resource import AGE, Column, Context, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    check_dns_subdomain,
    check_immutable,
    check_not_negative,
    check_one_of,
    check_qualified_name,
    check_selector,
    is_same,
)
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.base import Plain, WithStatus
from controlplane.kinds.strategies.storage.volumes import check_volume_spec

_DEFAULT: Final = ("storageclass.kubernetes.io/is-default-class",
                   "storageclass.beta.kubernetes.io/is-default-class")  # fmt: skip
_BINDING: Final = ("Immediate", "WaitForFirstConsumer")
_MAX_PARAMETERS: Final = 512
_MAX_BYTES: Final = 256 << 10
_MAX_MESSAGE: Final = 1024
_MAX_DRIVER: Final = 63
_MAX_NODE_ID: Final = 256


class StorageClass(Plain):
    """Classes of storage: only what they allow later may be changed."""

    columns = (
        Column("Name", "string", "name", description="Of the class; whether it is the default."),
        Column("Provisioner", description="Who makes its volumes."),
        Column("ReclaimPolicy", description="Of its volumes."),
        Column("VolumeBindingMode", description="When claims are bound."),
        Column("AllowVolumeExpansion", description="Whether claims can grow."),
        AGE,
    )

    def default(self, value: Object) -> None:
        """Put in policy and mode."""
        value.setdefault("reclaimPolicy", "Delete")
        value.setdefault("volumeBindingMode", "Immediate")

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with a new class, or what of it may not be changed."""
        if old is not None:
            return [
                cause
                for key in ("parameters", "provisioner", "reclaimPolicy", "volumeBindingMode")
                for cause in check_immutable(value.get(key), old.get(key), key)
            ]
        causes = _check_provisioner(value.get("provisioner", ""), "provisioner")
        causes += _check_parameters(value.get("parameters", {}), "parameters")
        if value["reclaimPolicy"]:
            causes += check_one_of(value["reclaimPolicy"], "reclaimPolicy", ("Delete", "Retain"))
        causes += check_one_of(value["volumeBindingMode"], "volumeBindingMode", _BINDING)
        return causes + _check_topologies(value.get("allowedTopologies", []), "allowedTopologies")

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        meta = value["metadata"]
        default = any(meta.get("annotations", {}).get(key) == "true" for key in _DEFAULT)
        return [
            f"{meta['name']} (default)" if default else meta["name"],
            value.get("provisioner", ""),
            value.get("reclaimPolicy", "Delete"),
            value.get("volumeBindingMode", "Immediate"),
            value.get("allowVolumeExpansion", False),
        ]


class VolumeAttributesClass(Plain):
    """Classes of attributes, which never change."""

    columns = (Column("DriverName", description="Of the CSI driver."),)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with driver and parameters."""
        causes = _check_provisioner(value.get("driverName", ""), "driverName")
        parameters = value.get("parameters", {})
        causes += _check_parameters(parameters, "parameters")
        if not parameters:
            causes.append(required("parameters", "must contain at least one key/value pair"))
        for key in ("driverName", "parameters") if old is not None else ():
            if not is_same(value.get(key), (old or {}).get(key)):
                causes.append(forbidden(key, f"updates to {key} are forbidden."))
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [value.get("driverName", "")]


class CSIDriver(Plain):
    """CSI drivers; a change of one is a generation, but the first one is none."""

    unconditional = False
    columns = (
        Column("AttachRequired", "boolean", description="Whether volumes are attached first."),
        Column("PodInfoOnMount", "boolean", description="Whether it is told of pods."),
        Column("StorageCapacity", "boolean", description="Whether it tells its capacity."),
        Column("TokenRequests", description="Audiences of the tokens it wants."),
        Column("RequiresRepublish", "boolean", description="Whether it is called again."),
        Column("Modes", description="Of its volumes."),
    )

    def default(self, value: Object) -> None:
        """Put in what it does unless it says otherwise."""
        spec = value.setdefault("spec", {})
        for key in ("podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"):
            spec.setdefault(key, False)
        spec.setdefault("attachRequired", True)
        spec.setdefault("fsGroupPolicy", "ReadWriteOnceWithFSType")
        if not spec.get("volumeLifecycleModes"):
            spec["volumeLifecycleModes"] = ["Persistent"]

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Count changes of what a kubelet must hear of."""
        meta = value["metadata"]
        meta.pop("generation", None)
        number = old["metadata"].get("generation", 0)
        if not is_same(value["spec"], old["spec"]):
            number += 1
        if number:
            meta["generation"] = number

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec."""
        spec = value["spec"]
        known = ("ReadWriteOnceWithFSType", "File", "None")
        causes = check_one_of(spec["fsGroupPolicy"], "spec.fsGroupPolicy", known)
        requests = spec.get("tokenRequests", [])
        causes += _check_tokens(requests, "spec.tokenRequests")
        for mode in spec["volumeLifecycleModes"]:
            path = "spec.volumeLifecycleModes"
            causes += check_one_of(mode, path, ("Persistent", "Ephemeral"))
        period = spec.get("nodeAllocatableUpdatePeriodSeconds")
        if period is not None and period < 10:
            text = "must be greater than or equal to 10 seconds"
            causes.append(wrong("spec.nodeAllocatableUpdatePeriodSeconds", period, text))
        if "serviceAccountTokenInSecrets" in spec and not requests:
            text = "is set but no tokenRequests are specified"
            path = "spec.serviceAccountTokenInSecrets"
            causes.append(wrong(path, spec["serviceAccountTokenInSecrets"], text))
        if old is not None:
            before = old["spec"]
            for key, path in (
                ("attachRequired", "spec.attachedRequired"),
                ("volumeLifecycleModes", "spec.volumeLifecycleModes"),
            ):
                causes += check_immutable(spec.get(key), before.get(key), path)
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec = value["spec"]
        requests = spec.get("tokenRequests")
        audiences = ",".join(one.get("audience", "") for one in requests or ())
        return [
            spec.get("attachRequired", True),
            spec.get("podInfoOnMount", False),
            spec.get("storageCapacity", False),
            cells.UNSET if requests is None else audiences,
            spec.get("requiresRepublish", False),
            ",".join(spec.get("volumeLifecycleModes", ())) or cells.NONE,
        ]


class CSINode(Plain):
    """What drivers a node has."""

    unconditional = False
    columns = (Column("Drivers", "integer", description="How many drivers the node has."),)

    def default(self, value: Object) -> None:
        """Put in an empty spec."""
        value.setdefault("spec", {})

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the drivers."""
        causes: list[Cause] = []
        seen: set[str] = set()
        drivers = value["spec"].get("drivers", ())
        for index, driver in enumerate(drivers):
            path = f"spec.drivers[{index}]"
            causes += _check_node_driver(driver, path)
            name = driver.get("name", "")
            causes += [duplicate(f"{path}.name", name)] if name in seen else []
            seen.add(name)
        before = {one["name"]: one for one in (old or {}).get("spec", {}).get("drivers", ())}
        for driver in drivers:
            known = before.get(driver.get("name", ""))
            if known is not None and not is_same(
                {**driver, "allocatable": None}, {**known, "allocatable": None}
            ):
                causes.append(wrong("spec.drivers", driver, "field is immutable"))
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [len(value["spec"].get("drivers", ()))]


class CSIStorageCapacity(Plain):
    """How much storage a driver can make somewhere."""

    unconditional = False
    columns = (
        Column("Name", "string", "name", description="Of the object."),
        Column("Created At", "date", description="When it was made."),
    )

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with topology, class and capacity."""
        causes = check_selector(value.get("nodeTopology"), "nodeTopology")
        causes += check_dns_subdomain(value.get("storageClassName", ""), "storageClassName")
        capacity = value.get("capacity")
        if capacity is not None and parse(capacity) < 0:
            causes.append(wrong("capacity", capacity, "must be greater than or equal to 0"))
        for key in ("nodeTopology", "storageClassName") if old is not None else ():
            causes += check_immutable(value.get(key), (old or {}).get(key), key)
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        meta = value["metadata"]
        return [meta["name"], meta.get("creationTimestamp", "")]


class VolumeAttachment(WithStatus):
    """That a volume is to be attached to a node; its spec never changes."""

    generation = False
    unconditional = False
    initial: ClassVar[Mapping[str, Any]] = {"attached": False}
    columns = (
        Column("Attacher", "string", "name", description="The driver that attaches it."),
        Column("PV", description="The volume."),
        Column("Node", description="The node."),
        Column("Attached", "boolean", description="Whether it is attached."),
    )

    def default(self, value: Object) -> None:
        """Put in what is always there."""
        super().default(value)
        value["spec"].setdefault("source", {})

    def prepare_status(self, value: Object, old: Object, context: Context) -> None:
        """Leave the metadata alone."""
        books = value["metadata"].get("managedFields")
        value["metadata"] = {**old["metadata"]}
        if books is not None:
            value["metadata"]["managedFields"] = books

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with driver, source and node."""
        spec = value["spec"]
        causes = _check_driver(spec.get("attacher", ""), "spec.attacher")
        causes += _check_attached(spec["source"], "spec.source")
        causes += check_dns_subdomain(spec.get("nodeName", ""), "spec.nodeName")
        if old is not None:
            causes += check_immutable(spec, old["spec"], "spec")
        return causes + self.validate_status(value, value)

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with metadata and errors."""
        status = value.get("status", {})
        causes: list[Cause] = []
        told = status.get("attachmentMetadata", {})
        if sum(len(key) + len(item) for key, item in told.items()) > _MAX_BYTES:
            causes.append(too_long("status.attachmentMetadata", _MAX_BYTES))
        for key in ("attachError", "detachError"):
            error = status.get(key, {})
            if len(error.get("message", "")) > _MAX_MESSAGE:
                causes.append(too_long(f"status.{key}.message", _MAX_MESSAGE))
            causes += check_not_negative(error, f"status.{key}", "errorCode")
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec = value["spec"]
        return [
            spec.get("attacher", ""),
            spec.get("source", {}).get("persistentVolumeName", ""),
            spec.get("nodeName", ""),
            value.get("status", {}).get("attached", False),
        ]


def _check_provisioner(name: str, path: str) -> list[Cause]:
    return check_qualified_name(name.lower(), path) if name else [required(path)]


def _check_parameters(parameters: dict[str, str], path: str) -> list[Cause]:
    if len(parameters) > _MAX_PARAMETERS:
        return [too_long(path, _MAX_PARAMETERS)]
    causes = [wrong(path, "", "field can not be empty.")] if "" in parameters else []
    if sum(len(key) + len(item) for key, item in parameters.items()) > _MAX_BYTES:
        causes.append(too_long(path, _MAX_BYTES))
    return causes


def _check_topologies(terms: list[Object], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: list[dict[str, set[str]]] = []
    for index, term in enumerate(terms):
        here, found = f"{path}[{index}]", {}
        for number, one in enumerate(term.get("matchLabelExpressions", ())):
            below = f"{here}.matchLabelExpressions[{number}]"
            key, values = one.get("key", ""), one.get("values", [])
            causes += check_qualified_name(key, f"{below}.key")
            causes += [] if values else [required(f"{below}.values")]
            causes += [
                duplicate(f"{below}.values[{n}]", item)
                for n, item in enumerate(values)
                if item in values[:n]
            ]
            causes += [duplicate(f"{below}.key", key)] if key in found else []
            found[key] = set(values)
        if found in seen:
            causes.append(duplicate(f"{here}.matchLabelExpressions", ""))
        seen.append(found)
    return causes


def _check_tokens(requests: list[Object], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, request in enumerate(requests):
        audience, seconds = request.get("audience", ""), request.get("expirationSeconds", 3600)
        if audience in seen:
            causes.append(duplicate(f"{path}[{index}].audience", audience))
            continue
        seen.add(audience)
        if not 600 <= seconds <= 1 << 32:
            text = "must be at least 10 minutes and at most 2^32 seconds"
            causes.append(wrong(f"{path}[{index}].expirationSeconds", seconds, text))
    return causes


def _check_driver(name: str, path: str) -> list[Cause]:
    if not name:
        return [required(path)]
    causes = [too_long(path, _MAX_DRIVER)] if len(name) > _MAX_DRIVER else []
    return causes + check_dns_subdomain(name.lower(), path)


def _check_node_driver(driver: Object, path: str) -> list[Cause]:
    causes = _check_driver(driver.get("name", ""), f"{path}.name")
    node = driver.get("nodeID", "")
    causes += [] if node else [required(f"{path}.nodeID")]
    if len(node) > _MAX_NODE_ID:
        causes.append(wrong(f"{path}.nodeID", node, f"must have at most {_MAX_NODE_ID} characters"))
    causes += check_not_negative(driver.get("allocatable", {}), f"{path}.allocatable", "count")
    keys = driver.get("topologyKeys", [])
    for index, key in enumerate(keys):
        causes += [] if key else [required(path)]
        causes += [duplicate(path, key)] if key in keys[:index] else []
        causes += check_qualified_name(key, path)
    return causes


def _check_attached(source: Object, path: str) -> list[Cause]:
    name, inline = source.get("persistentVolumeName"), source.get("inlineVolumeSpec")
    text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName"
    if name is None and inline is None:
        return [required(path, text)]
    if name is not None and inline is not None:
        return [forbidden(path, text)]
    if inline is not None:
        return check_volume_spec(inline, f"{path}.inlineVolumeSpec", inline=True)
    causes = [] if name else [required(f"{path}.persistentVolumeName", "must not be empty")]
    return causes + check_dns_subdomain(name or "", f"{path}.persistentVolumeName")
