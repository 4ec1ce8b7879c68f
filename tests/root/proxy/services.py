"""The table: every feature of Services, who may ask, who is to answer, and what it sees."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.proxylab.clients import REFUSED, SILENT, UNREACHABLE
from tests.support.proxylab.objects import (
    ITSELF,
    LOCAL,
    OTHER_PORT,
    PORT,
    REMOTE,
    Backend,
    Port,
    ending,
    service,
    slices,
)
from tests.support.proxylab.proxies import Settings
from tests.support.proxylab.topology import (
    FAMILIES,
    OUTSIDE_SECOND,
    public_address,
    second_address,
    wire_address,
)

from .cases import MASQUERADED, Scenario, Where, nodes_own

BOTH = (LOCAL[0], REMOTE[0], REMOTE[1])
NOBODYS = LOCAL[20]
"""An endpoint of Services for which there is nothing to be programmed; no rule may name it."""
_FEATURES: list[Callable[[Scenario], None]] = []


def everything() -> Scenario:
    """Return all features as one cluster."""
    scenario = Scenario()
    for add in _FEATURES:
        add(scenario)
    return scenario


def _feature(function: Callable[[Scenario], None]) -> Callable[[Scenario], None]:
    _FEATURES.append(function)
    return function


def public(number: int) -> Where:
    """Where an external or load-balancer IP is."""
    return lambda family: public_address(number, family)


def second(family: int) -> str:
    """A second address of the node."""
    return second_address("node", family)


def loopback(family: int) -> str:
    """The node's own loopback address."""
    return "127.0.0.1" if family == 4 else "::1"


def other_source(family: int) -> str:
    """The second address of the host outside."""
    return wire_address("outside", family, OUTSIDE_SECOND)


def ingress(number: int, **more: str) -> list[dict[str, str]]:
    """Return ``status.loadBalancer.ingress``, in both families."""
    return [{"ip": public_address(number, family), **more} for family in FAMILIES]


def externals(number: int) -> list[str]:
    """Return ``spec.externalIPs``, in both families."""
    return [public_address(number, family) for family in FAMILIES]


def nftables(settings: Settings, family: int) -> bool:
    return settings.mode == "nftables"


def iptables(settings: Settings, family: int) -> bool:
    return settings.mode == "iptables"


@_feature
def cluster_ip(s: Scenario) -> None:
    where = s.add("plain", BOTH)
    s.expect("cluster IP", "pod", where, 80, BOTH)
    s.expect("cluster IP", "node outside", where, 80, BOTH, MASQUERADED)
    s.expect("a port that the Service lacks", "pod", where, 81, REFUSED, when=nftables)


@_feature
def several_ports(s: Scenario) -> None:
    ports = [
        Port(80, PORT, name="http"), Port(90, OTHER_PORT, name="admin"),
        Port(53, PORT, "TCP", "dns-tcp"), Port(53, PORT, "UDP", "dns"),
        Port(99, PORT, "SCTP", "sctp"), Port(54, OTHER_PORT, "UDP", "other"),
    ]  # fmt: skip
    where = s.add("several", BOTH, ports)
    s.expect("port by port", "pod", where, 80, BOTH)
    s.expect("another target", "pod", where, 90, BOTH, target=OTHER_PORT)
    s.expect("TCP beside UDP", "pod", where, 53, BOTH)
    s.expect("UDP", "pod", where, 53, BOTH, protocol="UDP")
    s.expect("UDP", "node outside", where, 53, BOTH, MASQUERADED, protocol="UDP")
    s.expect("UDP of another target", "pod", where, 54, BOTH, protocol="UDP", target=OTHER_PORT)
    s.expect("SCTP", "pod", where, 99, BOTH, protocol="SCTP")
    s.expect("SCTP", "node outside", where, 99, BOTH, MASQUERADED, protocol="SCTP")


@_feature
def named_target_port(s: Scenario) -> None:
    # The same name is another number in each of two slices, as after an update of the pods.
    made = service("named", [Port(80, name="web")])
    made["spec"]["ports"][0]["targetPort"] = "web"
    s.objects += [made, *slices("named", LOCAL[:1], [Port(target=PORT, name="web")])]
    s.objects += slices("named", REMOTE[:1], [Port(target=OTHER_PORT, name="web")], part="-b")
    addresses = made["spec"]["clusterIPs"]

    def where(family: int) -> str:
        return str(addresses[FAMILIES.index(family)])

    class _At(Backend):
        def answers(self, family: int, port: int = PORT) -> str:
            return super().answers(family, OTHER_PORT)

    s.expect("named target port", "pod", where, 80, (LOCAL[0], _At("remote")))


@_feature
def node_port(s: Scenario) -> None:
    ports = [
        Port(80, node_port=30080, name="tcp"),
        Port(81, protocol="UDP", node_port=30081, name="udp"),
    ]
    s.add("nodeport", BOTH, ports)
    s.expect("node port", "outside pod node far", nodes_own, 30080, BOTH, MASQUERADED)
    s.expect("node port, UDP", "outside pod node", nodes_own, 30081, BOTH, MASQUERADED,
             protocol="UDP")  # fmt: skip
    # The default of nftables mode is "primary", as with the peer.
    s.expect(
        "node port, second address", "outside", second, 30080, BOTH, MASQUERADED, when=iptables
    )
    s.expect("node port, second address", "outside", second, 30080, REFUSED, when=nftables)
    s.expect("a node port of nobody", "outside", nodes_own, 30099, REFUSED)

    def localhost(settings: Settings, family: int) -> bool:
        return settings.mode == "iptables" and family == 4

    s.expect("node port on localhost", "node", loopback, 30080, BOTH, MASQUERADED, when=localhost)
    s.expect(
        "node port on localhost", "node", loopback, 30080, REFUSED,
        when=lambda settings, family: not localhost(settings, family),
    )  # fmt: skip


@_feature
def node_port_local(s: Scenario) -> None:
    ports = [Port(80, node_port=30180)]
    s.add("nodeport-local", BOTH, ports, externalTrafficPolicy="Local")
    s.expect("policy Local keeps the source", "outside", nodes_own, 30180, BOTH[:1])
    s.expect("policy Local, short-circuit", "pod", nodes_own, 30180, BOTH)
    s.expect("policy Local, short-circuit", "node", nodes_own, 30180, BOTH, MASQUERADED)
    s.add("nodeport-away", REMOTE[:2], [Port(80, node_port=30181)], externalTrafficPolicy="Local")
    s.expect("policy Local without local endpoints", "outside", nodes_own, 30181, SILENT)
    s.expect("policy Local, all elsewhere", "pod", nodes_own, 30181, REMOTE[:2])


@_feature
def load_balancer(s: Scenario) -> None:
    s.add("lb", BOTH, [Port(80, node_port=30280)], ingress=ingress(10, ipMode="VIP"))
    s.expect("load balancer", "outside pod node", public(10), 80, BOTH, MASQUERADED)
    s.add("lb-no-mode", BOTH, [Port(80)], ingress=ingress(11))
    s.expect("load balancer without ipMode", "outside", public(11), 80, BOTH, MASQUERADED)
    s.add("lb-proxy", BOTH, [Port(80, node_port=30281)], ingress=ingress(12, ipMode="Proxy"))
    s.expect("ipMode Proxy", "outside pod", public(12), 80, UNREACHABLE)
    s.expect("ipMode Proxy, node port", "outside", nodes_own, 30281, BOTH, MASQUERADED)
    s.add("lb-local", BOTH, [Port(80, node_port=30282)], ingress=ingress(13),
          externalTrafficPolicy="Local", healthCheckNodePort=31282)  # fmt: skip
    s.expect("load balancer, policy Local", "outside", public(13), 80, BOTH[:1])
    s.expect("load balancer, policy Local, short-circuit", "pod", public(13), 80, BOTH)
    s.expect("load balancer, policy Local", "node", public(13), 80, BOTH, MASQUERADED)
    s.add("lb-local-away", REMOTE[:2], [Port(80, node_port=30283)], ingress=ingress(14),
          externalTrafficPolicy="Local", healthCheckNodePort=31283)  # fmt: skip
    s.expect("load balancer, Local without endpoints", "outside", public(14), 80, SILENT)


@_feature
def source_ranges(s: Scenario) -> None:
    ranges = [f"{wire_address('outside', f)}/{32 if f == 4 else 128}" for f in FAMILIES]
    s.add("lb-ranges", BOTH, [Port(80, node_port=30380)], ingress=ingress(20),
          loadBalancerSourceRanges=ranges)  # fmt: skip
    where = public(20)
    s.expect("source in a range", "outside", where, 80, BOTH, MASQUERADED)
    s.expect("source out of all ranges", "outside", where, 80, SILENT, own=other_source)
    s.expect("source out of all ranges", "pod node", where, 80, SILENT)
    s.expect("ranges are not for node ports", "outside", nodes_own, 30380, BOTH, MASQUERADED,
             own=other_source)  # fmt: skip
    # Many ranges of one family: the other has none, so nobody may come in there.
    many = [f"198.18.{number}.0/24" for number in range(200)] + [" 192.168.77.20/32 "]
    s.add("lb-ranges-v4", BOTH, [Port(80)], ingress=ingress(21), loadBalancerSourceRanges=many)
    s.expect("many ranges, in one", "outside", public(21), 80, BOTH, MASQUERADED,
             when=lambda settings, family: family == 4)  # fmt: skip
    s.expect("many ranges, in none", "outside", public(21), 80, SILENT, own=other_source,
             when=lambda settings, family: family == 4)  # fmt: skip


@_feature
def external_ips(s: Scenario) -> None:
    s.add("external", BOTH, externalIPs=externals(30))
    s.expect("external IP", "outside pod node", public(30), 80, BOTH, MASQUERADED)
    s.add("external-local", BOTH, [Port(80, node_port=30480)], externalIPs=externals(31),
          externalTrafficPolicy="Local")  # fmt: skip
    s.expect("external IP, policy Local", "outside", public(31), 80, BOTH[:1])


@_feature
def not_for_us(s: Scenario) -> None:
    label = {"service.kubernetes.io/service-proxy-name": "another"}
    where = s.add("of-another-proxy", BOTH, labels=label)
    s.expect("a Service of another proxy", "pod", where, 80, UNREACHABLE)
    headless = service("headless", clusterIP="None", clusterIPs=["None"])
    named = service("named-elsewhere", type="ExternalName", externalName="example.org")
    for key in ("clusterIP", "clusterIPs", "ipFamilies"):
        del named["spec"][key]
    s.objects += [headless, named]
    marked = {"service.kubernetes.io/headless": ""}
    s.objects += slices("headless", [NOBODYS], labels=marked)
    s.objects += slices("headless", [NOBODYS], part="-unmarked")
    s.objects += slices("named-elsewhere", [NOBODYS])


@_feature
def internal_policy(s: Scenario) -> None:
    where = s.add("internal-local", BOTH, internalTrafficPolicy="Local")
    s.expect("internal policy Local", "pod", where, 80, BOTH[:1])
    s.expect("internal policy Local", "node", where, 80, BOTH[:1], MASQUERADED)
    where = s.add("internal-away", REMOTE[:1], internalTrafficPolicy="Local")
    s.expect("internal policy Local without endpoints", "pod node", where, 80, SILENT)


@_feature
def hints(s: Scenario) -> None:
    near, away = Backend("local", zones=("a",)), Backend("remote", zones=("b",))
    where = s.add("zoned", (near, away), trafficDistribution="PreferSameZone")
    s.expect("hints for zones", "pod", where, 80, (near,))
    where = s.add("half-zoned", (near, Backend("remote")), trafficDistribution="PreferClose")
    s.expect("an endpoint without a hint: no hints", "pod", where, 80, (near, Backend("remote")))
    elsewhere = (Backend("local", zones=("c",)), Backend("remote", zones=("b",)))
    where = s.add("other-zones", elsewhere, trafficDistribution="PreferSameZone")
    s.expect("hints for other zones alone: no hints", "pod", where, 80, elsewhere)
    same, other = (
        Backend("local", zones=("a",), nodes=("node",)),
        Backend("remote", 3, zones=("a",), nodes=("neighbour",)),
    )
    where = s.add("same-node", (same, other), trafficDistribution="PreferSameNode")
    s.expect("hints for nodes", "pod", where, 80, (same,))


@_feature
def readiness(s: Scenario) -> None:
    unready = Backend("remote", ready=False, serving=False)
    where = s.add("half-ready", (LOCAL[0], unready))
    s.expect("an endpoint that is not ready", "pod", where, 80, LOCAL[:1])
    # The control plane says of them that they are ready, and that they do not serve.
    published = Backend("remote", serving=False)
    where = s.add("published", (published,), publishNotReadyAddresses=True)
    s.expect("publishNotReadyAddresses", "pod", where, 80, (published,))
    where = s.add("none-ready", (unready,))
    s.expect("no endpoint is ready", "pod node", where, 80, REFUSED)


@_feature
def terminating(s: Scenario) -> None:
    last, dead = ending(LOCAL[0]), ending(REMOTE[0], serving=False)
    where = s.add("ending", (last, dead))
    s.expect("all endpoints terminate: those that serve", "pod", where, 80, (last,))
    where = s.add("ending-some", (last, REMOTE[1]))
    s.expect("a ready endpoint is preferred", "pod", where, 80, REMOTE[1:2])
    s.add("ending-local", (last, REMOTE[1]), [Port(80, node_port=30580)],
          externalTrafficPolicy="Local")  # fmt: skip
    s.expect("the last local endpoint terminates", "outside", nodes_own, 30580, (last,))
    where = s.add("ending-dead", (dead,))
    s.expect("all endpoints have ended", "pod", where, 80, REFUSED)


@_feature
def no_endpoints(s: Scenario) -> None:
    ports = [
        Port(80, node_port=30680, name="tcp"),
        Port(53, protocol="UDP", node_port=30681, name="udp"),
        Port(99, protocol="SCTP", name="sctp"),
    ]
    where = s.add("empty", (), ports, ingress=ingress(40), externalIPs=externals(41))
    s.expect("no endpoints, cluster IP", "pod node outside", where, 80, REFUSED)
    s.expect("no endpoints, UDP", "pod node outside", where, 53, REFUSED, protocol="UDP")
    s.expect("no endpoints, SCTP", "pod", where, 99, REFUSED, protocol="SCTP")
    s.expect("no endpoints, node port", "pod node outside", nodes_own, 30680, REFUSED)
    s.expect("no endpoints, node port, UDP", "outside", nodes_own, 30681, REFUSED, protocol="UDP")
    s.expect("no endpoints, load balancer", "pod outside", public(40), 80, REFUSED)
    s.expect("no endpoints, external IP", "pod outside", public(41), 80, REFUSED)
    s.add("empty-local", (), [Port(80, node_port=30682)], externalTrafficPolicy="Local")
    s.expect("no endpoints anywhere, policy Local", "outside", nodes_own, 30682, REFUSED)


@_feature
def hairpin(s: Scenario) -> None:
    itself = (ITSELF,)
    where = s.add("hairpin", itself, [Port(80, node_port=30780, name="tcp"),
                  Port(53, protocol="UDP", name="udp")], externalIPs=externals(50))  # fmt: skip
    s.expect("a pod asks its own Service", "self", where, 80, itself, MASQUERADED)
    s.expect("a pod asks its own Service, UDP", "self", where, 53, itself, MASQUERADED,
             protocol="UDP")  # fmt: skip
    s.expect("a pod asks itself by the node port", "self", nodes_own, 30780, itself, MASQUERADED)
    s.expect("a pod asks itself by an external IP", "self", public(50), 80, itself, MASQUERADED)
    s.add("hairpin-local", itself, [Port(80, node_port=30781)], externalTrafficPolicy="Local")
    s.expect("a pod asks itself, policy Local", "self", nodes_own, 30781, itself, MASQUERADED)


@_feature
def one_family(s: Scenario) -> None:
    where = s.add("only-v4", BOTH, families=(4,))
    s.expect("IPv4 alone", "pod", where, 80, BOTH, when=lambda settings, family: family == 4)
    where = s.add("only-v6", BOTH, families=(6,))
    s.expect("IPv6 alone", "pod", where, 80, BOTH, when=lambda settings, family: family == 6)


@_feature
def shared_address(s: Scenario) -> None:
    s.add("shared-a", LOCAL[:1], [Port(81)], ingress=ingress(60))
    s.add("shared-b", REMOTE[:1], [Port(82)], ingress=ingress(60))
    s.expect("one IP, two Services, the one", "outside", public(60), 81, LOCAL[:1], MASQUERADED)
    s.expect("one IP, two Services, the other", "outside", public(60), 82, REMOTE[:1], MASQUERADED)
