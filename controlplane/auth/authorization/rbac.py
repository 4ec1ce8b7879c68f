"""RBAC: an index of roles and bindings by whom they apply to.

Source: Kubernetes documentation, "Using RBAC Authorization".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from controlplane.api import codec
from controlplane.api.errors import not_found
from controlplane.api.identity import User
from controlplane.api.resource import Object
from controlplane.auth.authorization.attributes import Attributes
from controlplane.auth.authorization.feed import Feed
from controlplane.auth.authorization.rules import Rule, read_rule
from controlplane.store.model import Item
from controlplane.store.store import Store

GROUP: Final = "rbac.authorization.k8s.io"
PREFIX: Final = f"/{GROUP}/"
SERVICE_ACCOUNT: Final = "system:serviceaccount:"
_MAX_USERS: Final = 4096
_MAX_DECIDED: Final = 16_384

_Key = tuple[str, str]
"""(namespace, name); the namespace is "" for cluster roles and their bindings."""


class Rbac:
    """Decides by roles and bindings; never says why not.

    Args:
        store: of the objects.
    """

    def __init__(self, store: Store) -> None:
        self._roles: dict[_Key, tuple[Rule, ...]] = {}
        # Bindings by whom they apply to ("user:ann", "group:staff"), by namespace.
        self._bindings: dict[str, dict[str, dict[_Key, _Key]]] = {}
        self._subjects: dict[_Key, list[tuple[str, str]]] = {}
        self._known: dict[tuple[str, tuple[str, ...], str], tuple[Rule, ...]] = {}
        self._decided: dict[tuple[object, ...], bool] = {}
        self.feed = Feed(store, PREFIX, self._put, self._remove, self._clear)

    def authorize(self, wanted: Attributes) -> tuple[bool, str]:
        """Say whether a rule allows it."""
        if self.feed.catch_up():
            self._forget_known()
        key = (
            wanted.user.name, wanted.user.groups, wanted.verb, wanted.group, wanted.combined,
            wanted.namespace, wanted.name, wanted.path,
        )  # fmt: skip
        found = self._decided.get(key)
        if found is None:
            if len(self._decided) >= _MAX_DECIDED:
                self._decided.clear()
            found = self._decided[key] = self._decide(wanted)
        return found, ""

    def _decide(self, wanted: Attributes) -> bool:
        # The rules of the whole cluster first: they decide most requests.
        if any(rule.allows(wanted) for rule in self.rules(wanted.user, "")):
            return True
        return bool(wanted.namespace) and any(
            rule.allows(wanted) for rule in self.rules(wanted.user, wanted.namespace)
        )

    def rules(self, user: User, namespace: str) -> tuple[Rule, ...]:
        """Return the rules that a namespace's bindings give a user; "": those of the cluster."""
        if self.feed.catch_up():
            self._forget_known()
        key = user.name, user.groups, namespace
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MAX_USERS:
                self._known.clear()
            found = self._known[key] = tuple(self._collect(user, namespace))
        return found

    def all_rules(self, user: User, namespace: str) -> tuple[Rule, ...]:
        """Return the rules that a user has in a namespace; "": those of the cluster alone."""
        rules = self.rules(user, "")
        return (*rules, *self.rules(user, namespace)) if namespace else rules

    def role(self, reference: Object, namespace: str) -> tuple[Rule, ...]:
        """Return the rules of the role that a binding refers to.

        Raises:
            ApiError: there is no such role.
        """
        self.feed.catch_up()
        key = _role_key(reference, namespace)
        found = self._roles.get(key)
        if found is None:
            plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
            raise not_found(plural, GROUP, reference.get("name", ""))
        return found

    def _collect(self, user: User, namespace: str) -> Iterator[Rule]:
        seen: set[_Key] = set()
        for subject in (f"user:{user.name}", *(f"group:{group}" for group in user.groups)):
            for role in self._bindings.get(namespace, {}).get(subject, {}).values():
                if role not in seen:
                    seen.add(role)
                    yield from self._roles.get(role, ())

    def _clear(self) -> None:
        self._roles.clear()
        self._bindings.clear()
        self._subjects.clear()
        self._forget_known()

    def _forget_known(self) -> None:
        self._known.clear()
        self._decided.clear()

    def _put(self, item: Item) -> None:
        self._forget_known()
        plural, binding, namespace = _place(item.key)
        value = codec.decode(item)
        if plural.endswith("roles"):
            rules = value.get("rules") or ()
            self._roles[binding] = tuple(read_rule(rule) for rule in rules)
            return
        self._forget(binding)
        role = _role_key(value.get("roleRef", {}), namespace)
        places = []
        for subject in value.get("subjects") or ():
            who = subject_key(subject, namespace)
            if who:
                by_subject = self._bindings.setdefault(namespace, {})
                by_subject.setdefault(who, {})[binding] = role
                places.append((namespace, who))
        self._subjects[binding] = places

    def _remove(self, item: Item) -> None:
        self._forget_known()
        plural, key, _ = _place(item.key)
        if plural.endswith("roles"):
            self._roles.pop(key, None)
        else:
            self._forget(key)

    def _forget(self, binding: _Key) -> None:
        for namespace, who in self._subjects.pop(binding, ()):
            found = self._bindings[namespace].get(who, {})
            found.pop(binding, None)
            if not found:
                self._bindings[namespace].pop(who, None)


def subject_key(subject: Object, namespace: str) -> str:
    """Return whom a binding's subject means; "": nobody (pure).

    Args:
        subject: of the binding.
        namespace: of the binding; service accounts without one are in it.
    """
    kind, name = subject.get("kind"), subject.get("name", "")
    if kind == "User":
        return f"user:{name}"
    if kind == "Group":
        return f"group:{name}"
    home = subject.get("namespace") or namespace
    return f"user:{SERVICE_ACCOUNT}{home}:{name}" if kind == "ServiceAccount" and home else ""


def _place(key: str) -> tuple[str, _Key, str]:
    plural, _, rest = key.removeprefix(PREFIX).partition("/")
    namespace, _, name = rest.rpartition("/")
    return plural, (namespace, name), namespace


def _role_key(reference: Object, namespace: str) -> _Key:
    home = "" if reference.get("kind") == "ClusterRole" else namespace
    # A Role that a cluster's binding names is found nowhere.
    if reference.get("kind") != "ClusterRole" and not namespace:
        home = "/"
    return home, reference.get("name", "")
