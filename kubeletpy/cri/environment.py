"""Environment, command and arguments of a container: references resolved (pure)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kubeletpy.api.container import Container, EnvVar, ResourceFieldSelector
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity

from .node import NodeFacts
from .security import ConfigError

_REFERENCE = re.compile(r"\$(?:(?P<escape>\$)|\((?P<name>[^)]*)\))")
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


def environment(
    pod: Pod, container: Container, node: NodeFacts, addresses: PodAddresses
) -> dict[str, str]:
    """Return the variables of ``container``, in the order of their first appearance.

    A value may refer to variables above it; of two with one name the last wins.

    Raises:
        ConfigError: a field or resource cannot be resolved.
    """
    variables: dict[str, str] = {}
    for variable in container.env:
        variables[variable.name] = _value(pod, container, node, addresses, variable, variables)
    return variables


def _value(
    pod: Pod,
    container: Container,
    node: NodeFacts,
    addresses: PodAddresses,
    variable: EnvVar,
    known: Mapping[str, str],
) -> str:
    source = variable.value_from
    if source is None:
        return expand(variable.value, known)
    if source.field_ref is not None:
        path = source.field_ref.field_path
        value = field_value(pod, path, addresses)
        if value is None:
            raise ConfigError(f"env {variable.name}: unsupported fieldPath: {path}")
        return value
    if source.resource_field_ref is not None:
        return resource_value(pod, container, source.resource_field_ref, node)
    raise ConfigError(f"env {variable.name}: its source needs an API server")


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

    A limit that is not set is the node's capacity, a request that is not set is 0.

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
        amount = _capacity(node, resource)
    divisor = selector.divisor or Quantity(1)
    value, unit = (amount or Quantity(0)).value, divisor.value
    return str(-(-value // unit))


def _capacity(node: NodeFacts, resource: str) -> Quantity | None:
    if resource == "cpu":
        return Quantity(f"{node.cpu_milli}m")
    if resource == "memory":
        return Quantity(node.memory_bytes)
    return None


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
