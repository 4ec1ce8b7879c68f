from __future__ import annotations

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.dns import wire
from tests.support.circumstances import examples

COOKIE = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")


def made(**more: object) -> bytes:
    query = dns.message.make_query("Web.Default", "A", **more)  # type: ignore[arg-type]
    query.id = 7
    return query.to_wire()


def test_a_question_is_read_as_it_came_and_known_in_lower_case() -> None:
    query = wire.parse(made())
    assert (query.ident, query.kind, query.klass, query.edns) == (7, wire.A, wire.IN, False)
    assert query.name == b"\x03Web\x07Default\0"
    assert query.key == b"\x03web\x07default\0\0\x01\0\x01"
    assert wire.labels(query.name) == ["web", "default"]
    # Type 65 (HTTPS) is the byte of "A": it is left alone.
    https = wire.parse(dns.message.make_query("A", "HTTPS").to_wire())
    assert https.key == b"\x01a\0\0\x41\0\x01"


@pytest.mark.parametrize(
    ("more", "size", "dnssec", "version"),
    [
        ({"use_edns": 0, "payload": 4096}, 4096, False, 0),
        ({"use_edns": 0, "payload": 100}, 512, False, 0),
        ({"use_edns": 0, "payload": 1400, "want_dnssec": True}, 1400, True, 0),
        ({"use_edns": 1, "payload": 1400}, 1400, False, 1),
        ({"use_edns": 0, "payload": 1400, "pad": 128,
          "options": [COOKIE]}, 1400, False, 0),
    ],
)  # fmt: skip
def test_edns(more: dict[str, object], size: int, dnssec: bool, version: int) -> None:
    query = wire.parse(made(**more))
    assert (query.edns, query.size) == (True, size)
    assert (query.dnssec, query.version) == (dnssec, version)


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (dns.message.make_response(dns.message.from_wire(made())).to_wire(), None),
        (made()[:2] + b"\x28\0" + made()[4:], wire.NOTIMP),
        (made()[:4] + b"\0\0" + made()[6:], wire.FORMERR),
        (made()[:4] + b"\0\2" + made()[6:], wire.FORMERR),
        (made()[:6] + b"\0\1" + made()[8:], wire.FORMERR),
        (made()[:12] + b"\xc0\x0c" + made()[14:], wire.FORMERR),
        (made()[:-3], wire.FORMERR),
        (made()[:12] + b"\x3f" + b"a" * 63 + b"\x3f", wire.FORMERR),
        (made()[:12] + (b"\x3f" + b"a" * 63) * 5 + b"\0\0\1\0\1", wire.FORMERR),
        (made(use_edns=0)[:-5], wire.FORMERR),
    ],
)
def test_what_is_no_question(data: bytes, rcode: int | None) -> None:
    with pytest.raises(wire.MalformedError) as caught:
        wire.parse(data)
    answer = caught.value.answer
    assert (answer[3] & 15 if answer else None) == rcode
    if answer:
        assert answer[:2] == data[:2]


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(st.binary(max_size=80))
def test_nothing_that_comes_makes_it_fail(data: bytes) -> None:
    try:
        wire.parse(b"\0\1\1\0\0\1\0\0\0\0\0\1" + data)
    except wire.MalformedError:
        pass


def records(count: int) -> tuple[bytes, ...]:
    return tuple(
        wire.record(wire.SELF, wire.A, 30, bytes((10, 0, number >> 8, number & 255)))
        for number in range(count)
    )


@pytest.mark.parametrize(
    ("count", "limit", "kept", "cut"),
    [(10, 512, 10, False), (29, 512, 29, False), (40, 512, 30, True), (40, 1232, 40, False)],
)
def test_what_does_not_fit_is_left_out_and_that_is_said(
    count: int, limit: int, kept: int, cut: bool
) -> None:
    data = wire.compose(wire.parse(made()), wire.Answer(records=records(count)), limit)
    assert len(data) <= limit
    answer = dns.message.from_wire(data)
    assert len(answer.answer[0]) == kept
    assert bool(answer.flags & dns.flags.TC) is cut


def test_additional_records_go_first_and_silently() -> None:
    answer = wire.Answer(records=records(20), additional=records(20))
    message = dns.message.from_wire(wire.compose(wire.parse(made()), answer, 512))
    assert (len(message.answer[0]), message.additional) == (20, [])
    assert not message.flags & dns.flags.TC


def test_all_records_are_the_first_one_at_times() -> None:
    query = wire.parse(made())
    firsts = {
        str(dns.message.from_wire(
            wire.compose(query, wire.Answer(records=records(4)), 512, turn), one_rr_per_rrset=True
        ).answer[0][0])
        for turn in range(8)
    }  # fmt: skip
    assert firsts == {f"10.0.0.{number}" for number in range(4)}


def test_flags_of_an_answer() -> None:
    query = dns.message.make_query("a", "A", use_edns=0, want_dnssec=True)
    query.flags |= dns.flags.CD
    data = wire.compose(wire.parse(query.to_wire()), wire.Answer(wire.BADVERS), 512)
    answer = dns.message.from_wire(data)
    assert answer.is_response(query) or answer.rcode() == dns.rcode.BADVERS
    assert answer.rcode() == dns.rcode.BADVERS
    for flag in (dns.flags.QR, dns.flags.RD, dns.flags.CD, dns.flags.RA, dns.flags.AA):
        assert answer.flags & flag
    assert answer.ednsflags & dns.flags.DO
    assert answer.payload == 1232
