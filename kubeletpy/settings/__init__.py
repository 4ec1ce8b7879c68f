"""Settings of the kubelet: KubeletConfiguration (v1beta1), its drop-ins, and flags.

``configuration`` has the fields with their types and defaults, ``validation`` what Go's kubelet
refuses, ``files`` the reading and merging, ``flags`` the command line, ``settings`` what all the
rest of the kubelet gets.
"""

from kubeletpy_common.settings.durations import ConfigurationError, Duration

from .settings import Settings

__all__ = ["ConfigurationError", "Duration", "Settings"]
