"""Names of the cluster, by the specification."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import pytest

from controlplane.dns import wire
from controlplane.dns.resolving import Resolver
from controlplane.dns.zone import Endpoint, Port, Service, Zone
from tests.support.dnslab import PlainDirectory

HTTP = Port("http", "tcp", 80)
DNS = Port("dns", "udp", 53)
DIRECTORY = PlainDirectory(
    Service("default", "web", ("10.96.0.20", "fd96::20"), ports=(HTTP, DNS)),
    Service("default", "pets"),
    Service("default", "asleep"),
    Service("default", "far", external="www.example.com"),
    Service("kube-system", "kube-dns", ("10.96.0.10",)),
    Service("other", "web", ("10.96.0.21",)),
    pets=[
        Endpoint("my-pet", ("10.0.0.1",), (HTTP,)),
        Endpoint("10-0-0-2", ("10.0.0.2",), (HTTP,)),
        Endpoint("my-pet", ("fd00::1",), (HTTP,)),
    ],
)
SOA = "ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"


def ask(name: str, kind: str = "A", limit: int = 4096) -> dns.message.Message:
    resolver = Resolver(Zone("cluster.local", DIRECTORY), None)
    query = wire.parse(dns.message.make_query(name, kind).to_wire())
    answer, _, _ = resolver.at_once(query, limit)
    assert answer is not None
    return dns.message.from_wire(answer)


def shown(section: list[object]) -> list[str]:
    lines = [line for each in section for line in str(each).split("\n")]
    return sorted(line.replace(" IN ", " ") for line in lines)


@pytest.mark.parametrize(
    ("name", "kind", "records"),
    [
        ("dns-version.cluster.local", "TXT", ['dns-version.cluster.local. 30 TXT "1.1.0"']),
        ("web.default.svc.cluster.local", "A", ["web.default.svc.cluster.local. 30 A 10.96.0.20"]),
        ("web.default.svc.cluster.local", "AAAA",
         ["web.default.svc.cluster.local. 30 AAAA fd96::20"]),
        ("WEB.Default.SVC.cluster.LOCAL", "A", ["WEB.Default.SVC.cluster.LOCAL. 30 A 10.96.0.20"]),
        ("_http._tcp.web.default.svc.cluster.local", "SRV",
         ["_http._tcp.web.default.svc.cluster.local. 30 SRV 0 100 80 "
          "web.default.svc.cluster.local."]),
        ("_dns._udp.web.default.svc.cluster.local", "SRV",
         ["_dns._udp.web.default.svc.cluster.local. 30 SRV 0 100 53 "
          "web.default.svc.cluster.local."]),
        ("20.0.96.10.in-addr.arpa", "PTR",
         ["20.0.96.10.in-addr.arpa. 30 PTR web.default.svc.cluster.local."]),
        ("pets.default.svc.cluster.local", "A",
         ["pets.default.svc.cluster.local. 30 A 10.0.0.1",
          "pets.default.svc.cluster.local. 30 A 10.0.0.2"]),
        ("my-pet.pets.default.svc.cluster.local", "A",
         ["my-pet.pets.default.svc.cluster.local. 30 A 10.0.0.1"]),
        ("my-pet.pets.default.svc.cluster.local", "AAAA",
         ["my-pet.pets.default.svc.cluster.local. 30 AAAA fd00::1"]),
        ("10-0-0-2.pets.default.svc.cluster.local", "A",
         ["10-0-0-2.pets.default.svc.cluster.local. 30 A 10.0.0.2"]),
        ("_http._tcp.pets.default.svc.cluster.local", "SRV",
         ["_http._tcp.pets.default.svc.cluster.local. 30 SRV 0 100 80 "
          "10-0-0-2.pets.default.svc.cluster.local.",
          "_http._tcp.pets.default.svc.cluster.local. 30 SRV 0 100 80 "
          "my-pet.pets.default.svc.cluster.local."]),
        ("1.0.0.10.in-addr.arpa", "PTR",
         ["1.0.0.10.in-addr.arpa. 30 PTR my-pet.pets.default.svc.cluster.local."]),
        ("1." + "0." * 27 + "0.0.d.f.ip6.arpa", "PTR",
         ["1." + "0." * 27 + "0.0.d.f.ip6.arpa. 30 PTR my-pet.pets.default.svc.cluster.local."]),
        ("far.default.svc.cluster.local", "CNAME",
         ["far.default.svc.cluster.local. 30 CNAME www.example.com."]),
        ("1-2-3-4.default.pod.cluster.local", "A",
         ["1-2-3-4.default.pod.cluster.local. 30 A 1.2.3.4"]),
        ("fd00--1.default.pod.cluster.local", "AAAA",
         ["fd00--1.default.pod.cluster.local. 30 AAAA fd00::1"]),
        ("cluster.local", "SOA", [f"cluster.local. 5 SOA {SOA}"]),
        ("cluster.local", "NS", ["cluster.local. 30 NS ns.dns.cluster.local."]),
        ("ns.dns.cluster.local", "A", ["ns.dns.cluster.local. 30 A 10.96.0.10"]),
        ("web.default.svc.cluster.local", "ANY",
         ['web.default.svc.cluster.local. 30 HINFO "RFC8482" ""']),
    ],
)  # fmt: skip
def test_records(name: str, kind: str, records: list[str]) -> None:
    answer = ask(name, kind)
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.flags & dns.flags.AA
    assert shown(answer.answer) == records  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("nobody.default.svc.cluster.local", "A", "NXDOMAIN"),
        ("web.nowhere.svc.cluster.local", "A", "NXDOMAIN"),
        ("asleep.default.svc.cluster.local", "A", "NXDOMAIN"),
        ("nobody.pets.default.svc.cluster.local", "A", "NXDOMAIN"),
        ("_nope._tcp.web.default.svc.cluster.local", "SRV", "NXDOMAIN"),
        ("_http._udp.web.default.svc.cluster.local", "SRV", "NXDOMAIN"),
        ("_sctp.web.default.svc.cluster.local", "SRV", "NXDOMAIN"),
        ("a.b.c.web.default.svc.cluster.local", "A", "NXDOMAIN"),
        ("a.far.default.svc.cluster.local", "A", "NXDOMAIN"),
        ("elsewhere.cluster.local", "A", "NXDOMAIN"),
        ("nowhere.svc.cluster.local", "A", "NXDOMAIN"),
        ("1-2-3-4.nowhere.pod.cluster.local", "A", "NXDOMAIN"),
        ("1-2-3.default.pod.cluster.local", "A", "NXDOMAIN"),
        ("web.default.svc.cluster.local", "TXT", "NOERROR"),
        ("web.other.svc.cluster.local", "AAAA", "NOERROR"),
        ("_http._tcp.web.default.svc.cluster.local", "A", "NOERROR"),
        ("_tcp.web.default.svc.cluster.local", "SRV", "NOERROR"),
        ("_tcp.pets.default.svc.cluster.local", "SRV", "NOERROR"),
        ("default.svc.cluster.local", "A", "NOERROR"),
        ("svc.cluster.local", "A", "NOERROR"),
        ("default.pod.cluster.local", "A", "NOERROR"),
        ("cluster.local", "A", "NOERROR"),
        ("1-2-3-4.default.pod.cluster.local", "AAAA", "NOERROR"),
    ],
)
def test_what_is_not_there_says_so_and_for_how_long(name: str, kind: str, rcode: str) -> None:
    answer = ask(name, kind)
    assert dns.rcode.to_text(answer.rcode()) == rcode
    assert not answer.answer
    assert shown(answer.authority) == [f"cluster.local. 5 SOA {SOA}"]  # type: ignore[arg-type]


def test_addresses_of_targets_come_along() -> None:
    answer = ask("_http._tcp.pets.default.svc.cluster.local", "SRV")
    assert shown(answer.additional) == [  # type: ignore[arg-type]
        "10-0-0-2.pets.default.svc.cluster.local. 30 A 10.0.0.2",
        "my-pet.pets.default.svc.cluster.local. 30 A 10.0.0.1",
        "my-pet.pets.default.svc.cluster.local. 30 AAAA fd00::1",
    ]


def test_what_changed_is_said_at_once() -> None:
    directory = PlainDirectory(Service("default", "web", ("10.96.0.1",)))
    resolver = Resolver(Zone("cluster.local", directory), None)
    query = wire.parse(dns.message.make_query("web.default.svc.cluster.local", "A").to_wire())

    def said() -> dns.message.Message:
        answer, _, _ = resolver.at_once(query, 512)
        assert answer is not None
        return dns.message.from_wire(answer)

    assert "10.96.0.1" in str(said().answer[0])
    directory.services["default", "web"] = Service("default", "web", ("10.96.0.2",))
    resolver.forget()
    assert "10.96.0.2" in str(said().answer[0])
    del directory.services["default", "web"]
    resolver.forget()
    answer = said()
    assert answer.rcode() == dns.rcode.NXDOMAIN
    assert " 3 7200 " in str(answer.authority[0])


@pytest.mark.parametrize("name", ["example.com", "local", "1.1.1.1.in-addr.arpa", "."])
def test_other_names_are_refused_if_nobody_is_asked(name: str) -> None:
    assert ask(name).rcode() == dns.rcode.REFUSED
