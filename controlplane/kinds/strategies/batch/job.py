"""batch/v1 Job (Kubernetes, pkg/apis/batch: defaults, validation; pkg/registry/batch/job)."""

from __future__ import annotations

import copy
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import is_dns_label, required, too_long, unsupported, wrong
from controlplane.api.resource import Column, Context, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    check_domain_path,
    check_immutable,
    check_not_negative,
    check_one_of,
    check_selector,
    is_same,
    matches,
)
from controlplane.kinds.strategies.base import WithStatus, warn_of_name
from controlplane.kinds.strategies.batch.job_status import check_job_status, has_condition
from controlplane.kinds.strategies.batch.policies import check_policies
from controlplane.kinds.strategies.podspec import check_pod_template
from controlplane.kinds.strategies.templates import default_template, warn_of_template

_UID: Final = ("controller-uid", "batch.kubernetes.io/controller-uid")
_NAME: Final = ("job-name", "batch.kubernetes.io/job-name")
_NOT_NEGATIVE: Final = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit",
                        "ttlSecondsAfterFinished", "backoffLimitPerIndex",
                        "maxFailedIndexes")  # fmt: skip
_IMMUTABLE: Final = ("selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex",
                     "managedBy", "successPolicy")  # fmt: skip
_MAX_PARALLEL: Final = 100_000
_MANY: Final = 100_000
_MAX_WITH_MANY: Final = 10_000
_MAX_MANAGER: Final = 63
_INT32: Final = (1 << 31) - 1


class Job(WithStatus):
    """Jobs; unless they say otherwise, their pods are those labelled with their uid."""

    propagation = "Orphan"
    columns = (
        Column("Status", description="Whether it runs, is suspended, or how it has ended."),
        Column("Completions", description="How many of the wanted pods have succeeded."),
        Column("Duration", description="From its start to its end, or to now."),
        *cells.CONTAINERS,
        cells.SELECTOR,
    )
    selectable = frozenset({"status.successful"})

    def default(self, value: Object) -> None:
        """Put in how many pods, how many tries, the labels, and the template's defaults."""
        super().default(value)
        spec = value["spec"]
        if "completions" not in spec and "parallelism" not in spec:
            spec["completions"] = 1
        spec.setdefault("parallelism", 1)
        spec.setdefault("backoffLimit", _INT32 if "backoffLimitPerIndex" in spec else 6)
        spec.setdefault("completionMode", "NonIndexed")
        spec.setdefault("suspend", False)
        failing = "podFailurePolicy" in spec
        spec.setdefault("podReplacementPolicy", "Failed" if failing else "TerminatingOrFailed")
        spec.setdefault("manualSelector", False)
        default_job_spec(spec)
        labels = spec["template"]["metadata"].get("labels")
        if labels and not value["metadata"].get("labels"):
            # The same labels, not a copy: those that the template gets are the Job's, too.
            value["metadata"]["labels"] = labels

    def prepare_create(self, value: Object, context: Context) -> None:
        """Make the selector and the labels of the template."""
        super().prepare_create(value, context)
        spec, meta = value["spec"], value["metadata"]
        if spec["manualSelector"]:
            return
        labels = spec["template"]["metadata"].setdefault("labels", {})
        for key in _NAME:
            labels.setdefault(key, meta.get("name", ""))
        for key in _UID:
            labels.setdefault(key, meta["uid"])
        wanted = spec.setdefault("selector", {}).setdefault("matchLabels", {})
        wanted.setdefault(_UID[1], meta["uid"])

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec, or what of it may not be changed."""
        spec, name = value["spec"], value["metadata"].get("name", "")
        causes = _check_generated(value, old)
        causes += check_job_spec(spec, "spec")
        selector, labels = spec.get("selector"), spec["template"]["metadata"].get("labels", {})
        causes += [required("spec.selector")] if selector is None else []
        causes += check_selector(selector, "spec.selector")
        if matches(selector, labels) is False:
            text = "`selector` does not match template `labels`"
            causes.append(wrong("spec.template.metadata.labels", labels, text))
        completions = spec.get("completions", 0)
        if spec["completionMode"] == "Indexed" and completions > 0:
            longest = f"{name}-{completions - 1}"
            if not is_dns_label(longest):
                text = f"its pods cannot be called {longest}, which is no DNS label"
                causes.append(wrong("metadata.name", name, text))
        return causes if old is None else causes + _check_update(value, old)

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with conditions, counts and times."""
        return check_job_status(value, old)

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear about the name and the template."""
        return warn_of_name(value) + warn_of_job(value["spec"], "spec")

    def fields(self, value: Object) -> dict[str, str]:
        """Return how many pods have succeeded."""
        return {"status.successful": str(value.get("status", {}).get("succeeded", 0))}

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status = value["spec"], value.get("status", {})
        done, parallel = status.get("succeeded", 0), spec.get("parallelism", 0)
        if "completions" in spec:
            completions = f"{done}/{spec['completions']}"
        else:
            completions = f"{done}/1 of {parallel}" if parallel > 1 else f"{done}/1"
        return [
            _state(value),
            completions,
            cells.since(status.get("startTime"), absent="", until=status.get("completionTime")),
            *cells.containers(spec["template"].get("spec")),
            cells.selector(spec.get("selector")) or cells.NONE,
        ]


def default_job_spec(spec: Object) -> None:
    """Put in the defaults that a Job's spec has in a CronJob, too."""
    default_template(spec)
    for rule in spec.get("podFailurePolicy", {}).get("rules", ()):
        for pattern in rule.get("onPodConditions", ()):
            pattern["status"] = pattern.get("status") or "True"


def warn_of_job(spec: Object, path: str) -> list[str]:
    """Return what a user should hear about the spec of a Job."""
    found: list[str] = []
    if spec.get("completionMode") == "Indexed":
        completions, parallel = spec.get("completions", 0), spec.get("parallelism", 0)
        if completions > _MANY and parallel > _MAX_WITH_MANY:
            found.append(
                f"{path}: In Indexed Jobs with a number of completions higher than 10^5 and a "
                "parallelism higher than 10^4, Kubernetes might not be able to track "
                "completedIndexes when a big number of indexes fail"
            )
    return found + warn_of_template(spec.get("template", {}), f"{path}.template")


def check_job_spec(spec: Object, path: str) -> list[Cause]:
    """Return what is wrong with the spec of a Job, but for its selector."""
    causes = check_not_negative(spec, path, *_NOT_NEGATIVE)
    if "maxFailedIndexes" in spec and "backoffLimitPerIndex" not in spec:
        text = "when maxFailedIndexes is specified"
        causes.append(required(f"{path}.backoffLimitPerIndex", text))
    if "managedBy" in spec:
        causes += check_domain_path(spec["managedBy"], f"{path}.managedBy")
        if len(spec["managedBy"]) > _MAX_MANAGER:
            causes.append(too_long(f"{path}.managedBy", _MAX_MANAGER))
    mode = spec.get("completionMode")
    if mode is not None:
        causes += check_one_of(mode, f"{path}.completionMode", ("Indexed", "NonIndexed"))
    if mode == "Indexed":
        causes += _check_indexed(spec, path)
    elif mode in (None, "NonIndexed"):
        causes += [
            wrong(f"{path}.{key}", spec[key], "requires indexed completion mode")
            for key in ("backoffLimitPerIndex", "maxFailedIndexes")
            if key in spec
        ]
    causes += check_policies(spec, path)
    causes += check_pod_template(spec["template"], f"{path}.template")
    return causes + _check_restarts(spec, f"{path}.template.spec.restartPolicy")


def _check_indexed(spec: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    completions, parallel = spec.get("completions"), spec.get("parallelism", 0)
    failing, per_index = spec.get("maxFailedIndexes"), "backoffLimitPerIndex" in spec
    bounds = [("parallelism", _MAX_PARALLEL), ("maxFailedIndexes", _MANY)]
    if completions is None:
        causes.append(required(f"{path}.completions", "when completion mode is Indexed"))
    else:
        if failing is not None and failing > completions:
            text = "must be less than or equal to completions"
            causes.append(wrong(f"{path}.maxFailedIndexes", failing, text))
        if completions > _MANY and per_index:
            bounds += [("parallelism", _MAX_WITH_MANY), ("maxFailedIndexes", _MAX_WITH_MANY)]
            if failing is None:
                text = f"must be specified when completions is above {_MANY}"
                causes.append(required(f"{path}.maxFailedIndexes", text))
    for key, bound in bounds:
        if (parallel if key == "parallelism" else failing or 0) > bound:
            text = f"must be less than or equal to {bound} for these completions"
            causes.append(wrong(f"{path}.{key}", spec[key], text))
    return causes


def _check_restarts(spec: Object, path: str) -> list[Cause]:
    policy = spec["template"].get("spec", {}).get("restartPolicy", "")
    if policy in ("", "Always"):
        return [required(path, 'valid values: "OnFailure", "Never"')]
    if policy not in ("OnFailure", "Never"):
        return [unsupported(path, policy, ["Never", "OnFailure"])]
    if "podFailurePolicy" in spec and policy != "Never":
        return [wrong(path, policy, 'only "Never" goes with a podFailurePolicy')]
    return []


def _check_generated(value: Object, old: Object | None) -> list[Cause]:
    spec, meta = value["spec"], value["metadata"]
    if spec.get("manualSelector") or spec.get("selector") is None:
        return []
    keys = [(_UID[0], meta["uid"]), (_NAME[0], meta.get("name", ""))]
    before = (old or value)["spec"]["template"]["metadata"].get("labels", {})
    if old is None or (_UID[1] in before and _NAME[1] in before):
        keys += [(_UID[1], meta["uid"]), (_NAME[1], meta.get("name", ""))]
    labels = spec["template"]["metadata"].get("labels", {})
    path = "spec.template.metadata.labels"
    causes = []
    for key, wanted in keys:
        if key not in labels:
            causes.append(required(f"{path}[{key}]", f"must be '{wanted}'"))
        elif labels[key] != wanted:
            causes.append(wrong(f"{path}[{key}]", labels[key], f"must be '{wanted}'"))
    if matches(spec["selector"], dict(keys)) is False:
        causes.append(wrong("spec.selector", spec["selector"], "`selector` not auto-generated"))
    return causes


def _check_update(value: Object, old: Object) -> list[Cause]:
    spec, before = value["spec"], old["spec"]
    path = "spec.completions"
    causes: list[Cause] = []
    if spec["completionMode"] != "Indexed":
        causes += check_immutable(spec.get("completions"), before.get("completions"), path)
    elif spec.get("completions") not in (None, before.get("completions"), spec["parallelism"]):
        text = "can only be modified in tandem with spec.parallelism"
        causes.append(wrong(path, spec["completions"], text))
    for key in _IMMUTABLE:
        causes += check_immutable(spec.get(key), before.get(key), f"spec.{key}")
    return causes + _check_template_update(spec, old)


def _check_template_update(spec: Object, old: Object) -> list[Cause]:
    """Refuse changes of the template, but where pods go and what they need while suspended."""
    template, before = spec["template"], copy.deepcopy(old["spec"]["template"])
    suspended = bool(old["spec"].get("suspend"))
    started = bool(old.get("status", {}).get("startTime"))
    idle = not old.get("status", {}).get("active")
    mutable = suspended and idle and (not started or has_condition(old, "Suspended"))
    if mutable:
        for key in ("nodeSelector", "tolerations", "schedulingGates"):
            before["spec"][key] = template["spec"].get(key)
        for key in ("labels", "annotations"):
            before["metadata"][key] = template["metadata"].get(key)
        affinity = before["spec"].get("affinity") or {}
        affinity["nodeAffinity"] = template["spec"].get("affinity", {}).get("nodeAffinity")
        before["spec"]["affinity"] = affinity if any(affinity.values()) else None
        if is_same(_without_resources(template), _without_resources(before)):
            return []
        return check_immutable(template["spec"], before["spec"], "spec.template.spec")
    return check_immutable(template, before, "spec.template")


def _without_resources(template: Object) -> Object:
    spec = dict(template["spec"])
    for key in ("containers", "initContainers"):
        spec[key] = [{**one, "resources": None} for one in spec.get(key, ())]
    return spec


def _state(value: Object) -> str:
    for kind in ("Complete", "Failed"):
        if has_condition(value, kind):
            return kind
    if value["metadata"].get("deletionTimestamp"):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if has_condition(value, kind):
            return kind
    return "Running"
