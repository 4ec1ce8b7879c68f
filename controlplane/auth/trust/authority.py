"""Certificates: an authority and what it signs (RFC 5280); files of theirs, whole and 0600."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import (
    CertificateIssuerPrivateKeyTypes,
    CertificatePublicKeyTypes,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from kubeletpy_common.atomic import write_atomic

SERVER_AUTH: Final = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT_AUTH: Final = ExtendedKeyUsageOID.CLIENT_AUTH

_AUTHORITY_LIFE: Final = timedelta(days=3650)
LEAF_LIFE: Final = timedelta(days=365)
"""How long what the server makes for itself is good."""
RENEW_BEFORE: Final = timedelta(days=60)
"""A certificate whose end is nearer is made anew."""
# Clocks of machines differ; a certificate is good from a little before it was made.
_SKEW: Final = timedelta(minutes=5)


class TrustError(Exception):
    """A key or certificate cannot be used or kept; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a certificate is for.

    Attributes:
        name: the common name; of a client: the user.
        groups: organizations; of a client: the groups.
    """

    name: str
    groups: tuple[str, ...] = ()

    def to_x509(self) -> x509.Name:
        """Return it as in certificates."""
        groups = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in self.groups]
        return x509.Name([*groups, x509.NameAttribute(NameOID.COMMON_NAME, self.name)])


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, both PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority.

    Attributes:
        certificate: of it.
        pem: the certificate in PEM.
    """

    def __init__(
        self, certificate: x509.Certificate, key: CertificateIssuerPrivateKeyTypes
    ) -> None:
        self.certificate = certificate
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)
        self._key = key

    def issue(
        self,
        subject: Subject,
        *,
        usages: Iterable[x509.ObjectIdentifier],
        names: Iterable[str] = (),
        life: timedelta = LEAF_LIFE,
    ) -> Pair:
        """Return a new key with a certificate for it.

        Args:
            subject: whom it is for.
            usages: extended key usages.
            names: DNS names and IP addresses that it holds.
            life: how long it is good.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        alternatives = [alternative_name(name) for name in names]
        certificate = self.sign(subject.to_x509(), key.public_key(), usages, alternatives, life)
        return Pair(certificate, private_pem(key))

    def sign(
        self,
        subject: x509.Name,
        public_key: CertificatePublicKeyTypes,
        usages: Iterable[x509.ObjectIdentifier],
        alternatives: Iterable[x509.GeneralName],
        life: timedelta,
        *,
        encipherment: bool = False,
    ) -> bytes:
        """Return a certificate for a key, in PEM, which ends before the authority does.

        Args:
            subject: as it will hold it.
            public_key: that it is for.
            usages: extended key usages.
            alternatives: subject alternative names.
            life: how long it is good.
            encipherment: the key may encipher others, too.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _SKEW)
            .not_valid_after(min(now + life, self.certificate.not_valid_after_utc))
            .add_extension(_key_usage(encipherment=encipherment), critical=True)
            .add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_identifier(self.certificate), critical=False)
        )
        listed = list(alternatives)
        if listed:
            builder = builder.add_extension(x509.SubjectAlternativeName(listed), critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def signed(self, certificate: x509.Certificate) -> bool:
        """Say whether a certificate is of this authority."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True


def open_authority(directory: Path, stem: str, name: str) -> Authority:
    """Return the authority whose files are in ``directory``; make it if there is none.

    Args:
        directory: of ``<stem>.crt`` and ``<stem>.key``.
        stem: of the files.
        name: the common name of a new one.

    Raises:
        TrustError: the files cannot be read or written, do not fit each other, or are at their end.
    """
    paths = directory / f"{stem}.crt", directory / f"{stem}.key"
    if not any(path.exists() for path in paths):
        made = _make_authority(name)
        # The key first: a certificate without its key would stop the next start.
        write(paths[1], made.key)
        write(paths[0], made.certificate)
    elif not paths[0].exists():
        # A start was cut off between the two files: nobody has seen this authority yet.
        paths[1].unlink()
        return open_authority(directory, stem, name)
    certificate = load_certificate(read(paths[0]), str(paths[0]))
    key = load_key(read(paths[1]), str(paths[1]))
    if public_pem(key.public_key()) != public_pem(certificate.public_key()):
        raise TrustError(f"{paths[1]} is not the key of {paths[0]}: put back the right one")
    if certificate.not_valid_after_utc <= datetime.now(UTC):
        raise TrustError(
            f"the authority {paths[0]} ended on {certificate.not_valid_after_utc:%Y-%m-%d}: move "
            f"{directory} aside, so that a new one is made, and give clients new kubeconfigs"
        )
    return Authority(certificate, key)


def keep_pair(
    directory: Path,
    stem: str,
    authority: Authority,
    subject: Subject,
    usage: x509.ObjectIdentifier,
    names: Iterable[str] = (),
) -> bool:
    """See to it that ``<stem>.crt`` and ``<stem>.key`` are good; say whether they were made anew.

    They are made anew if they are not there or cannot be read, are of another authority, for
    another subject or other names, or near their end.

    Raises:
        TrustError: they cannot be written.
    """
    paths = directory / f"{stem}.crt", directory / f"{stem}.key"
    wanted = sorted(set(names))
    try:
        found = Pair(read(paths[0]), read(paths[1]))
        if is_good(found, authority, subject, wanted):
            return False
    except TrustError:
        pass
    made = authority.issue(subject, usages=(usage,), names=wanted)
    write(paths[1], made.key)
    write(paths[0], made.certificate)
    return True


def is_good(pair: Pair, authority: Authority, subject: Subject, names: Iterable[str] = ()) -> bool:
    """Say whether a pair can be used for some time to come.

    Raises:
        TrustError: it cannot be read.
    """
    certificate = load_certificate(pair.certificate, "the certificate")
    key = load_key(pair.key, "the key")
    wanted = {alternative_name(name) for name in names}
    return (
        certificate.not_valid_after_utc - datetime.now(UTC) > RENEW_BEFORE
        and certificate.subject == subject.to_x509()
        and set(_alternatives(certificate)) == wanted
        and public_pem(key.public_key()) == public_pem(certificate.public_key())
        and authority.signed(certificate)
    )


def alternative_name(name: str) -> x509.GeneralName:
    """Return a DNS name or IP address as in certificates.

    Raises:
        TrustError: it is neither.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError as error:
        raise TrustError(f"{name!r} is neither a DNS name nor an IP address") from error


def load_certificate(pem: bytes, what: str) -> x509.Certificate:
    """Return the first certificate of a PEM text.

    Raises:
        TrustError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise TrustError(f"{what} is no certificate: {error}; remove or replace it") from error


def load_key(pem: bytes, what: str) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """Return the key of a PEM text.

    Raises:
        TrustError: there is none, or of a kind that is not used.
    """
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError) as error:
        raise TrustError(f"{what} is no private key: {error}; remove or replace it") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise TrustError(f"{what} is a {type(key).__name__}: only RSA and ECDSA keys are used")
    return key


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Return a private key in PEM (PKCS #8)."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def public_pem(key: CertificatePublicKeyTypes) -> bytes:
    """Return a public key in PEM."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def write(path: Path, content: bytes) -> None:
    """Write a file that nobody else may read, at once and whole.

    Raises:
        TrustError: it cannot be written.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, content, mode=0o600, sync=True)
    except OSError as error:
        raise TrustError(f"write {path}: {error.strerror}") from error


def read(path: Path) -> bytes:
    """Return a file's content.

    Raises:
        TrustError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise TrustError(f"read {path}: {os.strerror(error.errno or 0)}") from error


def _make_authority(name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC).replace(microsecond=0)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_key_usage(signs=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate.public_bytes(serialization.Encoding.PEM), private_pem(key))


def _key_usage(*, signs: bool = False, encipherment: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_encipherment=encipherment, key_cert_sign=signs, crl_sign=signs,
        content_commitment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _key_identifier(certificate: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    except x509.ExtensionNotFound:
        key = certificate.public_key()
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(found.value)


def _alternatives(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return list(found.value)
