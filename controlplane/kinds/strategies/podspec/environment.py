"""Checks of environment variables and of what they are taken from (pure).

Source: Kubernetes documentation, "Downward API", "Define Environment Variables for a Container",
KEP-4369 (names of variables), KEP-3721 (variables from files).
"""

from __future__ import annotations

from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.formats import (
    config_key_problems,
    env_name_problems,
    label_key_problems,
    label_problems,
    subdomain_problems,
)
from controlplane.api.metadata import required, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.podspec.paths import check_no_backsteps

FIELDS_OF_ENV: Final = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName",
    "spec.serviceAccountName", "status.hostIP", "status.hostIPs", "status.podIP", "status.podIPs",
)  # fmt: skip
"""Fields of a pod that a variable can be taken from."""

FIELDS_OF_FILES: Final = ("metadata.annotations", "metadata.labels", "metadata.name",
                          "metadata.namespace", "metadata.uid")  # fmt: skip
"""Fields of a pod that a file of a volume can be made of."""

_KNOWN: Final = frozenset({*FIELDS_OF_ENV, *FIELDS_OF_FILES, "spec.restartPolicy",
                           "spec.schedulerName", "status.phase"})  # fmt: skip
_RESOURCES: Final = ("limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu",
                     "requests.ephemeral-storage", "requests.memory")  # fmt: skip
_SIZES: Final = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi",
                 "1Ei")  # fmt: skip
_HUGE: Final = ("limits.hugepages-", "requests.hugepages-")
_SOURCES: Final = ("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "fileKeyRef")


def check_env(variables: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with ``env``."""
    causes: list[Cause] = []
    for index, variable in enumerate(variables):
        at, name = f"{path}[{index}]", variable.get("name", "")
        if not name:
            causes.append(required(f"{at}.name"))
        else:
            causes += [wrong(f"{at}.name", name, why) for why in env_name_problems(name)]
        if "valueFrom" in variable:
            source = variable["valueFrom"]
            causes += _check_source(source, variable.get("value", ""), f"{at}.valueFrom")
    return causes


def check_env_from(sources: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with ``envFrom``."""
    causes: list[Cause] = []
    for index, source in enumerate(sources):
        at, prefix = f"{path}[{index}]", source.get("prefix", "")
        if prefix:
            causes += [wrong(f"{at}.prefix", prefix, why) for why in env_name_problems(prefix)]
        found = [key for key in ("configMapRef", "secretRef") if key in source]
        for key in found:
            name, below = source[key].get("name", ""), f"{at}.{key}.name"
            if not name:
                causes.append(required(below))
            else:
                causes += [wrong(below, name, why) for why in subdomain_problems(name)]
        if not found:
            causes.append(wrong(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif len(found) > 1:
            text = "may not have more than one field specified at a time"
            causes.append(wrong(path, "", text))
    return causes


def check_field_reference(source: Object, known: tuple[str, ...], path: str) -> list[Cause]:
    """Return what is wrong with a reference to a field of the pod.

    Args:
        source: ``fieldRef``.
        known: the fields that can be had here.
        path: of ``source``.
    """
    version, field = source.get("apiVersion", ""), source.get("fieldPath", "")
    for key in ("apiVersion", "fieldPath"):
        if not source.get(key):
            return [required(f"{path}.{key}")]
    base, bracket, key = field.removesuffix("']").partition("['")
    subscripted = field.endswith("']") and bool(bracket) and bool(base)
    why = ""
    if version != "v1":
        why = f"unsupported pod version: {version}"
    elif subscripted and base not in ("metadata.annotations", "metadata.labels"):
        why = f"field label does not support subscript: {field}"
    elif not subscripted and field not in _KNOWN and field != "spec.host":
        why = f"field label not supported: {field}"
    if why:
        return [wrong(f"{path}.fieldPath", field, f"error converting fieldPath: {why}")]
    if subscripted:
        key = key.lower() if base == "metadata.annotations" else key
        return [wrong(path, key, problem) for problem in label_key_problems(key)]
    field = "spec.nodeName" if field == "spec.host" else field
    return [] if field in known else [unsupported(f"{path}.fieldPath", field, sorted(known))]


def check_resource_reference(source: Object, path: str, *, volume: bool) -> list[Cause]:
    """Return what is wrong with a reference to the resources of a container.

    Args:
        source: ``resourceFieldRef``.
        path: of it.
        volume: it is of a file, which belongs to no container and so must name one.
    """
    causes: list[Cause] = []
    resource = source.get("resource", "")
    if volume and not source.get("containerName"):
        causes.append(required(f"{path}.containerName"))
    elif not resource:
        causes.append(required(f"{path}.resource"))
    elif resource not in _RESOURCES and not resource.startswith(_HUGE):
        causes.append(unsupported(f"{path}.resource", resource, list(_RESOURCES)))
    divisor = source.get("divisor", "0")
    if parse(divisor) == 0:
        return causes
    what = resource.partition(".")[2]
    allowed: tuple[str, ...] = _SIZES
    if what == "cpu":
        allowed = ("1m", "1")
        text = "only divisor's values 1m and 1 are supported with the cpu resource"
    else:
        named = {"memory": "memory", "ephemeral-storage": "local ephemeral storage"}.get(what, "")
        if resource.startswith(_HUGE):
            named = "hugepages"
        listed = ", ".join(_SIZES)
        text = f"only divisor's values {listed} are supported with the {named} resource"
    if resource in _RESOURCES or resource.startswith(_HUGE):
        causes += [] if divisor in allowed else [wrong(f"{path}.divisor", resource, text)]
    return causes


def _check_source(source: Object, value: str, path: str) -> list[Cause]:
    found = [key for key in _SOURCES if key in source]
    causes: list[Cause] = []
    for key in found:
        at, reference = f"{path}.{key}", source[key]
        if key == "fieldRef":
            causes += check_field_reference(reference, FIELDS_OF_ENV, at)
        elif key == "resourceFieldRef":
            causes += check_resource_reference(reference, at, volume=False)
        elif key == "fileKeyRef":
            causes += _check_file_key(reference, at)
        else:
            causes += _check_key(reference, at)
    if not found:
        text = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, "
            "`secretKeyRef` or `fileKeyRef`"
        )
        causes.append(wrong(path, "", text))
    elif value:
        causes.append(wrong(path, "", "may not be specified when `value` is not empty"))
    elif len(found) > 1:
        text = "may not have more than one field specified at a time"
        causes.append(wrong(path, "", text))
    return causes


def _check_key(reference: Object, path: str) -> list[Cause]:
    name, key = reference.get("name", ""), reference.get("key", "")
    causes = [wrong(f"{path}.name", name, why) for why in subdomain_problems(name)]
    if not key:
        return [*causes, required(f"{path}.key")]
    return causes + [wrong(f"{path}.key", key, why) for why in config_key_problems(key)]


def _check_file_key(reference: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for key, problems in (("key", env_name_problems), ("volumeName", label_problems)):
        text = reference.get(key, "")
        if not text:
            causes.append(required(f"{path}.{key}"))
        else:
            causes += [wrong(f"{path}.{key}", text, why) for why in problems(text)]
    if not reference.get("path"):
        causes.append(required(f"{path}.path"))
    else:
        causes += check_no_backsteps(reference["path"], f"{path}.path")
    return causes
