"""Credential-provider plugins: their configuration, real programs, and what is kept of answers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.images.keyring import Credential, Source
from kubeletpy.images.plugin_config import (
    ProviderConfig,
    TokenAttributes,
    check_binaries,
    parse_config,
    read_config,
)
from kubeletpy.images.plugins import Plugin
from kubeletpy.settings import ConfigurationError
from kubeletpy_common.apiclient.client import ApiClient
from tests.unit.kubeletpy.pods.build import pod

V1 = "credentialprovider.kubelet.k8s.io/v1"
PROVIDER: dict[str, Any] = {
    "name": "login",
    "matchImages": ["*.example/team"],
    "defaultCacheDuration": "10m",
    "apiVersion": V1,
}
TOKENS = {
    "serviceAccountTokenAudience": "registry",
    "requireServiceAccount": True,
    "cacheType": "ServiceAccount",
}


def document(version: str = "v1", **changes: Any) -> dict[str, Any]:
    provider = {key: value for key, value in (PROVIDER | changes).items() if value is not None}
    return {
        "apiVersion": f"kubelet.config.k8s.io/{version}",
        "kind": "CredentialProviderConfig",
        "providers": [provider],
    }


def test_a_configuration() -> None:
    (found,) = parse_config(
        document(
            "v1beta1", args=["get"], env=[{"name": "A", "value": "1"}],
            tokenAttributes=TOKENS | {"requiredServiceAccountAnnotationKeys": ["x.example/id"]},
        )
    )  # fmt: skip
    assert found == ProviderConfig(
        "login", ("*.example/team",), 600.0, V1, ("get",), (("A", "1"),),
        TokenAttributes("registry", "ServiceAccount", True, ("x.example/id",)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": "../login"}, "name"),
        ({"name": ".."}, "name"),
        ({"apiVersion": "v1"}, "apiVersion"),
        ({"matchImages": []}, "matchImages"),
        ({"defaultCacheDuration": None}, "defaultCacheDuration"),
        ({"defaultCacheDuration": "-1s"}, "defaultCacheDuration"),
        ({"defaultCacheDuration": "soon"}, "defaultCacheDuration"),
        ({"else": 1}, "no such field: else"),
        ({"tokenAttributes": TOKENS | {"cacheType": "Pod"}}, "cacheType"),
        ({"tokenAttributes": TOKENS | {"serviceAccountTokenAudience": ""}}, "Audience"),
        ({"tokenAttributes": TOKENS | {"requireServiceAccount": None}}, "requireServiceAccount"),
        ({"tokenAttributes": TOKENS, "apiVersion": V1 + "beta1"}, "tokenAttributes"),
        (
            {"tokenAttributes": TOKENS | {"requiredServiceAccountAnnotationKeys": ["a", "a"]}},
            "given twice",
        ),
        ({"tokenAttributes": TOKENS | {"optionalServiceAccountAnnotationKeys": ["a b"]}}, "a b"),
    ],
)
def test_what_is_wrong_in_a_configuration(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        parse_config(document(**changes))


def test_files_of_a_directory_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text(json.dumps(document(name="second")))
    (tmp_path / "a.json").write_text(json.dumps(document(name="first")))
    (tmp_path / "note.txt").write_text("no")
    assert [one.name for one in read_config(tmp_path)] == ["first", "second"]
    assert [one.name for one in read_config(tmp_path / "b.yaml")] == ["second"]
    (tmp_path / "c.yml").write_text(json.dumps(document(name="first")))
    with pytest.raises(ConfigurationError, match="given twice"):
        read_config(tmp_path)
    with pytest.raises(ConfigurationError, match="No such file"):
        read_config(tmp_path / "none")
    with pytest.raises(ConfigurationError, match="did not exist"):
        check_binaries(read_config(tmp_path / "a.json"), tmp_path)


# A program that writes down what it was asked, and answers what the file beside it says.
PROGRAM = """#!{python}
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
asked = {{"request": json.load(sys.stdin), "args": sys.argv[1:], "a": os.environ.get("A")}}
with open(here / "asked", "a") as file:
    file.write(json.dumps(asked) + "\\n")
sys.stdout.write((here / "answer").read_text())
sys.exit(int((here / "code").read_text()))
"""
ANSWER: dict[str, Any] = {
    "apiVersion": V1,
    "kind": "CredentialProviderResponse",
    "cacheKeyType": "Registry",
    "auth": {"*.example": {"username": "me", "password": "p"}},
}


class Bench:
    """One plugin with its program."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 1000.0
        program = directory / "login"
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        self.answers()

    def answers(self, code: int = 0, text: str | None = None, **changes: Any) -> None:
        (self.directory / "answer").write_text(text or json.dumps(ANSWER | changes))
        (self.directory / "code").write_text(str(code))

    def plugin(self, client: Any = None, **changes: Any) -> Plugin:
        (config,) = parse_config(document(**changes))
        return Plugin(
            config, self.directory / "login", cast(ApiClient | None, client), lambda: self.now
        )

    def asked(self) -> list[dict[str, Any]]:
        path = self.directory / "asked"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


IMAGE = "registry.example/team/web"


async def test_a_plugin_is_asked_and_answers(bench: Bench) -> None:
    plugin = bench.plugin(args=["get"], env=[{"name": "A", "value": "1"}])
    assert await plugin.provide(pod("a"), IMAGE) == [Credential("me", "p")]
    request = {"apiVersion": V1, "kind": "CredentialProviderRequest", "image": IMAGE}
    assert bench.asked() == [{"request": request, "args": ["get"], "a": "1"}]


async def test_a_plugin_is_not_asked_for_other_images(bench: Bench) -> None:
    assert await bench.plugin().provide(pod("a"), "registry.example/else/web") == []
    assert bench.asked() == []


@pytest.mark.parametrize(
    ("kind", "duration", "passed", "other", "asked"),
    [
        ("Image", None, 0, IMAGE, 1),
        ("Image", None, 0, f"{IMAGE}2", 2),
        ("Registry", None, 0, f"{IMAGE}2", 1),
        ("Registry", None, 0, "second.example/team/web", 2),
        ("Global", None, 0, "second.example/team/web", 1),
        ("Image", None, 601, IMAGE, 2),
        ("Image", "0s", 0, IMAGE, 2),
        ("Image", "30m", 601, IMAGE, 1),
    ],
)
async def test_answers_are_kept(
    bench: Bench, kind: str, duration: str | None, passed: float, other: str, asked: int
) -> None:
    given: dict[str, Any] = {} if duration is None else {"cacheDuration": duration}
    bench.answers(cacheKeyType=kind, **given)
    plugin = bench.plugin()
    assert await plugin.provide(pod("a"), IMAGE)
    bench.now += passed
    assert await plugin.provide(pod("a"), other)
    assert len(bench.asked()) == asked


async def test_pods_that_ask_at_once_share_one_run(bench: Bench) -> None:
    bench.answers(cacheDuration="0s")
    plugin = bench.plugin()
    found = await asyncio.gather(*(plugin.provide(pod("a"), IMAGE) for _ in range(3)))
    assert found == [[Credential("me", "p")]] * 3
    assert len(bench.asked()) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda bench: bench.answers(code=3),
        lambda bench: bench.answers(text="{"),
        lambda bench: bench.answers(text="[]"),
        lambda bench: bench.answers(kind="Other"),
        lambda bench: bench.answers(apiVersion=V1 + "beta1"),
        lambda bench: bench.answers(cacheKeyType="Pod"),
        lambda bench: bench.answers(auth={"x": 1}),
        lambda bench: bench.answers(cacheDuration="soon"),
        lambda bench: (bench.directory / "login").unlink(),
    ],
)
async def test_a_plugin_that_fails_gives_nothing(
    bench: Bench, change: Callable[[Bench], Any], caplog: pytest.LogCaptureFixture
) -> None:
    change(bench)
    assert await bench.plugin().provide(pod("a"), IMAGE) == []
    assert "credential-provider plugin failed" in caplog.text


class Accounts:
    """Plays the API server: one service account, and tokens that count up."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    async def get(self, path: str) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/default/serviceaccounts/app"
        return {"metadata": {"uid": "sa-1", "annotations": {"x/id": "7", "other": "-"}}}

    async def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/api/v1/namespaces/default/serviceaccounts/app/token"
        self.asked.append(body)
        return {"status": {"token": f"token-{len(self.asked)}"}}


def account(name: str = "app") -> Pod:
    return pod("a", service_account_name=name)


async def test_a_plugin_that_wants_a_token(bench: Bench) -> None:
    accounts = Accounts()
    tokens = TOKENS | {"optionalServiceAccountAnnotationKeys": ["x/id", "none"]}
    plugin = bench.plugin(accounts, tokenAttributes=tokens)
    source = Source("ServiceAccount", "sa-1", "default", "app")
    assert await plugin.provide(account(), IMAGE) == [Credential("me", "p", source)]
    request = bench.asked()[0]["request"]
    assert request["serviceAccountToken"] == "token-1"
    assert request["serviceAccountAnnotations"] == {"x/id": "7"}
    spec = accounts.asked[0]["spec"]
    assert spec["audiences"] == ["registry"]
    assert spec["boundObjectRef"]["uid"] == account().metadata.uid
    # Kept for the account, whatever its token; not asked without one.
    await plugin.provide(account(), IMAGE)
    assert len(bench.asked()) == 1
    assert await plugin.provide(account(""), IMAGE) == []


async def test_a_token_is_no_password_unless_the_cache_is_by_token(bench: Bench) -> None:
    bench.answers(auth={"*.example": {"username": "me", "password": "token-1"}})
    assert await bench.plugin(Accounts(), tokenAttributes=TOKENS).provide(account(), IMAGE) == []
    tokens = TOKENS | {"cacheType": "Token"}
    plugin = bench.plugin(Accounts(), tokenAttributes=tokens)
    assert len(await plugin.provide(account(), IMAGE)) == 1
    await plugin.provide(account(), IMAGE)
    assert len(bench.asked()) == 3


async def test_an_annotation_that_is_required_and_missing(bench: Bench) -> None:
    tokens = TOKENS | {"requiredServiceAccountAnnotationKeys": ["none"]}
    plugin = bench.plugin(Accounts(), tokenAttributes=tokens)
    assert await plugin.provide(account(), IMAGE) == []
    assert bench.asked() == []
