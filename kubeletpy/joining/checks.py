"""Whether a machine may join a cluster, looked at before anything of it is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from kubeletpy_common.apiclient.kubeconfig import Access
from kubeletpy_common.bootstrap_tokens import BOOTSTRAPPERS, utc_text

from .asking import SET_CLOCK, Answer, ask
from .discovery import Discovered, split_token
from .errors import JoinError

LARGEST_SKEW: Final = 60.0
"""Seconds between the clocks. Certificates are made valid from five minutes before, tokens of
accounts are taken one minute before; with clocks further apart something fails sooner or later."""
WORTH_TELLING: Final = 5.0
VERSION: Final = (1, 36)
"""Of Kubernetes, that the kubelet here is like."""
_OLDER: Final = 3
"""Minor versions by which a kubelet may be older than the server (Version Skew Policy)."""
_REQUESTS: Final = {"group": "certificates.k8s.io", "resource": "certificatesigningrequests"}


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells a machine from others.

    Attributes:
        machine_id: of /etc/machine-id.
        system_uuid: of the firmware.
        boot_id: changes with each boot.
    """

    machine_id: str = ""
    system_uuid: str = ""
    boot_id: str = ""


def this_machine(root: Path = Path("/")) -> Identity:
    """Return the identity of this machine, as the kubelet tells it."""
    from kubeletpy.registration.machine import read_machine

    found = read_machine(root, cpus=1, root=root)
    return Identity(found.machine_id, found.system_uuid, found.boot_id)


async def check_join(
    discovered: Discovered,
    token: str,
    *,
    node: str = "",
    identity: Identity | None = None,
    version: tuple[int, int] = VERSION,
    largest_skew: float = LARGEST_SKEW,
) -> tuple[str, ...]:
    """Look whether this machine may join; return what should be known, for people.

    Args:
        discovered: the cluster.
        token: bootstrap token.
        node: name that the node will have; "": not looked at.
        identity: of this machine; None: read here.
        version: major and minor of the kubelet.
        largest_skew: seconds that the clocks may differ.

    Raises:
        JoinError: it may not.
    """
    identifier, _ = split_token(token)
    notes = [*discovered.notes]
    access = Access(server=discovered.server, ca=discovered.ca, token=token)
    skew = discovered.skew
    notes += check_skew(skew, discovered.server, largest_skew)
    told = await _checked(access, identifier)
    notes += check_version(told.body, discovered.server, version)
    notes += await _check_rights(access, identifier)
    if node:
        answer = await ask(access, f"/api/v1/nodes/{quote(node, safe='')}")
        notes += check_name(answer, node, identity or this_machine())
    return tuple(notes)


async def _checked(access: Access, identifier: str) -> Answer:
    """Return the version, once it is clear whom the server takes us for.

    A token that is not good is refused whatever is asked for.
    """
    answer = await ask(access, "/version")
    what = f"GET {access.server}/version with the token {identifier}.*****"
    if answer.status == 401:
        raise JoinError(
            "token-refused", what, "the server does not take it (401 Unauthorized): it has "
            "expired or was deleted, is not for authentication, or its second part is another one",
            "Look at it by kubeletpy token list: its usages must hold authentication; or make one "
            "on the server: kubeletpy token create --print-join-command",
        )  # fmt: skip
    review: dict[str, Any] = {
        "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview",
    }  # fmt: skip
    said = await ask(access, "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
    groups = _field(said.body, "status", "userInfo", "groups") or []
    if said.status == 201 and BOOTSTRAPPERS not in groups:
        raise JoinError(
            "token-usage", what, f"the server takes it for a user of {', '.join(groups)}, not of "
            f"{BOOTSTRAPPERS}", "Use a bootstrap token: kubeletpy token create",
        )  # fmt: skip
    return answer


async def _check_rights(access: Access, identifier: str) -> list[str]:
    """Ask whether the token may ask for a certificate, and for one that approves itself."""
    role = "system:certificates.k8s.io:certificatesigningrequests:nodeclient"
    if not await _may(access, ""):
        raise JoinError(
            "token-rights", f"asking {access.server} what the token {identifier}.***** may",
            "it may not create certificatesigningrequests", "Bind the ClusterRole "
            f"system:node-bootstrapper to the group {BOOTSTRAPPERS} (kubeadm init phase "
            "bootstrap-token does so), or give the token the group that has it: kubeletpy token "
            "create --groups",
        )  # fmt: skip
    if await _may(access, "nodeclient"):
        return []
    return [
        f"the token's certificate requests are not approved by themselves (ClusterRole {role}): "
        "kubectl get csr; kubectl certificate approve NAME"
    ]


async def _may(access: Access, below: str) -> bool:
    attributes = {**_REQUESTS, "verb": "create", "subresource": below}
    review = {
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }  # fmt: skip
    said = await ask(access, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)
    # Who cannot be asked is not believed to refuse.
    return said.status != 201 or bool(_field(said.body, "status", "allowed"))


def check_skew(
    skew: float | None, server: str, largest: float, now: datetime | None = None
) -> list[str]:
    """Look at the clocks (pure); return what should be known.

    Args:
        skew: seconds by which the server's is ahead; None: unknown.
        server: URL.
        largest: seconds that they may differ.
        now: our time; None: this moment.

    Raises:
        JoinError: they differ too much.
    """
    if skew is None or abs(skew) <= min(WORTH_TELLING, largest):
        return []
    here = now or datetime.now(UTC)
    text = (
        f"this machine's clock says {utc_text(here)}, that of {server} "
        f"{utc_text(here + timedelta(seconds=skew))}: {abs(skew):.0f} s "
        f"{'behind' if skew > 0 else 'ahead of'} it"
    )
    if abs(skew) > largest:
        why = f"{text}; more than {largest:g} s, so certificates and tokens are not valid on both"
        raise JoinError("clock", "comparing the clocks", why, SET_CLOCK)
    return [f"{text}. {SET_CLOCK}"]


def check_version(body: Any, server: str, own: tuple[int, int]) -> list[str]:
    """Look at the versions (pure; Kubernetes documentation, "Version Skew Policy").

    Args:
        body: of the answer of ``/version``.
        server: URL.
        own: major and minor of the kubelet.

    Raises:
        JoinError: a kubelet of this version cannot be a node of the server.
    """
    text = str(_field(body, "gitVersion") or "")
    match = re.match(r"v?(\d+)\.(\d+)", text)
    if match is None:
        return [f"{server} does not tell its version ({text or 'nothing'})"]
    theirs = int(match[1]), int(match[2])
    mine = f"{own[0]}.{own[1]}"
    if own > theirs:
        raise JoinError(
            "version", f"comparing versions with {server}", f"the kubelet is {mine}, newer than "
            f"the server ({text})", "Upgrade the server first, or install an older kubelet",
        )  # fmt: skip
    if own[0] != theirs[0] or theirs[1] - own[1] > _OLDER:
        raise JoinError(
            "version", f"comparing versions with {server}", f"the kubelet is {mine}, more than "
            f"{_OLDER} minor versions older than the server ({text})", "Install a newer kubelet",
        )  # fmt: skip
    return []


def check_name(answer: Answer, node: str, own: Identity) -> list[str]:
    """Look whether a name is free, or this machine's (pure).

    Args:
        answer: of GET of the Node.
        node: the name.
        own: identity of this machine.

    Raises:
        JoinError: another machine, which is alive, has it.
    """
    if answer.status == 404:
        return []
    if answer.status != 200:
        return [f"whether the node name {node} is free could not be looked at ({answer.status})"]
    if is_same(own, _field(answer.body, "status", "nodeInfo") or {}):
        return [f"the node {node} is there, and was this machine: it is taken up again"]
    conditions = _field(answer.body, "status", "conditions") or []
    ready = next((one.get("status") for one in conditions if one.get("type") == "Ready"), "")
    if ready in ("True", "False"):
        addresses = _field(answer.body, "status", "addresses") or []
        where = ", ".join(str(one.get("address")) for one in addresses)
        raise JoinError(
            "name-taken", f"joining as node {node}", f"another machine ({where}) is alive under "
            "this name", f"Choose another name (--node-name, or hostnamectl set-hostname), or, if "
            f"that machine is gone: kubectl delete node {node}",
        )  # fmt: skip
    return [f"the node {node} is there, of a machine that tells nothing any more: it is replaced"]


def is_same(own: Identity, told: Mapping[str, Any]) -> bool:
    """Say whether a nodeInfo is of a machine (pure).

    Copies of a virtual machine often have one machine-id: the firmware's UUID counts too.
    """
    if own.boot_id and told.get("bootID") == own.boot_id:
        return True
    pairs = ((own.machine_id, told.get("machineID")), (own.system_uuid, told.get("systemUUID")))
    return all(one and one.lower() == str(other).lower() for one, other in pairs)


def _field(body: Any, *names: str) -> Any:
    """Return what is below names of a JSON object; None: nothing."""
    for name in names:
        body = body.get(name) if isinstance(body, dict) else None
    return body
