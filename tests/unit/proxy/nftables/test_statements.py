"""Bytes of statements, as the kernel's own tool sends them for the same text (nft 1.0.6)."""

from __future__ import annotations

import pytest

from proxy.model.portal import Family
from proxy.nftables import layout
from proxy.nftables.fields import Field
from proxy.nftables.ruleset import (
    Element,
    Encoder,
    Rule,
    SetSpec,
    decode_element,
    encode_element,
)
from proxy.nftables.statements import (
    FromInterface,
    InNetwork,
    IsLocal,
    Masquerade,
    NewFlow,
    Reject,
    Remember,
    SetMark,
    Statement,
    TakeMark,
    TranslateByMap,
    TranslateTo,
    Verdict,
)
from proxy.nftables.wire import attributes, text_of

Tree = list[tuple[str, dict[int, str]]]


def expressions(data: bytes) -> Tree:
    """Return name and attributes (hexadecimal, nesting gone) of each expression in ``data``."""

    def flat(payload: bytes) -> str:
        inner = list(attributes(payload))
        return flat(inner[0][1]) if len(payload) > 4 and len(inner) == 1 else payload.hex()

    found = []
    for _, expression in attributes(data):
        parts = dict(attributes(expression))
        fields = dict(attributes(parts.get(2, b"")))
        found.append((text_of(parts[1]), {key: flat(value) for key, value in fields.items()}))
    return found


META_MARK = ("meta", {2: "00000003", 1: "00000001"})
WRITE_MARK = ("meta", {2: "00000003", 3: "00000001"})


def mask(bits: str, flipped: str = "00000000") -> tuple[str, dict[int, str]]:
    return "bitwise", {1: "00000001", 2: "00000001", 3: "00000004", 4: bits, 5: flipped}


def compare(operator: int, value: str) -> tuple[str, dict[int, str]]:
    return "cmp", {1: "00000001", 2: f"{operator:08x}", 3: value}


def payload(header: int, offset: int, length: int, register: int = 1) -> tuple[str, dict[int, str]]:
    numbers = (register, header, offset, length)
    return "payload", {key + 1: f"{value:08x}" for key, value in enumerate(numbers)}


CASES: list[tuple[Family, Statement, str, Tree]] = [
    (
        Family.V4,
        InNetwork(Field.SOURCE, "10.0.0.0/8"),
        "ip saddr 10.0.0.0/8",
        [payload(1, 12, 1), compare(0, "0a")],
    ),
    (
        Family.V4,
        InNetwork(Field.SOURCE, "10.128.0.0/9", negated=True),
        "ip saddr != 10.128.0.0/9",
        [payload(1, 12, 4), mask("ff800000"), compare(1, "0a800000")],
    ),
    (
        Family.V6,
        InNetwork(Field.DESTINATION, "::1/128", negated=True),
        "ip6 daddr != ::1",
        [payload(1, 24, 16), compare(1, "00" * 15 + "01")],
    ),
    (
        Family.V4,
        FromInterface("cni", is_prefix=True),
        'iifname "cni*"',
        [("meta", {2: "00000006", 1: "00000001"}), compare(0, "636e69")],
    ),
    (
        Family.V4,
        FromInterface("cni0", negated=True),
        'iifname != "cni0"',
        [("meta", {2: "00000006", 1: "00000001"}), compare(1, "636e6930" + "00" * 12)],
    ),
    (
        Family.V4,
        IsLocal(Field.SOURCE),
        "fib saddr type local",
        [("fib", {3: "00000001", 2: "00000003", 1: "00000001"}), compare(0, "02000000")],
    ),
    (
        Family.V4,
        NewFlow(),
        "ct state new",
        [("ct", {2: "00000000", 1: "00000001"}), mask("08000000"), compare(1, "00000000")],
    ),
    (
        Family.V4,
        SetMark(0x4000),
        "meta mark set meta mark | 0x00004000",
        [META_MARK, mask("ffbfffff", "00400000"), WRITE_MARK],
    ),
    (
        Family.V4,
        TakeMark(0x4000),
        "meta mark & 0x00004000 != 0x00000000 meta mark set meta mark ^ 0x00004000",
        [
            META_MARK,
            mask("00400000"),
            compare(1, "00000000"),
            META_MARK,
            mask("ffffffff", "00400000"),
            WRITE_MARK,
        ],
    ),
    (Family.V4, Masquerade(), "masquerade fully-random", [("masq", {1: "00000010"})]),
    (Family.V4, Reject(), "reject", [("reject", {1: "00000000", 2: "03"})]),
    (Family.V6, Reject(), "reject", [("reject", {1: "00000000", 2: "04"})]),
    (
        Family.V4,
        Remember("clients"),
        "update @clients { ip saddr }",
        [payload(1, 12, 4), ("dynset", {4: "00000001", 3: "00000001", 1: "636c69656e747300"})],
    ),
    (
        Family.V4,
        TranslateTo("tcp", "10.1.0.1", 8080),
        "meta l4proto tcp dnat to 10.1.0.1:8080",
        [
            ("meta", {2: "00000010", 1: "00000001"}),
            compare(0, "06"),
            ("immediate", {1: "00000001", 2: "0a010001"}),
            ("immediate", {1: "00000002", 2: "1f90"}),
            ("nat", {1: "00000001", 2: "00000002", 3: "00000001", 5: "00000002", 7: "00000002"}),
        ],
    ),
    (
        Family.V4,
        TranslateByMap(layout.ENDPOINT_KEY, "m", 2),
        "dnat ip to ip daddr . meta l4proto . th dport . numgen random mod 2 map @m",
        [
            payload(1, 16, 4),
            ("meta", {2: "00000010", 1: "00000009"}),
            payload(2, 2, 2, register=10),
            ("numgen", {1: "0000000b", 2: "00000002", 3: "00000001", 4: "00000000"}),
            ("lookup", {2: "00000001", 3: "00000001", 1: "6d00"}),
            ("nat", {1: "00000001", 2: "00000002", 3: "00000001", 5: "00000009"}),
        ],
    ),
    (
        Family.V6,
        TranslateByMap(layout.ENDPOINT_KEY, "m", 2),
        "dnat ip6 to ip6 daddr . meta l4proto . th dport . numgen random mod 2 map @m",
        [
            payload(1, 24, 16),
            ("meta", {2: "00000010", 1: "00000002"}),
            payload(2, 2, 2, register=13),
            ("numgen", {1: "0000000e", 2: "00000002", 3: "00000001", 4: "00000000"}),
            ("lookup", {2: "00000001", 3: "00000001", 1: "6d00"}),
            ("nat", {1: "00000001", 2: "0000000a", 3: "00000001", 5: "00000002"}),
        ],
    ),
]


@pytest.mark.parametrize(("family", "statement", "text", "tree"), CASES)
def test_a_statement_is_its_text_and_its_expressions(
    family: Family, statement: Statement, text: str, tree: Tree
) -> None:
    assert statement.text(family) == text
    assert expressions(statement.encode(family)) == tree


def test_a_verdict_names_its_chain() -> None:
    assert Verdict("goto", "c").text(Family.V4) == "goto c"
    encoded = Verdict("goto", "c").encode(Family.V4)
    assert b"\xff\xff\xff\xfc" in encoded
    assert b"c\0" in encoded


SET_NOTES = [
    # What nft 1.0.6 keeps beside a set declared with these words.
    (
        layout.SERVICE_ENDPOINTS,
        Family.V4,
        "000400000000010400000000036000040d00000001580014000407000000010c00040c00000001040c000000"
        "010e00040900000001060004100000000214000407000000010c00040b000000010402000000031a00041700"
        "00000112000401000000010401000000020400000000043400040d000000012c0014000407000000010c0004"
        "0c00000001040c0000000114000407000000010c00040b000000010402000000060400000000",
    ),
    (
        layout.SERVICE_ENDPOINTS,
        Family.V6,
        "000400000000010400000000036000040d00000001580014000407000000010c00040d000000010409000000"
        "010e00040900000001060004100000000214000407000000010c00040b000000010402000000031a00041700"
        "00000112000401000000010401000000020400000000043400040d000000012c0014000407000000010c0004"
        "0d0000000104090000000114000407000000010c00040b000000010402000000060400000000",
    ),
    (
        SetSpec("pick", layout.INDEX_KEY, is_verdict_map=True),
        Family.V4,
        "000401000000010400000000031a00041700000001120004010000000104010000000204000000000408"
        "0004010000000100060400000000",
    ),
    (SetSpec("clients", layout.SOURCE_KEY, timeout=60), Family.V4, "000402000000"),
]


@pytest.mark.parametrize(("spec", "family", "notes"), SET_NOTES)
def test_a_set_carries_what_the_tool_prints_it_by(
    spec: SetSpec, family: Family, notes: str
) -> None:
    message = Encoder("t", family).new_set(spec)
    kept = dict(attributes(message.body, 4))[13].hex()
    comment = spec.comment.encode() + b"\0"
    ours = bytes((7, len(comment))) + comment if spec.comment else b""
    assert kept == notes + ours.hex()


ELEMENTS = [
    (Element(bytes(12)), ""),
    (Element(bytes(8), ("goto", "endpoints-5"), comment="default/web:http"), "goto"),
    (Element(bytes(16), None, bytes((10, 0, 0, 1, 31, 144, 0, 0))), "value"),
    (Element(bytes(4), interval_end=True), "end"),
    (Element(bytes(4), expires_ms=60_000), "expires"),
]


@pytest.mark.parametrize(("element", "kind"), ELEMENTS)
def test_an_element_is_read_as_it_was_written(element: Element, kind: str) -> None:
    ((_, payload_),) = attributes(encode_element(element))
    assert decode_element(payload_) == element, kind


def test_an_error_in_a_large_message_names_the_element() -> None:
    elements = [
        Element(bytes((10, 0, 0, host, 6, 0, 0, 0, 0, 80, 0, 0)), ("drop", "")) for host in range(9)
    ]
    encoder = Encoder("t", Family.V4)
    (message,) = encoder.add_elements(layout.MISSING_SERVICES, elements)
    # Netlink counts from the beginning of its header.
    offset = 16 + message.body.index(elements[7].key)
    assert message.describe(offset) == "add to no-endpoint-services: 10.0.0.7 . tcp . 80 : drop"
    assert message.describe(None) == "add to no-endpoint-services"
    rule = encoder.new_rule("c", Rule((Reject(),), "why"))
    assert rule.describe(40) == 'add rule c reject comment "why"'
