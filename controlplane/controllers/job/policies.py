"""What a pod's failure means for its Job, and which successes are enough (pure).

Sources: KEP-3329 (podFailurePolicy), KEP-3998 (successPolicy).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from controlplane.engine.resources import Object

from .indexes import Indexes, parsed


@dataclass(frozen=True, slots=True)
class Meaning:
    """Of one failure.

    Attributes:
        counts: whether it is one of those that a limit is for.
        action: of the rule that fits: ``FailJob``, ``Ignore``, ``Count``, ``FailIndex``; "": none.
        message: why the Job fails now; "": it does not.
    """

    counts: bool = True
    action: str = ""
    message: str = ""


PLAIN: Final = Meaning()


def meaning_of(job: Object, pod: Object) -> Meaning:
    """Return what the failure of a pod means: the first rule that fits says it."""
    policy = job["spec"].get("podFailurePolicy") or {}
    for number, rule in enumerate(policy.get("rules") or ()):
        about = _fits(rule, pod)
        if about:
            action = rule["action"]
            message = f"{about} matching {action} rule at index {number}"
            return Meaning(action != "Ignore", action, message if action == "FailJob" else "")
    return PLAIN


def _fits(rule: dict[str, Any], pod: Object) -> str:
    """Return what of a pod fits a rule, for people; "" if nothing does."""
    status = pod.get("status") or {}
    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    codes = rule.get("onExitCodes")
    if codes is not None:
        for key in ("containerStatuses", "initContainerStatuses"):
            for one in status.get(key) or ():
                code = ((one.get("state") or {}).get("terminated") or {}).get("exitCode", 0)
                if _is_meant(codes, one["name"], code):
                    return f"Container {one['name']} for pod {name} failed with exit code {code}"
        return ""
    patterns = [(one["type"], one.get("status", "True"))
                for one in rule.get("onPodConditions") or ()]  # fmt: skip
    for condition in status.get("conditions") or ():
        if (condition["type"], condition["status"]) in patterns:
            return f"Pod {name} has condition {condition['type']}"
    return ""


def _is_meant(codes: dict[str, Any], container: str, code: int) -> bool:
    if codes.get("containerName") not in (None, container) or code == 0:
        return False
    among: bool = code in codes["values"]
    return among if codes["operator"] == "In" else not among


def enough(job: Object, succeeded: Indexes) -> str:
    """Return by which rule of the success policy a Job has succeeded; "" if by none."""
    policy = job["spec"].get("successPolicy") or {}
    for number, rule in enumerate(policy.get("rules") or ()):
        if succeeded and _suffices(rule, succeeded, job["spec"]["completions"]):
            return f"Matched rules at index {number}"
    return ""


def _suffices(rule: dict[str, Any], succeeded: Indexes, completions: int) -> bool:
    count = rule.get("succeededCount")
    text = rule.get("succeededIndexes")
    if text is None:
        return count is not None and len(succeeded) >= count
    wanted = parsed(text, completions)
    if not wanted:
        return False
    there = wanted.common(succeeded)
    return there == len(wanted) or (count is not None and there >= count)
