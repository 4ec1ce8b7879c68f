"""Approves the serving certificates that kubelets ask for, as far as Node objects bear them out.

Kubernetes leaves that to people, for a kubelet tells the addresses of its Node itself: who has
taken over a machine could name another's. So a name or address that another Node has, too, is not
approved, nor one that is nobody's but the cluster's.

Source: Kubernetes documentation, "TLS bootstrapping", "Certificate rotation"; "Kubernetes signers",
``kubernetes.io/kubelet-serving``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import NODES, SIGNING_REQUESTS, Object, key_of

from .conditions import approved, has_certificate, kinds_of

if TYPE_CHECKING:
    from cryptography import x509

SERVING: Final = "kubernetes.io/kubelet-serving"
_USER: Final = "system:node:"
_GROUP: Final = "system:nodes"
_BY_USER: Final = "user"
_MESSAGE: Final = (
    "Auto approving kubelet serving certificate: its names and addresses are those of the Node."
)
_REASON: Final = "ServingCertificateNotApproved"
_RESERVED: Final = ("localhost", "kubernetes", "kubernetes.default")
_RESERVED_ENDS: Final = (".svc", ".localhost", ".cluster.local")


class ServingApprover(Controller):
    """Approves what fits; what does not is left to people, with an event that says why."""

    name: ClassVar[str] = "kubelet-serving-approving-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = context.informers.of(SIGNING_REQUESTS)
        self._nodes = context.informers.of(NODES)
        self._requests.index(_BY_USER, lambda value: [value["spec"].get("username", "")])
        self._requests.listen(self.enqueue)
        self._nodes.listen(self._node_changed)
        self._told: dict[str, str] = {}

    def _node_changed(self, before: Object | None, node: Object | None) -> None:
        """Look again at the requests of a node whose addresses changed."""
        found = node or before
        assert found is not None
        if before is not None and node is not None and addresses(before) == addresses(node):
            return
        for value in self._requests.indexed(_BY_USER, _USER + found["metadata"]["name"]):
            self.queue.add(key_of(value))

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        value = self._requests.get(key)
        if value is None or value["spec"].get("signerName") != SERVING:
            self._told.pop(key, None)
            return None
        if has_certificate(value) or kinds_of(value) & {"Approved", "Denied"}:
            self._told.pop(key, None)
            return None
        from .requests import RequestError, parse_request

        try:
            why = refusal(value, parse_request(value), self._nodes)
        except RequestError as error:
            why = str(error)
        if not why:
            await self._approve(value)
        elif self._told.get(key) != why:
            self._told[key] = why
            self.context.recorder.warning(
                {"apiVersion": SIGNING_REQUESTS.group_version, "kind": SIGNING_REQUESTS.kind,
                 **value}, _REASON, f"{why}; if it is right: kubectl certificate approve {key}"
            )  # fmt: skip
        return None

    async def _approve(self, value: Object) -> None:
        wanted = approved(value, _MESSAGE, self.context.clock())
        await self.context.writer.update(SIGNING_REQUESTS, wanted, "approval")


def refusal(value: Object, request: x509.CertificateSigningRequest, nodes: Iterable[Object]) -> str:
    """Return why a request is not approved; "": it is (pure).

    Args:
        value: the CertificateSigningRequest.
        request: that it holds.
        nodes: all there are.
    """
    from cryptography import x509

    from .requests import RequestError, alternatives, check_request, common_name

    spec: dict[str, Any] = value["spec"]
    try:
        check_request(SERVING, request, set(spec.get("usages") or ()))
    except RequestError as error:
        return str(error)
    user = spec.get("username", "")
    if common_name(request) != user or _GROUP not in (spec.get("groups") or ()):
        return f"it is for {common_name(request)}, and {user} asks for it"
    asked: set[str] = set()
    for name in alternatives(request):
        if isinstance(name, x509.IPAddress):
            asked.add(str(name.value))
        elif isinstance(name, x509.DNSName):
            asked.add(name.value.lower())
        else:
            return f"it holds a name of another kind: {name}"
    own, others = None, {}
    for node in nodes:
        if _USER + node["metadata"]["name"] == user:
            own = node
        else:
            others.update(dict.fromkeys(addresses(node), node["metadata"]["name"]))
    if own is None:
        return f"there is no Node {user.removeprefix(_USER)}"
    foreign = sorted(asked - addresses(own))
    if foreign:
        return f"{', '.join(foreign)} is no address of the Node {own['metadata']['name']}"
    for text in sorted(asked):
        if text in others:
            return f"{text} is an address of the Node {others[text]}, too"
        if _is_reserved(text):
            return f"{text} is no name or address of a node"
    return ""


def addresses(node: Object) -> set[str]:
    """Return names and addresses of a node, each in one form only (pure)."""
    found: set[str] = set()
    for one in (node.get("status") or {}).get("addresses") or ():
        text = str(one.get("address", "")).lower()
        try:
            found.add(str(ipaddress.ip_address(text)))
        except ValueError:
            found.add(text)
    return found - {""}


def _is_reserved(name: str) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name in _RESERVED or name.endswith(_RESERVED_ENDS)
    return address.is_loopback or address.is_unspecified or address.is_multicast
