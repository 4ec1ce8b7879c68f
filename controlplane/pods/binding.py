"""Giving a pod to a node: ``pods/NAME/binding`` and the older ``bindings``.

Source: Kubernetes API reference, Binding; KEP-4742 (labels of a node's topology).
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from controlplane.api.errors import ApiError, bad_request, conflict
from controlplane.api.resource import Object, Resource
from controlplane.kinds.strategies.pods.statuses import check_binding_target
from controlplane.kinds.types import WrongTypeError
from controlplane.plane import Call
from controlplane.server.answers import respond
from controlplane.server.body import read_body


async def bind(call: Call) -> web.Response:
    """Set the node of a pod, once.

    Raises:
        ApiError: there is no such pod, it has a node, waits for gates or is being deleted.
    """
    binding = await _read(call)
    meta, target = binding.get("metadata", {}), binding.get("target", {})
    name = call.info.name or meta.get("name", "")
    if meta.get("name", name) != name or not name:
        raise bad_request("name in URL does not match name in Binding object")
    if meta.get("namespace", call.info.namespace) != call.info.namespace:
        raise bad_request("the namespace of the object does not match the namespace on the request")
    causes = check_binding_target(target)
    if causes:
        listed = ", ".join(f"{cause.field}: {cause.message}" for cause in causes)
        raise bad_request(listed)
    resource = pods_of(call)
    call.context.subresource = "binding"

    async def change(pod: Object) -> Object:
        _check(pod, resource, name, meta)
        return bound(pod, target["name"], meta, call.context.now)

    namespace = call.info.namespace
    await call.plane.registry.update(resource, namespace, name, change, call.context)
    return respond(success(), status=201)


def bound(pod: Object, node: str, meta: Object, now: str) -> Object:
    """Return a pod with its node (pure).

    Args:
        pod: as it is; changed.
        node: name of it.
        meta: metadata of the binding, whose labels and annotations the pod gets.
        now: time of the transition.
    """
    pod["spec"]["nodeName"] = node
    for key in ("annotations", "labels"):
        if meta.get(key):
            pod["metadata"][key] = {**pod["metadata"].get(key, {}), **meta[key]}
    status = pod.setdefault("status", {})
    status.pop("nominatedNodeName", None)
    set_condition(status, {"type": "PodScheduled", "status": "True"}, now)
    return pod


def set_condition(status: Object, condition: Object, now: str) -> None:
    """Put a condition into a status; its time stays if its state does."""
    conditions: list[Any] = status.setdefault("conditions", [])
    before = next((c for c in conditions if c.get("type") == condition["type"]), None)
    same = before is not None and before.get("status") == condition["status"]
    moment = before.get("lastTransitionTime") if before is not None and same else now
    made = {**condition, "lastTransitionTime": moment or now}
    if before is None:
        conditions.append(made)
    else:
        conditions[conditions.index(before)] = made


def pods_of(call: Call) -> Resource:
    """Return the resource of pods."""
    resource = call.plane.catalog.find("", "v1", "pods")
    assert resource is not None
    return resource


def success() -> Object:
    """Return the Status of what went well."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


async def _read(call: Call) -> Object:
    body = await read_body(call.request, call.plane.types.kinds)
    if not isinstance(body, dict) or body.get("kind", "Binding") != "Binding":
        raise bad_request("the body must be an object of kind Binding")
    try:
        binding, _ = call.plane.types.clean("core.v1.Binding", body)
    except WrongTypeError as error:
        raise bad_request(f"Binding: {error}") from error
    return binding


def _check(pod: Object, resource: Resource, name: str, wanted: Object) -> None:
    spec, meta = pod["spec"], pod["metadata"]
    for what, key in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        if wanted.get(key) and wanted[key] != meta.get(key):
            why = f"Precondition failed: {what} in precondition: {wanted[key]}, {what} in object "
            raise conflict(resource.plural, "", name, f"{why}meta: {meta.get(key)}")
    why = ""
    if meta.get("deletionTimestamp"):
        why = f"pod {name} is being deleted, cannot be assigned to a host"
    elif spec.get("nodeName"):
        why = f'pod {name} is already assigned to node "{spec["nodeName"]}"'
    elif spec.get("schedulingGates"):
        why = f"pod {name} has non-empty .spec.schedulingGates"
    if why:
        text = f'Operation cannot be fulfilled on pods/binding "{name}": {why}'
        raise ApiError("Conflict", text, kind="pods/binding", name=name)
