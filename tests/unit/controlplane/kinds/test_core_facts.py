"""What a Kubernetes 1.36 API server answered to the same requests.

``core_facts.json`` holds requests and, of the answers to them, what does not differ from one run to
the next: the object with its defaults, the cells of its table, or reasons and fields of what is
wrong. A case with steps is made first and patched then, one step after the other.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from controlplane import services
from controlplane.kinds.strategies import STRATEGIES
from controlplane.services.claims import ServiceClaims
from controlplane.services.pools import AddressPool, PortPool
from tests.unit.controlplane.server.client import Api, running_api

FACTS = json.loads((Path(__file__).parent / "core_facts.json").read_bytes())
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
MERGE = "application/merge-patch+json"
IGNORED = {"uid", "creationTimestamp", "resourceVersion", "managedFields", "name"}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies=STRATEGIES) as made:
        pools = [AddressPool(ip_network(r)) for r in ("10.96.0.0/16", "fd00:10:96::/112")]
        claims = ServiceClaims(pools, PortPool(30000, 32767))
        pools[0].used.add(pools[0].first)
        made.plane.registry.claims[services.SERVICES] = claims
        yield made


def signing_request() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return base64.b64encode(made.public_bytes(Encoding.PEM)).decode()


def fixed(value: Any, request: str) -> Any:
    """Return an answer without what is another one each time."""
    kept = {
        key: {k: v for k, v in item.items() if k not in IGNORED} if key == "metadata" else item
        for key, item in value.items()
    }
    text = json.dumps(kept, sort_keys=True).replace(request, "CSR")
    text = re.sub(r'"(10\.96\.\d+\.\d+|fd00:10:96::[0-9a-f]+)"', '"IP"', text)
    text = re.sub(r'"(nodePort|healthCheckNodePort)": \d+', r'"\1": 0', text)
    text = re.sub(r"\bn-\d+\b", "NAME", text)
    text = re.sub(r'"username": "[^"]*"', '"username": "USER"', text)
    return json.loads(re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "T", text))


def undated(value: Any) -> Any:
    return json.loads(re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "T", json.dumps(value)))


def causes(value: Any) -> list[list[str]]:
    found = value.get("details", {}).get("causes", [])
    return sorted([one["reason"].replace("FieldValue", ""), one["field"]] for one in found)


async def check(api: Api, status: int, value: Any, fact: Any, request: str) -> None:
    assert (status, causes(value)) == (fact["status"], fact.get("causes", [])), (fact, value)
    if status < 400:
        assert fixed(value, request) == undated(fact["object"]), fact


def cells(row: list[Any]) -> Iterator[Any]:
    """Yield cells without names, addresses, ports and ages."""
    for cell in row:
        text = re.sub(r"^n-\d+$", "NAME", cell) if isinstance(cell, str) else cell
        if isinstance(text, str):
            text = re.sub(r"10\.96\.\d+\.\d+|fd00:10:96::[0-9a-f]+", "IP", text)
            text = re.sub(r":\d{5}/", ":0/", text)
            text = re.sub(r"^\d+(s|d|y\d+d)$|^AGE$", "AGE", text)
            text = re.sub(r"^\d{4}-\d\d-\d\dT(\d\d:\d\d:\d\dZ)?$", "T", text)
            text = re.sub(r"^\d{4}-\d\d-\d\dT$", "T", text)
        yield "USER" if text in ("admin", "system:apiserver") else text


@pytest.mark.slow
async def test_each_answer_is_as_that_of_kubernetes(api: Api) -> None:
    request = signing_request()
    for number, fact in enumerate(FACTS):
        body = json.loads(json.dumps(fact["body"]).replace('"CSR"', f'"{request}"'))
        body["metadata"] = {**body.get("metadata", {}), "name": f"n-{number}"}
        path = fact["path"]
        status, value = await api.call("POST", path, body)
        if "steps" not in fact:
            await check(api, status, value, fact, request)
        if status == 201 and "cells" in fact:
            _, table = await api.call("GET", f"{path}/n-{number}", headers=TABLE)
            assert [c["name"] for c in table["columnDefinitions"]] == fact["columns"]
            assert list(cells(table["rows"][0]["cells"])) == list(cells(fact["cells"])), fact
        for step in fact.get("steps", ()):
            at = f"{path}/n-{number}" + (f"/{step['sub']}" if step["sub"] else "")
            status, value = await api.call("PATCH", at, step["patch"], kind=MERGE)
            await check(api, status, value, step, request)
        await api.call("DELETE", f"{path}/n-{number}")


def test_the_facts_are_of_all_kinds() -> None:
    kinds = {fact["path"].rpartition("/")[2] for fact in FACTS}
    assert {"services", "secrets", "configmaps", "events", "endpointslices", "roles"} <= kinds
    assert len(FACTS) > 90
