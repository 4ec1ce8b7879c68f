from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from runtime.images.challenge import Challenge, parse_challenges
from runtime.images.errors import RegistryRefused
from runtime.images.settings import Credentials
from runtime.images.targets import check_target, parse_url
from runtime.unpacker.names import BadName, Kind, classify, keep_xattr, link_target


@pytest.mark.parametrize(
    ("raw", "kind", "parent", "last"),
    [
        (b"a/b/c", Kind.ENTRY, b"a/b", b"c"),
        (b"./a//b/./c/", Kind.ENTRY, b"a/b", b"c"),
        (b"/etc/passwd", Kind.ENTRY, b"etc", b"passwd"),
        (b"./", Kind.ENTRY, b".", b""),
        (b"..a/b..", Kind.ENTRY, b"..a", b"b.."),
        (b"a/.wh.b", Kind.WHITEOUT, b"a", b"b"),
        (b".wh.b", Kind.WHITEOUT, b".", b"b"),
        (b"a/.wh..wh..opq", Kind.OPAQUE, b"a", b""),
        (b".wh..wh.plnk/1.2", Kind.IGNORED, b".wh..wh.plnk", b"1.2"),
        (b"a/.wh..wh.aufs", Kind.IGNORED, b"a", b".wh..wh.aufs"),
        (b"a/x.wh.b", Kind.ENTRY, b"a", b"x.wh.b"),
        (b"\xff\n", Kind.ENTRY, b".", b"\xff\n"),
    ],
)
def test_names(raw: bytes, kind: Kind, parent: bytes, last: bytes) -> None:
    name = classify(raw)
    assert (name.kind, name.parent, name.last) == (kind, parent, last)


@pytest.mark.parametrize(
    "raw",
    [b"..", b"../a", b"a/../../b", b"a/..", b"/../a", b"a\0b", b"a/" * 2048, b"a" * 256, b".wh.",
     b"a/.wh..", b"a/.wh...", b".wh.a/b"],
)  # fmt: skip
def test_bad_names(raw: bytes) -> None:
    with pytest.raises(BadName):
        classify(raw)


@pytest.mark.parametrize("raw", [b"", b"/", b"../x", b".wh.x", b"a/.wh..wh..opq"])
def test_bad_link_targets(raw: bytes) -> None:
    with pytest.raises(BadName):
        link_target(raw)


@given(st.binary(max_size=400))
def test_no_name_climbs(raw: bytes) -> None:
    try:
        name = classify(raw)
    except BadName:
        return
    for part in (*name.parents, name.last):
        assert part not in (b".", b"..")
        assert b"/" not in part
        assert b"\0" not in part


@pytest.mark.parametrize(
    ("name", "kept"),
    [("user.x", True), ("security.capability", True), ("trusted.overlay.opaque", False),
     ("trusted.overlay.redirect", False), ("user.overlay.opaque", False), ("user.", False),
     ("security.selinux", False), ("system.posix_acl_access", False)],
)  # fmt: skip
def test_xattrs(name: str, kept: bool) -> None:
    assert keep_xattr(name) is kept


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ('Bearer realm="https://a/t",service="s",scope="x:y:pull,push"',
         [("bearer", {"realm": "https://a/t", "service": "s", "scope": "x:y:pull,push"})]),
        ('Basic realm="r"', [("basic", {"realm": "r"})]),
        ("BASIC realm=r", [("basic", {"realm": "r"})]),
        ('Negotiate, Basic realm="a, b"', [("negotiate", {}), ("basic", {"realm": "a, b"})]),
        ('Negotiate YII=, Bearer realm="x"', [("negotiate", {}), ("bearer", {"realm": "x"})]),
        (r'Basic realm="a\"b"', [("basic", {"realm": 'a"b'})]),
        ('Basic realm = "a" , charset="UTF-8"', [("basic", {"realm": "a", "charset": "UTF-8"})]),
        ('Bearer realm="unterminated', [("bearer", {})]),
        ("", []),
        ("=,=", []),
        ("x" * 9000, []),
    ],
)  # fmt: skip
def test_challenges(header: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges([header]) == [Challenge(s, p) for s, p in expected]


@given(st.text(max_size=200))
def test_any_challenge_header_is_read(header: str) -> None:
    parse_challenges([header])


HTTPS, LOOPBACK = "https://registry.example", "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("target", "registry"),
    [
        ("https://storage.example/x?sig=a%2Fb", HTTPS),
        ("https://10.0.0.1/x", HTTPS),
        ("http://127.0.0.1:6000/x", LOOPBACK),
        ("http://10.0.0.1:80/x", "http://10.0.0.2:5000"),
    ],
)
def test_targets_that_may_be_followed(target: str, registry: str) -> None:
    check_target(parse_url(target), URL(registry))


@pytest.mark.parametrize(
    ("target", "registry"),
    [
        ("http://storage.example/x", HTTPS),
        ("http://registry.example/x", HTTPS),
        ("https://127.0.0.1/x", HTTPS),
        ("https://localhost/x", HTTPS),
        ("https://a.localhost/x", HTTPS),
        ("https://[::1]/x", HTTPS),
        ("https://[::ffff:127.0.0.1]/x", HTTPS),
        ("https://169.254.169.254/x", HTTPS),
        ("https://[fe80::1]/x", HTTPS),
        ("https://0.0.0.0/x", HTTPS),
        ("http://169.254.169.254/latest", LOOPBACK),
        ("http://127.0.0.1:10248/x", "http://10.0.0.2:5000"),
    ],
)
def test_targets_that_must_not_be_followed(target: str, registry: str) -> None:
    with pytest.raises(RegistryRefused):
        check_target(parse_url(target), URL(registry))


@pytest.mark.parametrize(
    "text",
    ["file:///etc/passwd", "ftp://a/b", "//", "http://", "x", "http://u:p@a/b", "http://a:999999/",
     "http://a/" + "b" * 9000],
)  # fmt: skip
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(RegistryRefused):
        parse_url(text)


@pytest.mark.parametrize(
    ("server", "domain", "shown"),
    [
        ("", "a.io", True),
        ("a.io", "a.io", True),
        ("https://a.io/v1/", "a.io", True),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("a.io", "b.io", False),
        ("a.io", "a.io:5000", False),
        ("https://a.io.evil", "a.io", False),
    ],
)
def test_credentials_are_for_one_server(server: str, domain: str, shown: bool) -> None:
    credentials = Credentials(username="u", password="p", server_address=server)
    assert (credentials.for_registry(domain) is not None) is shown


def test_secrets_are_not_printed() -> None:
    text = repr(Credentials("u", "s3cret", "s3cret", "", "s3cret", "s3cret"))
    assert "s3cret" not in text
