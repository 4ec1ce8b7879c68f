"""Hooks security into the server."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from controlplane import addresses
from controlplane.auth.audit.auditor import Auditor
from controlplane.auth.audit.log import AuditLog
from controlplane.auth.audit.policy import everything, read_policy
from controlplane.auth.authentication.authenticator import Authenticator
from controlplane.auth.authentication.statictokens import read_token_file
from controlplane.auth.authorization import bootstrap
from controlplane.auth.authorization.escalation import Escalation
from controlplane.auth.authorization.node import Graph, NodeAuthorizer
from controlplane.auth.authorization.noderestriction import NodeRestriction
from controlplane.auth.authorization.rbac import Rbac
from controlplane.auth.authorization.union import Union
from controlplane.auth.certificates.permission import CertificatePermission
from controlplane.auth.certificates.signer import Signer
from controlplane.auth.middlewares import authenticating, authorizing
from controlplane.auth.reviews import Reviews
from controlplane.auth.tokens.bootstrap import BootstrapTokens
from controlplane.auth.tokens.issuer import TokenIssuer
from controlplane.auth.tokens.request import serve_token_request
from controlplane.auth.tokens.secrets import TokenSecrets
from controlplane.auth.trust.keyring import open_keyring
from controlplane.builtin.selection import TOKENS, selected
from controlplane.plane import Plane
from controlplane.server.answers import respond


def install(plane: Plane) -> None:
    """Hook in.

    Raises:
        TrustError: a key or certificate cannot be used.
        OptionsError: an option cannot be taken.
    """
    keyring = open_keyring(plane.options)
    plane.tls = keyring.tls
    authenticator = Authenticator()
    if plane.options.token_auth_file is not None:
        authenticator.tokens.append(read_token_file(plane.options.token_auth_file))
    issuer = TokenIssuer(keyring.token_key, plane.options.issuer, plane.store)
    authenticator.tokens += [issuer, BootstrapTokens(plane.store)]
    graph, rbac = Graph(plane.store), Rbac(plane.store)
    authorizer = Union(NodeAuthorizer(graph, bootstrap.node_rules()), rbac)
    plane.authorizer = authorizer
    auditor = _auditor(plane)
    plane.middlewares.append(authenticating(authenticator, auditor))
    if auditor is not None:
        plane.middlewares.append(auditor.middleware())
        plane.prepared.append(auditor.prepared)
    plane.middlewares.append(authorizing(authorizer))
    restriction = NodeRestriction(plane.store)
    plane.registry.admission += [
        restriction,
        Escalation(rbac, authorizer),
        CertificatePermission(authorizer),
    ]
    plane.registry.deletions.append(restriction)
    plane.handlers["", "serviceaccounts", "token"] = partial(
        serve_token_request, issuer, (restriction.check_token,)
    )
    plane.handlers |= Reviews(authenticator, authorizer, rbac).handlers()
    _serve_keys(plane, issuer)
    plane.background += [
        Signer(plane, keyring.authority, authorizer).run,
        keyring.keep_good,
        keyring.follow_addresses,
        bootstrap.Aggregation(plane).run,
        rbac.feed.follow,
        *(feed.follow for feed in graph.feeds),
    ]
    if TOKENS in selected(plane.options.controllers):
        plane.background.append(TokenSecrets(plane, issuer, keyring.authority.pem).run)


def install_defaults(plane: Plane) -> None:
    """Hook in the making of default roles and bindings, behind that of their namespaces."""
    plane.starters.append(partial(bootstrap.reconcile, plane))


def _auditor(plane: Plane) -> Auditor | None:
    options = plane.options
    if options.audit_log is None:
        return None
    policy = everything() if options.audit_policy is None else read_policy(options.audit_policy)
    log = AuditLog(options.audit_log)
    plane.background.append(log.run)
    return Auditor(policy, log)


def _serve_keys(plane: Plane, issuer: TokenIssuer) -> None:
    """Tell verifiers of tokens by what keys (OpenID Connect Discovery 1.0, section 4)."""
    keys = f"{addresses.public_url(plane.options)}/openid/v1/jwks"

    async def configuration(_: web.Request) -> web.StreamResponse:
        return respond(issuer.configuration(keys))

    async def key_set(_: web.Request) -> web.StreamResponse:
        return respond(issuer.key_set(), media="application/jwk-set+json")

    plane.paths["/.well-known/openid-configuration"] = configuration
    plane.paths["/openid/v1/jwks"] = key_set
