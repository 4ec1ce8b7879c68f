from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pytest

from controlplane.auth.authentication.authenticator import TokenError
from controlplane.auth.tokens.bootstrap import user_of
from controlplane.auth.tokens.claims import make_claims
from tests.unit.controlplane.auth.secure import Client, client_of, secure_server

NS = "/api/v1/namespaces/default"
ACCOUNT = NS + "/serviceaccounts/robot"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
ISSUER = "https://kubernetes.default.svc.cluster.local"


@pytest.fixture
async def admin(data: Path) -> AsyncIterator[Client]:
    async with (
        secure_server(data),
        client_of(data / "admin.kubeconfig") as admin,
        client_of(data / "admin.kubeconfig", anonymous=True) as other,
    ):
        admin.other = other
        status, made = await admin.call("POST", NS + "/serviceaccounts", named("robot"))
        assert status == 201, made
        yield admin


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **more.pop("metadata", {})}, **more}


async def request(admin: Client, **spec: Any) -> tuple[int, Any]:
    return await admin.call("POST", ACCOUNT + "/token", {"spec": spec})


async def who(admin: Client, token: str) -> tuple[int, Any]:
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    status, answer = await admin.other.call("POST", path, {}, token)
    return status, answer["status"]["userInfo"] if status == 201 else answer["message"]


async def test_a_token_and_what_it_is_bound_to(admin: Client) -> None:
    container = {"name": "a", "image": "b"}
    spec = {"serviceAccountName": "robot", "nodeName": "edge-1", "containers": [container]}
    status, pod = await admin.call("POST", NS + "/pods", named("web", spec=spec))
    assert status == 201, pod
    secret = (await admin.call("POST", NS + "/secrets", named("bound")))[1]
    uids = {"Pod": pod["metadata"]["uid"], "Secret": secret["metadata"]["uid"]}
    tokens = {}
    for kind, name in (("Pod", "web"), ("Secret", "bound")):
        reference = {"apiVersion": "v1", "kind": kind, "name": name, "uid": uids[kind]}
        status, made = await request(admin, boundObjectRef=reference, expirationSeconds=900)
        assert status == 201, made
        assert made["spec"]["audiences"] == [ISSUER]
        tokens[kind] = made["status"]["token"]
        end = datetime.fromisoformat(made["status"]["expirationTimestamp"].replace("Z", "+00:00"))
        assert 890 < end.timestamp() - time.time() <= 900
    status, user = await who(admin, tokens["Pod"])
    assert user["username"] == "system:serviceaccount:default:robot"
    assert user["groups"] == [
        "system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated",
    ]  # fmt: skip
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == ["web"]
    assert user["extra"]["authentication.kubernetes.io/pod-uid"] == [uids["Pod"]]
    assert user["extra"]["authentication.kubernetes.io/node-name"] == ["edge-1"]
    assert user["extra"]["authentication.kubernetes.io/credential-id"][0].startswith("JTI=")
    assert (await who(admin, tokens["Secret"]))[0] == 201
    await admin.call("DELETE", NS + "/secrets/bound")
    await admin.call("DELETE", NS + "/pods/web", {"gracePeriodSeconds": 0})
    assert await who(admin, tokens["Pod"]) == (401, "Unauthorized")
    assert await who(admin, tokens["Secret"]) == (401, "Unauthorized")
    plain = (await request(admin))[1]["status"]["token"]
    assert (await who(admin, plain))[0] == 201
    await admin.call("DELETE", ACCOUNT)
    await admin.call("POST", NS + "/serviceaccounts", named("robot"))
    assert (await who(admin, plain))[0] == 401, "another account of the same name"


async def test_a_node_gets_tokens_for_its_pods_without_naming_an_audience(
    admin: Client, data: Path
) -> None:
    container = {"name": "a", "image": "b"}
    spec = {"serviceAccountName": "robot", "nodeName": "edge-1", "containers": [container]}
    status, pod = await admin.call("POST", NS + "/pods", named("web", spec=spec))
    assert status == 201, pod
    reference = {
        "apiVersion": "v1", "kind": "Pod", "name": "web", "uid": pod["metadata"]["uid"],
    }  # fmt: skip
    async with client_of(data / "kubelet.kubeconfig") as node:
        status, made = await request(node, boundObjectRef=reference, audiences=[])
        assert status == 201, made
        assert made["spec"]["audiences"] == [ISSUER]
        status, error = await request(node, boundObjectRef=reference, audiences=["vault"])
        assert status == 403
        assert 'audience "vault" not found in pod spec volume' in error["message"]


async def test_requests_that_make_no_sense(admin: Client) -> None:
    def bound(kind: str) -> dict[str, Any]:
        return {"boundObjectRef": {"kind": kind, "name": "no", "apiVersion": "v1"}}

    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"expirationSeconds": 599}, 422, "may not specify a duration less than 10 minutes"),
        ({"expirationSeconds": 2**32 + 1}, 422, "may not specify a duration larger than 2^32"),
        (bound("Pod"), 404, 'pods "no" not found'),
        (bound("ConfigMap"), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
        ({"expirationSeconds": "soon"}, 400, "TokenRequest"),
    ]
    for spec, code, text in cases:
        status, error = await request(admin, **spec)
        assert status == code, error
        assert text in error["message"]


async def test_audiences_and_keys(admin: Client) -> None:
    token = (await request(admin, audiences=["vault", "other"]))[1]["status"]["token"]
    assert (await who(admin, token))[0] == 401
    for audiences, found in ((["vault", "x"], ["vault"]), ([], None), (["x"], None)):
        review = {"spec": {"token": token, "audiences": audiences}}
        status, answer = await admin.call("POST", REVIEWS, review)
        assert status == 201
        assert answer["status"].get("audiences") == found
        assert answer["status"].get("authenticated", False) is (found is not None)
        assert ("error" in answer["status"]) is (found is None)
    status, answer = await admin.call("GET", "/.well-known/openid-configuration")
    assert (answer["issuer"], answer["id_token_signing_alg_values_supported"]) == (
        ISSUER, ["RS256"],
    )  # fmt: skip
    path = answer["jwks_uri"].removeprefix(admin.url)
    async with admin.session.get(admin.url + path) as reply:
        assert reply.content_type == "application/jwk-set+json"
        keys = jwt.PyJWKSet.from_dict(await reply.json(content_type=None))
    key = keys[jwt.get_unverified_header(token)["kid"]].key
    assert jwt.decode(token, key, ["RS256"], audience="vault")["iss"] == ISSUER


async def test_tokens_that_are_not_ours(admin: Client, data: Path) -> None:
    good = (await request(admin))[1]["status"]["token"]
    account = (await admin.call("GET", ACCOUNT))[1]["metadata"]
    claims = make_claims(account, [ISSUER], ISSUER, 600, {})
    key = (data / "pki/sa.key").read_text()
    public = (data / "pki/sa.pub").read_bytes()
    old = {**claims, "exp": int(time.time()) - 1}
    ahead = {**claims, "nbf": int(time.time()) + 600}
    cases = {
        "good": (good, 201),
        "made by hand with our key": (jwt.encode(claims, key, "RS256"), 201),
        "expired": (jwt.encode(old, key, "RS256"), 401),
        "not good yet": (jwt.encode(ahead, key, "RS256"), 401),
        "another issuer": (jwt.encode({**claims, "iss": "https://x"}, key, "RS256"), 401),
        "without what is ours": (jwt.encode({"iss": ISSUER, "exp": 9e9}, key, "RS256"), 401),
        "signed by nobody": (jwt.encode(claims, "", "none"), 401),
        "the public key as a secret": (_hmac(claims, public), 401),
        "cut off": (good[:-4], 401),
        "no token": ("a.b.c", 401),
    }
    for what, (token, code) in cases.items():
        assert (await who(admin, token))[0] == code, what


def _hmac(claims: dict[str, Any], key: bytes) -> str:
    # PyJWT itself refuses to sign so.
    def part(content: bytes) -> str:
        return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

    head = part(b'{"alg":"HS256","typ":"JWT"}') + "." + part(json.dumps(claims).encode())
    return head + "." + part(hmac.digest(key, head.encode(), hashlib.sha256))


async def test_a_secret_gets_a_token(admin: Client) -> None:
    annotations = {"kubernetes.io/service-account.name": "robot"}
    kind = "kubernetes.io/service-account-token"
    value = named("long", metadata={"annotations": annotations}, type=kind)
    assert (await admin.call("POST", NS + "/secrets", value))[0] == 201
    watch = f"{admin.url}{NS}/secrets?watch=1&fieldSelector=metadata.name%3Dlong"
    async with asyncio.timeout(10), admin.session.get(watch) as answer:
        async for line in answer.content:
            if b'"token":' in line:
                break
    data = (await admin.call("GET", NS + "/secrets/long"))[1]["data"]
    assert base64.b64decode(data["namespace"]) == b"default"
    assert base64.b64decode(data["ca.crt"]).startswith(b"-----BEGIN CERTIFICATE")
    token = base64.b64decode(data["token"]).decode()
    assert (await who(admin, token))[1]["username"] == "system:serviceaccount:default:robot"
    await admin.call("DELETE", NS + "/secrets/long")
    assert (await who(admin, token))[0] == 401


def bootstrap(**data: str) -> dict[str, Any]:
    fields = {"token-id": "abcdef", "token-secret": "0123456789abcdef",
              "usage-bootstrap-authentication": "true",
              **{key.replace("_", "-"): value for key, value in data.items()}}  # fmt: skip
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in fields.items()}
    name = "bootstrap-token-abcdef"
    return {"metadata": {"name": name}, "type": "bootstrap.kubernetes.io/token", "data": encoded}


@pytest.mark.parametrize(
    ("secret", "groups"),
    [
        (bootstrap(), ("system:bootstrappers",)),
        (bootstrap(auth_extra_groups="system:bootstrappers:a"),
         ("system:bootstrappers:a", "system:bootstrappers")),
        (bootstrap(auth_extra_groups="system:masters"), None),
        (bootstrap(expiration="2999-01-01T00:00:00Z"), ("system:bootstrappers",)),
        (bootstrap(expiration="2001-01-01T00:00:00Z"), None),
        (bootstrap(expiration="tomorrow"), None),
        (bootstrap(usage_bootstrap_authentication="no"), None),
        (bootstrap(token_secret="0123456789abcdee"), None),
        ({**bootstrap(), "type": "Opaque"}, None),
        ({"metadata": {}, "type": "bootstrap.kubernetes.io/token", "data": {"token-id": "!"}},
         None),
    ],
)  # fmt: skip
def test_bootstrap_tokens(secret: dict[str, Any], groups: tuple[str, ...] | None) -> None:
    def authenticate() -> Any:
        return user_of(secret, "abcdef", "0123456789abcdef", datetime.now(UTC))

    if groups is None:
        with pytest.raises(TokenError):
            authenticate()
        return
    assert (authenticate().name, authenticate().groups) == ("system:bootstrap:abcdef", groups)


async def test_a_bootstrap_token_by_http(admin: Client) -> None:
    path = "/api/v1/namespaces/kube-system/secrets"
    assert (await admin.call("POST", path, bootstrap()))[0] == 201
    _, user = await who(admin, "abcdef.0123456789abcdef")
    assert user["groups"] == ["system:bootstrappers", "system:authenticated"]
    assert (await who(admin, "abcdef.0123456789abcdee"))[0] == 401
    assert (await who(admin, "abcdee.0123456789abcdef"))[0] == 401
    await admin.call("DELETE", path + "/bootstrap-token-abcdef")
    assert (await who(admin, "abcdef.0123456789abcdef"))[0] == 401


async def test_access_reviews(admin: Client) -> None:
    base = "/apis/authorization.k8s.io/v1"

    async def ask(path: str, **spec: Any) -> tuple[int, Any]:
        status, answer = await admin.call("POST", base + path, {"spec": spec})
        return status, answer.get("status")

    pods = {"verb": "list", "resource": "pods", "namespace": "default"}
    everything = ask("/selfsubjectaccessreviews", resourceAttributes=pods)
    assert await everything == (201, {"allowed": True})
    answer = await ask("/subjectaccessreviews", user="ann", resourceAttributes=pods)
    assert answer == (201, {"allowed": False})
    version = {"verb": "get", "path": "/version"}
    answer = await ask("/subjectaccessreviews", user="ann", nonResourceAttributes=version,
                       groups=["system:authenticated"])  # fmt: skip
    assert answer == (201, {"allowed": True})
    node = {"user": "system:node:edge-1", "groups": ["system:nodes"]}
    mine = {**pods, "fieldSelector": {"rawSelector": "spec.nodeName=edge-1"}}
    answer = await ask("/subjectaccessreviews", **node, resourceAttributes=mine)
    assert answer == (201, {"allowed": True})
    answer = await ask("/subjectaccessreviews", **node, resourceAttributes=pods)
    assert answer == (201, {"allowed": True})
    # Without what lets it enforce policies, the node's authorizer alone decides.
    binding = "/clusterrolebindings/kubeletpy:node-network-policies"
    path = f"/apis/rbac.authorization.k8s.io/v1{binding}"
    assert (await admin.call("DELETE", path))[0] == 200
    answer = await ask("/subjectaccessreviews", **node, resourceAttributes=pods)
    assert answer[1]["reason"] == "can only list/watch pods with spec.nodeName field selector"
    both = {"resourceAttributes": pods, "nonResourceAttributes": version}
    for spec in ({"user": "ann"}, {"resourceAttributes": pods}, {"user": "a", **both}):
        assert (await ask("/subjectaccessreviews", **spec))[0] == 422
    local = "/namespaces/kube-system/localsubjectaccessreviews"
    assert (await ask(local, user="ann", resourceAttributes=pods))[0] == 400
    _, rules = await ask("/selfsubjectrulesreviews", namespace="default")
    assert {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]} in rules["resourceRules"]
    assert (await ask("/selfsubjectrulesreviews"))[0] == 400
