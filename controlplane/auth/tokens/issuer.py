"""Signing tokens of service accounts, and knowing them again (RFC 7515, 7517, 7519)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from controlplane.api.identity import User
from controlplane.auth.authentication.authenticator import TokenError, TokenUser
from controlplane.auth.tokens.claims import PRIVATE, Validator, user_of
from controlplane.auth.tokens.legacy import CLAIM, LEGACY_ISSUER, TokenSigner
from controlplane.store.store import Store

_MAX_KNOWN: Final = 4096
_MAX_TOKEN: Final = 16 << 10


class _Known:
    """A token whose signature has been checked."""

    __slots__ = ("audiences", "claims", "user")

    def __init__(self, claims: Mapping[str, Any], user: User, audiences: tuple[str, ...]) -> None:
        self.claims = claims
        self.user = user
        self.audiences = audiences


class TokenIssuer:
    """Makes tokens and authenticates by them.

    Args:
        key: that signs; RSA with SHA-256, or ECDSA on P-256.
        issuer: URL.
        store: of the objects that tokens are bound to.

    Attributes:
        issuer: URL; also the audience of this server.
        signer: of the tokens.
    """

    def __init__(
        self, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, issuer: str, store: Store
    ) -> None:
        self.issuer = issuer
        self.signer = TokenSigner(key)
        self._public = self.signer.public
        self._algorithm = self.signer.algorithm
        self._validator = Validator(store)
        self._known: OrderedDict[str, _Known] = OrderedDict()

    def sign(self, claims: dict[str, Any]) -> str:
        """Return a token."""
        return self.signer.sign(claims)

    def authenticate(self, token: str, audiences: Sequence[str] = ()) -> TokenUser | None:
        """Return whom a token stands for; None: this server has not made it.

        Raises:
            TokenError: it is not good, not for these audiences, or what it is bound to is gone.
        """
        known = self._known.get(token)
        if known is None:
            known = self._verify(token)
            if known is None:
                return None
            if len(self._known) >= _MAX_KNOWN:
                self._known.popitem(last=False)
            self._known[token] = known
        if "exp" in known.claims:
            self._validator.check_times(known.claims)
        wanted = tuple(audiences) or (self.issuer,)
        meant = tuple(one for one in wanted if one in known.audiences)
        if not meant:
            raise TokenError(f"token audiences {known.audiences} is invalid for {wanted}")
        self._validator.check_bound(known.claims[PRIVATE])
        if "exp" not in known.claims:
            # Made by whoever fills Secrets: good while the Secret holds it.
            self._validator.check_copy(known.claims[PRIVATE], token)
        return TokenUser(known.user, meant)

    def key_set(self) -> dict[str, Any]:
        """Return the public keys (RFC 7517)."""
        if isinstance(self._public, rsa.RSAPublicKey):
            found = RSAAlgorithm.to_jwk(self._public, as_dict=True)
        else:
            found = ECAlgorithm.to_jwk(self._public, as_dict=True)
        kept = {key: value for key, value in found.items() if key != "key_ops"}
        return {"keys": [{"use": "sig", "alg": self._algorithm, "kid": self.signer.key_id, **kept}]}

    def configuration(self, keys: str) -> dict[str, Any]:
        """Return the document of OpenID Connect Discovery 1.0, section 3.

        Args:
            keys: URL of the public keys.
        """
        return {
            "issuer": self.issuer,
            "jwks_uri": keys,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self._algorithm],
        }

    def _verify(self, token: str) -> _Known | None:
        if len(token) > _MAX_TOKEN or token.count(".") != 2:
            return None
        try:
            unverified = jwt.decode(token, options={"verify_signature": False})
            if unverified.get("iss") not in (self.issuer, LEGACY_ISSUER):
                return None
            claims = jwt.decode(
                token, self._public, [self._algorithm],
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False,
                         "verify_aud": False},
            )  # fmt: skip
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None
        try:
            if claims["iss"] == LEGACY_ISSUER:
                claims = _from_legacy(claims, self.issuer)
            audiences = claims.get("aud", ())
            listed = (audiences,) if isinstance(audiences, str) else tuple(audiences)
            return _Known(claims, user_of(claims), listed)
        except (KeyError, TypeError) as error:
            raise TokenError(f"service account token without claim {error}") from error


def _from_legacy(claims: Mapping[str, Any], audience: str) -> dict[str, Any]:
    """Return the claims of a token that a Secret holds, in today's form."""
    return {
        "aud": [audience],
        PRIVATE: {
            "namespace": claims[f"{CLAIM}namespace"],
            "serviceaccount": {
                "name": claims[f"{CLAIM}service-account.name"],
                "uid": claims[f"{CLAIM}service-account.uid"],
            },
            "secret": {"name": claims[f"{CLAIM}secret.name"]},
        },
    }
