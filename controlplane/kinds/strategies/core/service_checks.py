"""What can be wrong with a Service (pure).

Source: Kubernetes, API reference, Service v1; KEP-563 (dual stack), KEP-3070 (reserved addresses).
"""

from __future__ import annotations

from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.formats import label_key_problems, range_problems, subdomain_problems
from controlplane.api.metadata import (
    check_labels,
    duplicate,
    forbidden,
    required,
    unsupported,
    wrong,
)
from controlplane.api.resource import Object
from controlplane.kinds.strategies.core.addresses import (
    check_endpoint_ip,
    check_ip,
    check_network,
    is_ipv6,
    parse_ip,
)
from controlplane.kinds.strategies.core.ports import PROTOCOLS, check_label_name
from controlplane.kinds.strategies.podspec.handlers import check_port

_DAY: Final = 86400
_TYPES: Final = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]
_FAMILIES: Final = ["IPv4", "IPv6"]
_POLICIES: Final = ["PreferDualStack", "RequireDualStack", "SingleStack"]
_DISTRIBUTIONS: Final = ["PreferClose", "PreferSameZone", "PreferSameNode"]
_BALANCER_ONLY: Final = "may only be used when `type` is 'LoadBalancer'"
_RANGES: Final = "service.beta.kubernetes.io/load-balancer-source-ranges"
_HINTS: Final = "service.kubernetes.io/topology-aware-hints"
_MODE: Final = "service.kubernetes.io/topology-mode"
_SET_ONCE: Final = "may not change once set"


def is_headless(spec: Object) -> bool:
    """Say whether it has no address of its own."""
    return spec.get("clusterIPs") == ["None"]


def is_reachable_from_outside(spec: Object) -> bool:
    """Say whether it takes connections from outside of the cluster."""
    if spec["type"] in ("LoadBalancer", "NodePort"):
        return True
    return spec["type"] == "ClusterIP" and bool(spec.get("externalIPs"))


def check_service(value: Object, old: Object | None) -> list[Cause]:
    """Return what is wrong with a Service that has its defaults and addresses."""
    spec, before = value["spec"], old["spec"] if old else {}
    annotations = value["metadata"].get("annotations", {})
    causes: list[Cause] = []
    if {_HINTS, _MODE} <= annotations.keys() and annotations[_MODE] != annotations[_HINTS]:
        text = f"must match annotations[{_HINTS}] when both are specified"
        causes.append(wrong(f"metadata.annotations[{_MODE}]", annotations[_MODE], text))
    if not spec.get("ports") and not is_headless(spec) and spec["type"] != "ExternalName":
        causes.append(required("spec.ports"))
    causes += _check_type(spec)
    causes += _check_ports(spec)
    causes += check_labels(spec.get("selector", {}), "spec.selector")
    causes += _check_affinity(spec)
    causes += check_cluster_ips(spec, before)
    for index, address in enumerate(spec.get("externalIPs", [])):
        path = f"spec.externalIPs[{index}]"
        found = check_ip(address, path, before.get("externalIPs", []))
        causes += found or check_endpoint_ip(address, path)
    if spec["type"] not in _TYPES:
        causes.append(unsupported("spec.type", spec["type"], _TYPES))
    causes += _check_numbers(spec)
    causes += _check_balancer(spec, before, annotations, old)
    causes += _check_traffic(spec)
    return causes


def check_cluster_ips(spec: Object, before: Object) -> list[Cause]:
    """Return what is wrong with its addresses and their families."""
    if spec["type"] == "ExternalName":
        return []
    path, ips = "spec.clusterIPs", spec.get("clusterIPs", [])
    causes: list[Cause] = []
    first = spec.get("clusterIP", "")
    if first and not ips:
        causes.append(required(path))
    elif first and ips[0] != first:
        causes.append(wrong(path, ips, "first value must match `clusterIP`"))
    elif not first and ips:
        causes.append(wrong(path, ips, "must be empty when `clusterIP` is not specified"))
    causes += _check_families(spec)
    bad = False
    for index, address in enumerate(ips):
        if index == 0 and address == "None":
            if len(ips) > 1:
                bad = True
                causes.append(wrong(path, ips, "'None' must be the first and only value"))
            continue
        found = check_ip(address, f"{path}[{index}]", before.get("clusterIPs", []))
        bad = bad or bool(found)
        causes += found
    if len(ips) > 2:
        causes.append(wrong(path, ips, "may only hold up to 2 values"))
    if bad:
        return causes
    if len(ips) > 1 and len({is_ipv6(address) for address in ips}) < 2:
        causes.append(wrong(path, ips, "may specify no more than one IP for each IP family"))
    if not is_headless(spec):
        for index, (address, family) in enumerate(
            zip(ips, spec.get("ipFamilies", []), strict=False)
        ):
            if family in _FAMILIES and is_ipv6(address) is not (family == "IPv6"):
                text = f"expected an {family} value as indicated by `ipFamilies[{index}]`"
                causes.append(wrong(f"{path}[{index}]", address, text))
    return causes


def check_service_change(value: Object, old: Object) -> list[Cause]:
    """Return what may not change as it did."""
    new, before = value["spec"], old["spec"]
    causes: list[Cause] = []
    if "ExternalName" not in (new["type"], before["type"]):
        if not (is_headless(new) and is_headless(before)):
            causes += _check_address_change(new, before)
        if not is_headless(new) and not is_headless(before):
            causes += _check_family_change(new, before)
    if new["type"] == before["type"] == "LoadBalancer":
        balancer = new.get("loadBalancerClass")
        if balancer != before.get("loadBalancerClass"):
            causes.append(wrong("spec.loadBalancerClass", balancer, _SET_ONCE))
        both_local = new.get("externalTrafficPolicy") == before.get("externalTrafficPolicy")
        if both_local and new.get("externalTrafficPolicy") == "Local":
            number = new.get("healthCheckNodePort")
            if number != before.get("healthCheckNodePort"):
                causes.append(forbidden("spec.healthCheckNodePort", "field is immutable"))
    return causes


def check_service_status(value: Object, old: Object) -> list[Cause]:
    """Return what is wrong with the addresses that a load balancer told."""
    path = "status.loadBalancer.ingress"
    ingress = value["status"].get("loadBalancer", {}).get("ingress", [])
    if value["spec"]["type"] != "LoadBalancer":
        text = "may only be used when `spec.type` is 'LoadBalancer'"
        return [forbidden(path, text)] if ingress else []
    before = old.get("status", {}).get("loadBalancer", {}).get("ingress", [])
    known = [one["ip"] for one in before if one.get("ip")]
    causes: list[Cause] = []
    for index, one in enumerate(ingress):
        at, address, mode = f"{path}[{index}]", one.get("ip", ""), one.get("ipMode")
        if address:
            causes += check_ip(address, f"{at}.ip", known)
        if mode is None:
            if address:
                causes.append(required(f"{at}.ipMode", "must be specified when `ip` is set"))
        elif not address:
            causes.append(forbidden(f"{at}.ipMode", "may not be specified when `ip` is not set"))
        elif mode not in ("Proxy", "VIP"):
            causes.append(unsupported(f"{at}.ipMode", mode, ["Proxy", "VIP"]))
        name = one.get("hostname", "")
        if name:
            causes += [wrong(f"{at}.hostname", name, why) for why in subdomain_problems(name)]
            if parse_ip(name) is not None:
                text = "must be a DNS name, not an IP address"
                causes.append(wrong(f"{at}.hostname", name, text))
    return causes


def _check_type(spec: Object) -> list[Cause]:
    kind = spec["type"]
    if kind in ("LoadBalancer", "NodePort") and is_headless(spec):
        text = f"may not be set to 'None' for {kind} services"
        return [wrong("spec.clusterIPs[0]", "None", text)]
    if kind != "ExternalName":
        return []
    causes = [
        forbidden(f"spec.{key}", "may not be set for ExternalName services")
        for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy")
        if spec.get(key)
    ]
    name = spec.get("externalName", "").removesuffix(".")
    if not name:
        return [*causes, required("spec.externalName")]
    return causes + [wrong("spec.externalName", name, why) for why in subdomain_problems(name)]


def _check_ports(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    ports = spec.get("ports", [])
    for index, port in enumerate(ports):
        path, name = f"spec.ports[{index}]", port.get("name", "")
        if not name and len(ports) > 1:
            causes.append(required(f"{path}.name"))
        elif name:
            causes += check_label_name(name, f"{path}.name")
            if name in names:
                causes.append(duplicate(f"{path}.name", name))
            names.add(name)
        number = port.get("port", 0)
        causes += [wrong(f"{path}.port", number, why) for why in range_problems(number, 1, 65535)]
        if port["protocol"] not in PROTOCOLS:
            causes.append(unsupported(f"{path}.protocol", port["protocol"], list(PROTOCOLS)))
        causes += check_port(port["targetPort"], f"{path}.targetPort")
        if "appProtocol" in port:
            causes += [
                wrong(f"{path}.appProtocol", port["appProtocol"], why)
                for why in label_key_problems(port["appProtocol"])
            ]
    return causes


def _check_affinity(spec: Object) -> list[Cause]:
    kind, config = spec["sessionAffinity"], spec.get("sessionAffinityConfig")
    if kind not in ("ClientIP", "None"):
        return [unsupported("spec.sessionAffinity", kind, ["ClientIP", "None"])]
    if kind == "None" or config is None:
        return []
    seconds = config["clientIP"]["timeoutSeconds"]
    if 0 < seconds <= _DAY:
        return []
    path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    return [wrong(path, seconds, f"must be greater than 0 and less than {_DAY}")]


def _check_families(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    families = spec.get("ipFamilies", [])
    for index, family in enumerate(families):
        path = f"spec.ipFamilies[{index}]"
        if family not in _FAMILIES:
            causes.append(unsupported(path, family, _FAMILIES))
        if family in families[:index]:
            causes.append(duplicate(path, family))
    policy = spec.get("ipFamilyPolicy")
    if policy is not None and policy not in _POLICIES:
        causes.append(unsupported("spec.ipFamilyPolicy", policy, _POLICIES))
    return causes


def _check_numbers(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    node_ports: set[tuple[str, int]] = set()
    ports: set[tuple[str, int]] = set()
    for index, port in enumerate(spec.get("ports", [])):
        path, number = f"spec.ports[{index}]", port.get("nodePort", 0)
        if number and spec["type"] == "ClusterIP":
            text = "may not be used when `type` is 'ClusterIP'"
            causes.append(forbidden(f"{path}.nodePort", text))
        if number and (port["protocol"], number) in node_ports:
            causes.append(duplicate(f"{path}.nodePort", number))
        node_ports.add((port["protocol"], number))
        key = (port["protocol"], port.get("port", 0))
        if key in ports:
            shown = {"protocol": key[0], "port": key[1]}
            causes.append(duplicate(path, shown))
        ports.add(key)
    return causes


def _check_balancer(
    spec: Object, before: Object, annotations: dict[str, str], old: Object | None
) -> list[Cause]:
    causes: list[Cause] = []
    balanced = spec["type"] == "LoadBalancer"
    ranges, text = spec.get("loadBalancerSourceRanges", []), annotations.get(_RANGES)
    known = [network.strip() for network in before.get("loadBalancerSourceRanges", [])]
    path = f"metadata.annotations[{_RANGES}]"
    if ranges:
        path = "spec.LoadBalancerSourceRanges"
        for index, network in enumerate(ranges):
            causes += check_network(network.strip(), f"{path}[{index}]", known)
    elif text and (not old or old["metadata"].get("annotations", {}).get(_RANGES) != text):
        for network in text.split(",") if text.strip() else ():
            causes += check_network(network.strip(), path)
    if not balanced and (ranges or text is not None):
        causes.insert(0, forbidden(path, _BALANCER_ONLY))
    for key in () if balanced else ("allocateLoadBalancerNodePorts", "loadBalancerClass"):
        if spec.get(key) is not None:
            causes.append(forbidden(f"spec.{key}", _BALANCER_ONLY))
    name = spec.get("loadBalancerClass")
    if balanced and name is not None:
        causes += [wrong("spec.loadBalancerClass", name, why) for why in label_key_problems(name)]
    return causes


def _check_traffic(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    external, both = spec.get("externalTrafficPolicy", ""), ["Cluster", "Local"]
    if not is_reachable_from_outside(spec):
        if external:
            text = "may only be set for externally-accessible services"
            causes.append(wrong("spec.externalTrafficPolicy", external, text))
    elif external not in both:
        causes.append(unsupported("spec.externalTrafficPolicy", external, both))
    number = spec.get("healthCheckNodePort", 0)
    if spec["type"] != "LoadBalancer" or external != "Local":
        if number:
            text = (
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is "
                "'Local'"
            )
            causes.append(wrong("spec.healthCheckNodePort", number, text))
    else:
        problems = range_problems(number, 1, 65535)
        causes += [wrong("spec.healthCheckNodePort", number, why) for why in problems]
    internal = spec.get("internalTrafficPolicy")
    if internal is not None and internal not in both:
        causes.append(unsupported("spec.internalTrafficPolicy", internal, both))
    distribution = spec.get("trafficDistribution")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        path = "spec.trafficDistribution"
        causes.append(unsupported(path, distribution, _DISTRIBUTIONS))
    return causes


def _check_address_change(new: Object, before: Object) -> list[Cause]:
    now, then = new.get("clusterIPs", []), before.get("clusterIPs", [])
    path = "spec.clusterIPs"
    if len(now) == len(then):
        return [
            wrong(f"{path}[{index}]", now, _SET_ONCE)
            for index, address in enumerate(then)
            if address != now[index]
        ]
    causes: list[Cause] = []
    if not now:
        causes.append(wrong(f"{path}[0]", now, "primary clusterIP can not be unset"))
    elif then and now[0] != then[0]:
        causes.append(wrong(f"{path}[0]", now, _SET_ONCE))
    if len(now) == 1 and len(then) > 1 and new.get("ipFamilyPolicy") != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        causes.append(wrong("spec.ipFamilyPolicy", new.get("ipFamilyPolicy"), text))
    return causes


def _check_family_change(new: Object, before: Object) -> list[Cause]:
    now, then = new.get("ipFamilies", []), before.get("ipFamilies", [])
    path = "spec.ipFamilies[0]"
    if len(now) == len(then):
        return [
            wrong(path, now, _SET_ONCE)
            for one, other in zip(now, then, strict=True)
            if one != other
        ]
    causes: list[Cause] = []
    if now and then and now[0] != then[0]:
        causes.append(wrong(path, new.get("clusterIPs", []), _SET_ONCE))
    if len(now) == 1 and len(then) > 1 and new.get("ipFamilyPolicy") != "SingleStack":
        text = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        causes.append(wrong("spec.ipFamilyPolicy", new.get("ipFamilyPolicy"), text))
    return causes
