"""The Node authorizer: a node reads what the pods bound to it need, and no more.

Source: Kubernetes documentation, "Using Node Authorization"; KEP-4601 (selectors).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from controlplane.api import codec
from controlplane.api.identity import User
from controlplane.auth.authorization.attributes import Attributes
from controlplane.auth.authorization.feed import Feed
from controlplane.auth.authorization.references import Reference, of_pod, of_volume
from controlplane.auth.authorization.rules import Rule
from controlplane.store.model import Item
from controlplane.store.store import Store

NODES: Final = "system:nodes"
NODE: Final = "system:node:"
LEASES: Final = "kube-node-lease"
MIRROR: Final = "kubernetes.io/config.mirror"

_POD_PREFIX: Final = "/core/pods/"
_VOLUME_PREFIX: Final = "/core/persistentvolumes/"
_ATTACHMENT_PREFIX: Final = "/storage.k8s.io/volumeattachments/"

_Decision = tuple[bool, str]
_OWN_VERBS: Final = ("get", "create", "update", "patch", "delete")


def node_of(user: User) -> str | None:
    """Return the name of the node that a user is; "": a node without name; None: it is none."""
    if NODES not in user.groups:
        return None
    return user.name.removeprefix(NODE) if user.name.startswith(NODE) else None


class Graph:
    """What is related to which node, by the pods bound to it.

    Args:
        store: of the objects.
    """

    def __init__(self, store: Store) -> None:
        self._nodes: dict[Reference, Counter[str]] = {}
        self._pods: dict[str, tuple[str, set[Reference]]] = {}
        self._claims: dict[str, Reference] = {}
        self._volumes: dict[Reference, set[str]] = {}
        self.feeds = (
            Feed(store, _POD_PREFIX, self._put_pod, self._remove_pod, self._clear_pods),
            Feed(store, _VOLUME_PREFIX, self._put_volume, self._remove_volume, self._clear_volumes),
        )
        self._store = store

    def related(self, node: str, what: Reference) -> bool:
        """Say whether a pod of a node needs an object."""
        for feed in self.feeds:
            feed.catch_up()
        return self._related(node, what)

    def attached(self, node: str, name: str) -> bool:
        """Say whether a VolumeAttachment is for a node."""
        item = self._store.get(f"{_ATTACHMENT_PREFIX}{name}")
        return item is not None and codec.decode(item)["spec"].get("nodeName") == node

    def _related(self, node: str, what: Reference) -> bool:
        if node in self._nodes.get(what, ()):
            return True
        plural, _, name = what
        if plural == "persistentvolumes":
            claim = self._claims.get(name)
            return claim is not None and self._related(node, claim)
        volumes = self._volumes.get(what, ()) if plural == "secrets" else ()
        return any(self._related(node, ("persistentvolumes", "", one)) for one in volumes)

    def _put_pod(self, item: Item) -> None:
        pod = codec.decode(item)
        node = pod.get("spec", {}).get("nodeName", "")
        self._forget_pod(item.key)
        if not node:
            return
        meta = pod["metadata"]
        # A node makes mirror pods itself: they must not give it rights.
        found = set() if MIRROR in meta.get("annotations", {}) else of_pod(pod)
        found.add(("pods", meta["namespace"], meta["name"]))
        self._pods[item.key] = node, found
        for one in found:
            self._nodes.setdefault(one, Counter())[node] += 1

    def _remove_pod(self, item: Item) -> None:
        self._forget_pod(item.key)

    def _forget_pod(self, key: str) -> None:
        node, found = self._pods.pop(key, ("", set()))
        for one in found:
            counts = self._nodes[one]
            counts[node] -= 1
            if not counts[node]:
                del counts[node]
            if not counts:
                del self._nodes[one]

    def _clear_pods(self) -> None:
        self._nodes.clear()
        self._pods.clear()

    def _put_volume(self, item: Item) -> None:
        self._remove_volume(item)
        name = item.key.removeprefix(_VOLUME_PREFIX)
        claim, secrets = of_volume(codec.decode(item))
        if claim is not None:
            self._claims[name] = claim
        for secret in secrets:
            self._volumes.setdefault(secret, set()).add(name)

    def _remove_volume(self, item: Item) -> None:
        name = item.key.removeprefix(_VOLUME_PREFIX)
        if self._claims.pop(name, None) is not None:
            for secret in [s for s, names in self._volumes.items() if name in names]:
                self._volumes[secret].discard(name)
                if not self._volumes[secret]:
                    del self._volumes[secret]

    def _clear_volumes(self) -> None:
        self._claims.clear()
        self._volumes.clear()


class NodeAuthorizer:
    """Decides for nodes.

    Args:
        graph: of what is related to them.
        rules: what nodes may do besides (those of the ClusterRole ``system:node``).
    """

    def __init__(self, graph: Graph, rules: tuple[Rule, ...]) -> None:
        self._graph = graph
        self._rules = rules
        self._special: dict[tuple[str, str], Callable[[str, Attributes], _Decision]] = {
            ("", "secrets"): self._read,
            ("", "configmaps"): self._read,
            ("", "persistentvolumeclaims"): self._claim,
            ("", "persistentvolumes"): self._get,
            ("", "serviceaccounts"): self._service_account,
            ("", "nodes"): self._node,
            ("", "pods"): self._pod,
            ("storage.k8s.io", "volumeattachments"): self._attachment,
            ("storage.k8s.io", "csinodes"): self._csi_node,
            ("coordination.k8s.io", "leases"): self._lease,
        }

    def authorize(self, wanted: Attributes) -> tuple[bool, str]:
        """Decide for a node; no word about anybody else."""
        node = node_of(wanted.user)
        if node is None:
            return False, ""
        if not node:
            return False, f'unknown node for user "{wanted.user.name}"'
        special = self._special.get((wanted.group, wanted.resource))
        if special is not None:
            return special(node, wanted)
        return any(rule.allows(wanted) for rule in self._rules), ""

    def _read(self, node: str, wanted: Attributes) -> _Decision:
        if wanted.verb not in ("get", "list", "watch"):
            return False, "can only read resources of this type"
        if wanted.subresource:
            return False, "cannot read subresource"
        if not wanted.namespace:
            return False, "can only read namespaced object of this type"
        return self._by_graph(node, wanted)

    def _get(self, node: str, wanted: Attributes) -> _Decision:
        if wanted.verb != "get":
            return False, "can only get individual resources of this type"
        if wanted.subresource:
            return False, "cannot get subresource"
        return self._by_graph(node, wanted)

    def _claim(self, node: str, wanted: Attributes) -> _Decision:
        if wanted.subresource != "status":
            return self._get(node, wanted)
        if wanted.verb not in ("update", "patch"):
            return False, "can only get/update/patch this type"
        return self._by_graph(node, wanted)

    def _by_graph(self, node: str, wanted: Attributes) -> _Decision:
        if not wanted.name:
            return False, "No Object name found"
        if self._graph.related(node, (wanted.resource, wanted.namespace, wanted.name)):
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _attachment(self, node: str, wanted: Attributes) -> _Decision:
        if wanted.verb != "get":
            return False, "can only get individual resources of this type"
        if wanted.subresource:
            return False, "cannot get subresource"
        if self._graph.attached(node, wanted.name):
            return True, ""
        return False, f"no relationship found between node '{node}' and this object"

    def _service_account(self, node: str, wanted: Attributes) -> _Decision:
        if wanted.verb == "get" and not wanted.subresource:
            return self._read(node, wanted)
        if wanted.verb != "create" or not wanted.name:
            return False, "can only create tokens for individual service accounts"
        if wanted.subresource != "token":
            return False, "can only create token subresource of serviceaccount"
        return self._by_graph(node, wanted)

    def _node(self, node: str, wanted: Attributes) -> _Decision:
        if wanted.subresource == "status":
            return wanted.verb in ("update", "patch"), ""
        if wanted.subresource:
            return False, ""
        # Whose node it is that is written, NodeRestriction looks at.
        if wanted.verb in ("create", "update", "patch") or (
            wanted.verb in ("get", "list", "watch") and wanted.name == node
        ):
            return True, ""
        if wanted.verb not in ("get", "list", "watch"):
            return False, ""
        what = f"'{wanted.name}'" if wanted.name else "all nodes"
        return False, f"node '{node}' cannot read {what}, only its own Node object"

    def _pod(self, node: str, wanted: Attributes) -> _Decision:
        verb, subresource = wanted.verb, wanted.subresource
        if subresource:
            allowed = {"status": ("update", "patch"), "eviction": ("create",)}
            return verb in allowed.get(subresource, ()), ""
        if verb == "get":
            return self._get(node, wanted)
        if verb in ("list", "watch"):
            if ("spec.nodeName", node) in wanted.fields:
                return True, ""
            if wanted.name:
                return self._by_graph(node, wanted)
            return False, "can only list/watch pods with spec.nodeName field selector"
        return verb in ("create", "delete"), ""

    def _lease(self, node: str, wanted: Attributes) -> _Decision:
        if wanted.verb not in _OWN_VERBS:
            return False, "can only get, create, update, patch, or delete a node lease"
        if wanted.namespace != LEASES:
            return False, f'can only access leases in the "{LEASES}" system namespace'
        if wanted.verb != "create" and wanted.name != node:
            return False, "can only access node lease with the same name as the requesting node"
        return True, ""

    def _csi_node(self, node: str, wanted: Attributes) -> _Decision:
        if wanted.verb not in _OWN_VERBS:
            return False, "can only get, create, update, patch, or delete a CSINode"
        if wanted.subresource:
            return False, "cannot authorize CSINode subresources"
        if wanted.verb != "create" and wanted.name != node:
            return False, "can only access CSINode with the same name as the requesting node"
        return True, ""
