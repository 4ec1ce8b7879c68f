"""What the status of a Job may become (KEP-4368, "Job API managed-by mechanism")."""

from __future__ import annotations

from typing import Any

from controlplane.api.errors import Cause
from controlplane.api.metadata import duplicate, required, wrong
from controlplane.api.resource import Object
from controlplane.kinds.checks import check_not_negative
from controlplane.kinds.strategies.batch.indexes import IndexesError, overlap, parse_indexes


def has_condition(value: Object, kind: str, status: str = "True") -> bool:
    """Say whether a Job has a condition."""
    return any(
        one.get("type") == kind and one.get("status") == status
        for one in value.get("status", {}).get("conditions", ())
    )


def is_finished(value: Object) -> bool:
    """Say whether a Job is over."""
    return has_condition(value, "Complete") or has_condition(value, "Failed")


def check_job_status(value: Object, old: Object) -> list[Cause]:
    """Return what is wrong with a Job's new status."""
    status = value.get("status", {})
    counts = ("active", "succeeded", "failed", "ready", "terminating")
    causes = check_not_negative(status, "status", *counts)
    causes += _check_uncounted(status)
    causes += _check_together(value, old)
    causes += _check_times(value, old)
    causes += _check_finished(value, old)
    causes += _check_indexes(value, old)
    if status.get("ready", 0) > status.get("active", 0) and (
        _changed(value, old, "ready", "active")
    ):
        causes.append(wrong("status.ready", status["ready"], "cannot exceed active"))
    return causes + _check_no_way_back(value, old)


def _changed(value: Object, old: Object, *keys: str) -> bool:
    one, other = value.get("status", {}), old.get("status", {})
    return any(one.get(key) != other.get(key) for key in keys)


def _turned(value: Object, old: Object, kind: str) -> bool:
    return has_condition(value, kind) != has_condition(old, kind)


def _conditions(text: str) -> Cause:
    return wrong("status.conditions", "", text)


def _check_uncounted(status: Object) -> list[Cause]:
    uncounted, seen = status.get("uncountedTerminatedPods", {}), set()
    causes: list[Cause] = []
    for key in ("succeeded", "failed"):
        for index, uid in enumerate(uncounted.get(key, ())):
            path = f"status.uncountedTerminatedPods.{key}[{index}]"
            if not uid:
                causes.append(wrong(path, uid, "must not be empty"))
            elif uid in seen:
                causes.append(duplicate(path, uid))
            seen.add(uid)
    return causes


def _check_together(value: Object, old: Object) -> list[Cause]:
    """Refuse conditions that exclude each other, or lack the one that comes first."""
    complete, failed = has_condition(value, "Complete"), has_condition(value, "Failed")
    target, met = has_condition(value, "FailureTarget"), has_condition(value, "SuccessCriteriaMet")
    new_end = _turned(value, old, "Complete") or _turned(value, old, "SuccessCriteriaMet")
    rules = (
        (complete and failed, "cannot be Complete and Failed"),
        (complete and target, "cannot be Complete and FailureTarget"),
        (met and failed, "cannot be SuccessCriteriaMet and Failed"),
        (met and target, "cannot be SuccessCriteriaMet and FailureTarget"),
        (
            failed
            and not target
            and (_turned(value, old, "Failed") or _turned(value, old, "FailureTarget")),
            "cannot be Failed without FailureTarget",
        ),
        (complete and not met and new_end, "cannot be Complete without SuccessCriteriaMet"),
        (
            complete and not met and "successPolicy" in value["spec"],
            "cannot be Complete with a successPolicy but without SuccessCriteriaMet",
        ),
    )
    return [_conditions(text) for broken, text in rules if broken]


def _check_times(value: Object, old: Object) -> list[Cause]:
    status, before = value.get("status", {}), old.get("status", {})
    start, end = status.get("startTime"), status.get("completionTime")
    complete, path = has_condition(value, "Complete"), "status.completionTime"
    new_end = _turned(value, old, "Complete") or _changed(value, old, "completionTime")
    causes: list[Cause] = []
    if end and not complete and new_end:
        causes.append(wrong(path, end, "cannot be set when the job is not Complete"))
    if complete and not end and new_end:
        causes.append(required(path, "is required for Complete jobs"))
    if start and end and end < start and _changed(value, old, "startTime", "completionTime"):
        causes.append(wrong(path, end, "must be equal to or after `startTime`"))
    if end and before.get("completionTime") not in (None, end):
        causes.append(wrong(path, end, "field is immutable"))
    resuming = has_condition(old, "Suspended") and has_condition(value, "Suspended", "False")
    if (
        before.get("startTime") not in (None, start)
        and not value["spec"].get("suspend")
        and not resuming
    ):
        text = "field is immutable for unsuspended job once set"
        causes.append(wrong("status.startTime", start or "", text))
    return causes


def _check_finished(value: Object, old: Object) -> list[Cause]:
    if not is_finished(value):
        return []
    status, spec = value.get("status", {}), value["spec"]
    new = not is_finished(old)
    causes = [
        wrong(f"status.{key}", status[key], f"{key}>0 is invalid for finished job")
        for key in ("active", "terminating")
        if status.get(key, 0) > 0 and (new or _changed(value, old, key))
    ]
    idle = spec.get("suspend") is True and spec.get("completions") == 0
    if not status.get("startTime") and not idle and (new or _changed(value, old, "startTime")):
        causes.append(required("status.startTime", "is required for finished job"))
    uncounted: Any = status.get("uncountedTerminatedPods", {})
    if any(uncounted.values()) and (new or _changed(value, old, "uncountedTerminatedPods")):
        text = "must be empty for finished job"
        causes.append(wrong("status.uncountedTerminatedPods", uncounted, text))
    return causes


def _check_indexes(value: Object, old: Object) -> list[Cause]:
    spec, status = value["spec"], value.get("status", {})
    causes: list[Cause] = []
    found: dict[str, list[range]] = {}
    for key, needed, text in (
        ("completedIndexes", spec.get("completionMode") == "Indexed", "Indexed completion mode"),
        ("failedIndexes", "backoffLimitPerIndex" in spec, "backoffLimitPerIndex"),
    ):
        indexes = status.get(key)
        if indexes is None or not _changed(value, old, "completedIndexes", "failedIndexes"):
            continue
        if not needed and (indexes or key == "failedIndexes") and _changed(value, old, key):
            causes.append(wrong(f"status.{key}", indexes, f"cannot be set without {text}"))
        if "completions" not in spec:
            continue
        try:
            found[key] = parse_indexes(indexes, spec["completions"])
        except IndexesError as error:
            if _changed(value, old, key) and (needed or key == "completedIndexes"):
                causes.append(wrong(f"status.{key}", indexes, f"error parsing {key}: {error}"))
    if len(found) == 2:
        both = overlap(found["completedIndexes"], found["failedIndexes"])
        if both is not None:
            text = f"failedIndexes and completedIndexes overlap at index: {both}"
            causes.append(wrong("status.failedIndexes", status["failedIndexes"], text))
    return causes


def _check_no_way_back(value: Object, old: Object) -> list[Cause]:
    spec, status, before = value["spec"], value.get("status", {}), old.get("status", {})
    causes = [
        _conditions(f"cannot disable the terminal {kind}=True condition")
        for kind in ("Failed", "Complete", "FailureTarget", "SuccessCriteriaMet")
        if has_condition(old, kind) and not has_condition(value, kind)
    ]
    if (
        has_condition(old, "Complete")
        and not has_condition(old, "SuccessCriteriaMet")
        and has_condition(value, "SuccessCriteriaMet")
    ):
        causes.append(_conditions("cannot become SuccessCriteriaMet after being Complete"))
    elastic = spec.get("completionMode") == "Indexed" and (
        spec.get("completions") == spec.get("parallelism")
    )
    for key in ("failed", "succeeded"):
        if status.get(key, 0) < before.get(key, 0) and not (key == "succeeded" and elastic):
            text = f"cannot decrease the {key} counter"
            causes.append(wrong(f"status.{key}", status.get(key, 0), text))
    return causes
