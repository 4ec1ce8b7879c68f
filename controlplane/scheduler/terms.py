"""Parsed conditions of pods on nodes and on other pods (pure); equal ones are one object.

Sources: Kubernetes documentation, "Assigning Pods to Nodes", "Taints and Tolerations".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec

from controlplane.api.errors import ApiError
from controlplane.api.selectors import LabelSelector, Requirement, from_object

Labels = Mapping[str, str]
_encoder: Final = msgspec.json.Encoder(order="sorted")
_OPERATORS: Final = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "missing",
                     "Gt": ">", "Lt": "<"}  # fmt: skip


def selector_of(value: Mapping[str, Any] | None) -> LabelSelector | None:
    """Return a parsed label selector; None, which matches nothing, for none and for a bad one."""
    return _selector(_encoder.encode(value)) if value is not None else None


@lru_cache(maxsize=4096)
def _selector(encoded: bytes) -> LabelSelector | None:
    try:
        return from_object(msgspec.json.decode(encoded))
    except ApiError:
        return None


def selector_with(selector: LabelSelector | None, labels: Labels) -> LabelSelector | None:
    """Return a selector that asks for labels, too."""
    if selector is None or not labels:
        return selector
    return _with(selector, tuple(sorted(labels.items())))


@lru_cache(maxsize=4096)
def _with(selector: LabelSelector, labels: tuple[tuple[str, str], ...]) -> LabelSelector:
    more = tuple(Requirement(name, "in", frozenset((value,))) for name, value in labels)
    return LabelSelector((*selector.requirements, *more))


class Term:
    """One condition of pod affinity or anti-affinity; equal ones are one object.

    Attributes:
        topology: label of nodes that makes a domain.
        namespaces: of the pods that count.
        over: selects namespaces by their labels, besides; None: none.
        everywhere: pods of all namespaces count.
        selector: of the pods that count.
        weight: of a preferred one; 0: it is required.
    """

    __slots__ = ("everywhere", "namespaces", "over", "selector", "topology", "weight")

    def __init__(self, value: Mapping[str, Any], namespace: str, weight: int) -> None:
        self.topology: str = value.get("topologyKey", "")
        names = value.get("namespaces") or ()
        over = value.get("namespaceSelector")
        self.namespaces = frozenset(names or (() if over is not None else (namespace,)))
        self.over = selector_of(over)
        self.everywhere = self.over is not None and not self.over.requirements
        self.selector = selector_of(value.get("labelSelector"))
        self.weight = weight

    def matches(self, namespace: str, labels: Labels, of_namespace: Labels) -> bool:
        """Say whether a pod of these labels counts, in a namespace with those."""
        if not (
            self.everywhere
            or namespace in self.namespaces
            or (self.over is not None and self.over.matches(of_namespace))
        ):
            return False
        return self.selector is not None and self.selector.matches(labels)


@lru_cache(maxsize=4096)
def _term(encoded: bytes, namespace: str, weight: int) -> Term:
    return Term(msgspec.json.decode(encoded), namespace, weight)


def required(values: Iterable[Mapping[str, Any]] | None, namespace: str) -> tuple[Term, ...]:
    """Return required terms of a pod of a namespace."""
    return tuple(_term(_encoder.encode(one), namespace, 0) for one in values or ())


def preferred(values: Iterable[Mapping[str, Any]] | None, namespace: str) -> tuple[Term, ...]:
    """Return preferred terms of a pod of a namespace."""
    return tuple(
        _term(_encoder.encode(one.get("podAffinityTerm") or {}), namespace, one.get("weight", 0))
        for one in values or ()
    )


Match = Callable[[str, Labels], bool]
"""Says whether a node of a name and with labels fits."""


def node_match(selector: Labels | None, required: Mapping[str, Any] | None) -> Match | None:
    """Return what ``nodeSelector`` and required node affinity ask; None: nothing."""
    if not selector and required is None:
        return None
    return _node_match(_encoder.encode((selector or {}, required)))


@lru_cache(maxsize=1024)
def _node_match(encoded: bytes) -> Match:
    selector, required = msgspec.json.decode(encoded)
    wanted = tuple(selector.items())
    terms = None if required is None else node_terms(required)

    def match(name: str, labels: Labels) -> bool:
        for key, value in wanted:
            if labels.get(key) != value:
                return False
        return terms is None or any(term(name, labels) for term in terms)

    return match


def node_terms(selector: Mapping[str, Any]) -> list[Match]:
    """Return the terms of a NodeSelector: a node fits if one of them does."""
    return [
        _node_term(one) for one in selector.get("nodeSelectorTerms") or ()
        if one.get("matchExpressions") or one.get("matchFields")
    ]  # fmt: skip


@lru_cache(maxsize=1024)
def _weighed(encoded: bytes) -> tuple[tuple[int, Match], ...]:
    return tuple(
        (one["weight"], _node_term(one["preference"]))
        for one in msgspec.json.decode(encoded)
        if one.get("weight")
        and (one["preference"].get("matchExpressions") or one["preference"].get("matchFields"))
    )


def weighed_nodes(values: Sequence[Mapping[str, Any]] | None) -> tuple[tuple[int, Match], ...]:
    """Return preferred node affinity: weights and what a node must fit to get them."""
    return _weighed(_encoder.encode(values)) if values else ()


def _node_term(term: Mapping[str, Any]) -> Match:
    bad = False
    requirements: list[Requirement] = []
    for one in term.get("matchExpressions") or ():
        operator = _OPERATORS.get(one.get("operator", ""))
        values = frozenset(one.get("values") or ())
        bad = bad or operator is None or (operator in "<>" and not _whole(values))
        requirements.append(Requirement(one.get("key", ""), operator or "in", values))
    names: list[tuple[bool, str]] = []
    for one in term.get("matchFields") or ():
        wanted: Sequence[str] = one.get("values") or ()
        bad = bad or one.get("operator") not in ("In", "NotIn") or len(wanted) != 1
        bad = bad or one.get("key") != "metadata.name"
        if not bad:
            names.append((one["operator"] == "In", wanted[0]))
    if bad:
        return lambda name, labels: False

    def match(name: str, labels: Labels) -> bool:
        for requirement in requirements:
            if not requirement.matches(labels):
                return False
        return all((name == one) is equal for equal, one in names)

    return match


def _whole(values: frozenset[str]) -> bool:
    return len(values) == 1 and next(iter(values)).lstrip("+-").isdecimal()


def names_of(required: Mapping[str, Any] | None) -> frozenset[str] | None:
    """Return the only nodes that required node affinity can fit, by name; None: any.

    An empty set means that its terms contradict themselves.
    """
    found: set[str] = set()
    terms = (required or {}).get("nodeSelectorTerms") or ()
    for term in terms:
        names: set[str] | None = None
        for one in term.get("matchFields") or ():
            if one.get("key") == "metadata.name" and one.get("operator") == "In":
                values = set(one.get("values") or ())
                names = values if names is None else names & values
        if names is None:
            return None
        found |= names
    return frozenset(found) if terms else None


Taint = tuple[str, str, str]
"""Key, value, effect."""


def tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    """Say whether a toleration covers a taint."""
    key, value, effect = taint
    if toleration.get("effect") and toleration["effect"] != effect:
        return False
    if toleration.get("key") and toleration["key"] != key:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return operator == "Equal" and (toleration.get("value") or "") == value


def untolerated(
    taints: Iterable[Taint], tolerations: Sequence[Mapping[str, Any]], effects: Sequence[str]
) -> Taint | None:
    """Return the first taint with one of the effects that no toleration covers."""
    for taint in taints:
        if taint[2] in effects and not any(tolerates(one, taint) for one in tolerations):
            return taint
    return None
