"""Policies of Jobs: when they fail, when they succeed."""

from __future__ import annotations

import itertools
from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import duplicate, required, too_long, too_many, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.checks import (
    check_not_negative,
    check_one_of,
    check_qualified_name,
    check_required_one_of,
)
from controlplane.kinds.strategies.batch.indexes import IndexesError, parse_indexes

_ACTIONS: Final = ("Count", "FailIndex", "FailJob", "Ignore")
_REPLACEMENTS: Final = ("Failed", "TerminatingOrFailed")
_MAX_RULES: Final = 20
_MAX_CODES: Final = 255
_MAX_INDEXES: Final = 64 << 10


def check_policies(spec: Object, path: str) -> list[Cause]:
    """Return what is wrong with the policies of a Job's spec."""
    causes: list[Cause] = []
    failure, success = spec.get("podFailurePolicy"), spec.get("successPolicy")
    if failure is not None:
        causes += _check_failure(spec, failure, f"{path}.podFailurePolicy.rules")
    if success is not None:
        if spec.get("completionMode") != "Indexed":
            text = "requires indexed completion mode"
            causes.append(wrong(f"{path}.successPolicy", success, text))
        else:
            causes += _check_success(spec, success, f"{path}.successPolicy.rules")
    replacement = spec.get("podReplacementPolicy")
    if replacement is not None:
        known = ("Failed",) if failure is not None else _REPLACEMENTS
        causes += check_one_of(replacement, f"{path}.podReplacementPolicy", known)
    return causes


def _check_failure(spec: Object, policy: Object, path: str) -> list[Cause]:
    rules = policy.get("rules", [])
    causes = [too_many(path, len(rules), _MAX_RULES)] if len(rules) > _MAX_RULES else []
    pod = spec.get("template", {}).get("spec", {})
    names = {
        one.get("name") for key in ("containers", "initContainers") for one in pod.get(key, ())
    }
    for index, rule in enumerate(rules):
        here, action = f"{path}[{index}]", rule.get("action", "")
        if not action:
            causes.append(required(f"{here}.action", f"valid values: {', '.join(_ACTIONS)}"))
        elif action == "FailIndex" and "backoffLimitPerIndex" not in spec:
            text = "requires the backoffLimitPerIndex to be set"
            causes.append(wrong(f"{here}.action", action, text))
        elif action not in _ACTIONS:
            causes.append(unsupported(f"{here}.action", action, list(_ACTIONS)))
        codes, conditions = rule.get("onExitCodes"), rule.get("onPodConditions", [])
        if codes is not None:
            causes += _check_codes(codes, f"{here}.onExitCodes", names)
        causes += _check_patterns(conditions, f"{here}.onPodConditions")
        if (codes is None) is not bool(conditions):
            text = "must have one of onExitCodes and onPodConditions, and not both"
            causes.append(wrong(here, rule, text))
    return causes


def _check_codes(codes: Object, path: str, names: set[str | None]) -> list[Cause]:
    operator, values = codes.get("operator", ""), codes.get("values", [])
    causes = check_required_one_of(operator, f"{path}.operator", ("In", "NotIn"))
    if "containerName" in codes and codes["containerName"] not in names:
        text = "must be the name of a container or init container of the pod template"
        causes.append(wrong(f"{path}.containerName", codes["containerName"], text))
    here = f"{path}.values"
    if not values:
        causes.append(wrong(here, values, "at least one value is required"))
    elif len(values) > _MAX_CODES:
        causes.append(too_many(here, len(values), _MAX_CODES))
    for index, code in enumerate(values):
        if operator == "In" and code == 0:
            causes.append(wrong(f"{here}[{index}]", code, "must not be 0 for the In operator"))
        if code in values[:index]:
            causes.append(duplicate(f"{here}[{index}]", code))
    if any(one > other for one, other in itertools.pairwise(values)):
        causes.append(wrong(here, values, "must be ordered"))
    return causes


def _check_patterns(patterns: list[Object], path: str) -> list[Cause]:
    causes: list[Cause] = []
    if len(patterns) > _MAX_RULES:
        causes.append(too_many(path, len(patterns), _MAX_RULES))
    for index, pattern in enumerate(patterns):
        here = f"{path}[{index}]"
        causes += check_qualified_name(pattern.get("type", ""), f"{here}.type")
        known = ("False", "True", "Unknown")
        causes += check_required_one_of(pattern.get("status", ""), f"{here}.status", known)
    return causes


def _check_success(spec: Object, policy: Object, path: str) -> list[Cause]:
    rules, completions = policy.get("rules", []), spec.get("completions", 0)
    causes = [] if rules else [required(path, "at least one rule must be specified")]
    if len(rules) > _MAX_RULES:
        causes.append(too_many(path, len(rules), _MAX_RULES))
    for index, rule in enumerate(rules):
        here, count, indexes = f"{path}[{index}]", rule.get("succeededCount"), None
        indexes = rule.get("succeededIndexes")
        if count is None and indexes is None:
            text = "at least one of succeededCount or succeededIndexes must be specified"
            causes.append(required(here, text))
        total = 0
        if indexes is not None:
            below = f"{here}.succeededIndexes"
            causes += [too_long(below, _MAX_INDEXES)] if len(indexes) > _MAX_INDEXES else []
            try:
                total = sum(map(len, parse_indexes(indexes, completions)))
            except IndexesError as error:
                causes.append(wrong(below, indexes, f"error parsing succeededIndexes: {error}"))
        if count is not None:
            causes += check_not_negative(rule, here, "succeededCount")
            below = f"{here}.succeededCount"
            for bound, what in ((completions, "completions"), (total, "succeededIndexes")):
                if count > bound and (what == "completions" or indexes is not None):
                    text = f"must be less than or equal to {bound} (the number of {what})"
                    causes.append(wrong(below, count, text))
    return causes
