from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.images.errors import InvalidReference
from runtime.images.reference import parse

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("user/app", "docker.io/user/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("docker.io/user/app:v1", "docker.io/user/app:v1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("localhost:5000", "docker.io/library/localhost:5000"),
        ("Registry/app", "Registry/app:latest"),
        ("registry.example/a/b/c:T_1.2-x", "registry.example/a/b/c:T_1.2-x"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
        ("[::1]:5000/app:v1", "[::1]:5000/app:v1"),
        ("[fd00::1]/app", "[fd00::1]/app:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"a.io/b:v1@{DIGEST}", f"a.io/b:v1@{DIGEST}"),
        (f"a.io/b@sha512:{HEX}{HEX}", f"a.io/b@sha512:{HEX}{HEX}"),
        ("a.io/x__y/z---w/p.q_r", "a.io/x__y/z---w/p.q_r:latest"),
        ("a.io/" + "b" * 250, "a.io/" + "b" * 250 + ":latest"),
        ("a.io/b:" + "t" * 128, "a.io/b:" + "t" * 128),
        (HEX[:12], f"docker.io/library/{HEX[:12]}:latest"),
    ],
)
def test_normalises_as_docker_does(text: str, normal: str) -> None:
    assert str(parse(text)) == normal
    assert parse(str(parse(text))) == parse(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is empty"),
        ("Busybox", "must be lowercase"),
        ("a.io/App", "must be lowercase"),
        ("busybox:", "tag"),
        ("busybox:-v1", "tag"),
        ("busybox:a b", "tag"),
        ("a.io/b:" + "t" * 129, "tag"),
        ("busybox@", "digest"),
        ("busybox@sha256:abc", "digest"),
        (f"busybox@sha256:{HEX.upper()}", "not supported"),
        (f"busybox@md5:{HEX[:32]}", "not supported"),
        (f"busybox@{DIGEST}@{DIGEST}", "digest"),
        (HEX, "image id"),
        (DIGEST, "image id"),
        ("a.io/b//c", "malformed"),
        ("a.io//b", "malformed"),
        ("/b", "malformed"),
        ("a.io/", "malformed"),
        ("../etc/passwd", "registry"),
        ("a.io/../b", "malformed"),
        ("a.io/b/.", "malformed"),
        ("a.io/-b", "malformed"),
        ("a.io/b-", "malformed"),
        ("a.io/b___c", "malformed"),
        ("https://a.io/b", "registry"),
        ("a.io:port/b", "registry"),
        ("a.io:99999/b", "registry"),
        ("a.io:0/b", "registry"),
        ("-a.io/b", "registry"),
        ("a..io/b", "registry"),
        ("user:pass@a.io/b", "digest"),
        ("a.io/b c", "malformed"),
        ("a.io/b\n", "malformed"),
        ("a.io/b:v1\n", "tag"),
        ("a.io/\u0431", "malformed"),
        ("a.io/b\u0661", "malformed"),
        ("a.io/" + "b" * 251, "255"),
    ],
)
def test_refuses_what_is_no_reference(text: str, why: str) -> None:
    with pytest.raises(InvalidReference, match=why):
        parse(text)


@given(st.text(max_size=300))
def test_any_text_is_parsed_to_a_fixed_point_or_refused(text: str) -> None:
    try:
        parsed = parse(text)
    except InvalidReference:
        return
    assert parse(str(parsed)) == parsed
    assert ".." not in str(parsed).split("/")


def test_the_digest_decides() -> None:
    parsed = parse(f"a.io/b:v1@{DIGEST}")
    assert parsed.api_reference == DIGEST
    assert parsed.tagged is None
    assert parse("a.io/b:v1").tagged == "a.io/b:v1"
