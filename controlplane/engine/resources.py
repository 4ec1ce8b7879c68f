"""The resources that controllers follow and write."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kubeletpy_common.apiclient.client import object_path

Object = dict[str, Any]
"""An object as its JSON says. Those of an `Informer` belong to all: they are never changed."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of the API.

    Attributes:
        group_version: ``v1``, ``apps/v1`` ...
        plural: as in paths.
        kind: of its objects.
        namespaced: whether objects are in namespaces.
    """

    group_version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Return the path of the collection, or of an object."""
        return object_path(self.group_version, self.plural, namespace, name, subresource)

    def path_of(self, value: Object, subresource: str = "") -> str:
        """Return the path of an object that is there."""
        meta = value["metadata"]
        return self.path(meta.get("namespace", ""), meta["name"], subresource)


PODS: Final = Resource("v1", "pods", "Pod")
NODES: Final = Resource("v1", "nodes", "Node", namespaced=False)
NAMESPACES: Final = Resource("v1", "namespaces", "Namespace", namespaced=False)
SERVICES: Final = Resource("v1", "services", "Service")
ENDPOINTS: Final = Resource("v1", "endpoints", "Endpoints")
CONFIG_MAPS: Final = Resource("v1", "configmaps", "ConfigMap")
SECRETS: Final = Resource("v1", "secrets", "Secret")
ACCOUNTS: Final = Resource("v1", "serviceaccounts", "ServiceAccount")
CLAIMS: Final = Resource("v1", "persistentvolumeclaims", "PersistentVolumeClaim")
VOLUMES: Final = Resource("v1", "persistentvolumes", "PersistentVolume", namespaced=False)
QUOTAS: Final = Resource("v1", "resourcequotas", "ResourceQuota")
REPLICATION_CONTROLLERS: Final = Resource("v1", "replicationcontrollers", "ReplicationController")
REPLICA_SETS: Final = Resource("apps/v1", "replicasets", "ReplicaSet")
DEPLOYMENTS: Final = Resource("apps/v1", "deployments", "Deployment")
STATEFUL_SETS: Final = Resource("apps/v1", "statefulsets", "StatefulSet")
DAEMON_SETS: Final = Resource("apps/v1", "daemonsets", "DaemonSet")
REVISIONS: Final = Resource("apps/v1", "controllerrevisions", "ControllerRevision")
JOBS: Final = Resource("batch/v1", "jobs", "Job")
CRON_JOBS: Final = Resource("batch/v1", "cronjobs", "CronJob")
SLICES: Final = Resource("discovery.k8s.io/v1", "endpointslices", "EndpointSlice")
BUDGETS: Final = Resource("policy/v1", "poddisruptionbudgets", "PodDisruptionBudget")
AUTOSCALERS: Final = Resource("autoscaling/v2", "horizontalpodautoscalers",
                              "HorizontalPodAutoscaler")  # fmt: skip
STORAGE_CLASSES: Final = Resource("storage.k8s.io/v1", "storageclasses", "StorageClass",
                                  namespaced=False)  # fmt: skip
CSI_NODES: Final = Resource("storage.k8s.io/v1", "csinodes", "CSINode", namespaced=False)
PRIORITY_CLASSES: Final = Resource("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass",
                                   namespaced=False)  # fmt: skip
LEASES: Final = Resource("coordination.k8s.io/v1", "leases", "Lease")
INGRESSES: Final = Resource("networking.k8s.io/v1", "ingresses", "Ingress")
INGRESS_CLASSES: Final = Resource("networking.k8s.io/v1", "ingressclasses", "IngressClass",
                                  namespaced=False)  # fmt: skip
POLICIES: Final = Resource("networking.k8s.io/v1", "networkpolicies", "NetworkPolicy")
SIGNING_REQUESTS: Final = Resource("certificates.k8s.io/v1", "certificatesigningrequests",
                                   "CertificateSigningRequest", namespaced=False)  # fmt: skip

DEFINITIONS: Final = Resource("apiextensions.k8s.io/v1", "customresourcedefinitions",
                              "CustomResourceDefinition", namespaced=False)  # fmt: skip


def key_of(value: Object) -> str:
    """Return ``namespace/name``, or ``name`` of what is in no namespace."""
    meta = value["metadata"]
    namespace = meta.get("namespace")
    return f"{namespace}/{meta['name']}" if namespace else str(meta["name"])


def split(key: str) -> tuple[str, str]:
    """Return namespace ("": none) and name of a key."""
    namespace, _, name = key.rpartition("/")
    return namespace, name


def version_of(value: Object) -> int:
    """Return the resource version as a number that grows with each write (KEP-5504); else 0."""
    text = value["metadata"].get("resourceVersion", "")
    return int(text) if text.isdecimal() else 0


def is_deleting(value: Object) -> bool:
    """Whether deletion was asked for."""
    return "deletionTimestamp" in value["metadata"]
