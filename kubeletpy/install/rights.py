"""Whether the cluster lets a node read what its proxy needs.

Ours does (see docs/joining.md); elsewhere, as in a cluster of kubeadm, a proxy has its own account,
and what nodes may do has to be widened. That is found out before the proxy waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy.install.errors import InstallError
from kubeletpy.install.server import client_of
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError

_PATH: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_GROUP: Final = "--group system:nodes"


@dataclass(frozen=True)
class Right:
    """To list and watch a resource.

    Attributes:
        group: of the API; "": the first one.
        resource: plural.
        policies: it is for policies alone; without it Services work all the same.
    """

    group: str
    resource: str
    policies: bool = False

    def __str__(self) -> str:
        return f"{self.resource}.{self.group}" if self.group else self.resource


WANTED: Final = (
    Right("", "services"),
    Right("discovery.k8s.io", "endpointslices"),
    Right("", "nodes"),
    Right("", "namespaces", policies=True),
    Right("", "pods", policies=True),
    Right("networking.k8s.io", "networkpolicies", policies=True),
)


def remedy(lacking: Iterable[Right]) -> str:
    """Return what an administrator of the cluster runs, one command a line; "": nothing (pure)."""
    found = list(lacking)
    commands = []
    if any(not one.policies for one in found):
        commands.append(
            "kubectl create clusterrolebinding kubeletpy:node-proxier "
            f"--clusterrole system:node-proxier {_GROUP}"
        )
    if any(one.policies for one in found):
        resources = ",".join(str(one) for one in WANTED if one.policies)
        commands += [
            "kubectl create clusterrole kubeletpy:network-policies --verb list,watch "
            f"--resource {resources}",
            "kubectl create clusterrolebinding kubeletpy:node-network-policies "
            f"--clusterrole kubeletpy:network-policies {_GROUP}",
        ]
    return "\n".join(commands)


def judge(lacking: Sequence[Right]) -> tuple[str, str]:
    """Return why the proxy cannot work, and what else is to be known; "" each if nothing (pure)."""
    services = [one for one in lacking if not one.policies]
    policies = [one for one in lacking if one.policies]
    error = note = ""
    if services:
        error = (
            f"the cluster does not let nodes list and watch {', '.join(map(str, services))}, so "
            f"the proxy cannot work; an administrator of the cluster runs\n{remedy(lacking)}\n"
            "and then this is run again; or --no-proxy, if the cluster has a proxy of its own"
        )
    elif policies:
        note = (
            "NetworkPolicies are not enforced on this node until the cluster lets nodes list and "
            f"watch {', '.join(map(str, policies))}; an administrator of the cluster runs\n"
            f"{remedy(policies)}"
        )
    return error, note


async def asked(kubeconfig: Path, seconds: float) -> list[Right]:
    """Return what the owner of a kubeconfig may not do of `WANTED`.

    Raises:
        InstallError: the server does not say.
    """
    try:
        async with asyncio.timeout(seconds), client_of(kubeconfig) as client:
            return await lacking(client)
    except TimeoutError:
        raise InstallError(
            f"the API server did not say within {seconds:.0f} s what this node may do"
        ) from None
    except ApiError as error:
        raise InstallError(f"cannot ask what this node may do in the cluster: {error}") from error


async def lacking(client: ApiClient) -> list[Right]:
    """Return what a client may not do of `WANTED`.

    Raises:
        ApiError: the server does not say.
    """
    found = []
    for one in WANTED:
        for verb in ("list", "watch"):
            attributes = {"group": one.group, "resource": one.resource, "verb": verb}
            answer = await client.create(_PATH, {
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            })  # fmt: skip
            if not (answer.get("status") or {}).get("allowed"):
                found.append(one)
                break
    return found
