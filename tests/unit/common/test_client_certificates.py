from __future__ import annotations

from typing import Any

import pytest

from kubeletpy_common.client_certificates import CREDENTIAL, Named, named_by


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (
            (
                (("organizationName", "system:masters"),),
                (("organizationName", "other"),),
                (("commonName", "admin"),),
            ),
            ("admin", ("system:masters", "other")),
        ),
        (((("commonName", "outer"),), (("commonName", "inner"),)), ("inner", ())),
        ((), None),
        (((("commonName", ""),),), None),
    ],
)
def test_whom_a_certificate_names(subject: Any, expected: tuple[str, Any] | None) -> None:
    found = named_by({"subject": subject}, "00")
    if expected is None:
        assert found is None
    else:
        assert found == Named(*expected, {CREDENTIAL: ("X509SHA256=00",)})
