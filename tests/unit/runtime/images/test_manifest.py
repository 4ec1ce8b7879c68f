from __future__ import annotations

import json
from typing import Any

import pytest

from runtime.images.config import parse_config
from runtime.images.errors import ImageError, MalformedImage, NoMatchingPlatform, UnsupportedMedia
from runtime.images.manifest import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_DOCUMENT,
    OCI_INDEX,
    OCI_MANIFEST,
    Index,
    Manifest,
    choose,
    parse,
)
from runtime.images.platforms import Platform, candidates, runs_here

DIGEST = "sha256:" + "a" * 64
CONFIG = {
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": DIGEST,
    "size": 2,
}
LAYER = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
    "digest": DIGEST,
    "size": 3,
}


def manifest(**change: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "config": CONFIG, "layers": [LAYER], **change}


def entry(digit: str, **platform: str) -> dict[str, Any]:
    found = {"mediaType": OCI_MANIFEST, "digest": "sha256:" + digit * 64, "size": 1}
    return {**found, **({"platform": platform} if platform else {})}


def index(*entries: dict[str, Any], **change: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "manifests": list(entries), **change}


def read(document: Any, content_type: str = "") -> Manifest | Index:
    return parse(json.dumps(document).encode(), content_type, "it")


@pytest.mark.parametrize("content_type", [OCI_MANIFEST, DOCKER_MANIFEST, "", "text/plain",
                                          f"{OCI_MANIFEST}; charset=utf-8"])  # fmt: skip
def test_reads_manifests(content_type: str) -> None:
    found = read(manifest(), content_type)
    assert isinstance(found, Manifest)
    assert found.layers[0].compression == "gzip"


@pytest.mark.parametrize("content_type", [OCI_INDEX, DOCKER_LIST, ""])
def test_reads_indexes(content_type: str) -> None:
    assert isinstance(read(index(entry("a")), content_type), Index)


@pytest.mark.parametrize(
    ("document", "content_type", "error", "why"),
    [
        ({**manifest(), "manifests": []}, OCI_MANIFEST, MalformedImage, "at the same time"),
        (manifest(mediaType=OCI_INDEX), OCI_MANIFEST, MalformedImage, "the registry says"),
        ({"schemaVersion": 1, "fsLayers": []}, "", UnsupportedMedia, "schema 1"),
        (manifest(mediaType="application/x"), "", UnsupportedMedia, "application/x"),
        ({}, "text/html", UnsupportedMedia, "text/html"),
        ([], "", MalformedImage, "not a JSON object"),
        (manifest(config=None), "", MalformedImage, "config"),
        (manifest(config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}),
         "", UnsupportedMedia, "artifact"),
        (manifest(config={**CONFIG, "size": MAX_DOCUMENT + 1}), "", MalformedImage, "limit"),
        (manifest(layers=None), "", MalformedImage, "not a list"),
        (manifest(layers=[LAYER] * 501), "", MalformedImage, "501 layers"),
        (manifest(layers=[{**LAYER, "mediaType": "application/zip"}]), "", UnsupportedMedia, "zip"),
        (manifest(layers=[{**LAYER, "digest": "sha256:../../etc/passwd"}]), "", MalformedImage,
         "digest"),
        (manifest(layers=[{**LAYER, "digest": 7}]), "", MalformedImage, "string"),
        (manifest(layers=[{**LAYER, "size": -1}]), "", MalformedImage, "size"),
        (manifest(layers=[{**LAYER, "size": True}]), "", MalformedImage, "size"),
        (manifest(layers=[{**LAYER, "size": 1e3}]), "", MalformedImage, "size"),
        (manifest(layers=[{**LAYER, "size": 1 << 60}]), "", MalformedImage, "size"),
        (manifest(layers=[{**LAYER, "urls": ["x"] * 17}]), "", MalformedImage, "urls"),
        (manifest(layers=[{**LAYER, "urls": [3]}]), "", MalformedImage, "urls"),
        (index({**entry("a"), "platform": "linux"}), "", MalformedImage, "platform"),
    ],
)  # fmt: skip
def test_refuses(document: Any, content_type: str, error: type[ImageError], why: str) -> None:
    with pytest.raises(error, match=why):
        read(document, content_type)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000,
                                  b" " * (MAX_DOCUMENT + 1)])  # fmt: skip
def test_refuses_bytes_that_are_no_document(data: bytes) -> None:
    with pytest.raises(MalformedImage):
        parse(data, OCI_MANIFEST, "it")


AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64", "v8")
CHOICE = (
    entry("0", os="unknown", architecture="unknown"),
    entry("1", os="windows", architecture="amd64"),
    entry("2", os="linux", architecture="arm", variant="v5"),
    entry("3", os="linux", architecture="arm", variant="v6"),
    entry("4", os="linux", architecture="arm64"),
    entry("5", os="linux", architecture="amd64"),
    entry("6", os="linux", architecture="amd64", variant="v3"),
)


@pytest.mark.parametrize(
    ("host", "digit"),
    [
        (AMD64, "5"),
        (Platform("linux", "amd64", "v1"), "5"),
        (Platform("linux", "amd64", "v2"), "5"),
        (Platform("linux", "amd64", "v4"), "6"),
        (Platform("linux", "x86_64"), "5"),
        (ARM64, "4"),
        (Platform("linux", "arm64", "v9"), "4"),
        (Platform("linux", "arm", "v7"), "3"),
        (Platform("linux", "arm", "v6"), "3"),
        (Platform("linux", "arm", "v5"), "2"),
    ],
)
def test_chooses_the_best_platform(host: Platform, digit: str) -> None:
    found = read(index(*CHOICE))
    assert isinstance(found, Index)
    assert choose(found, host, "it").digest == "sha256:" + digit * 64


@pytest.mark.parametrize("entries", [CHOICE, (), (entry("a"), entry("b"))])
def test_no_matching_platform_names_what_is_offered(entries: tuple[dict[str, Any], ...]) -> None:
    found = read(index(*entries))
    assert isinstance(found, Index)
    with pytest.raises(NoMatchingPlatform, match=r"linux/s390x.*offers: "):
        choose(found, Platform("linux", "s390x"), "it")


def test_a_single_entry_without_platform_is_taken() -> None:
    found = read(index(entry("a")))
    assert isinstance(found, Index)
    assert choose(found, AMD64, "it").digest == "sha256:" + "a" * 64


def test_amd64_code_of_a_later_level_does_not_run() -> None:
    assert not runs_here(Platform("linux", "amd64", "v3"), AMD64)
    assert candidates(AMD64) == [AMD64]


def test_config_keeps_what_containers_need() -> None:
    document = {
        "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "config": {
            "User": "1000:x", "Env": ["A=1"], "Entrypoint": ["/e"], "Cmd": ["c"],
            "Labels": {"k": "v"},
            "WorkingDir": "/w", "StopSignal": "SIGQUIT", "Volumes": {"/../b": {}, "/a": {}},
            "ExposedPorts": {"80/tcp": {}},
        },
    }  # fmt: skip
    config = parse_config(json.dumps(document).encode(), "it")
    assert (config.user, config.env, config.entrypoint) == ("1000:x", ("A=1",), ("/e",))
    assert (config.cmd, config.working_dir, config.stop_signal) == (("c",), "/w", "SIGQUIT")
    assert (config.volumes, config.labels) == (("/../b", "/a"), (("k", "v"),))
    assert (config.exposed_ports, config.diff_ids) == (("80/tcp",), (DIGEST,))
    assert config.platform == AMD64


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"config": []}, "not an object"),
        ({"config": {"Env": "A=1"}}, "Env"),
        ({"config": {"Env": [1]}}, "Env"),
        ({"config": {"Env": ["A=1"] * 10_001}}, "Env"),
        ({"config": {"Cmd": ["a\0b"]}}, "NUL"),
        ({"config": {"User": "\ud800"}}, "Unicode"),
        ({"config": {"User": 0}}, "User"),
        ({"config": {"Volumes": ["/a"]}}, "Volumes"),
        ({"config": {"Labels": {"a": 1}}}, "Labels"),
        ({"rootfs": {"type": "tar"}}, "rootfs"),
        ({"rootfs": {"diff_ids": ["md5:0"]}}, "digest"),
        ({"rootfs": {"diff_ids": [DIGEST] * 501}}, "diff_ids"),
    ],
)
def test_config_refuses(document: Any, why: str) -> None:
    with pytest.raises(MalformedImage, match=why):
        parse_config(json.dumps(document).encode(), "it")


def test_config_with_nulls_is_empty() -> None:
    # Docker writes null for what is not set.
    config = parse_config(b'{"config": {"Env": null, "Volumes": null, "User": null}}', "it")
    assert (config.env, config.volumes, config.user) == ((), (), "")
