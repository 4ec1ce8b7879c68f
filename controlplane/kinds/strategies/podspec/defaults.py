"""What stands for the absent fields of pods and pod templates (pure).

Source: Kubernetes API reference, PodSpec; Kubernetes 1.36, core/v1 defaults. Defaults of single
values (protocol of ports, for instance) are in the tables of types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import ROUND_UP, Decimal
from typing import Final

from controlplane.api.resource import Object
from controlplane.kinds.quantity import canonical, parse
from controlplane.kinds.totals import (
    container_limits,
    container_requests,
    is_huge_page,
    is_overcommittable,
    is_pod_level,
    shown,
)

CONTAINER_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")
"""Fields of a pod spec that hold containers."""

GRACE: Final = 30
"""Seconds that containers have to end."""

_FILE_MODE: Final = 0o644
_TOKEN_SECONDS: Final = 3600
_PROBE: Final = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1,
                 "failureThreshold": 3}  # fmt: skip
_TAG: Final = re.compile(r":([\w][\w.-]{0,127})\Z", re.ASCII)


def default_pod_spec(spec: Object) -> None:
    """Put the defaults of a pod spec in that pods and pod templates share."""
    # Only what is neither there nor an empty word: Go has one zero for both.
    for key, value in (
        ("restartPolicy", "Always"),
        ("dnsPolicy", "ClusterFirst"),
        ("schedulerName", "default-scheduler"),
    ):
        spec[key] = spec.get(key) or value
    spec.setdefault("terminationGracePeriodSeconds", GRACE)
    spec.setdefault("securityContext", {})
    _default_service_account(spec)
    for volume in spec.get("volumes", ()):
        default_volume(volume)
    for name in CONTAINER_LISTS:
        for container in spec.get(name, ()):
            _default_container(container)
    for key in ("overhead",):
        _round(spec.get(key))
    _round_resources(spec.get("resources"))


def default_pod(spec: Object) -> None:
    """Put the defaults in that only pods have, after those of :func:`default_pod_spec`."""
    for name in ("containers", "initContainers"):
        for container in spec.get(name, ()):
            resources = container.get("resources", {})
            limits = resources.get("limits")
            if limits:
                resources["requests"] = {**limits, **resources.get("requests", {})}
    _default_pod_resources(spec)
    spec.setdefault("enableServiceLinks", True)
    if spec["terminationGracePeriodSeconds"] < 0:
        # Older clients meant the shortest time by that.
        spec["terminationGracePeriodSeconds"] = 1
    if spec.get("hostNetwork"):
        _default_host_ports(spec)


def default_volume(volume: Object) -> None:
    """Put the defaults of a volume in; one without a source is an empty directory."""
    if not any(key != "name" for key in volume):
        volume["emptyDir"] = {}
    for key in ("secret", "configMap", "downwardAPI", "projected"):
        if key in volume:
            volume[key].setdefault("defaultMode", _FILE_MODE)
    if "hostPath" in volume:
        volume["hostPath"].setdefault("type", "")
    if "image" in volume:
        _default_pull_policy(volume["image"], "pullPolicy", "reference")
    if "ephemeral" in volume:
        claim = volume["ephemeral"].get("volumeClaimTemplate", {})
        if "volumeClaimTemplate" in volume["ephemeral"]:
            claim.setdefault("metadata", {})
        if "spec" in claim:
            claim["spec"].setdefault("volumeMode", "Filesystem")
    files = list(volume.get("downwardAPI", {}).get("items", ()))
    for source in volume.get("projected", {}).get("sources", ()):
        if "serviceAccountToken" in source:
            source["serviceAccountToken"].setdefault("expirationSeconds", _TOKEN_SECONDS)
        if "podCertificate" in source:
            source["podCertificate"].setdefault("maxExpirationSeconds", 24 * 3600)
        files += source.get("downwardAPI", {}).get("items", ())
    for file in files:
        _default_references(file)


def _default_service_account(spec: Object) -> None:
    # The older name of the field says the same; serviceAccountName rules.
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    for key in ("serviceAccountName", "serviceAccount"):
        if name:
            spec[key] = name
        else:
            spec.pop(key, None)


def _default_container(container: Object) -> None:
    _default_pull_policy(container, "imagePullPolicy", "image")
    container["terminationMessagePath"] = (
        container.get("terminationMessagePath") or "/dev/termination-log"
    )
    container["terminationMessagePolicy"] = container.get("terminationMessagePolicy") or "File"
    container.setdefault("resources", {})
    _round_resources(container["resources"])
    for variable in container.get("env", ()):
        if "valueFrom" in variable:
            _default_references(variable["valueFrom"])
            if "fileKeyRef" in variable["valueFrom"]:
                variable["valueFrom"]["fileKeyRef"].setdefault("optional", False)
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if name in container:
            probe = container[name]
            for key, value in _PROBE.items():
                probe[key] = probe.get(key) or value
            _default_handler(probe)
    for hook in container.get("lifecycle", {}).values():
        if isinstance(hook, dict):
            _default_handler(hook)
    context = container.get("securityContext", {})
    if "procMount" in context and not context["procMount"]:
        context["procMount"] = "Default"


def _default_handler(handler: Object) -> None:
    if "httpGet" in handler:
        get = handler["httpGet"]
        get["path"] = get.get("path") or "/"
        get["scheme"] = get.get("scheme") or "HTTP"
    if "grpc" in handler:
        handler["grpc"].setdefault("service", "")


def _default_references(source: Object) -> None:
    if "fieldRef" in source:
        source["fieldRef"]["apiVersion"] = source["fieldRef"].get("apiVersion") or "v1"
    if "resourceFieldRef" in source:
        source["resourceFieldRef"].setdefault("divisor", "0")


def _default_pull_policy(value: Object, key: str, image: str) -> None:
    if not value.get(key):
        latest = image_tag(value.get(image, "")) == "latest"
        value[key] = "Always" if latest else "IfNotPresent"


def image_tag(reference: str) -> str:
    """Return the tag of an image; ``latest`` if it has neither tag nor digest, "" for a digest."""
    if not reference:
        return ""
    name, _, digest = reference.partition("@")
    found = _TAG.search(name)
    if found is not None and "/" not in found[1]:
        return found[1]
    return "" if digest else "latest"


def _default_host_ports(spec: Object) -> None:
    for name in ("containers", "initContainers"):
        for container in spec.get(name, ()):
            for port in container.get("ports", ()):
                if not port.get("hostPort") and port.get("containerPort"):
                    port["hostPort"] = port["containerPort"]


def _default_pod_resources(spec: Object) -> None:
    resources = spec.get("resources")
    if not resources:
        return
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    if limits or requests:
        wanted = container_limits(spec)
        for name, amount in wanted.items():
            if is_huge_page(name) and name not in requests and name not in limits:
                limits[name] = shown(amount)
        if limits:
            resources["limits"] = limits
    if not limits:
        return
    for name, amount in container_requests(spec).items():
        if name not in requests and is_pod_level(name) and is_overcommittable(name):
            requests[name] = shown(amount)
    for name, limit in limits.items():
        if name not in requests and is_pod_level(name):
            requests[name] = limit
    if requests:
        resources["requests"] = requests


def _round_resources(resources: Object | None) -> None:
    for key in ("limits", "requests"):
        _round((resources or {}).get(key))


def _round(amounts: Object | None) -> None:
    """Round amounts up to a thousandth, below which nothing is counted."""
    for name, text in (amounts or {}).items():
        if text[-1:] in ("n", "u") or "." in text or "e-" in text:
            thousandths = parse(text).quantize(Decimal("1e-3"), rounding=ROUND_UP)
            amounts[name] = canonical(f"{thousandths:f}")  # type: ignore[index]


def visit_containers(spec: Object, path: str) -> Iterator[tuple[Object, str]]:
    """Go through all containers of a pod spec with their paths, those of the start first."""
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(name, ())):
            yield container, f"{path}.{name}[{index}]"
