"""Checks of containers: ordinary ones, init containers, sidecars, ephemeral ones (pure).

Source: Kubernetes documentation, "Init Containers", "Sidecar Containers", "Ephemeral Containers";
KEP-5307 (restart rules), KEP-1287 (resize policies).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.formats import label_problems, port_name_problems, range_problems
from controlplane.api.metadata import (
    duplicate,
    forbidden,
    missing,
    required,
    too_many,
    unsupported,
    wrong,
)
from controlplane.api.resource import Object
from controlplane.kinds.strategies.podspec.environment import check_env, check_env_from
from controlplane.kinds.strategies.podspec.handlers import check_lifecycle, check_probes
from controlplane.kinds.strategies.podspec.mounts import check_devices, check_mounts
from controlplane.kinds.strategies.podspec.resources import check_container_resources
from controlplane.kinds.strategies.podspec.security import check_container_context
from controlplane.kinds.totals import is_sidecar

_PROTOCOLS: Final = ["SCTP", "TCP", "UDP"]
_PULL_POLICIES: Final = ["Always", "IfNotPresent", "Never"]
_MESSAGE_POLICIES: Final = ["File", "FallbackToLogsOnError"]
_RESTART_POLICIES: Final = ["Always", "Never", "OnFailure"]
_RULE_ACTIONS: Final = ["Restart", "RestartAllContainers"]
_MAX_RULES: Final = 20
_MAX_CODES: Final = 255
_OF_EPHEMERAL: Final = frozenset({
    "name", "image", "command", "args", "workingDir", "envFrom", "env", "volumeMounts",
    "volumeDevices", "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy",
    "securityContext", "stdin", "stdinOnce", "tty", "targetContainerName",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a container may refer to in its pod.

    Attributes:
        volumes: good ones, by name.
        claims: names of the pod's resource claims.
        restart_policy: of the pod.
        grace: seconds that its containers have to end; None: it does not say.
        system: name of its operating system; "" if it does not say.
        host_users: it is in the user namespace of the host.
    """

    volumes: Mapping[str, Object] = field(default_factory=dict)
    claims: frozenset[str] = frozenset()
    restart_policy: str = ""
    grace: int | None = None
    system: str = ""
    host_users: bool = True


def check_containers(spec: Object, around: Surroundings, path: str) -> list[Cause]:
    """Return what is wrong with the containers of a pod spec, of all three kinds."""
    causes = _check_ordinary(spec.get("containers", []), around, f"{path}.containers")
    names = [container.get("name", "") for container in spec.get("containers", ())]
    causes += _check_init(spec.get("initContainers", []), names, around, f"{path}.initContainers")
    names += [container.get("name", "") for container in spec.get("initContainers", ())]
    at = f"{path}.ephemeralContainers"
    return causes + _check_ephemeral(spec.get("ephemeralContainers", []), names, around, at)


def check_host_ports(containers: list[Object], path: str) -> list[Cause]:
    """Return which ports of the host two containers want."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, container in enumerate(containers):
        for number, port in enumerate(container.get("ports", ())):
            if port.get("hostPort"):
                key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{port['hostPort']}"
                if key in seen:
                    at = f"{path}[{index}].ports[{number}].hostPort"
                    causes.append(duplicate(at, key))
                seen.add(key)
    return causes


def check_image(container: Object, path: str) -> list[Cause]:
    """Return that an image has blanks around it, which templates may have and pods not."""
    image = container.get("image", "")
    if image == image.strip():
        return []
    return [wrong(f"{path}.image", image, "must not have leading or trailing whitespace")]


def _check_ordinary(containers: list[Object], around: Surroundings, path: str) -> list[Cause]:
    if not containers:
        return [required(path)]
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, container in enumerate(containers):
        at, name = f"{path}[{index}]", container.get("name", "")
        causes += _check_any(container, around, at)
        if name in seen:
            causes.append(duplicate(f"{at}.name", name))
        seen.add(name)
        causes += check_lifecycle(container, around.grace, around.system, at)
        causes += check_probes(container, around.grace, at)
        causes += _check_restarts(container, at)
    return causes + check_host_ports(containers, path)


def _check_init(
    containers: list[Object], others: list[str], around: Surroundings, path: str
) -> list[Cause]:
    causes: list[Cause] = []
    seen = set(others)
    for index, container in enumerate(containers):
        at, name = f"{path}[{index}]", container.get("name", "")
        causes += _check_any(container, around, at)
        causes += _check_restarts(container, at)
        if name in seen:
            causes.append(duplicate(f"{at}.name", name))
        elif name:
            seen.add(name)
        causes += check_host_ports([container], path)
        if is_sidecar(container):
            causes += check_lifecycle(container, around.grace, around.system, at)
            causes += check_probes(container, around.grace, at)
            continue
        text = "may not be set for init containers without restartPolicy=Always"
        causes += [
            forbidden(f"{at}.{key}", text)
            for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
            if key in container
        ]
        text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
        causes += [
            wrong(f"{at}.resizePolicy[{number}].restartPolicy", "RestartContainer", text)
            for number, policy in enumerate(container.get("resizePolicy", ()))
            if policy.get("restartPolicy") == "RestartContainer"
        ]
    return causes


def _check_ephemeral(
    containers: list[Object], others: list[str], around: Surroundings, path: str
) -> list[Cause]:
    causes: list[Cause] = []
    seen = set(others)
    text = "cannot be set for an Ephemeral Container"
    for index, container in enumerate(containers):
        at, name = f"{path}[{index}]", container.get("name", "")
        causes += _check_any(container, around, at)
        causes += check_image(container, at)
        if name in seen:
            causes.append(duplicate(f"{at}.name", name))
        seen.add(name)
        target = container.get("targetContainerName", "")
        if target and target not in others:
            causes.append(missing(f"{at}.targetContainerName", target))
        causes += [
            forbidden(f"{at}.{key}", text)
            for key, value in container.items()
            if key not in _OF_EPHEMERAL and value not in ({}, [], "")
        ]
        causes += [
            forbidden(f"{at}.volumeMounts[{number}].{key}", text)
            for number, mount in enumerate(container.get("volumeMounts", ()))
            for key in ("subPath", "subPathExpr")
            if mount.get(key)
        ]
    return causes


def _check_any(container: Object, around: Surroundings, path: str) -> list[Cause]:
    """What all kinds of containers have."""
    name = container.get("name", "")
    if not name:
        causes = [required(f"{path}.name")]
    else:
        causes = [wrong(f"{path}.name", name, why) for why in label_problems(name)]
    if not container.get("image"):
        causes.append(required(f"{path}.image"))
    policy = container.get("terminationMessagePolicy", "")
    if policy not in _MESSAGE_POLICIES:
        at = f"{path}.terminationMessagePolicy"
        causes.append(unsupported(at, policy, _MESSAGE_POLICIES) if policy else required(at))
    causes += _check_ports(container.get("ports", []), f"{path}.ports")
    causes += check_env(container.get("env", []), f"{path}.env")
    causes += check_env_from(container.get("envFrom", []), f"{path}.envFrom")
    causes += check_mounts(container, around.volumes, path)
    causes += check_devices(container, around.volumes, path)
    policy = container.get("imagePullPolicy", "")
    if policy not in _PULL_POLICIES:
        at = f"{path}.imagePullPolicy"
        causes.append(unsupported(at, policy, _PULL_POLICIES) if policy else required(at))
    resources = container.get("resources", {})
    causes += check_container_resources(resources, set(around.claims), f"{path}.resources")
    policies = container.get("resizePolicy", [])
    causes += _check_resize_policies(policies, around.restart_policy, f"{path}.resizePolicy")
    at = f"{path}.securityContext"
    return causes + check_container_context(container, at, host_users=around.host_users)


def _check_ports(ports: list[Object], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, port in enumerate(ports):
        at, name = f"{path}[{index}]", port.get("name", "")
        problems = port_name_problems(name) if name else []
        causes += [wrong(f"{at}.name", name, why) for why in problems]
        if name and not problems:
            if name in seen:
                causes.append(duplicate(f"{at}.name", name))
            seen.add(name)
        if not port.get("containerPort"):
            causes.append(required(f"{at}.containerPort"))
        for key in ("containerPort", "hostPort"):
            number = port.get(key)
            if number:
                causes += [
                    wrong(f"{at}.{key}", number, w) for w in range_problems(number, 1, 65535)
                ]
        protocol = port.get("protocol", "")
        if not protocol:
            causes.append(required(f"{at}.protocol"))
        elif protocol not in _PROTOCOLS:
            causes.append(unsupported(f"{at}.protocol", protocol, _PROTOCOLS))
    return causes


def _check_resize_policies(policies: list[Object], restart: str, path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        name = policy.get("resourceName", "")
        if name in seen:
            causes.append(duplicate(f"{path}[{index}]", name))
        seen.add(name)
        for key, known in (
            ("resourceName", ["cpu", "memory"]),
            ("restartPolicy", ["NotRequired", "RestartContainer"]),
        ):
            value = policy.get(key, "")
            if not value:
                causes.append(required(path))
            elif value not in known:
                causes.append(unsupported(path, value, known))
        if restart == "Never" and policy.get("restartPolicy") != "NotRequired":
            text = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            causes.append(wrong(path, policy.get("restartPolicy", ""), text))
    return causes


def _check_restarts(container: Object, path: str) -> list[Cause]:
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules", [])
    at = f"{path}.restartPolicy"
    causes: list[Cause] = []
    if policy is None:
        if rules:
            text = "must specify restartPolicy when restart rules are used"
            causes.append(required(at, text))
    elif policy not in _RESTART_POLICIES:
        causes.append(unsupported(at, policy, _RESTART_POLICIES))
    if len(rules) > _MAX_RULES:
        causes.append(too_many(f"{path}.restartPolicyRules", len(rules), _MAX_RULES))
    for index, rule in enumerate(rules):
        at = f"{path}.restartPolicyRules[{index}]"
        if rule.get("action") not in _RULE_ACTIONS:
            causes.append(unsupported(f"{at}.action", rule.get("action", ""), _RULE_ACTIONS))
        codes = rule.get("exitCodes")
        if codes is None:
            causes.append(required(f"{at}.exitCodes", "must be specified"))
            continue
        if codes.get("operator") not in ("In", "NotIn"):
            operator = codes.get("operator", "")
            causes.append(unsupported(f"{at}.exitCodes.operator", operator, ["In", "NotIn"]))
        if len(codes.get("values", ())) > _MAX_CODES:
            count = len(codes["values"])
            causes.append(too_many(f"{at}.exitCodes.values", count, _MAX_CODES))
    return causes
