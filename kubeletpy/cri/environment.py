"""Environment, command and arguments of a container: references resolved (pure)."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kubeletpy.api.container import Container, EnvVar, KeySelector, ResourceFieldSelector
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity

from .node import NodeFacts
from .security import ConfigError

_REFERENCE = re.compile(r"\$(?:(?P<escape>\$)|\((?P<name>[^)]*)\))")
_FROM_ABOVE = frozenset({"cpu", "memory", "ephemeral-storage"})
_SUBSCRIPT = re.compile(r"(metadata\.(?:labels|annotations))\['(?P<key>.*)'\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class PodAddresses:
    """Addresses known once the sandbox runs, the primary one first."""

    pod: tuple[str, ...] = ()
    host: tuple[str, ...] = ()


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` by its value, ``$$`` by ``$``; an unknown name stays as written."""

    def replacement(match: re.Match[str]) -> str:
        if match["escape"]:
            return "$"
        return variables.get(match["name"], match[0])

    return _REFERENCE.sub(replacement, text)


def expand_all(texts: Sequence[str], variables: Mapping[str, str]) -> list[str]:
    """Expand every text of a command line."""
    return [expand(text, variables) for text in texts]


@dataclass(frozen=True, slots=True)
class Sources:
    """What variables come from besides the pod.

    Attributes:
        objects: values by key, by kind (``configmap``, ``secret``) and name; what is missing
            and optional is not there. Bytes that are no UTF-8 are kept by ``surrogateescape``.
        services: variables of services.
        files: values of ``fileKeyRef`` by volume, path and key; optional ones may be missing.
    """

    objects: Mapping[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    services: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[tuple[str, str, str], str] = field(default_factory=dict)


_NO_SOURCES = Sources()


def environment(
    pod: Pod,
    container: Container,
    node: NodeFacts,
    addresses: PodAddresses,
    sources: Sources = _NO_SOURCES,
) -> dict[str, str]:
    """Return the variables of ``container``: envFrom, env, then those of services.

    A value may refer to variables above it and to those of services; of two with one name the
    last wins, and a service's never.

    Raises:
        ConfigError: a field, key or resource cannot be resolved.
    """
    variables: dict[str, str] = {}
    for every in container.env_from:
        for kind, reference in (("configmap", every.config_map_ref), ("secret", every.secret_ref)):
            if reference is not None:
                values = sources.objects.get((kind, reference.name), {})
                variables.update({f"{every.prefix}{key}": values[key] for key in sorted(values)})
    known = ChainMap(variables, dict(sources.services))
    for variable in container.env:
        if variable.value or variable.value_from is None:
            variables[variable.name] = expand(variable.value, known)
            continue
        value = _resolved(pod, container, node, addresses, variable, sources)
        if value is not None:
            variables[variable.name] = value
    for name, value in sources.services.items():
        variables.setdefault(name, value)
    return variables


def _resolved(
    pod: Pod,
    container: Container,
    node: NodeFacts,
    addresses: PodAddresses,
    variable: EnvVar,
    sources: Sources,
) -> str | None:
    """Return the value of a variable's source, None if that is missing and optional."""
    source = variable.value_from
    assert source is not None
    if source.field_ref is not None:
        path = source.field_ref.field_path
        value = field_value(pod, path, addresses)
        if value is None:
            raise ConfigError(f"env {variable.name}: unsupported fieldPath: {path}")
        return value
    if source.resource_field_ref is not None:
        return resource_value(pod, container, source.resource_field_ref, node)
    if source.config_map_key_ref is not None:
        return _key(pod, "configmap", source.config_map_key_ref, sources)
    if source.secret_key_ref is not None:
        return _key(pod, "secret", source.secret_key_ref, sources)
    if source.file_key_ref is not None:
        file = source.file_key_ref
        return sources.files.get((file.volume_name, file.path, file.key))
    return ""


def _key(pod: Pod, kind: str, selector: KeySelector, sources: Sources) -> str | None:
    value = sources.objects.get((kind, selector.name), {}).get(selector.key)
    if value is None and not selector.optional:
        shown = "ConfigMap" if kind == "configmap" else "Secret"
        raise ConfigError(
            f"couldn't find key {selector.key} in {shown} {pod.metadata.namespace}/{selector.name}"
        )
    return value


def field_value(pod: Pod, path: str, addresses: PodAddresses) -> str | None:
    """Return a field of the pod as text, as ``fieldRef`` names it; None if there is no such."""
    meta = pod.metadata
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript is not None:
        values = meta.labels if subscript[1] == "metadata.labels" else meta.annotations
        return values.get(subscript["key"], "")
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(meta.labels if path == "metadata.labels" else meta.annotations)
    return {
        "metadata.name": meta.name,
        "metadata.namespace": meta.namespace,
        "metadata.uid": meta.uid,
        "spec.nodeName": pod.spec.node_name,
        "spec.serviceAccountName": pod.spec.service_account_name,
        "status.hostIP": addresses.host[0] if addresses.host else "",
        "status.hostIPs": ",".join(addresses.host),
        "status.podIP": addresses.pod[0] if addresses.pod else "",
        "status.podIPs": ",".join(addresses.pod),
    }.get(path)


def format_map(values: Mapping[str, str]) -> str:
    """Return labels or annotations as lines ``key="value"``, sorted, values quoted as in Go."""
    return "\n".join(f"{key}={_quote(values[key])}" for key in sorted(values))


def resource_value(
    pod: Pod, container: Container, selector: ResourceFieldSelector, node: NodeFacts
) -> str:
    """Return a resource of a container in units of the divisor, rounded up.

    A limit that is not set is the pod's, else what pods may use of the node (CPU, memory and
    ephemeral storage; the last has no pod's); a request that is not set is 0.

    Raises:
        ConfigError: no such container or resource.
    """
    if selector.container_name and selector.container_name != container.name:
        named = [
            each
            for each in [*pod.spec.init_containers, *pod.spec.containers]
            if each.name == selector.container_name
        ]
        if not named:
            raise ConfigError(f"container {selector.container_name} not found")
        container = named[0]
    kind, _, resource = selector.resource.partition(".")
    if kind not in ("limits", "requests") or not resource:
        raise ConfigError(f"Unsupported container resource : {selector.resource}")
    chosen = container.resources.limits if kind == "limits" else container.resources.requests
    amount = chosen.get(resource)
    if not amount and kind == "limits":
        amount = _limit_from_above(pod, resource, node)
    divisor = selector.divisor or Quantity(1)
    value, unit = (amount or Quantity(0)).value, divisor.value
    return str(-(-value // unit))


def _limit_from_above(pod: Pod, resource: str, node: NodeFacts) -> Quantity | None:
    if resource not in _FROM_ABOVE:
        # Huge pages are never overcommitted: what asks for none has none.
        return None
    of_pod = pod.spec.resources
    if of_pod is not None and resource in node.allocatable:
        amount = of_pod.limits.get(resource)
        if amount:
            return amount
    return node.allocatable.get(resource)


def _quote(text: str) -> str:
    """Quote like Go's strconv.Quote."""
    out = ['"']
    named = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n",
             "\r": "\\r", "\t": "\\t", "\v": "\\v"}  # fmt: skip
    for character in text:
        code = ord(character)
        if character in named:
            out.append(named[character])
        elif character == " " or character.isprintable():
            out.append(character)
        elif code < 0x80:
            out.append(f"\\x{code:02x}")
        elif code < 0x10000:
            out.append(f"\\u{code:04x}")
        else:
            out.append(f"\\U{code:08x}")
    out.append('"')
    return "".join(out)
