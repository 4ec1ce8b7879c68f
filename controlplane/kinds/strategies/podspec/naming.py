"""Checks of how a pod is called and finds others: names of hosts, DNS, aliases, claims (pure).

Source: Kubernetes documentation, "DNS for Services and Pods", "Adding entries to Pod /etc/hosts";
KEP-4762 (hostnameOverride), KEP-3063 (resource claims).
"""

from __future__ import annotations

from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.formats import (
    ip_problems,
    label_key_problems,
    label_problems,
    subdomain_problems,
)
from controlplane.api.metadata import duplicate, forbidden, required, too_long, wrong
from controlplane.api.resource import Object

_MAX_SERVERS: Final = 3
_MAX_SEARCHES: Final = 32
_MAX_SEARCH_TEXT: Final = 2048
_MAX_HOSTNAME: Final = 64


def check_names(spec: Object, path: str) -> list[Cause]:
    """Return what is wrong with the names that a pod spec tells or refers to."""
    causes: list[Cause] = []
    for key in ("serviceAccountName", "nodeName", "priorityClassName", "runtimeClassName"):
        name = spec.get(key, "")
        # An empty name of a runtime class is a wrong one, others say nothing.
        if name or (key == "runtimeClassName" and key in spec):
            causes += [wrong(f"{path}.{key}", name, why) for why in subdomain_problems(name)]
    for key in ("hostname", "subdomain"):
        if spec.get(key):
            causes += [wrong(f"{path}.{key}", spec[key], why) for why in label_problems(spec[key])]
    return causes + _check_override(spec, f"{path}.hostnameOverride")


def check_dns(spec: Object, path: str) -> list[Cause]:
    """Return what is wrong with ``dnsConfig``, at ``path``."""
    config = spec.get("dnsConfig")
    servers = (config or {}).get("nameservers", [])
    if spec.get("dnsPolicy") == "None":
        if config is None:
            text = "must provide `dnsConfig` when `dnsPolicy` is None"
            return [required(path, text)]
        if not servers:
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            return [required(f"{path}.nameservers", text)]
    if config is None:
        return []
    causes: list[Cause] = []
    if len(servers) > _MAX_SERVERS:
        text = f"must not have more than {_MAX_SERVERS} nameservers"
        causes.append(wrong(f"{path}.nameservers", servers, text))
    for index, server in enumerate(servers):
        causes += [
            wrong(f"{path}.nameservers[{index}]", server, why) for why in ip_problems(server)
        ]
    searches, at = config.get("searches", []), f"{path}.searches"
    if len(searches) > _MAX_SEARCHES:
        text = f"must not have more than {_MAX_SEARCHES} search paths"
        causes.append(wrong(at, searches, text))
    if len(" ".join(searches).encode()) > _MAX_SEARCH_TEXT:
        text = (
            f"must not have more than {_MAX_SEARCH_TEXT} characters (including spaces) in the "
            "search list"
        )
        causes.append(wrong(at, searches, text))
    for index, search in enumerate(searches):
        if search != ".":
            name = search.removesuffix(".")
            problems = subdomain_problems(name, underscores=True)
            causes += [wrong(f"{at}[{index}]", name, why) for why in problems]
    for index, option in enumerate(config.get("options", ())):
        if not option.get("name"):
            causes.append(required(f"{path}.options[{index}]", "must not be empty"))
    return causes


def check_aliases(aliases: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with ``hostAliases``."""
    causes: list[Cause] = []
    for index, alias in enumerate(aliases):
        at, address = f"{path}[{index}]", alias.get("ip", "")
        causes += [wrong(f"{at}.ip", address, why) for why in ip_problems(address)]
        for number, name in enumerate(alias.get("hostnames", ())):
            below = f"{at}.hostnames[{number}]"
            causes += [wrong(below, name, why) for why in subdomain_problems(name)]
    return causes


def check_resource_claims(claims: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with ``resourceClaims``."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        at, name = f"{path}[{index}]", claim.get("name", "")
        if not name:
            causes.append(required(f"{at}.name"))
        elif name in seen:
            causes.append(duplicate(f"{at}.name", name))
        else:
            causes += [wrong(f"{at}.name", name, why) for why in label_problems(name)]
        seen.add(name)
        keys = [key for key in ("resourceClaimName", "resourceClaimTemplateName") if key in claim]
        # As the server's own type of a claim has its fields.
        shown = {
            "Name": name,
            "ResourceClaimName": claim.get("resourceClaimName"),
            "ResourceClaimTemplateName": claim.get("resourceClaimTemplateName"),
        }
        if len(keys) > 1:
            text = (
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            )
            causes.append(wrong(at, shown, text))
        if not keys:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            causes.append(wrong(at, shown, text))
        for key in keys:
            causes += [
                wrong(f"{at}.{key}", claim[key], why) for why in subdomain_problems(claim[key])
            ]
    return causes


def check_readiness_gates(gates: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with ``readinessGates``."""
    return [
        wrong(f"{path}[{index}].conditionType", gate.get("conditionType", ""), why)
        for index, gate in enumerate(gates)
        for why in label_key_problems(gate.get("conditionType", ""))
    ]


def _check_override(spec: Object, path: str) -> list[Cause]:
    name = spec.get("hostnameOverride")
    if name is None:
        return []
    causes: list[Cause] = []
    for key in ("setHostnameAsFQDN", "hostNetwork"):
        if spec.get(key):
            causes.append(forbidden(path, f"may not be specified when {key} is true"))
    if len(name.encode()) > _MAX_HOSTNAME:
        causes.append(too_long(path, _MAX_HOSTNAME))
    return causes + [wrong(path, name, why) for why in subdomain_problems(name)]
