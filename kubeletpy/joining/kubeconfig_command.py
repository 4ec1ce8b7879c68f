"""``kubeletpy kubeconfig``: how people reach a cluster from anywhere."""

from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any, Final

import click

from kubeletpy.certificates.pairs import CertificateError, new_key
from kubeletpy.certificates.signing import certificate_of
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.kubeconfig import Access
from kubeletpy_common.apiclient.reflector import Changed, Reflector
from kubeletpy_common.atomic import write_atomic
from kubeletpy_common.settings.durations import ConfigurationError, duration

from .connection import connected, is_loopback, kubeconfig_option, reached_by_others
from .discovery import server_url
from .kubeconfigs import kubeconfig

SIGNER: Final = "kubernetes.io/kube-apiserver-client"
_GROUP, _PLURAL = "certificates.k8s.io/v1", "certificatesigningrequests"
_WAIT: Final = 60.0
_SHORTEST: Final = 600


@click.command("kubeconfig", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--user", default="", help="Name of a user who gets a certificate of their own; "
              "without it the credentials of the kubeconfig are printed.")  # fmt: skip
@click.option("--group", "groups", multiple=True, help="A group that the user is in; as often as "
              "there are groups.")  # fmt: skip
@click.option("--ttl", default="8760h", show_default=True, help="How long the certificate is good, "
              "as far as the cluster's signer lets it.")  # fmt: skip
@click.option("--server", default="", help="URL of the API server; by default the one that "
              "the cluster tells its nodes.")  # fmt: skip
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="File that "
              "it is written to, 0600, in place of being printed.")  # fmt: skip
@kubeconfig_option
def kubeconfig_command(
    user: str, groups: tuple[str, ...], ttl: str, server: str, output: Path | None, given: str
) -> None:
    """Print a kubeconfig that works from other machines: LAN address, authority embedded.

    \b
    The administrator's:     kubeletpy kubeconfig > admin.kubeconfig
    Somebody else's:         kubeletpy kubeconfig --user ann --group developers

    What a user may is said by RBAC: kubectl create rolebinding ann --clusterrole edit --user ann
    """
    if groups and not user:
        raise click.UsageError("--group needs --user")
    try:
        life = int(duration(ttl, "--ttl"))
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    if life < _SHORTEST:
        raise click.UsageError(f"--ttl {ttl} is less than 10m, the least that is signed")

    async def work(client: ApiClient) -> str:
        reached = await reached_by_others(client)
        url = server_url(server) if server else reached.server
        if is_loopback(url):
            click.echo(f"note: {url} is this machine's own address only", err=True)
        if not user:
            name, credentials = "kubernetes-admin", _credentials(client.access)
        else:
            name, credentials = user, await _signed(client, user, groups, life)
        return kubeconfig(url, reached.ca or client.access.ca, name, credentials)

    text = connected(given, work)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        write_atomic(output, text, mode=0o600)
    except OSError as error:
        raise click.ClickException(f"write {output}: {error.strerror}") from None


def _credentials(access: Access) -> dict[str, Any]:
    """Return what an access proves who it is by, itself rather than the names of files.

    Raises:
        click.ClickException: a file cannot be read, or there is nothing.
    """
    if token := access.bearer():
        return {"token": token}
    try:
        files = (access.certificate_file, access.key_file)
        found = [path.read_bytes() for path in files if path is not None]
    except OSError as error:
        raise click.ClickException(f"read {error.filename}: {error.strerror}") from None
    certificate, key = found if len(found) == 2 else (access.certificate, access.key)
    if not certificate or not key:
        raise click.ClickException("the kubeconfig has no certificate and no token to pass on")
    return _pair(certificate, key)


def _pair(certificate: bytes, key: bytes) -> dict[str, Any]:
    return {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }


async def _signed(
    client: ApiClient, user: str, groups: tuple[str, ...], life: int
) -> dict[str, Any]:
    """Have a certificate signed for a user, approved by who asks for it.

    Raises:
        ApiError: the server refused.
        click.ClickException: it was not signed.
    """
    key = new_key()
    body = {
        "apiVersion": _GROUP, "kind": "CertificateSigningRequest",
        "metadata": {"generateName": "kubeletpy-user-"},
        "spec": {
            "request": base64.b64encode(_request(key, user, groups)).decode(),
            "signerName": SIGNER, "usages": ["client auth"], "expirationSeconds": life,
        },
    }  # fmt: skip
    made = await client.create(object_path(_GROUP, _PLURAL), body)
    name = made["metadata"]["name"]
    approved = {"type": "Approved", "status": "True", "reason": "KubeletpyKubeconfig",
                "message": "asked for and approved by kubeletpy kubeconfig"}  # fmt: skip
    wanted = {**made, "status": {**(made.get("status") or {}), "conditions": [approved]}}
    await client.update(object_path(_GROUP, _PLURAL, name=name, subresource="approval"), wanted)
    try:
        async with asyncio.timeout(_WAIT):
            path = object_path(_GROUP, _PLURAL)
            async for each in Reflector(client, path, field_selector=f"metadata.name={name}"):
                for one in [each.object] if isinstance(each, Changed) else each.items:
                    if certificate := certificate_of(one):
                        return _pair(certificate, key)
    except CertificateError as error:
        raise click.ClickException(str(error)) from None
    except TimeoutError:
        pass
    raise click.ClickException(
        f"certificate signing request {name} was approved, but not signed within {_WAIT:g} s: does "
        f"a signer for {SIGNER} run (kubeletpy apiserver, kube-controller-manager)?"
    )


def _request(key: bytes, user: str, groups: tuple[str, ...]) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    loaded = serialization.load_pem_private_key(key, None)
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    try:
        subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, user)])
    except ValueError as error:
        raise click.ClickException(f"--user or --group: {error}") from None
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(loaded, hashes.SHA256())  # type: ignore[arg-type]
    return request.public_bytes(serialization.Encoding.PEM)
