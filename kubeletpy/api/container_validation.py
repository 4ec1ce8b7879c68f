"""Validation of containers (pure)."""

from __future__ import annotations

import re

from .container import (
    Container,
    ContainerPort,
    EnvVar,
    EnvVarSource,
    HTTPGetAction,
    Lifecycle,
    LifecycleHandler,
    Probe,
    ResourceFieldSelector,
    VolumeMount,
)
from .fields import Errors, is_port_name, stays_inside
from .resource_validation import validate_resources
from .security_validation import validate_security_context
from .signals import SIGNALS
from .volume_validation import validate_file_path

_MOST_RULES = 20
_MOST_EXIT_CODES = 255
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
ENV_FIELDS = ("metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
              "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP",
              "status.podIPs")  # fmt: skip
_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['.+'\]", re.DOTALL)
_RESOURCES = ("limits.cpu", "limits.memory", "requests.cpu", "requests.memory")
_DIVISORS = {"cpu": ("1m", "1"), "memory": ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi",
                                            "1Gi", "1Ti", "1Pi", "1Ei")}  # fmt: skip
_HEADER = re.compile(r"[-A-Za-z0-9]+")
_PROPAGATIONS = ("None", "HostToContainer", "Bidirectional")


def validate_container(
    path: str, container: Container, volumes: set[str], errors: Errors, *, init: bool
) -> None:
    """Check one container of a pod whose volumes have the names ``volumes``."""
    errors.label(f"{path}.name", container.name)
    _validate_image(path, container, errors)
    for kind, texts in (("command", container.command), ("args", container.args)):
        for index, text in enumerate(texts):
            errors.text(f"{path}.{kind}[{index}]", text)
    errors.text(f"{path}.workingDir", container.working_dir)
    _validate_ports(f"{path}.ports", container.ports, errors)
    for index, variable in enumerate(container.env):
        _validate_variable(f"{path}.env[{index}]", variable, errors)
    validate_resources(f"{path}.resources", container.resources, errors)
    _validate_mounts(path, container, volumes, errors)
    if container.security_context is not None:
        validate_security_context(f"{path}.securityContext", container.security_context, errors)
    if container.stdin_once and not container.stdin:
        errors.invalid(f"{path}.stdinOnce", True, "may only be set when stdin is true")
    errors.one_of(
        f"{path}.terminationMessagePolicy",
        container.termination_message_policy,
        ("File", "FallbackToLogsOnError"),
    )
    errors.text(f"{path}.terminationMessagePath", container.termination_message_path)
    _validate_restart_policy(path, container, errors, init=init)
    _validate_probes(path, container, errors, init=init)


def _validate_image(path: str, container: Container, errors: Errors) -> None:
    if not container.image:
        errors.required(f"{path}.image")
    elif container.image != container.image.strip():
        errors.invalid(
            f"{path}.image", container.image, "must not have leading or trailing whitespace"
        )
    if container.image or container.image_pull_policy:
        errors.one_of(f"{path}.imagePullPolicy", container.image_pull_policy, PULL_POLICIES)


def _validate_restart_policy(
    path: str, container: Container, errors: Errors, *, init: bool
) -> None:
    if container.restart_policy is None:
        if container.restart_policy_rules:
            errors.required(
                f"{path}.restartPolicy", "must specify restartPolicy when restart rules are used"
            )
        return
    errors.one_of(
        f"{path}.restartPolicy", container.restart_policy, ("Always", "OnFailure", "Never")
    )
    rules = container.restart_policy_rules
    if len(rules) > _MOST_RULES:
        errors.invalid(
            f"{path}.restartPolicyRules", len(rules), f"must have at most {_MOST_RULES} items"
        )
    for index, rule in enumerate(rules):
        where = f"{path}.restartPolicyRules[{index}]"
        errors.one_of(f"{where}.action", rule.action, ("Restart", "RestartAllContainers"))
        if rule.exit_codes is None:
            errors.required(f"{where}.exitCodes", "must be specified")
            continue
        errors.one_of(f"{where}.exitCodes.operator", rule.exit_codes.operator, ("In", "NotIn"))
        if len(rule.exit_codes.values) > _MOST_EXIT_CODES:
            errors.invalid(
                f"{where}.exitCodes.values",
                len(rule.exit_codes.values),
                f"must have at most {_MOST_EXIT_CODES} items",
            )


def _validate_ports(path: str, ports: list[ContainerPort], errors: Errors) -> None:
    for index, port in enumerate(ports):
        where = f"{path}[{index}]"
        if port.name and not is_port_name(port.name):
            errors.invalid(
                f"{where}.name",
                port.name,
                "must contain only alphanumeric characters (a-z, 0-9), and hyphens, at least one "
                "letter, at most 15 characters, no hyphen at the ends and no two in a row",
            )
        if port.container_port == 0:
            errors.required(f"{where}.containerPort")
        else:
            errors.port(f"{where}.containerPort", port.container_port)
        if port.host_port:
            errors.port(f"{where}.hostPort", port.host_port)
        errors.one_of(f"{where}.protocol", port.protocol, ("TCP", "UDP", "SCTP"))
        if port.host_ip:
            errors.address(f"{where}.hostIP", port.host_ip)
    errors.unique(path, [port.name for port in ports], ".name")


def _validate_variable(path: str, variable: EnvVar, errors: Errors) -> None:
    name = variable.name
    if not name:
        errors.required(f"{path}.name")
    elif "=" in name or not name.isascii() or not name.isprintable():
        errors.invalid(
            f"{path}.name",
            name,
            "a valid environment variable name must consist only of printable ASCII characters "
            "other than '='",
        )
    errors.text(f"{path}.value", variable.value)
    source = variable.value_from
    if source is None:
        return
    if variable.value:
        errors.invalid(f"{path}.valueFrom", "", "may not be specified when `value` is not empty")
    given = [each for each in source.__struct_fields__ if getattr(source, each) is not None]
    if not given:
        errors.invalid(
            f"{path}.valueFrom", "", "must specify one of: `fieldRef`, `resourceFieldRef`, "
            "`configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        )  # fmt: skip
    if len(given) > 1:
        errors.invalid(
            f"{path}.valueFrom", "", "may not have more than one field specified at a time"
        )
    _validate_source(f"{path}.valueFrom", source, errors)


def _validate_source(path: str, source: EnvVarSource, errors: Errors) -> None:
    if source.field_ref is not None:
        field = source.field_ref.field_path
        where = f"{path}.fieldRef.fieldPath"
        if not field:
            errors.required(where)
        elif field not in ENV_FIELDS and not _SUBSCRIPT.fullmatch(field):
            errors.unsupported(where, field, (*ENV_FIELDS, "metadata.labels['<KEY>']"))
    if source.resource_field_ref is not None:
        validate_resource_selector(f"{path}.resourceFieldRef", source.resource_field_ref, errors)
    if source.file_key_ref is not None:
        file = source.file_key_ref
        for name, value in (("volumeName", file.volume_name), ("key", file.key)):
            if not value:
                errors.required(f"{path}.fileKeyRef.{name}")
        validate_file_path(f"{path}.fileKeyRef.path", file.path, errors)


def validate_resource_selector(path: str, selector: ResourceFieldSelector, errors: Errors) -> None:
    """Check a reference to a resource of a container, and its divisor."""
    if not selector.resource:
        errors.required(f"{path}.resource")
        return
    if selector.resource not in _RESOURCES:
        errors.unsupported(f"{path}.resource", selector.resource, _RESOURCES)
        return
    allowed = _DIVISORS[selector.resource.partition(".")[2]]
    if selector.divisor and str(selector.divisor) not in allowed:
        errors.invalid(
            f"{path}.divisor", str(selector.divisor), f"only divisor's values {', '.join(allowed)} "
            f"are supported with the {selector.resource} resource",
        )  # fmt: skip


def _validate_mounts(path: str, container: Container, volumes: set[str], errors: Errors) -> None:
    seen: set[str] = set()
    context = container.security_context
    for index, mount in enumerate(container.volume_mounts):
        where = f"{path}.volumeMounts[{index}]"
        if not mount.name:
            errors.required(f"{where}.name")
        elif mount.name not in volumes:
            errors.invalid(f"{where}.name", mount.name, "Not found: no volume has this name")
        if not mount.mount_path:
            errors.required(f"{where}.mountPath")
        elif mount.mount_path in seen:
            errors.invalid(f"{where}.mountPath", mount.mount_path, "must be unique")
        seen.add(mount.mount_path)
        errors.text(f"{where}.mountPath", mount.mount_path)
        _validate_mount_options(where, mount, bool(context and context.privileged), errors)


def _validate_mount_options(
    path: str, mount: VolumeMount, privileged: bool, errors: Errors
) -> None:
    if mount.sub_path and mount.sub_path_expr:
        errors.invalid(f"{path}.subPathExpr", mount.sub_path_expr, "subPathExpr and subPath are "
                       "mutually exclusive")  # fmt: skip
    for name, value in (("subPath", mount.sub_path), ("subPathExpr", mount.sub_path_expr)):
        if value and not stays_inside(value):
            errors.invalid(
                f"{path}.{name}", value, "must be a relative path and must not contain '..'"
            )
        errors.text(f"{path}.{name}", value)
    if mount.mount_propagation is not None:
        errors.one_of(f"{path}.mountPropagation", mount.mount_propagation, _PROPAGATIONS)
        if mount.mount_propagation == "Bidirectional" and not privileged:
            errors.forbidden(
                f"{path}.mountPropagation",
                "Bidirectional mount propagation is available only to privileged containers",
            )
    if mount.recursive_read_only is not None:
        where = f"{path}.recursiveReadOnly"
        errors.one_of(where, mount.recursive_read_only, ("Disabled", "IfPossible", "Enabled"))
        if mount.recursive_read_only != "Disabled":
            if not mount.read_only:
                errors.forbidden(where, "may only be specified when readOnly is true")
            if mount.mount_propagation not in (None, "None"):
                errors.forbidden(where, "may only be specified when mountPropagation is None")


def _validate_probes(path: str, container: Container, errors: Errors, *, init: bool) -> None:
    sidecar = init and container.restart_policy == "Always"
    probes = {
        "livenessProbe": container.liveness_probe,
        "readinessProbe": container.readiness_probe,
        "startupProbe": container.startup_probe,
    }
    for name, probe in probes.items():
        if probe is None:
            continue
        if init and not sidecar:
            errors.forbidden(
                f"{path}.{name}",
                "may not be set for init containers without restartPolicy=Always",
            )
        _validate_probe(f"{path}.{name}", probe, container.ports, errors)
        if name != "readinessProbe" and probe.success_threshold != 1:
            errors.invalid(f"{path}.{name}.successThreshold", probe.success_threshold, "must be 1")
    readiness = container.readiness_probe
    if readiness is not None and readiness.termination_grace_period_seconds is not None:
        errors.invalid(
            f"{path}.readinessProbe.terminationGracePeriodSeconds",
            readiness.termination_grace_period_seconds,
            "must not be set for readinessProbes",
        )
    if container.lifecycle is not None:
        if init and not sidecar:
            errors.forbidden(
                f"{path}.lifecycle",
                "may not be set for init containers without restartPolicy=Always",
            )
        _validate_lifecycle(f"{path}.lifecycle", container.lifecycle, container.ports, errors)


def _validate_probe(path: str, probe: Probe, ports: list[ContainerPort], errors: Errors) -> None:
    handlers = [
        n for n in ("exec", "http_get", "tcp_socket", "grpc") if getattr(probe, n) is not None
    ]
    _validate_handler(path, handlers, probe, ports, errors)
    if probe.grpc is not None:
        errors.port(f"{path}.grpc.port", probe.grpc.port)
    errors.not_negative(f"{path}.initialDelaySeconds", probe.initial_delay_seconds)
    errors.at_least_one(f"{path}.timeoutSeconds", probe.timeout_seconds)
    errors.at_least_one(f"{path}.periodSeconds", probe.period_seconds)
    errors.at_least_one(f"{path}.successThreshold", probe.success_threshold)
    errors.at_least_one(f"{path}.failureThreshold", probe.failure_threshold)
    errors.at_least_one(
        f"{path}.terminationGracePeriodSeconds", probe.termination_grace_period_seconds
    )


def _validate_lifecycle(
    path: str, lifecycle: Lifecycle, ports: list[ContainerPort], errors: Errors
) -> None:
    for name, handler in (("postStart", lifecycle.post_start), ("preStop", lifecycle.pre_stop)):
        if handler is None:
            continue
        handlers = [
            n
            for n in ("exec", "http_get", "tcp_socket", "sleep")
            if getattr(handler, n) is not None
        ]
        _validate_handler(f"{path}.{name}", handlers, handler, ports, errors)
        if handler.sleep is not None:
            errors.not_negative(f"{path}.{name}.sleep.seconds", handler.sleep.seconds)
    if lifecycle.stop_signal is not None and lifecycle.stop_signal not in SIGNALS:
        errors.unsupported(f"{path}.stopSignal", lifecycle.stop_signal, SIGNALS)


def _validate_handler(
    path: str,
    handlers: list[str],
    handler: Probe | LifecycleHandler,
    ports: list[ContainerPort],
    errors: Errors,
) -> None:
    if not handlers:
        errors.required(path, "must specify a handler type")
    if len(handlers) > 1:
        errors.forbidden(path, "may not specify more than 1 handler type")
    if handler.exec is not None and not handler.exec.command:
        errors.required(f"{path}.exec.command")
    if handler.http_get is not None:
        _validate_http(f"{path}.httpGet", handler.http_get, ports, errors)
    if handler.tcp_socket is not None:
        _validate_port(f"{path}.tcpSocket.port", handler.tcp_socket.port, ports, errors)


def _validate_http(
    path: str, action: HTTPGetAction, ports: list[ContainerPort], errors: Errors
) -> None:
    if not action.path:
        errors.required(f"{path}.path")
    _validate_port(f"{path}.port", action.port, ports, errors)
    errors.one_of(f"{path}.scheme", action.scheme, ("HTTP", "HTTPS"))
    for index, header in enumerate(action.http_headers):
        where = f"{path}.httpHeaders[{index}]"
        if not _HEADER.fullmatch(header.name):
            errors.invalid(
                f"{where}.name", header.name, "must consist of alphanumeric characters or '-'"
            )
        if "\r" in header.value or "\n" in header.value:
            errors.invalid(f"{where}.value", header.value, "must not contain a line break")


def _validate_port(path: str, port: int | str, ports: list[ContainerPort], errors: Errors) -> None:
    if isinstance(port, int):
        errors.port(path, port)
    elif not is_port_name(port):
        errors.invalid(path, port, "must be a number or the name of a port of the container")
    elif all(each.name != port for each in ports):
        # Kubernetes finds out at each probe only.
        errors.invalid(path, port, "Not found: no port of the container has this name")
