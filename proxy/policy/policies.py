"""What a NetworkPolicy says (pure).

It is read strictly: a peer or a port that cannot be read, or says something that is not known here,
lets nothing pass, and neither do others through it; what else the policy says holds. Only of what
``podSelector`` says nothing can be guessed: a policy whose pods are not known counts for none.

Source: networking.k8s.io/v1 NetworkPolicy
"""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from ..model.addresses import network
from ..model.portal import Family
from .selectors import Selector, SelectorError, selector_of

PROTOCOLS: Final = frozenset({"TCP", "UDP", "SCTP"})
_PORT_NAME: Final = re.compile(r"(?=.*[a-z])[a-z0-9](?:-?[a-z0-9]){0,14}", re.ASCII)
_MOST_PORT: Final = 65_535


class Direction(enum.Enum):
    """Which way traffic goes, seen from the pods of a policy; named as in ``policyTypes``."""

    INGRESS = "Ingress"
    EGRESS = "Egress"

    @property
    def lower(self) -> str:
        """The field of ``spec`` with its rules."""
        return self.value.lower()

    @property
    def peers_field(self) -> str:
        """The field of a rule with its peers."""
        return "from" if self is Direction.INGRESS else "to"


@dataclass(frozen=True, slots=True)
class Pods:
    """Pods as peers.

    Attributes:
        namespace: in which they are; "": in all that ``namespaces`` selects.
        namespaces: selects namespaces; None with ``namespace``.
        pods: selects pods in them.
    """

    namespace: str
    namespaces: Selector | None
    pods: Selector

    def __str__(self) -> str:
        where = self.namespace or f"namespaces {self.namespaces}"
        return f"{where}: pods {self.pods}"


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses of a CIDR without those of some others in it, as first and last numbers."""

    family: Family
    first: int
    last: int
    excepted: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """Ports of a protocol: all (``last`` is 0), a range, or those that pods call ``name``."""

    protocol: str
    first: int = 0
    last: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class Rule:
    """What is let pass: from or to any of the peers, by any of the ports.

    Attributes:
        everyone: whatever the other side is.
        any_port: whatever the protocol and port.
    """

    everyone: bool = False
    pods: tuple[Pods, ...] = ()
    blocks: tuple[Block, ...] = ()
    any_port: bool = False
    ports: tuple[Port, ...] = ()


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy.

    Attributes:
        namespace, name: its own.
        uid: of the object.
        selector: of the pods that it is about; None if that cannot be read.
        rules: by direction; a direction that is not there is left as it is.
        problems: what of it was left out, and why.
    """

    namespace: str
    name: str
    uid: str = ""
    selector: Selector | None = None
    rules: Mapping[Direction, tuple[Rule, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name


class _Bad(ValueError):
    """A part that cannot be read."""


def policy_of(value: Mapping[str, Any]) -> Policy:
    """Return what a NetworkPolicy of JSON says."""
    meta = value.get("metadata") or {}
    namespace, name, uid = (str(meta.get(each, "")) for each in ("namespace", "name", "uid"))
    spec = value.get("spec")
    problems: list[str] = []
    try:
        spec = _object(spec if spec is not None else {}, "spec")
        # As a field, podSelector may be absent from what an old server has; it selects all then.
        selector = selector_of(spec.get("podSelector", {}))
        directions = _directions(spec)
    except (SelectorError, _Bad) as error:
        return Policy(namespace, name, uid, problems=(f"spec.podSelector or policyTypes: {error}",))
    known = {"podSelector", "policyTypes", "ingress", "egress"}
    problems += [f"spec.{each}: not known here" for each in sorted(spec.keys() - known)]
    rules = {each: tuple(_rules(spec, each, namespace, problems)) for each in directions}
    return Policy(namespace, name, uid, selector, rules, tuple(problems))


def _directions(spec: Mapping[str, Any]) -> list[Direction]:
    """Return what a policy is about: without ``policyTypes`` ingress, and egress if it has rules.

    Raises:
        _Bad: it is about something that is not known here.
    """
    types = spec.get("policyTypes")
    if not types:
        return [Direction.INGRESS, *([Direction.EGRESS] if spec.get("egress") else [])]
    if not isinstance(types, list):
        raise _Bad("policyTypes is no list")
    names = {each.value for each in Direction}
    for each in types:
        if each not in names:
            raise _Bad(f"{each!r} is no policy type")
    return [each for each in Direction if each.value in types]


def _rules(
    spec: Mapping[str, Any], direction: Direction, namespace: str, problems: list[str]
) -> Iterable[Rule]:
    for place, value in enumerate(_list(spec, direction.lower, "spec", problems)):
        where = f"spec.{direction.lower}[{place}]"
        peers_field = direction.peers_field
        if not isinstance(value, dict) or value.keys() - {peers_field, "ports"}:
            problems.append(f"{where}: says something that is not known here")
            continue
        yield _rule(value, peers_field, where, namespace, problems)


def _rule(
    value: Mapping[str, Any], peers_field: str, where: str, namespace: str, problems: list[str]
) -> Rule:
    pods: list[Pods] = []
    blocks: list[Block] = []
    ports: list[Port] = []
    for place, each in enumerate(_list(value, peers_field, where, problems)):
        try:
            found = _peer(each, namespace)
        except (_Bad, SelectorError) as error:
            problems.append(f"{where}.{peers_field}[{place}]: {error}")
            continue
        if isinstance(found, Pods):
            pods.append(found)
        else:
            blocks.append(found)
    for place, each in enumerate(_list(value, "ports", where, problems)):
        try:
            ports.append(_port(each))
        except _Bad as error:
            problems.append(f"{where}.ports[{place}]: {error}")
    return Rule(
        everyone=not value.get(peers_field), pods=tuple(dict.fromkeys(pods)),
        blocks=tuple(dict.fromkeys(blocks)),
        any_port=not value.get("ports"), ports=tuple(dict.fromkeys(ports)),
    )  # fmt: skip


def _peer(value: Any, namespace: str) -> Pods | Block:
    value = _object(value, "a peer")
    if unknown := value.keys() - {"podSelector", "namespaceSelector", "ipBlock"}:
        raise _Bad(f"unknown field {min(unknown)!r}")
    of_pods, of_spaces = value.get("podSelector"), value.get("namespaceSelector")
    if (block := value.get("ipBlock")) is not None:
        if of_pods is not None or of_spaces is not None:
            raise _Bad("ipBlock beside a selector")
        return _block(block)
    if of_spaces is not None:
        return Pods("", selector_of(of_spaces), selector_of({} if of_pods is None else of_pods))
    if of_pods is None:
        raise _Bad("an empty peer")
    return Pods(namespace, None, selector_of(of_pods))


def _block(value: Any) -> Block:
    value = _object(value, "ipBlock")
    if unknown := value.keys() - {"cidr", "except"}:
        raise _Bad(f"unknown field {min(unknown)!r} of ipBlock")
    family, first, last = _bounds(value.get("cidr"))
    excepted = []
    without = value.get("except") or []
    if not isinstance(without, list):
        raise _Bad("except is no list")
    for text in without:
        other, low, high = _bounds(text)
        if other is not family or low < first or high > last:
            raise _Bad(f"except {text!r} is not within {value.get('cidr')!r}")
        excepted.append((low, high))
    return Block(family, first, last, tuple(sorted(excepted)))


def _bounds(text: object) -> tuple[Family, int, int]:
    found = network(text) if isinstance(text, str) else None
    if found is None:
        raise _Bad(f"{text!r} is no CIDR")
    whole = ipaddress.ip_network(found[1])
    return found[0], int(whole.network_address), int(whole.broadcast_address)


def _port(value: Any) -> Port:
    value = _object(value, "a port")
    if unknown := value.keys() - {"protocol", "port", "endPort"}:
        raise _Bad(f"unknown field {min(unknown)!r}")
    protocol, port, end = value.get("protocol", "TCP"), value.get("port"), value.get("endPort")
    if protocol not in PROTOCOLS:
        raise _Bad(f"{protocol!r} is no protocol")
    protocol = protocol.lower()
    if end is not None and not _is_number(port):
        raise _Bad("endPort without a port that is a number")
    if port is None:
        return Port(protocol)
    if isinstance(port, str):
        if not _PORT_NAME.fullmatch(port):
            raise _Bad(f"{port!r} is no name of a port")
        return Port(protocol, name=port)
    last = port if end is None else end
    if not _is_number(port) or not _is_number(last):
        raise _Bad(f"{port!r} is no port")
    if not 1 <= port <= last <= _MOST_PORT:
        raise _Bad(f"{port} to {last} is no range of ports")
    return Port(protocol, port, last)


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Bad(f"{what} is no object")
    return value


def _list(value: Mapping[str, Any], name: str, where: str, problems: list[str]) -> list[Any]:
    found = value.get(name) or []
    if not isinstance(found, list):
        problems.append(f"{where}.{name}: is no list")
        return []
    return found


def intervals(blocks: Iterable[Block], family: Family) -> tuple[tuple[int, int], ...]:
    """Return the addresses of a family in ``blocks`` as intervals that do not touch, sorted."""
    pieces: list[tuple[int, int]] = []
    for block in blocks:
        if block.family is not family:
            continue
        start = block.first
        for low, high in block.excepted:
            if low > start:
                pieces.append((start, low - 1))
            start = max(start, high + 1)
        if start <= block.last:
            pieces.append((start, block.last))
    joined: list[tuple[int, int]] = []
    for first, last in sorted(pieces):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return tuple(joined)
