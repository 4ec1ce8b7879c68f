"""Certificates for tests: an authority, a server at 127.0.0.1 and a client, by elliptic curves.

Made by openssl for these tests alone; good for a hundred years. The authority's key is gone.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

CA_PEM = """\
-----BEGIN CERTIFICATE-----
MIIBnDCCAUGgAwIBAgIUczI6zcHJEEYsb8Vvn5BCyo7/MM0wCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPdGVzdHMgYXV0aG9yaXR5MCAXDTI2MTEyMTExMTgzNFoYDzIx
MjYxMDI4MTExODM0WjAaMRgwFgYDVQQDDA90ZXN0cyBhdXRob3JpdHkwWTATBgcq
hkjOPQIBBggqhkjOPQMBBwNCAARF7LDq+CX2EdtI7sLoONyQKdAIOUdv+jO2x+z0
vKs4+ZpYETu50LT4TLRRTtMUivp1YTyimPACYrMmPp0jgmIlo2MwYTAdBgNVHQ4E
FgQUka6YRRivE58dSbfY9wSghPKgnX0wHwYDVR0jBBgwFoAUka6YRRivE58dSbfY
9wSghPKgnX0wDgYDVR0PAQH/BAQDAgEGMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZI
zj0EAwIDSQAwRgIhAI2TRTyr+UBj8glBls4Cry78jra+zjKWsfCBDWEUOB2yAiEA
9QamjtJ8WTTGkaL92foiPYT3e6jxP3OjCdV6uvg5N+A=
-----END CERTIFICATE-----
"""
SERVER_PEM = """\
-----BEGIN CERTIFICATE-----
MIIBtjCCAV2gAwIBAgIUMu8KbeHflW0j5fJApPD4P1+D6GAwCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPdGVzdHMgYXV0aG9yaXR5MCAXDTI2MTEyMTExMTgzNFoYDzIx
MjYxMDI4MTExODM0WjARMQ8wDQYDVQQDDAZzZXJ2ZXIwWTATBgcqhkjOPQIBBggq
hkjOPQMBBwNCAASDS1oLFs4geAYHdGfTVuXZJgOXMoNfLgSbNvAFHs9HQG7l9Sx3
rVQWR9YWKUeS5J8yy2njL20XN7NLl9RfSjHso4GHMIGEMA8GA1UdEQQIMAaHBH8A
AAEwDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwEwYDVR0lBAwwCgYIKwYB
BQUHAwEwHwYDVR0jBBgwFoAUka6YRRivE58dSbfY9wSghPKgnX0wHQYDVR0OBBYE
FIvTYqRA69Ov+d0nGgPam7NQiZcJMAoGCCqGSM49BAMCA0cAMEQCIAc1uaNCDMln
SOEtnO/tlVAw+RbkP//63xHlXw0eCFKsAiAwcTvB+x3aVQyr2NPtd67I2UQVRJHn
HMG9xZtvn204xA==
-----END CERTIFICATE-----
"""
SERVER_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgBc3S1Odg/bUS83jx
/s4zW2RYn7KoVNQGLDs6IKNI26uhRANCAASDS1oLFs4geAYHdGfTVuXZJgOXMoNf
LgSbNvAFHs9HQG7l9Sx3rVQWR9YWKUeS5J8yy2njL20XN7NLl9RfSjHs
-----END PRIVATE KEY-----
"""
CLIENT_PEM = """\
-----BEGIN CERTIFICATE-----
MIIBuDCCAV2gAwIBAgIUMu8KbeHflW0j5fJApPD4P1+D6GEwCgYIKoZIzj0EAwIw
GjEYMBYGA1UEAwwPdGVzdHMgYXV0aG9yaXR5MCAXDTI2MTEyMTExMTgzNFoYDzIx
MjYxMDI4MTExODM0WjARMQ8wDQYDVQQDDAZjbGllbnQwWTATBgcqhkjOPQIBBggq
hkjOPQMBBwNCAAT3omvhcCq0I7syEGXW3wMhveTJal5SgrpT2eIDGsqvYJ6RidJT
9x4ryfAtvpleTuXDPpZsUcts9kmzVw4Be2BNo4GHMIGEMA8GA1UdEQQIMAaHBH8A
AAEwDAYDVR0TAQH/BAIwADAOBgNVHQ8BAf8EBAMCB4AwEwYDVR0lBAwwCgYIKwYB
BQUHAwIwHwYDVR0jBBgwFoAUka6YRRivE58dSbfY9wSghPKgnX0wHQYDVR0OBBYE
FI+/N2f0+B19jWMRFQWQ1mYIjdlbMAoGCCqGSM49BAMCA0kAMEYCIQCNbJT5tfi3
A1ev7OFZgU9T4t96YN8V+bg5lsga7BCxZQIhAI8khx8P9bSVbDWxlHVW3vygs0vB
KghaNvwdstJclgJe
-----END CERTIFICATE-----
"""
CLIENT_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg9PWjzWCD5Qwv0fvR
eDqh7ykTTrIi+1RGC8TpGmiOIyihRANCAAT3omvhcCq0I7syEGXW3wMhveTJal5S
grpT2eIDGsqvYJ6RidJT9x4ryfAtvpleTuXDPpZsUcts9kmzVw4Be2BN
-----END PRIVATE KEY-----
"""


@dataclass(frozen=True)
class Certificates:
    """The files of a directory; ``client_both`` holds certificate and key."""

    ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    client_both: Path

    def server_context(self, *, mutual: bool = False) -> ssl.SSLContext:
        """Return what a server needs; ``mutual`` asks clients for their certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        if mutual:
            context.load_verify_locations(self.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


def write_certificates(directory: Path) -> Certificates:
    """Write the files into ``directory``."""
    contents = {
        "ca.pem": CA_PEM,
        "server.pem": SERVER_PEM,
        "server.key": SERVER_KEY,
        "client.cert": CLIENT_PEM,
        "client.key": CLIENT_KEY,
        "both.pem": CLIENT_PEM + CLIENT_KEY,
    }
    for name, text in contents.items():
        (directory / name).write_text(text)
    return Certificates(*(directory / name for name in contents))
