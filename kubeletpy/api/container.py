"""Containers: command, environment, resources, probes, hooks, security (core/v1, 1.36)."""

from __future__ import annotations

import msgspec

from .base import ApiStruct, Int32, Int64, IntOrString
from .quantity import Quantity


class ContainerPort(ApiStruct):
    """A port that a container listens on."""

    name: str = ""
    host_port: Int32 = 0
    container_port: Int32 = 0
    protocol: str = ""
    host_ip: str = ""


class ObjectFieldSelector(ApiStruct):
    """A field of the pod, for instance ``metadata.name``."""

    api_version: str = ""
    field_path: str = ""


class ResourceFieldSelector(ApiStruct):
    """A resource of a container, for instance ``limits.cpu``, divided by ``divisor``."""

    container_name: str = ""
    resource: str = ""
    divisor: Quantity | None = None


class KeySelector(ApiStruct):
    """One key of a ConfigMap or Secret."""

    name: str = ""
    key: str = ""
    optional: bool | None = None


class FileKeySelector(ApiStruct):
    """One variable of an env file in a volume."""

    volume_name: str = ""
    path: str = ""
    key: str = ""
    optional: bool | None = None


class EnvVarSource(ApiStruct):
    """Where the value of a variable comes from; exactly one is set."""

    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    config_map_key_ref: KeySelector | None = None
    secret_key_ref: KeySelector | None = None
    file_key_ref: FileKeySelector | None = None


class EnvVar(ApiStruct):
    """An environment variable; ``value`` may refer to earlier ones as ``$(NAME)``."""

    name: str = ""
    value: str = ""
    value_from: EnvVarSource | None = None


class EnvSource(ApiStruct):
    """A ConfigMap or Secret as a source of variables."""

    name: str = ""
    optional: bool | None = None


class EnvFromSource(ApiStruct):
    """All keys of a ConfigMap or Secret as variables."""

    prefix: str = ""
    config_map_ref: EnvSource | None = None
    secret_ref: EnvSource | None = None


class ResourceClaim(ApiStruct):
    """A claim of ``spec.resourceClaims`` that a container uses."""

    name: str = ""
    request: str = ""


class ResourceRequirements(ApiStruct):
    """Limits and requests by resource name."""

    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}
    claims: list[ResourceClaim] = []


class ContainerResizePolicy(ApiStruct):
    """Whether a resource can change without a restart."""

    resource_name: str = ""
    restart_policy: str = ""


class ContainerRestartRuleOnExitCodes(ApiStruct):
    """Exit codes that a restart rule matches."""

    operator: str = ""
    values: list[Int32] = []


class ContainerRestartRule(ApiStruct):
    """What to do upon some exit codes."""

    action: str = ""
    exit_codes: ContainerRestartRuleOnExitCodes | None = None


class VolumeMount(ApiStruct):
    """A volume (or a path in it) mounted in a container."""

    name: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None
    mount_path: str = ""
    sub_path: str = ""
    mount_propagation: str | None = None
    sub_path_expr: str = ""


class VolumeDevice(ApiStruct):
    """A raw block volume in a container."""

    name: str = ""
    device_path: str = ""


class ExecAction(ApiStruct):
    """A command run inside the container, without a shell."""

    command: list[str] = []


class HTTPHeader(ApiStruct):
    """A header of a request."""

    name: str = ""
    value: str = ""


class HTTPGetAction(ApiStruct):
    """An HTTP GET; ``host`` is the pod's IP by default."""

    path: str = ""
    port: IntOrString = 0
    host: str = ""
    scheme: str = ""
    http_headers: list[HTTPHeader] = []


class TCPSocketAction(ApiStruct):
    """A TCP connection; ``host`` is the pod's IP by default."""

    port: IntOrString = 0
    host: str = ""


class GRPCAction(ApiStruct):
    """A gRPC health check (grpc.health.v1)."""

    port: Int32 = 0
    service: str | None = None


class SleepAction(ApiStruct):
    """A pause of whole seconds."""

    seconds: Int64 = 0


class Probe(ApiStruct):
    """A probe: exactly one handler, and its times in seconds."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    grpc: GRPCAction | None = None
    initial_delay_seconds: Int32 = 0
    timeout_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    failure_threshold: Int32 = 0
    termination_grace_period_seconds: Int64 | None = None


class LifecycleHandler(ApiStruct):
    """A hook: exactly one handler."""

    exec: ExecAction | None = None
    http_get: HTTPGetAction | None = None
    tcp_socket: TCPSocketAction | None = None
    sleep: SleepAction | None = None


class Lifecycle(ApiStruct):
    """Hooks after the start and before the stop, and the signal to stop with."""

    post_start: LifecycleHandler | None = None
    pre_stop: LifecycleHandler | None = None
    stop_signal: str | None = None


class Capabilities(ApiStruct):
    """Capabilities added to and dropped from the runtime's default set."""

    add: list[str] = []
    drop: list[str] = []


class SELinuxOptions(ApiStruct):
    """An SELinux label."""

    user: str = ""
    role: str = ""
    type: str = ""
    level: str = ""


class WindowsSecurityContextOptions(ApiStruct):
    """Settings for Windows; never honoured on Linux."""

    gmsa_credential_spec_name: str | None = None
    gmsa_credential_spec: str | None = None
    run_as_user_name: str | None = None
    host_process: bool | None = None


class SecurityProfile(ApiStruct):
    """A seccomp or AppArmor profile: RuntimeDefault, Unconfined or Localhost."""

    type: str = ""
    localhost_profile: str | None = None


class SecurityContext(ApiStruct):
    """Security of one container; what is set here wins over the pod's."""

    capabilities: Capabilities | None = None
    privileged: bool | None = None
    se_linux_options: SELinuxOptions | None = None
    windows_options: WindowsSecurityContextOptions | None = None
    run_as_user: Int64 | None = None
    run_as_group: Int64 | None = None
    run_as_non_root: bool | None = None
    read_only_root_filesystem: bool | None = None
    allow_privilege_escalation: bool | None = None
    proc_mount: str | None = None
    seccomp_profile: SecurityProfile | None = None
    app_armor_profile: SecurityProfile | None = None


class Container(ApiStruct):
    """One container of a pod (also an init container)."""

    name: str = ""
    image: str = ""
    command: list[str] = []
    args: list[str] = []
    working_dir: str = ""
    ports: list[ContainerPort] = []
    env_from: list[EnvFromSource] = []
    env: list[EnvVar] = []
    resources: ResourceRequirements = msgspec.field(default_factory=ResourceRequirements)
    resize_policy: list[ContainerResizePolicy] = []
    restart_policy: str | None = None
    restart_policy_rules: list[ContainerRestartRule] = []
    volume_mounts: list[VolumeMount] = []
    volume_devices: list[VolumeDevice] = []
    liveness_probe: Probe | None = None
    readiness_probe: Probe | None = None
    startup_probe: Probe | None = None
    lifecycle: Lifecycle | None = None
    termination_message_path: str = ""
    termination_message_policy: str = ""
    image_pull_policy: str = ""
    security_context: SecurityContext | None = None
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False


class EphemeralContainer(Container):
    """A container added to a running pod for debugging."""

    target_container_name: str = ""
