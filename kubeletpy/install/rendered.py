"""A file of the installation, as it is to be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

HEADER: Final = """\
# Written by `kubeletpy install` from /etc/kubeletpy/node.yaml.
# Change it as you like: a changed file is kept by later installs, which tell what they would write.
"""


@dataclass(frozen=True)
class Rendered:
    """A file.

    Attributes:
        path: absolute.
        text: its whole content.
        mode: permission bits.
    """

    path: Path
    text: str
    mode: int = 0o644
