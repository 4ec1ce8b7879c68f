"""Names of images."""

from __future__ import annotations

import pytest

from kubeletpy.images.names import ImageName, parse, with_tag, without_tag

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("image", "repository", "tag", "digest"),
    [
        ("busybox", "docker.io/library/busybox", "latest", ""),
        ("busybox:1", "docker.io/library/busybox", "1", ""),
        ("me/web", "docker.io/me/web", "latest", ""),
        ("docker.io/busybox", "docker.io/library/busybox", "latest", ""),
        ("index.docker.io/me/web:2", "docker.io/me/web", "2", ""),
        ("localhost/web", "localhost/web", "latest", ""),
        ("localhost:5000/web:v1", "localhost:5000/web", "v1", ""),
        ("registry.example/a/b/c:x_1", "registry.example/a/b/c", "x_1", ""),
        (f"web@{DIGEST}", "docker.io/library/web", "", DIGEST),
        (f"web:1@{DIGEST}", "docker.io/library/web", "1", DIGEST),
        ("[fd00::1]:5000/web", "[fd00::1]:5000/web", "latest", ""),
        ("a__b/c---d.e", "docker.io/a__b/c---d.e", "latest", ""),
    ],
)
def test_parts(image: str, repository: str, tag: str, digest: str) -> None:
    assert parse(image) == ImageName(repository, tag, digest)


@pytest.mark.parametrize(
    "image",
    [
        "", "Web", "me/Web", ":1", "web:", "web:a b", "web@", "web@sha256:1", "web//x", "/web",
        "web/", "-web", "a/../b", "web:-1", "a" * 64, "x/" + "b" * 300, "web:1:2", "web\n", " web",
    ],
)  # fmt: skip
def test_no_names(image: str) -> None:
    with pytest.raises(ValueError, match="couldn't parse image name"):
        parse(image)


@pytest.mark.parametrize(
    ("image", "tagged", "bare"),
    [
        ("busybox", "busybox:latest", "busybox"),
        ("busybox:1", "busybox:1", "busybox"),
        ("localhost:5000/web", "localhost:5000/web:latest", "localhost:5000/web"),
        (f"web@{DIGEST}", f"web@{DIGEST}", "web"),
        (f"web:1@{DIGEST}", f"web:1@{DIGEST}", "web"),
    ],
)
def test_default_tag(image: str, tagged: str, bare: str) -> None:
    assert with_tag(image) == tagged
    assert without_tag(image) == bare
