"""networking.k8s.io/v1 Ingress and IngressClass (Kubernetes, pkg/apis/networking)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, too_long, wrong
from controlplane.api.resource import AGE, Column, Object, Strategy
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    check_dns_label,
    check_dns_subdomain,
    check_domain_path,
    check_immutable,
    check_one_of,
    check_path_segment,
    check_port,
    check_port_name,
    check_wildcard,
    is_ip,
)
from controlplane.kinds.strategies.base import WithStatus

_CLASS_ANNOTATION: Final = "kubernetes.io/ingress.class"
_DEFAULT_ANNOTATION: Final = "ingressclass.kubernetes.io/is-default-class"
_PATH_TYPES: Final = ("Exact", "ImplementationSpecific", "Prefix")
_BAD_PARTS: Final = ("//", "/./", "/../", "%2f", "%2F")
_BAD_ENDS: Final = ("/..", "/.")
_MAX_CONTROLLER: Final = 250
_SHOWN_HOSTS: Final = 3


class Ingress(WithStatus):
    """Ingresses."""

    initial: ClassVar[Mapping[str, Any]] = {"loadBalancer": {}}
    columns = (
        Column("Class", description="Which controller serves it."),
        Column("Hosts", description="Of its rules."),
        Column("Address", description="Where it is served."),
        Column("Ports", description="On which it is served."),
    )

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with rules, backends and certificates."""
        spec = value["spec"]
        causes = _check_spec(spec)
        told = value["metadata"].get("annotations", {}).get(_CLASS_ANNOTATION)
        name = spec.get("ingressClassName")
        if old is None and told is not None and name not in (None, told):
            text = "must match `ingressClassName` when both are specified"
            causes.append(wrong(f"annotations.{_CLASS_ANNOTATION}", told, text))
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with the addresses."""
        causes: list[Cause] = []
        points = value.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        for index, point in enumerate(points):
            path = f"status.loadBalancer.ingress[{index}]"
            address, host = point.get("ip", ""), point.get("hostname", "")
            if address and not is_ip(address):
                causes.append(wrong(f"{path}.ip", address, "must be a valid IP address"))
            if host:
                causes += check_dns_subdomain(host, f"{path}.hostname")
                causes += _check_no_ip(host, f"{path}.hostname")
        return causes

    def warnings(self, value: Object) -> list[str]:
        """Return a warning about the annotation that came before the field."""
        meta = value["metadata"]
        old = _CLASS_ANNOTATION in meta.get("annotations", {})
        if meta.get("generation") != 1 or not old or "ingressClassName" in value["spec"]:
            return []
        return [
            f'annotation "{_CLASS_ANNOTATION}" is deprecated, please use '
            "'spec.ingressClassName' instead"
        ]

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec = value["spec"]
        points = value.get("status", {}).get("loadBalancer", {}).get("ingress", ())
        found = {point.get("ip") or point.get("hostname") for point in points}
        return [
            cells.optional(spec.get("ingressClassName"), cells.NONE),
            _hosts(spec.get("rules", [])),
            ",".join(sorted(address for address in found if address)),
            "80, 443" if spec.get("tls") else "80",
        ]


class IngressClass(Strategy):
    """Classes of ingresses: their controller never changes."""

    has_status = False
    columns = (
        Column("Name", "string", "name", description="Of the class; whether it is the default."),
        Column("Controller", description="That serves its ingresses."),
        Column("Parameters", description="Where the controller finds more."),
        AGE,
    )

    def default(self, value: Object) -> None:
        """Put in the scope of parameters."""
        parameters = value.setdefault("spec", {}).get("parameters")
        if parameters is not None:
            parameters.setdefault("scope", "Cluster")

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with controller and parameters."""
        spec = value["spec"]
        controller, path = spec.get("controller", ""), "spec.controller"
        causes = check_domain_path(controller, path)
        if len(controller) > _MAX_CONTROLLER:
            causes.append(too_long(path, _MAX_CONTROLLER))
        if old is not None:
            causes += check_immutable(controller, old["spec"].get("controller"), path)
        if "parameters" in spec:
            causes += _check_parameters(spec["parameters"], "spec.parameters")
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        meta, spec = value["metadata"], value["spec"]
        default = meta.get("annotations", {}).get(_DEFAULT_ANNOTATION) == "true"
        parameters, shown = spec.get("parameters"), cells.NONE
        if parameters is not None:
            shown = parameters.get("kind", "")
            shown += f".{parameters['apiGroup']}" if "apiGroup" in parameters else ""
            shown += f"/{parameters.get('name', '')}"
        name = f"{meta['name']} (default)" if default else meta["name"]
        return [name, spec.get("controller", ""), shown]


def _hosts(rules: list[Object]) -> str:
    found = [rule["host"] for rule in rules if rule.get("host")]
    if not found:
        return "*"
    more = len(rules) - _SHOWN_HOSTS
    if len(found) > _SHOWN_HOSTS or (len(found) == _SHOWN_HOSTS and not rules[-1].get("host")):
        return f"{','.join(found[:_SHOWN_HOSTS])} + {more} more..."
    return ",".join(found)


def _check_spec(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    rules = spec.get("rules", [])
    if not rules and "defaultBackend" not in spec:
        text = "either `defaultBackend` or `rules` must be specified"
        causes.append(wrong("spec", rules, text))
    if "defaultBackend" in spec:
        causes += _check_backend(spec["defaultBackend"], "spec.defaultBackend")
    for index, rule in enumerate(rules):
        causes += _check_rule(rule, f"spec.rules[{index}]")
    for index, tls in enumerate(spec.get("tls", ())):
        path = f"spec.tls[{index}]"
        for number, host in enumerate(tls.get("hosts", ())):
            causes += _check_host(host, f"{path}.hosts[{number}]")
        if tls.get("secretName"):
            causes += check_dns_subdomain(tls["secretName"], f"{path}.secretName")
    if "ingressClassName" in spec:
        causes += check_dns_subdomain(spec["ingressClassName"], "spec.ingressClassName")
    return causes


def _check_host(host: str, path: str) -> list[Cause]:
    return check_wildcard(host, path) if "*" in host else check_dns_subdomain(host, path)


def _check_no_ip(host: str, path: str) -> list[Cause]:
    text = "must be a DNS name, not an IP address"
    return [wrong(path, host, text)] if is_ip(host) else []


def _check_rule(rule: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    host = rule.get("host", "")
    if host:
        causes += _check_no_ip(host, f"{path}.host")
        causes += _check_host(host, f"{path}.host")
    if "http" not in rule:
        return causes
    paths = rule["http"].get("paths", [])
    causes += [] if paths else [required(f"{path}.http.paths")]
    for index, one in enumerate(paths):
        causes += _check_path(one, f"{path}.http.paths[{index}]")
    return causes


def _check_path(one: Object, path: str) -> list[Cause]:
    kind, text = one.get("pathType"), one.get("path", "")
    if kind is None:
        return [required(f"{path}.pathType", "pathType must be specified")]
    causes = check_one_of(kind, f"{path}.pathType", _PATH_TYPES)
    here, strict = f"{path}.path", kind in ("Exact", "Prefix")
    if (strict or (text and not causes)) and not text.startswith("/"):
        causes.append(wrong(here, text, "must be an absolute path"))
    if strict:
        bad = [part for part in _BAD_PARTS if part in text]
        bad += [end for end in _BAD_ENDS if text.endswith(end)]
        causes += [wrong(here, text, f"must not contain or end with '{part}'") for part in bad]
    return causes + _check_backend(one.get("backend", {}), f"{path}.backend")


def _check_backend(backend: Object, path: str) -> list[Cause]:
    resource, service = backend.get("resource"), backend.get("service")
    if resource is not None and service is not None:
        return [wrong(path, "", "cannot set both resource and service backends")]
    if resource is not None:
        return _check_typed(resource, f"{path}.resource")
    if service is None:
        return [wrong(path, "", "resource or service backend is required")]
    name, here = service.get("name", ""), f"{path}.service.name"
    causes = check_dns_label(name, here) if name else [required(here)]
    port = service.get("port", {})
    if port.get("name") and port.get("number"):
        causes.append(wrong(path, "", "cannot set both port name & port number"))
    elif port.get("name"):
        causes += check_port_name(port["name"], f"{path}.service.port.name")
    elif port.get("number"):
        causes += check_port(port["number"], f"{path}.service.port.number")
    else:
        causes.append(required(path, "port name or number is required"))
    return causes


def _check_typed(reference: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if "apiGroup" in reference:
        causes += check_dns_subdomain(reference["apiGroup"], f"{path}.apiGroup")
    for key in ("kind", "name"):
        causes += check_path_segment(reference.get(key, ""), f"{path}.{key}")
    return causes


def _check_parameters(parameters: Object, path: str) -> list[Cause]:
    causes = _check_typed(parameters, path)
    scope, namespace = parameters["scope"], parameters.get("namespace")
    if scope == "Namespace":
        if namespace is None:
            text = "`parameters.scope` is set to 'Namespace'"
            causes.append(required(f"{path}.namespace", text))
        else:
            causes += check_dns_label(namespace, f"{path}.namespace")
    elif scope != "Cluster":
        causes += check_one_of(scope, f"{path}.scope", ("Cluster", "Namespace"))
    elif namespace is not None:
        text = "`parameters.scope` is set to 'Cluster'"
        causes.append(forbidden(f"{path}.namespace", text))
    return causes
