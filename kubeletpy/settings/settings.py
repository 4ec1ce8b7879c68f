"""The settings of one kubelet, from file, drop-ins and flags."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from kubeletpy_common.settings import feature_gates

from .configuration import DEFAULT_ENDPOINT, KubeletConfiguration

DEFAULT_ROOT = Path("/var/lib/kubeletpy/kubelet")
DEFAULT_CERTIFICATES = Path("/var/lib/kubelet/pki")
PARALLEL_PULLS = 5
"""Images pulled at the same time by default. In the Go kubelet it is one: there one slow registry
holds up the pods of all others."""

__all__ = ["DEFAULT_CERTIFICATES", "DEFAULT_ENDPOINT", "DEFAULT_ROOT", "Settings"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings.

    Attributes:
        configuration: every field of KubeletConfiguration; durations are seconds.
        given: names (as in a file) of the fields that a file or a flag set.
        unsupported: those of them that have no effect here.
        node_name: name of the node; "" for the host's name.
        node_ips: addresses of the node, the primary one first; none: those of the default routes;
            an unspecified one (``::``) means the default one of its family.
        root_dir: where the kubelet keeps its files.
        cert_dir: where its certificates are.
        kubeconfig: how to reach the API server; None: standalone.
        bootstrap_kubeconfig: how to ask for a certificate where ``kubeconfig`` does not exist.
        node_labels: labels that the node is registered with.
        cloud_provider: "" or ``external``.
        credential_provider_config: file (or directory) that names credential-provider plugins.
        credential_provider_bin_dir: where these are.
        runtime_cgroups: cgroup of the runtime, for its statistics.
        lock_file: a file that is held as a lock, beside the one of ``root_dir``.
        container_minimum_age: seconds that a dead container is kept at least.
        dead_containers_per_container: dead instances kept of each container.
        dead_containers: dead containers kept in all; negative: no limit.
        ignore_eviction_in_allocatable: evictionHard does not lower what can be allocated.
    """

    configuration: KubeletConfiguration = field(default_factory=KubeletConfiguration)
    given: frozenset[str] = frozenset()
    unsupported: tuple[str, ...] = ()
    node_name: str = ""
    node_ips: tuple[str, ...] = ()
    root_dir: Path = DEFAULT_ROOT
    cert_dir: Path = DEFAULT_CERTIFICATES
    kubeconfig: Path | None = None
    bootstrap_kubeconfig: Path | None = None
    node_labels: tuple[tuple[str, str], ...] = ()
    cloud_provider: str = ""
    credential_provider_config: Path | None = None
    credential_provider_bin_dir: Path | None = None
    runtime_cgroups: str = ""
    lock_file: Path | None = None
    container_minimum_age: float = 0.0
    dead_containers_per_container: int = 1
    dead_containers: int = -1
    ignore_eviction_in_allocatable: bool = False

    @property
    def standalone(self) -> bool:
        """Whether there is no API server."""
        return self.kubeconfig is None

    def feature(self, name: str) -> bool:
        """Return whether a feature gate of Kubernetes is on.

        Raises:
            KeyError: there is no such gate.
        """
        return feature_gates.enabled(name, self.configuration.feature_gates)

    @property
    def static_pod_path(self) -> Path | None:
        """Directory (or file) of static pods; None: no static pods."""
        path = self.configuration.static_pod_path
        return Path(path) if path else None

    @property
    def pod_logs_dir(self) -> Path:
        """Directory of the logs of all pods."""
        return Path(self.configuration.pod_logs_dir)

    @property
    def runtime_endpoint(self) -> str:
        """CRI socket."""
        return self.configuration.container_runtime_endpoint

    @property
    def image_endpoint(self) -> str:
        """CRI socket for images; "" means the same one."""
        return self.configuration.image_service_endpoint

    @property
    def runtime_timeout(self) -> float:
        """Seconds that a call of the runtime may take."""
        return self.configuration.runtime_request_timeout

    @property
    def cgroup_root(self) -> str:
        """Cgroup under which ``kubepods`` is made."""
        return self.configuration.cgroup_root or "/"

    @property
    def healthz_address(self) -> str:
        """Where /healthz is."""
        return self.configuration.healthz_bind_address

    @property
    def healthz_port(self) -> int:
        """Port of the same; 0: nowhere."""
        return self.configuration.healthz_port

    @property
    def parallel_pulls(self) -> int:
        """Images pulled at the same time."""
        one = self.configuration
        if "serializeImagePulls" in self.given and one.serialize_image_pulls:
            return 1
        return one.max_parallel_image_pulls or PARALLEL_PULLS

    @property
    def crash_loop_maximum(self) -> float:
        """Seconds between restarts of a container at most."""
        return self.configuration.crash_loop_back_off.max_container_restart_period

    @property
    def cluster_dns(self) -> tuple[str, ...]:
        """Addresses of the cluster's DNS."""
        return tuple(self.configuration.cluster_dns)

    @property
    def cluster_domain(self) -> str:
        """As ``cluster.local``."""
        return self.configuration.cluster_domain

    @property
    def resolv_conf(self) -> str:
        """The node's resolv.conf; "" means none."""
        return self.configuration.resolv_conf

    @property
    def seccomp_default(self) -> bool:
        """RuntimeDefault instead of Unconfined."""
        return self.configuration.seccomp_default
