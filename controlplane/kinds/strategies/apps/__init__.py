"""apps, and ReplicationController, which is a ReplicaSet of old."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.api.resource import Strategy
from controlplane.kinds.strategies.apps.daemonset import DaemonSet
from controlplane.kinds.strategies.apps.deployment import Deployment
from controlplane.kinds.strategies.apps.replicaset import ReplicaSet, ReplicationController
from controlplane.kinds.strategies.apps.revision import ControllerRevision
from controlplane.kinds.strategies.apps.statefulset import StatefulSet

APPS: Final[Mapping[str, Strategy]] = {
    "/replicationcontrollers": ReplicationController(),
    "apps/controllerrevisions": ControllerRevision(),
    "apps/daemonsets": DaemonSet(),
    "apps/deployments": Deployment(),
    "apps/replicasets": ReplicaSet(),
    "apps/statefulsets": StatefulSet(),
}
