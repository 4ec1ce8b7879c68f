"""One pod in one network: what plugins are told of it, and what they answer (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from ipaddress import ip_interface
from typing import Any, Final

from runtime.network.cni.configuration import NetworkList
from runtime.network.config import Attachment
from runtime.network.errors import NetworkError
from runtime.network.request import PodFacts

INTERFACE: Final = "eth0"
_FORMAT: Final = 1
# A token bucket needs a size; this is the largest that the plugin takes: no limit by itself.
_BURST_BITS: Final = (1 << 31) - 1
_SEPARATORS: Final = ";=\0\n"


@dataclass(frozen=True)
class Record:
    """What must be remembered of an attachment, from before its ADD until after its DEL.

    Attributes:
        sandbox_id: whose.
        netns: where its network namespace is pinned.
        network: the configuration at the time of ADD, which DEL is to get as well.
        args: CNI_ARGS.
        capabilities: arguments of all capabilities, whether a plugin wants them or not.
        result: of the last plugin's ADD; None as long as that is not over.
    """

    sandbox_id: str
    netns: str
    network: NetworkList
    args: str
    capabilities: dict[str, Any]
    result: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {**asdict(self), "network": self.network.to_record(), "format": _FORMAT}

    @classmethod
    def from_json(cls, content: Any) -> Record:
        """Return what :meth:`to_json` was called on.

        Raises:
            ValueError: it is of another format.
        """
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise ValueError(f"is not of format {_FORMAT}")
        try:
            content["network"] = NetworkList.from_record(content["network"])
            return cls(**content)
        except (KeyError, TypeError) as error:
            raise ValueError(f"lacks something: {error}") from error


def arguments(sandbox_id: str, facts: PodFacts) -> str:
    """Return CNI_ARGS as the kubelet's network plugins expect it.

    Raises:
        NetworkError: a name would change the meaning of what follows it.
    """
    values = {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": facts.namespace,
        "K8S_POD_NAME": facts.name,
        "K8S_POD_INFRA_CONTAINER_ID": sandbox_id,
        "K8S_POD_UID": facts.uid,
    }
    for name, value in values.items():
        if any(separator in value for separator in _SEPARATORS):
            raise NetworkError(f"{name} {value!r} of a pod holds ';', '=' or a control character")
    return ";".join(f"{name}={value}" for name, value in values.items())


def capability_arguments(facts: PodFacts, pod_cidrs: Sequence[str]) -> dict[str, Any]:
    """Return what a pod asks for, by capability (the conventions' "dynamic" fields)."""
    result: dict[str, Any] = {}
    if facts.ports:
        result["portMappings"] = [
            {
                "hostPort": mapping.host_port,
                "containerPort": mapping.container_port,
                "protocol": mapping.protocol.value,
                "hostIP": mapping.host_ip,
            }
            for mapping in facts.ports
        ]
    bandwidth: dict[str, int] = {}
    for direction in ("ingress", "egress"):
        rate = getattr(facts.bandwidth, direction)
        if rate:
            bandwidth |= {f"{direction}Rate": rate, f"{direction}Burst": _BURST_BITS}
    if bandwidth:
        result["bandwidth"] = bandwidth
    dns = {name: list(words) for name, words in asdict(facts.dns).items() if words}
    if dns:
        result["dns"] = dns
    if pod_cidrs:
        # One set of ranges for each family: an address is taken of each set.
        result["ipRanges"] = [[{"subnet": cidr}] for cidr in pod_cidrs]
    if facts.cgroup:
        result["cgroupPath"] = facts.cgroup
    return result


def unserved(network: NetworkList, capabilities: dict[str, Any]) -> list[str]:
    """Return what a pod asks for in vain: ports and bandwidth that no plugin takes."""
    return [
        name
        for name in ("portMappings", "bandwidth")
        if name in capabilities
        and not any(plugin.get("capabilities", {}).get(name) for plugin in network.plugins)
    ]


def plugin_input(
    network: NetworkList,
    plugin: dict[str, Any],
    *,
    capabilities: dict[str, Any] | None = None,
    previous: dict[str, Any] | None = None,
    valid_attachments: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Return what a plugin gets on its standard input (section 3, "Deriving").

    Args:
        network: the list that the plugin is of.
        plugin: its own configuration.
        capabilities: arguments of all capabilities; it gets those that it declares.
        previous: the result of the plugin before it (ADD), or of the whole list.
        valid_attachments: for GC: all sandboxes that are in the network.
    """
    wanted = {name for name, enabled in plugin.get("capabilities", {}).items() if enabled}
    result = {key: value for key, value in plugin.items() if key != "capabilities"}
    # A file of one plugin alone has these beside the plugin's own keys.
    for key in ("cniVersions", "disableCheck", "disableGC"):
        result.pop(key, None)
    result |= {"cniVersion": network.version, "name": network.name}
    chosen = {key: value for key, value in (capabilities or {}).items() if key in wanted}
    if chosen:
        result["runtimeConfig"] = chosen
    if previous is not None:
        result["prevResult"] = previous
    if valid_attachments is not None:
        valid = [{"containerID": i, "ifname": INTERFACE} for i in sorted(valid_attachments)]
        # Plugins built with the first release of the specification's library read the second.
        result |= {"cni.dev/valid-attachments": valid, "cni.dev/attachments": valid}
    return result


def read_result(result: dict[str, Any]) -> Attachment:
    """Return what the result of the last ADD says of the pod.

    Raises:
        NetworkError: it gives the pod no address, or is malformed.
    """
    try:
        interfaces = result.get("interfaces") or []
        inside = [
            number
            for number, interface in enumerate(interfaces)
            if interface.get("sandbox") and interface.get("name") == INTERFACE
        ]
        chosen = [
            entry
            for entry in result.get("ips") or []
            if entry.get("interface") is None or entry["interface"] in inside
        ]
        chosen.sort(key=lambda entry: ip_interface(entry["address"]).version)
        ips = [str(ip_interface(entry["address"]).ip) for entry in chosen]
        gateways = [str(entry["gateway"]) for entry in chosen if entry.get("gateway")]
        facts = interfaces[inside[0]] if inside else {}
        mac, mtu = str(facts.get("mac") or ""), int(facts.get("mtu") or 0)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise NetworkError(f"the CNI plugins' result is malformed ({error}): {result}") from error
    if not ips:
        raise NetworkError(f"the CNI plugins gave {INTERFACE} of the pod no address: {result}")
    return Attachment(ips=ips, interface=INTERFACE, gateways=gateways, mac=mac, mtu=mtu)
