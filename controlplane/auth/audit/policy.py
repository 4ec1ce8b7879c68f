"""What is logged of which requests (pure).

Source: Kubernetes documentation, "Auditing", "Audit policy"; audit.k8s.io/v1 Policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from controlplane.auth.authorization.attributes import Attributes
from controlplane.auth.authorization.rules import path_matches
from controlplane.options import OptionsError

LEVELS: Final = ("None", "Metadata", "Request", "RequestResponse")
STAGES: Final = ("RequestReceived", "ResponseStarted", "ResponseComplete", "Panic")
_RULE_KEYS: Final = frozenset((
    "level", "users", "userGroups", "verbs", "resources", "namespaces", "nonResourceURLs",
    "omitStages", "omitManagedFields",
))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decision:
    """What is logged of a request.

    Attributes:
        level: one of :data:`LEVELS`.
        omitted: stages that are not logged.
        without_managers: objects are logged without their managed fields.
    """

    level: str = "Metadata"
    omitted: frozenset[str] = frozenset()
    without_managers: bool = False


class Policy:
    """The rules, of which the first that fits decides; none: nothing is logged.

    Args:
        value: a Policy object.

    Raises:
        OptionsError: it is none.
    """

    def __init__(self, value: Any) -> None:
        if not isinstance(value, dict) or value.get("kind") != "Policy":
            raise OptionsError("audit policy: expected an object of kind Policy")
        if value.get("apiVersion") != "audit.k8s.io/v1":
            raise OptionsError("audit policy: expected apiVersion audit.k8s.io/v1")
        rules = value.get("rules")
        if not isinstance(rules, list) or not rules:
            raise OptionsError("audit policy: it has no rules")
        self._omitted = _stages(value, "omitStages")
        self._bare = value.get("omitManagedFields") is True
        self._rules = [_checked(rule, number) for number, rule in enumerate(rules)]

    def decide(self, wanted: Attributes) -> Decision:
        """Return what is logged of a request."""
        for rule in self._rules:
            if _fits(rule, wanted):
                bare = rule.get("omitManagedFields", self._bare) is True
                omitted = self._omitted | _stages(rule, "rules[].omitStages")
                return Decision(rule["level"], omitted, bare)
        return Decision("None")


def everything() -> Policy:
    """Return the policy without a file: the metadata of all requests, when they are answered."""
    return Policy({
        "kind": "Policy", "apiVersion": "audit.k8s.io/v1", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    })  # fmt: skip


def read_policy(path: Path) -> Policy:
    """Return the policy of a file.

    Raises:
        OptionsError: it cannot be read, or is none.
    """
    try:
        return Policy(yaml.safe_load(path.read_text()))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionsError(f"audit policy {path}: {error}") from error


def _checked(rule: Any, number: int) -> dict[str, Any]:
    place = f"audit policy: rules[{number}]"
    if not isinstance(rule, dict) or not rule.keys() <= _RULE_KEYS:
        raise OptionsError(f"{place}: keys are {', '.join(sorted(_RULE_KEYS))}")
    if rule.get("level") not in LEVELS:
        raise OptionsError(f"{place}.level: one of {', '.join(LEVELS)}")
    if rule.get("nonResourceURLs") and (rule.get("resources") or rule.get("namespaces")):
        raise OptionsError(f"{place}: resources and nonResourceURLs are for different requests")
    for key in ("users", "userGroups", "verbs", "namespaces", "nonResourceURLs"):
        found = rule.get(key) or []
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise OptionsError(f"{place}.{key}: expected a list of words")
    resources = rule.get("resources") or []
    if not isinstance(resources, list) or not all(isinstance(one, dict) for one in resources):
        raise OptionsError(f"{place}.resources: expected a list of objects")
    _stages(rule, f"{place}.omitStages")
    return rule


def _stages(value: dict[str, Any], place: str) -> frozenset[str]:
    found = value.get("omitStages") or []
    if not isinstance(found, list) or not all(one in STAGES for one in found):
        raise OptionsError(f"{place}: of {', '.join(STAGES)}")
    return frozenset(found)


def _fits(rule: dict[str, Any], wanted: Attributes) -> bool:
    user = wanted.user
    if rule.get("users") and user.name not in rule["users"]:
        return False
    if rule.get("userGroups") and not set(rule["userGroups"]) & set(user.groups):
        return False
    if rule.get("verbs") and wanted.verb not in rule["verbs"]:
        return False
    if not wanted.resource:
        if rule.get("resources") or rule.get("namespaces"):
            return False
        paths = rule.get("nonResourceURLs") or ["*"]
        return any(path_matches(path, wanted.path) for path in paths)
    if rule.get("nonResourceURLs"):
        return False
    if rule.get("namespaces") and wanted.namespace not in rule["namespaces"]:
        return False
    resources = rule.get("resources")
    return not resources or any(_of_resource(one, wanted) for one in resources)


def _of_resource(one: dict[str, Any], wanted: Attributes) -> bool:
    if one.get("group", "") != wanted.group:
        return False
    if one.get("resourceNames") and wanted.name not in one["resourceNames"]:
        return False
    names = one.get("resources")
    below = wanted.subresource
    return not names or any(
        name in (wanted.combined, "*")
        or (below and name == f"*/{below}")
        or name == f"{wanted.resource}/*"
        for name in names
    )
