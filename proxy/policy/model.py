"""Which pods, namespaces and policies there are, and what a change of one changes (pure).

Only policies that are about a pod of this node are in the table, with the peers that they name. A
pod that changes is looked for in the peers of its namespace, and in those of namespaces by label.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..model.portal import Family
from ..nftables.ledger import Changes, Contents
from ..nftables.ruleset import Element, SetSpec
from .layout import (
    SELECTED,
    SHARED_SETS,
    THEMSELVES,
    Parts,
    named_set,
    parts_of,
    pods_chain,
    pods_set,
    policy_chain,
    port_key,
)
from .ledger import Ledger
from .objects import Key, Pod
from .policies import Direction, Pods, Policy


@dataclass(slots=True)
class _Peers:
    """Peers that a policy in force names."""

    spec: SetSpec
    spaces: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _Isolation:
    """What policies say of a pod of this node: by direction those that are about it."""

    policies: Mapping[Direction, frozenset[Key]]


class Model:
    """All that policies depend on.

    Args:
        families: for which there are tables.
    """

    def __init__(self, families: Iterable[Family]) -> None:
        self._ledgers = {each: Ledger(SHARED_SETS.values()) for each in sorted(families)}
        self._last = max(self._ledgers)
        self._begun = False
        self._labels: dict[str, Mapping[str, str]] = {}
        self._pods: dict[str, dict[str, Pod]] = {}
        self._local: dict[str, set[str]] = {}
        self._policies: dict[str, dict[str, Policy]] = {}
        self._peers: dict[Pods, _Peers] = {}
        self._peers_of: dict[str, set[Pods]] = {}
        self._named: set[tuple[str, str]] = set()
        self._parts: dict[tuple[Key, Direction, Family], Parts] = {}
        self._isolated: dict[Key, _Isolation] = {}
        self._holders: dict[tuple[Family, bytes], dict[Key, Pod]] = {}

    def begin(self) -> None:
        """All that there is has been put in: look at it, and from now on at each change."""
        self._begun = True
        for space in tuple(self._local):
            for pod in self._local_pods(space):
                self._settle(pod.key, pod, pod, self._isolation(pod))

    # What comes in.

    def put_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        """Take a namespace as it is now."""
        if self._labels.get(name) == labels:
            return
        self._labels[name] = labels
        self._look_at_namespace(name)

    def drop_namespace(self, name: str) -> None:
        """Forget a namespace; its pods go by themselves."""
        if self._labels.pop(name, None) is not None:
            self._look_at_namespace(name)

    def put_pod(self, pod: Pod) -> None:
        """Take a pod as it is now."""
        space, name = pod.key
        before = self._pods.get(space, {}).get(name)
        if before != pod:
            self._change_pod(pod.key, before, pod)

    def drop_pod(self, key: Key) -> None:
        """Forget a pod: it is gone, has ended, or has no address."""
        before = self._pods.get(key[0], {}).get(key[1])
        if before is not None:
            self._change_pod(key, before, None)

    def put_policy(self, policy: Policy) -> None:
        """Take a policy as it is now."""
        space, name = policy.key
        before = self._policies.get(space, {}).get(name)
        if before == policy:
            return
        self._policies.setdefault(space, {})[name] = policy
        self._rewrite(policy)
        self._look_at_pods(policy.key, policy)

    def drop_policy(self, key: Key) -> None:
        """Forget a policy."""
        if self._policies.get(key[0], {}).pop(key[1], None) is not None:
            self._look_at_pods(key, None)
            if not self._policies[key[0]]:
                del self._policies[key[0]]

    def pods(self) -> Iterator[Key]:
        """Yield the names of all pods."""
        return ((space, name) for space, pods in self._pods.items() for name in tuple(pods))

    def policies(self) -> Iterator[Key]:
        """Yield the names of all policies."""
        return ((space, name) for space, found in self._policies.items() for name in tuple(found))

    def namespaces(self) -> Collection[str]:
        """Return the names of all namespaces."""
        return self._labels.keys()

    def pending(self, family: Family) -> bool:
        """Whether there is something to be done to a table."""
        return self._ledgers[family].changed

    def take(self, family: Family) -> Changes:
        """Return what is to be done to a table since this or `contents` was last called."""
        return self._ledgers[family].take()

    def contents(self, family: Family) -> Contents:
        """Return all that is to be in a table."""
        return self._ledgers[family].contents()

    # Pods.

    def _change_pod(self, key: Key, before: Pod | None, pod: Pod | None) -> None:
        space, name = key
        self._count(before, pod, self._peers_of.get(space, ()))
        self._count_named(before, pod, self._named)
        pods = self._pods.setdefault(space, {})
        if pod is None:
            del pods[name]
            if not pods:
                del self._pods[space]
        else:
            pods[name] = pod
        self._set_local(key, pod)
        if self._begun:
            self._settle(key, before, pod, None if pod is None else self._isolation(pod))

    def _set_local(self, key: Key, pod: Pod | None) -> None:
        space, name = key
        if pod is not None and pod.local:
            self._local.setdefault(space, set()).add(name)
        elif space in self._local:
            self._local[space].discard(name)
            if not self._local[space]:
                del self._local[space]

    def _local_pods(self, space: str) -> list[Pod]:
        return [self._pods[space][name] for name in self._local.get(space, ())]

    def _count(self, before: Pod | None, pod: Pod | None, peers: Iterable[Pods]) -> None:
        """Bring a pod's addresses in sets of peers up to date."""
        for peer in peers:
            was = before if before is not None and peer.pods.matches(before.labels) else None
            now = pod if pod is not None and peer.pods.matches(pod.labels) else None
            if was is not None and now is not None and was.addresses == now.addresses:
                continue
            name = self._peers[peer].spec.name
            for family, ledger in self._ledgers.items():
                if now is not None and family in now.addresses:
                    ledger.add(name, now.addresses[family])
                if was is not None and family in was.addresses:
                    ledger.remove(name, was.addresses[family])

    def _count_named(
        self, before: Pod | None, pod: Pod | None, names: Collection[tuple[str, str]]
    ) -> None:
        if not names:
            return
        for family, ledger in self._ledgers.items():
            old, new = (_named_keys(each, family, names) for each in (before, pod))
            for name, key in new - old:
                ledger.add(name, key)
            for name, key in old - new:
                ledger.remove(name, key)

    def _settle(
        self, key: Key, before: Pod | None, pod: Pod | None, new: _Isolation | None
    ) -> None:
        """Bring up to date what policies say of a pod of this node."""
        before, pod = (each if each is not None and each.local else None for each in (before, pod))
        if before is None and pod is None:
            return
        old = self._isolated.pop(key, None)
        if pod is None:
            new = None
        if new is not None:
            self._isolated[key] = new
        # What comes is there before what goes, so that what both need stays.
        for direction in Direction:
            self._enter(new.policies.get(direction) if new else None, direction)
        for family in self._ledgers:
            self._hold(key, before, pod, family)
        for direction in Direction:
            self._leave(old.policies.get(direction) if old else None, direction)

    def _isolation(self, pod: Pod) -> _Isolation | None:
        if not pod.local:
            return None
        found: dict[Direction, set[Key]] = {}
        for policy in self._policies.get(pod.key[0], {}).values():
            for direction in _directions(policy, pod):
                found.setdefault(direction, set()).add(policy.key)
        return _isolation_of(found)

    def _hold(self, key: Key, before: Pod | None, pod: Pod | None, family: Family) -> None:
        """Bring the elements of a pod's addresses up to date; the newest pod has an address."""
        touched = {each.addresses[family] for each in (before, pod) if each and family in
                   each.addresses}  # fmt: skip
        for address in touched:
            holders = self._holders.setdefault((family, address), {})
            if pod is not None and pod.addresses.get(family) == address:
                holders[key] = pod
            else:
                holders.pop(key, None)
            if not holders:
                del self._holders[family, address]
            self._set_elements(family, address, holders)

    def _set_elements(self, family: Family, address: bytes, holders: Mapping[Key, Pod]) -> None:
        ledger = self._ledgers[family]
        newest = max(holders.values(), key=lambda each: each.born, default=None)
        isolation = self._isolated.get(newest.key) if newest is not None else None
        for direction in Direction:
            keys = isolation.policies.get(direction) if isolation is not None else None
            name = SELECTED[direction].name
            if keys:
                chain = pods_chain(keys, direction).name
                ledger.put(name, Element(address, ("goto", chain)))
            else:
                ledger.drop(name, address)
        if isolation is not None:
            ledger.put(THEMSELVES.name, Element(address + address))
        else:
            ledger.drop(THEMSELVES.name, address + address)

    # Policies in force.

    def _enter(self, keys: frozenset[Key] | None, direction: Direction) -> None:
        if not keys:
            return
        chain = pods_chain(keys, direction)
        fresh = [ledger.want_chain(chain) for ledger in self._ledgers.values()]
        if any(fresh):
            for key in keys:
                self._activate(self._policies[key[0]][key[1]], direction)

    def _leave(self, keys: frozenset[Key] | None, direction: Direction) -> None:
        if not keys:
            return
        name = pods_chain(keys, direction).name
        gone = [ledger.leave_chain(name) for ledger in self._ledgers.values()]
        if any(gone):
            for key in keys:
                self._deactivate(key, direction)

    def _activate(self, policy: Policy, direction: Direction) -> None:
        for family, ledger in self._ledgers.items():
            key = (policy.key, direction, family)
            parts = self._parts.get(key) or parts_of(policy, direction, family)
            if ledger.want_chain(parts.chain):
                self._parts[key] = parts
                self._use(family, parts)

    def _deactivate(self, key: Key, direction: Direction) -> None:
        for family, ledger in self._ledgers.items():
            if ledger.leave_chain(policy_chain(key, direction)):
                self._unuse(family, self._parts.pop((key, direction, family)))

    def _rewrite(self, policy: Policy) -> None:
        """Give a policy that is in force its new rules."""
        for direction in Direction:
            for family, ledger in self._ledgers.items():
                key = (policy.key, direction, family)
                before = self._parts.get(key)
                if before is None:
                    continue
                parts = self._parts[key] = parts_of(policy, direction, family)
                self._use(family, parts)
                ledger.put_chain(parts.chain)
                self._unuse(family, before)

    def _use(self, family: Family, parts: Parts) -> None:
        ledger = self._ledgers[family]
        for spec, elements in parts.sets.values():
            ledger.want_set(spec, elements)
        for peer in parts.pods:
            found = self._peers.get(peer)
            if found is None:
                found = self._find(peer)
            if ledger.want_set(found.spec):
                for pod in self._members(peer, found):
                    if family in pod.addresses:
                        ledger.add(found.spec.name, pod.addresses[family])
        for name in parts.named:
            self._named.add(name)
            spec = named_set(*name)
            if ledger.want_set(spec):
                for pods in self._pods.values():
                    for pod in pods.values():
                        for _, key in _named_keys(pod, family, (name,)):
                            ledger.add(spec.name, key)

    def _unuse(self, family: Family, parts: Parts) -> None:
        ledger = self._ledgers[family]
        for name in parts.sets:
            ledger.leave_set(name)
        for peer in parts.pods:
            if ledger.leave_set(self._peers[peer].spec.name) and family == self._last:
                self._lose(peer)
        for each in parts.named:
            if ledger.leave_set(named_set(*each).name) and family == self._last:
                self._named.discard(each)

    # Peers.

    def _find(self, peer: Pods) -> _Peers:
        """Begin to follow peers."""
        if peer.namespaces is None:
            spaces = {peer.namespace}
        else:
            spaces = {
                each for each, labels in self._labels.items() if peer.namespaces.matches(labels)
            }
        found = self._peers[peer] = _Peers(pods_set(peer), spaces)
        for space in spaces:
            self._peers_of.setdefault(space, set()).add(peer)
        return found

    def _lose(self, peer: Pods) -> None:
        for space in self._peers.pop(peer).spaces:
            self._peers_of[space].discard(peer)
            if not self._peers_of[space]:
                del self._peers_of[space]

    def _members(self, peer: Pods, found: _Peers) -> Iterator[Pod]:
        for space in found.spaces:
            for pod in self._pods.get(space, {}).values():
                if peer.pods.matches(pod.labels):
                    yield pod

    def _look_at_namespace(self, name: str) -> None:
        """Bring peers up to date that select namespaces by label."""
        labels = self._labels.get(name)
        for peer, found in self._peers.items():
            if peer.namespaces is None:
                continue
            now = labels is not None and peer.namespaces.matches(labels)
            if now == (name in found.spaces):
                continue
            for pod in self._pods.get(name, {}).values():
                self._count(None if now else pod, pod if now else None, (peer,))
            (found.spaces.add if now else found.spaces.discard)(name)
            peers = self._peers_of.setdefault(name, set())
            (peers.add if now else peers.discard)(peer)
            if not peers:
                del self._peers_of[name]

    def _look_at_pods(self, key: Key, policy: Policy | None) -> None:
        """Look anew at what one policy says of the pods of this node in its namespace."""
        if not self._begun:
            return
        for pod in self._local_pods(key[0]):
            old = self._isolated.get(pod.key)
            now = _directions(policy, pod) if policy is not None else ()
            found: dict[Direction, set[Key]] = {}
            for direction in Direction:
                keys = set(old.policies.get(direction, ()) if old is not None else ()) - {key}
                if direction in now:
                    keys.add(key)
                if keys:
                    found[direction] = keys
            new = _isolation_of(found)
            if new != old:
                self._settle(pod.key, pod, pod, new)


def _directions(policy: Policy, pod: Pod) -> Collection[Direction]:
    """Return in which directions a policy is about a pod of its namespace."""
    if policy.selector is None or not policy.selector.matches(pod.labels):
        return ()
    return policy.rules.keys()


def _isolation_of(found: Mapping[Direction, Collection[Key]]) -> _Isolation | None:
    if not found:
        return None
    return _Isolation({each: frozenset(keys) for each, keys in found.items()})


def _named_keys(
    pod: Pod | None, family: Family, names: Collection[tuple[str, str]]
) -> set[tuple[str, bytes]]:
    """Return the elements of a pod in sets of named ports, each with the set's name."""
    if pod is None or family not in pod.addresses:
        return set()
    address = pod.addresses[family]
    return {
        (named_set(name, protocol).name, address + port_key(protocol, number))
        for name, protocol, number in pod.ports
        if (name, protocol) in names and 0 < number < 1 << 16
    }
