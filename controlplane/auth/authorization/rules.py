"""Rules of roles: what they allow, and whether some cover others (pure).

Source: Kubernetes documentation, "Using RBAC Authorization"; rbac.authorization.k8s.io/v1
PolicyRule.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from controlplane.api.resource import Object
from controlplane.auth.authorization.attributes import Attributes

ALL: Final = "*"


@dataclass(frozen=True, slots=True)
class Rule:
    """A PolicyRule; the attributes are its fields."""

    verbs: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    resources: frozenset[str] = frozenset()
    names: frozenset[str] = frozenset()
    paths: tuple[str, ...] = ()

    def allows(self, wanted: Attributes) -> bool:
        """Say whether it allows an action."""
        if wanted.verb not in self.verbs and ALL not in self.verbs:
            return False
        if not wanted.resource:
            return any(path_matches(path, wanted.path) for path in self.paths)
        if wanted.group not in self.groups and ALL not in self.groups:
            return False
        if self.names and wanted.name not in self.names:
            return False
        resources = self.resources
        return (
            wanted.combined in resources
            or ALL in resources
            or bool(wanted.subresource and f"*/{wanted.subresource}" in resources)
        )


def read_rule(value: Object) -> Rule:
    """Return a rule as it is in a role."""
    return Rule(
        frozenset(value.get("verbs") or ()),
        frozenset(value.get("apiGroups") or ()),
        frozenset(value.get("resources") or ()),
        frozenset(value.get("resourceNames") or ()),
        tuple(value.get("nonResourceURLs") or ()),
    )


def path_matches(pattern: str, path: str) -> bool:
    """Say whether a nonResourceURL covers a path: ``*`` at its end stands for anything."""
    if pattern in (ALL, path):
        return True
    return pattern.endswith(ALL) and path.startswith(pattern.rstrip(ALL))


def uncovered(owned: Iterable[Rule], wanted: Iterable[Rule]) -> list[Rule]:
    """Return what of ``wanted`` nobody has who has ``owned``, taken apart.

    Each part has one verb, one group and one resource, or one path, and at most one name.
    """
    have = list(owned)
    return [
        part
        for rule in wanted
        for part in _parts(rule)
        if not any(_covers(one, part) for one in have)
    ]


def describe(rules: Iterable[Rule]) -> list[str]:
    """Return parts of :func:`uncovered` in words, those that differ by verb only together."""
    merged: dict[tuple[frozenset[str], frozenset[str], frozenset[str], tuple[str, ...]], list[str]]
    merged = {}
    for rule in rules:
        key = rule.groups, rule.resources, rule.names, rule.paths
        verbs = merged.setdefault(key, [])
        verbs += [verb for verb in rule.verbs if verb not in verbs]
    texts = []
    for (groups, resources, names, paths), verbs in merged.items():
        fields = (("APIGroups", groups), ("Resources", resources), ("ResourceNames", names),
                  ("NonResourceURLs", paths), ("Verbs", verbs))  # fmt: skip
        shown = [f"{name}:[{_words(values)}]" for name, values in fields if values]
        texts.append(f"{{{', '.join(shown)}}}")
    return sorted(texts)


def _words(values: Iterable[str]) -> str:
    return " ".join(json.dumps(value) for value in values)


def _parts(rule: Rule) -> Iterable[Rule]:
    names = [frozenset((name,)) for name in sorted(rule.names)] or [frozenset[str]()]
    for group, resource, verb, name in itertools.product(
        sorted(rule.groups), sorted(rule.resources), sorted(rule.verbs), names
    ):
        yield Rule(frozenset((verb,)), frozenset((group,)), frozenset((resource,)), name)
    for path, verb in itertools.product(rule.paths, sorted(rule.verbs)):
        yield Rule(frozenset((verb,)), paths=(path,))


def _covers(owner: Rule, part: Rule) -> bool:
    if ALL not in owner.verbs and not part.verbs <= owner.verbs:
        return False
    if part.paths:
        return any(path_matches(path, part.paths[0]) for path in owner.paths)
    if ALL not in owner.groups and not part.groups <= owner.groups:
        return False
    if owner.names and not (part.names and part.names <= owner.names):
        return False
    (resource,) = part.resources
    if resource in owner.resources or ALL in owner.resources:
        return True
    _, slash, below = resource.partition("/")
    return bool(slash) and f"*/{below}" in owner.resources
