"""Objects that a server's cluster gets from its installation (pure), and their applying.

What a joining node reads has the names and forms of kubeadm: ConfigMaps ``kubelet-config`` and
``kubeadm-config`` in kube-system, readable by nodes and those who have a bootstrap token.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from kubeletpy.install import commands
from kubeletpy.install.errors import InstallError
from kubeletpy.install.installation import Cluster, NodeInstallation
from kubeletpy.up.objects import dns_objects
from kubeletpy_common.apiclient.client import APPLY_PATCH, ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError

Object = dict[str, Any]
_AGENT: Final = "kubeletpy-install"
_SYSTEM: Final = "kube-system"
KUBELET_CONFIG: Final = "kubelet-config"
KUBEADM_CONFIG: Final = "kubeadm-config"
DNS_ACCOUNT: Final = "kubeletpy-dns"
_RBAC: Final = "rbac.authorization.k8s.io"
_PLURALS: Final = {
    "ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings",
    "ConfigMap": "configmaps", "EndpointSlice": "endpointslices", "Role": "roles",
    "RoleBinding": "rolebindings", "Secret": "secrets", "Service": "services",
    "ServiceAccount": "serviceaccounts",
}  # fmt: skip


def of_cluster(one: NodeInstallation) -> list[Object]:
    """Return all objects, those first that others refer to."""
    assert one.server is not None
    names = [KUBELET_CONFIG, KUBEADM_CONFIG]
    return [
        *_config_maps(one.cluster),
        *_readable(names),
        *_dns_account(),
        *dns_objects(
            commands.DNS_PORT, address=one.server.advertise_address, cluster_ip=one.cluster.dns[0]
        ),
    ]


def _config_maps(cluster: Cluster) -> list[Object]:
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "clusterDNS": list(cluster.dns),
        "clusterDomain": cluster.domain,
        "rotateCertificates": True,
        "serverTLSBootstrap": cluster.serving_certificates,
    }
    whole = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "controlPlaneEndpoint": cluster.server.removeprefix("https://"),
        "networking": {
            "dnsDomain": cluster.domain,
            "podSubnet": ",".join(cluster.pod_cidrs),
            "serviceSubnet": ",".join(cluster.service_cidrs),
        },
    }
    return [
        _config_map(KUBELET_CONFIG, {"kubelet": yaml.safe_dump(kubelet, sort_keys=False)}),
        _config_map(KUBEADM_CONFIG, {"ClusterConfiguration": yaml.safe_dump(whole)}),
    ]


def _config_map(name: str, data: dict[str, str]) -> Object:
    meta = {"namespace": _SYSTEM, "name": name}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def _readable(names: list[str]) -> list[Object]:
    meta = {"namespace": _SYSTEM, "name": "kubeletpy:joining"}
    rule = {
        "apiGroups": [""],
        "resources": ["configmaps"],
        "resourceNames": names,
        "verbs": ["get"],
    }
    groups = ("system:nodes", "system:bootstrappers")
    return [
        {"apiVersion": f"{_RBAC}/v1", "kind": "Role", "metadata": meta, "rules": [rule]},
        {
            "apiVersion": f"{_RBAC}/v1", "kind": "RoleBinding", "metadata": meta,
            "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": meta["name"]},
            "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": name} for name in groups],
        },
    ]  # fmt: skip


def _dns_account() -> list[Object]:
    """Return who the DNS is: it may read names and addresses, and nothing else."""
    meta = {"namespace": _SYSTEM, "name": DNS_ACCOUNT}
    role = "kubeletpy:dns"
    verbs = ["get", "list", "watch"]
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta},
        {
            "apiVersion": f"{_RBAC}/v1", "kind": "ClusterRole", "metadata": {"name": role},
            "rules": [
                {"apiGroups": [""], "resources": ["namespaces", "pods", "services", "nodes"],
                 "verbs": verbs},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"],
                 "verbs": verbs},
            ],
        },
        {
            "apiVersion": f"{_RBAC}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": role},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", **meta}],
        },
    ]  # fmt: skip


def dns_token(uid: str) -> Object:
    """Return the Secret in which the DNS's account gets a token without an end.

    Args:
        uid: of the account.
    """
    return {
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {
            "namespace": _SYSTEM, "name": f"{DNS_ACCOUNT}-token",
            "annotations": {"kubernetes.io/service-account.name": DNS_ACCOUNT,
                            "kubernetes.io/service-account.uid": uid},
        },
    }  # fmt: skip


async def apply(client: ApiClient, value: Object) -> Object:
    """Have an object be as ``value`` says, whether it is there or not; return it.

    Raises:
        InstallError: the server refused it.
    """
    try:
        return await client.patch(
            path_of(value), value, kind=APPLY_PATCH,
            params={"fieldManager": _AGENT, "force": "true"},
        )  # fmt: skip
    except ApiError as error:
        raise InstallError(
            f"cannot make {value['kind']} {value['metadata']['name']}: {error}"
        ) from error


def path_of(value: Object) -> str:
    """Return the path of an object (pure)."""
    meta = value["metadata"]
    return object_path(
        value["apiVersion"], _PLURALS[value["kind"]], meta.get("namespace", ""), meta["name"]
    )


def cluster_of(kubelet: str, whole: str) -> dict[str, Any]:
    """Return what kubeadm's ConfigMaps say of a cluster, by the names of `Cluster` (pure).

    Args:
        kubelet: text of ``kubelet`` in ``kubelet-config``; "": it could not be read.
        whole: text of ``ClusterConfiguration`` in ``kubeadm-config``; "": likewise.
    """
    settings, network = _table(kubelet), _table(whole).get("networking")
    found: dict[str, Any] = {}
    if isinstance(addresses := settings.get("clusterDNS"), list):
        found["dns"] = tuple(str(address) for address in addresses)
    if isinstance(domain := settings.get("clusterDomain"), str) and domain:
        found["domain"] = domain
    if isinstance(wanted := settings.get("serverTLSBootstrap"), bool):
        found["serving_certificates"] = wanted
    for key, name in (("podSubnet", "pod_cidrs"), ("serviceSubnet", "service_cidrs")):
        text = network.get(key) if isinstance(network, dict) else None
        if isinstance(text, str) and text:
            found[name] = tuple(part.strip() for part in text.split(","))
    return found


def _table(text: str) -> dict[str, Any]:
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}
