"""Hooks security into the server."""

from __future__ import annotations

from functools import partial

from controlplane.auth.authentication.authenticator import Authenticator
from controlplane.auth.authentication.statictokens import read_token_file
from controlplane.auth.authorization import bootstrap
from controlplane.auth.authorization.escalation import Escalation
from controlplane.auth.authorization.node import Graph, NodeAuthorizer
from controlplane.auth.authorization.rbac import Rbac
from controlplane.auth.authorization.union import Union
from controlplane.auth.middlewares import authenticating, authorizing
from controlplane.auth.trust.keyring import open_keyring
from controlplane.plane import Plane


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
    graph, rbac = Graph(plane.store), Rbac(plane.store)
    authorizer = Union(NodeAuthorizer(graph, bootstrap.node_rules()), rbac)
    plane.authorizer = authorizer
    plane.middlewares += [authenticating(authenticator), authorizing(authorizer)]
    plane.registry.admission.append(Escalation(rbac, authorizer))
    plane.background += [
        keyring.keep_good,
        bootstrap.Aggregation(plane).run,
        rbac.feed.follow,
        *(feed.follow for feed in graph.feeds),
    ]


def install_defaults(plane: Plane) -> None:
    """Hook in the making of default roles and bindings, behind that of their namespaces."""
    plane.starters.append(partial(bootstrap.reconcile, plane))
