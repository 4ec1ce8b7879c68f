"""The runtime's settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime.config import Config, ConfigError, load_config


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "runtime.toml"
    path.write_text(text)
    return path


def test_nothing_given_means_defaults() -> None:
    assert load_config(None, {}) == Config()
    assert load_config(None, {"root": None, "address": None}) == Config()


def test_the_file_is_read_and_flags_win(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'address = "unix:///a.sock"\nroot = "/r"\n'
        '[network]\nbridge = "br1"\nsubnet_v6 = ""\n'
        '[registries."localhost:5000"]\nplain_http = true\nca_file = "/ca.pem"\n'
        '[sysctls]\nallowed_unsafe = ["net.core.*"]\n[limits]\nstart_seconds = 5.5\n',
    )
    config = load_config(path, {"root": Path("/flag"), "log_level": "debug"})
    assert (config.address, config.root, config.log_level) == (
        "unix:///a.sock",
        Path("/flag"),
        "debug",
    )
    assert config.socket == Path("/a.sock")
    assert (config.network.bridge, config.network.subnet_v6) == ("br1", "")
    assert config.registries["localhost:5000"].ca_file == Path("/ca.pem")
    assert config.sysctls.allowed_unsafe == ("net.core.*",)
    assert config.limits.start_seconds == 5.5


def test_flags_add_to_a_table_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '[cni]\nconf_dir = "/file"\nplugin_seconds = 5.0\n')
    given = load_config(path, {"cni": {"conf_dir": "/flag", "bin_dirs": ("/a", "/b")}}).cni
    assert (given.conf_dir, given.bin_dirs, given.plugin_seconds) == ("/flag", ("/a", "/b"), 5.0)
    absent = load_config(path, {"cni": {"conf_dir": None, "bin_dirs": None}}).cni
    assert (absent.conf_dir, absent.bin_dirs) == ("/file", Config().cni.bin_dirs)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[cni]\nconf_dir = 'etc'", r"\[cni\]: 'etc' must be an absolute"),
        ("[cni]\nbin_dirs = ['/a:/b']", r"without ':'"),
        ("[cni]\nbin_dirs = []", "names no directory"),
        ("[cni]\nplugin_seconds = 0.0", "plugin_seconds must be positive"),
        ("[cni]\npod_cidrs = ['10.0.0.1/8']", "has host bits set"),
        ("cni = 1", r"\[cni\]: Expected `object`"),
        ("colour = 1", r"unknown key `colour`"),
        ("[runtimes.Run_C]\npath = '/bin/runc'", r"\[runtimes.Run_C\]: a handler's name is a DNS"),
        ("[runtimes.kubeletpy]\npath = '/bin/runc'", "which is the built-in one"),
        ("[runtimes.runc]\npath = 'runc'", "path 'runc' must be absolute"),
        ("[runtimes.runc]\npath = '/runc'\nroot = 'r'", "root 'r' must be absolute"),
        ("[runtimes.runc]\nargs = []", "missing required field `path`"),
        ("default_runtime = 'runc'", "has no table \\[runtimes.runc\\]"),
        ("[streaming]\naddress = 'localhost'", r"\[streaming\]: address: 'localhost'"),
        ("[streaming]\naddress = '0.0.0.0'", "none that clients could be told"),
        ("[streaming]\naddress = '10.0.0.1'", "is not loopback: set tls_cert"),
        ("[streaming]\nport = 65536", "not within 0 to 65535"),
        ("[streaming]\nmax_sessions = 0", "max_sessions must be positive"),
        ("[network]\nbrigde = 'x'", r"\[network\]: unknown key `brigde`"),
        ("[network]\nmtu = 'big'", r"\[network\.mtu\]: Expected `int`"),
        ("[registries.x]\nplain = 1", r"unknown key `plain`"),
        ('[images]\nconfig_path = "/a:b"', r"\[images\]: config_path: 'b' is not an absolute path"),
        ('[images]\npinned = ["Busybox"]', r"\[images\]: pinned: .*lowercase"),
        ("[images]\nattempts = 0", r"\[images\]: attempts must be positive"),
        ("root = 5", r"root"),
        ("root = [", "not valid TOML"),
        ("address = '/run/x.sock'", "unix://"),
        ("address = 'unix://relative'", "unix://"),
        (f"address = 'unix:///{'x' * 120}'", "107 bytes"),
        ("root = 'relative'", "absolute"),
        ("root = '/'", "absolute"),
        ("root = '/a'\nstate = '/a'", "must differ"),
        ("log_level = 'loud'", "loud"),
        ("[cgroups]\nparent = '/'", "parent"),
        ("[limits]\nevent_queue = 0", "event_queue"),
    ],
)
def test_mistakes_are_named_with_file_and_key(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(path, {})
    assert str(path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize("overrides", [{"log_level": "loud"}, {"address": "tcp://x"}])
def test_mistakes_of_flags_are_named(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="command line"):
        load_config(None, overrides)
