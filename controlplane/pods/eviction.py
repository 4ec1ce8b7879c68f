"""Evicting pods, within what their disruption budgets allow: ``pods/NAME/eviction``.

Source: Kubernetes documentation, "API-initiated Eviction", "Disruptions"; KEP-3017
(``unhealthyPodEvictionPolicy``), KEP-3329 (condition DisruptionTarget).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from controlplane.api import codec
from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError, Cause, bad_request
from controlplane.api.resource import Context, Object, Resource
from controlplane.api.selectors import from_object
from controlplane.kinds.types import WrongTypeError
from controlplane.plane import Call
from controlplane.pods.binding import pods_of, set_condition, success
from controlplane.server.answers import respond
from controlplane.server.body import read_body

_MAX_DISRUPTED = 2000
_RETRY_AFTER = 10
_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
_TRIES = 20


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an eviction.

    Attributes:
        budget: that loses one of its allowed disruptions; None: none does.
        exactly: only the pod as it was looked at may be deleted.
        unhealthy: name of the budget that lets the pod go because it is not healthy; "": none.
    """

    budget: Object | None = None
    exactly: bool = False
    unhealthy: str = ""


async def evict(call: Call) -> web.Response:
    """Delete a pod unless that would disrupt too much.

    Raises:
        ApiError: there is no such pod, or a budget does not allow it.
    """
    options, name = await _read(call)
    namespace, registry = call.info.namespace, call.plane.registry
    resource, context = pods_of(call), call.context
    for attempt in range(_TRIES):
        pod = codec.decode(registry.get(resource, namespace, name))
        decision = decide(pod, [] if _is_free(pod) else _budgets(call, pod))
        try:
            await _spend(call, decision, pod)
            await _delete(call, resource, pod, _exact(options, pod, decision), context)
            break
        except ApiError as error:
            if error.reason != "Conflict" or options.revision:
                raise
            if decision.unhealthy:
                # It changed, and may be healthy now: the client looks and asks again.
                raise _being_processed(decision.unhealthy) from error
            if attempt == _TRIES - 1:
                raise
            if decision.budget is not None:
                # The budget is spent already; what is left is a plain deletion.
                await _delete(call, resource, pod, options, context)
                break
    return respond(success(), status=201)


def decide(pod: Object, budgets: list[Object]) -> Decision:
    """Return what an eviction takes (pure).

    Args:
        pod: to be evicted.
        budgets: that are about it.

    Raises:
        ApiError: it may not be evicted now.
    """
    if _is_free(pod):
        gone = pod["status"].get("phase") in ("Succeeded", "Failed")
        return Decision(exactly=not gone and not pod["metadata"].get("deletionTimestamp"))
    if len(budgets) > 1:
        text = (
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does "
            "not support."
        )
        raise ApiError("", text, code=500)
    if not budgets:
        return Decision()
    budget = budgets[0]
    spec, status = budget.get("spec", {}), budget.get("status", {})
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    if not _is_ready(pod):
        always = spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
        if always or healthy >= wanted > 0:
            return Decision(exactly=True, unhealthy=budget["metadata"]["name"])
    _check_budget(budget)
    return Decision(budget=budget)


def _check_budget(budget: Object) -> None:
    meta, status = budget["metadata"], budget.get("status", {})
    name, allowed = meta["name"], status.get("disruptionsAllowed", 0)
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        raise _being_processed(name)
    why = ""
    if allowed < 0:
        why = "pdb disruptions allowed is negative"
    elif len(status.get("disruptedPods", {})) > _MAX_DISRUPTED:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
    if why:
        text = f'poddisruptionbudget.policy "{name}" is forbidden: {why}'
        kind = "poddisruptionbudget"
        raise ApiError("Forbidden", text, kind=kind, group="policy", name=name)
    if allowed == 0:
        raise _refused(_why_not(name, status), 0)


def _being_processed(name: str) -> ApiError:
    text = f"The disruption budget {name} is still being processed by the server."
    return _refused(text, _RETRY_AFTER)


def _why_not(name: str, status: Object) -> str:
    start = f"The disruption budget {name}"
    found = (c for c in status.get("conditions", ()) if c.get("type") == "DisruptionAllowed")
    condition: Object = next(found, {})
    told = condition.get("message", "") if condition.get("status") == "False" else ""
    healthy, wanted = status.get("currentHealthy", 0), status.get("desiredHealthy", 0)
    cannot = f"{start} does not allow evicting pods currently"
    if told and condition.get("reason") == "SyncFailed":
        return f"{cannot} because it failed sync: {told}"
    if healthy <= wanted:
        return f"{start} needs {wanted} healthy pods and has {healthy} currently"
    return f"{cannot} ({condition.get('reason')}): {told}" if told else cannot


def _refused(why: str, retry_after: int) -> ApiError:
    cause = Cause("DisruptionBudget", why, "")
    return ApiError("TooManyRequests", _REFUSED, causes=(cause,), retry_after=retry_after)


def _is_free(pod: Object) -> bool:
    """Say whether a pod's end disrupts nothing: it does not run."""
    phase = pod.get("status", {}).get("phase", "")
    return phase in ("Succeeded", "Failed", "Pending") or "deletionTimestamp" in pod["metadata"]


def _is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in conditions)


def _budgets(call: Call, pod: Object) -> list[Object]:
    resource = call.plane.catalog.find("policy", "v1", "poddisruptionbudgets")
    assert resource is not None
    prefix = resource.prefix_in(call.info.namespace)
    labels = pod["metadata"].get("labels", {})
    found: list[Object] = []
    for item in call.plane.store.read(prefix, after="", limit=0, revision=None).items:
        budget = codec.decode(item)
        try:
            selector = from_object(budget.get("spec", {}).get("selector"))
        except ApiError:
            # A selector that is none selects nothing.
            continue
        if selector is not None and selector.matches(labels):
            found.append(budget)
    return found


async def _spend(call: Call, decision: Decision, pod: Object) -> None:
    """Take one disruption off the budget."""
    if decision.budget is None or call.context.dry_run:
        return
    resource = call.plane.catalog.find("policy", "v1", "poddisruptionbudgets")
    assert resource is not None
    name = decision.budget["metadata"]["name"]

    async def change(budget: Object) -> Object:
        _check_budget(budget)
        status = budget["status"]
        status["disruptionsAllowed"] -= 1
        if not status["disruptionsAllowed"]:
            _close(status, call.context.now)
        disrupted = status.setdefault("disruptedPods", {})
        disrupted[pod["metadata"]["name"]] = call.context.now
        return budget

    context = replace(call.context, subresource="status", manager="kubeletpy-eviction")
    await call.plane.registry.update(resource, call.info.namespace, name, change, context)


def _close(status: Object, now: str) -> None:
    condition = {
        "type": "DisruptionAllowed",
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
    }
    if "observedGeneration" in status:
        condition["observedGeneration"] = status["observedGeneration"]
    set_condition(status, condition, now)


def _exact(options: DeleteOptions, pod: Object, decision: Decision) -> DeleteOptions:
    if options.revision or not decision.exactly:
        return options
    return replace(options, revision=pod["metadata"]["resourceVersion"])


async def _delete(
    call: Call, resource: Resource, pod: Object, options: DeleteOptions, context: Context
) -> None:
    """Tell why the pod ends, then end it."""
    registry, meta = call.plane.registry, pod["metadata"]
    if not context.dry_run:

        async def change(found: Object) -> Object:
            _check_same(found, options)
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            }
            set_condition(found.setdefault("status", {}), condition, context.now)
            return found

        status = replace(context, subresource="status")
        told = await registry.update(resource, meta["namespace"], meta["name"], change, status)
        if options.revision:
            options = replace(options, revision=told["metadata"]["resourceVersion"])
    item = registry.get(resource, meta["namespace"], meta["name"])
    await registry.delete(resource, item, options, context)


def _check_same(pod: Object, options: DeleteOptions) -> None:
    meta = pod["metadata"]
    for what, wanted, found, why in (
        ("UID", options.uid, meta["uid"], "might have been deleted and then recreated"),
        ("ResourceVersion", options.revision, meta["resourceVersion"], "might have been modified"),
    ):
        if wanted and wanted != found:
            text = (
                f'Operation cannot be fulfilled on Pod "{meta["name"]}": the {what} in the '
                f"precondition ({wanted}) does not match the {what} in record ({found}). The "
                f"object {why}"
            )
            raise ApiError("Conflict", text, kind="Pod", name=meta["name"])


async def _read(call: Call) -> tuple[DeleteOptions, str]:
    body = await read_body(call.request, call.plane.types.kinds)
    if not isinstance(body, dict) or body.get("kind", "Eviction") != "Eviction":
        raise bad_request("the body must be an object of kind Eviction")
    try:
        eviction, _ = call.plane.types.clean("policy.v1.Eviction", body)
    except WrongTypeError as error:
        raise bad_request(f"Eviction: {error}") from error
    name, meta = call.info.name, eviction.get("metadata", {})
    if meta.get("namespace", call.info.namespace) != call.info.namespace:
        raise bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    if meta.get("name", "") != name:
        raise bad_request("name in URL does not match name in Eviction object")
    options: dict[str, Any] = eviction.get("deleteOptions", {})
    if options.get("dryRun"):
        if options["dryRun"] != ["All"]:
            raise bad_request("dryRun must be All")
        call.context.dry_run = True
    conditions = options.get("preconditions", {})
    found = DeleteOptions(
        options.get("gracePeriodSeconds"),
        conditions.get("uid", ""),
        conditions.get("resourceVersion", ""),
        options.get("propagationPolicy", ""),
    )
    return found, name
