"""hosts.toml as containerd documents it: what it means, and what is wrong with a bad one."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from runtime.images.endpoints import Endpoint, credentials_for, endpoints_of, upstream
from runtime.images.errors import BadRegistryConfig
from runtime.images.hosts import directory_names, find_directory, read_directory
from runtime.images.settings import Credentials, RegistryConfig, RegistrySettings, Tls

DOMAIN = "registry.example:5000"
SECRET = Credentials(username="user", password="s3cret")


def write(root: Path, text: str, name: str = "registry.example:5000") -> Path:
    directory = root / name
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(text)
    return directory


def places(root: Path, text: str, domain: str = DOMAIN, name: str | None = None) -> list[Endpoint]:
    write(root, text, name or domain)
    return endpoints_of(RegistryConfig(host_directories=(root,)), domain)


@pytest.mark.parametrize(
    ("domain", "url"),
    [
        ("docker.io", "https://registry-1.docker.io/v2"),
        ("a.io:5000", "https://a.io:5000/v2"),
        ("localhost:5000", "http://localhost:5000/v2"),
        ("127.9.9.9", "http://127.9.9.9/v2"),
        ("[::1]:5000", "http://[::1]:5000/v2"),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
        ("plain.io", "http://plain.io/v2"),
        ("127.0.0.1:443", "https://127.0.0.1:443/v2"),
    ],
)
def test_without_files_it_is_the_registry_itself(domain: str, url: str) -> None:
    config = RegistryConfig(
        registries={
            "plain.io": RegistrySettings(plain_http=True),
            "127.0.0.1:443": RegistrySettings(plain_http=False),
        }
    )
    (only,) = endpoints_of(config, domain)
    assert only == upstream(config, domain)
    assert (only.root, only.trusted, only.namespace) == (url, True, "")


@pytest.mark.parametrize(
    ("domain", "names"),
    [
        ("a.io", ("a.io", "_default")),
        ("a.io:5000", ("a.io_5000_", "a.io:5000", "_default")),
        ("[::1]:5000", ("[::1]_5000_", "[::1]:5000", "_default")),
        ("[::1]", ("[::1]", "_default")),
    ],
)
def test_directory_names(domain: str, names: tuple[str, ...]) -> None:
    assert directory_names(domain) == names


def test_the_first_directory_that_is_there_decides(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert find_directory((one, two), DOMAIN) is None
    for root, name in ((two, DOMAIN), (two, "registry.example_5000_"), (one, "_default")):
        (root / name).mkdir(parents=True)
        assert find_directory((one, two), DOMAIN) == root / name


def test_the_documented_example(tmp_path: Path) -> None:
    found = places(
        tmp_path,
        """
        server = "https://registry.example:5000"
        [host."https://mirror.registry"]
          capabilities = ["pull"]
          ca = "/etc/certs/mirror.pem"
          skip_verify = false
          [host."https://mirror.registry".header]
            x-custom-2 = ["value1", "value2"]
        [host."https://mirror-bak.registry/us"]
          capabilities = ["pull", "Resolve"]
          skip_verify = true
          dial_timeout = "1m1.5s"
        [host."http://mirror.registry"]
        [host."test-1.registry"]
          capabilities = ["pull", "resolve", "push"]
          ca = ["/etc/certs/test-1-ca.pem", "special.pem"]
          client = [["/etc/certs/client.cert", "client.key"], ["/etc/certs/client.pem", ""]]
        [host."https://test-2.registry"]
          client = "client.pem"
        [host."https://test-3.registry"]
          client = ["/etc/certs/client-1.pem", "/etc/certs/client-2.pem"]
        [host."https://non-compliant-mirror.registry/v2/upstream"]
          override_path = true
        [host."https://push.only"]
          capabilities = ["push"]
        """,
    )
    here = tmp_path / DOMAIN
    first, second, third, fourth, fifth, sixth, seventh, last = found
    assert first.root == "https://mirror.registry/v2"
    assert (first.pull, first.resolve) == (True, False)
    assert first.tls == Tls(ca_files=(Path("/etc/certs/mirror.pem"),))
    assert first.header == (("x-custom-2", "value1"), ("x-custom-2", "value2"))
    assert second.root == "https://mirror-bak.registry/us/v2"
    assert second.tls.skip_verify
    assert second.connect_seconds == 61.5
    assert (third.root, third.https_first) == ("http://mirror.registry/v2", False)
    assert (third.pull, third.resolve) == (True, True)
    assert fourth.root == "https://test-1.registry/v2"
    assert fourth.tls.ca_files == (Path("/etc/certs/test-1-ca.pem"), here / "special.pem")
    assert fourth.tls.client_pairs == (
        (Path("/etc/certs/client.cert"), here / "client.key"),
        (Path("/etc/certs/client.pem"), None),
    )
    assert fifth.tls.client_pairs == ((here / "client.pem", None),)
    assert [str(path) for path, _ in sixth.tls.client_pairs] == [
        "/etc/certs/client-1.pem",
        "/etc/certs/client-2.pem",
    ]
    assert seventh.root == "https://non-compliant-mirror.registry/v2/upstream"
    assert last.root == "https://registry.example:5000/v2"
    # Only the registry itself is trusted with its credentials, and is not told its own name.
    assert [place.trusted for place in found] == [False] * 7 + [True]
    assert [place.namespace for place in found] == [DOMAIN] * 7 + [""]
    # Where there is a next place, one is not waited for long.
    assert [place.attempts for place in found] == [2] * 7 + [None]


def test_without_a_server_the_registry_itself_comes_last(tmp_path: Path) -> None:
    found = places(
        tmp_path,
        'capabilities = ["pull"]\nca = "ca.pem"\n[header]\nx = "y"\n[host."https://m"]\n',
        "docker.io",
    )
    assert [place.root for place in found] == ["https://m/v2", "https://registry-1.docker.io/v2"]
    # As containerd does: capabilities without a server do not count, the rest does.
    assert found[1].resolve
    assert found[1].tls.ca_files == (tmp_path / "docker.io/ca.pem",)
    assert found[1].header == (("x", "y"),)


def test_docker_io_as_server_is_where_its_api_is(tmp_path: Path) -> None:
    (only,) = places(tmp_path, 'server = "https://docker.io"', "docker.io")
    assert (only.root, only.namespace) == ("https://registry-1.docker.io/v2", "")


def test_the_mirror_instead_of_all_registries(tmp_path: Path) -> None:
    (only,) = places(tmp_path, 'server = "https://mirror"', name="_default")
    assert (only.root, only.namespace, only.trusted) == ("https://mirror/v2", DOMAIN, False)


def test_http_with_tls_settings_tries_https_first(tmp_path: Path) -> None:
    found = places(
        tmp_path,
        '[host."http://a:5000"]\nskip_verify = true\n[host."http://b:80"]\nca = "x"\n'
        '[host."http://c:5000"]\n',
    )
    assert [place.https_first for place in found] == [True, False, False, False]


def test_the_table_of_registries_goes_on_working(tmp_path: Path) -> None:
    config = RegistryConfig(
        host_directories=(tmp_path,),
        registries={
            DOMAIN: RegistrySettings(mirrors=("mirror:1", "localhost:2"), ca_file=Path("/ca")),
            "mirror:1": RegistrySettings(ca_file=Path("/other")),
        },
    )

    def roots() -> list[str]:
        return [place.root for place in endpoints_of(config, DOMAIN)]

    table = ["https://mirror:1/v2", "http://localhost:2/v2", f"https://{DOMAIN}/v2"]
    assert roots() == table
    assert endpoints_of(config, DOMAIN)[0].tls.ca_files == (Path("/other"),)
    # What is said of all registries does not undo what is said of this one.
    write(tmp_path, 'server = "https://other"', "_default")
    assert roots() == table
    write(tmp_path, '[host."https://wins"]')
    assert roots() == ["https://wins/v2", f"https://{DOMAIN}/v2"]


def test_certificates_in_dockers_way(tmp_path: Path) -> None:
    directory = tmp_path / DOMAIN
    directory.mkdir()
    for name in ("b.crt", "a.crt", "c.cert", "c.key", "d.cert", "e.key", "readme"):
        (directory / name).touch()
    (directory / "x.crt").mkdir()
    (only,) = endpoints_of(RegistryConfig(host_directories=(tmp_path,)), DOMAIN)
    assert only.tls == Tls(
        ca_files=(directory / "a.crt", directory / "b.crt"),
        client_pairs=(
            (directory / "c.cert", directory / "c.key"),
            (directory / "d.cert", None),
        ),
    )
    # An empty hosts.toml is none; one with a word in it hides the certificates.
    (directory / "hosts.toml").touch()
    assert read_directory(directory).server.tls == only.tls
    (directory / "hosts.toml").write_text("# none\n")
    assert read_directory(directory).server.tls == Tls()


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("server = 7", "server is 7"),
        ('server = "ftp://a"', "server is not the address"),
        ('server = "https://u:p@a"', "credentials do not belong"),
        ('server = "https://a/?x=y"', "server is not the address"),
        ('server = "https://a:99999"', "server is not the address"),
        ('server = "https://a b"', "server is not the address"),
        ("server = ", "not valid TOML"),
        ("host = 7", "host is not a table"),
        ('[host]\n"https://a" = 1', 'host."https://a" is not a table'),
        ('[host."https://"]', 'host."https://" is not the address'),
        ('[host."https://a"]\ncapabilities = ["pul"]',
         'host."https://a".capabilities holds \'pul\'; known are pull, push'),
        ('[host."https://a"]\ncapabilities = "pull"', 'host."https://a".capabilities is'),
        ('[host."https://a"]\nca = 7', 'host."https://a".ca is 7'),
        ("ca = [7]", "ca holds 7"),
        ('ca = ""', "ca holds ''"),
        ("client = true", "client is True"),
        ('client = [["a"]]', "client holds"),
        ('client = [["a", "b", "c"]]', "client holds"),
        ("skip_verify = 1", "skip_verify is 1"),
        ('override_path = "yes"', "override_path is"),
        ("header = 1", "header is 1"),
        ('[header]\nx = "a\\r\\nEvil: b"', "header.x is not one line"),
        ('[header]\n"a b" = "c"', "header.'a b' is not the name"),
        ("[header]\nx = [7]", "header.x"),
        ('dial_timeout = "5"', 'dial_timeout is \'5\''),
        ('dial_timeout = "0s"', "dial_timeout is '0s'"),
        ("dial_timeout = 5", "dial_timeout is 5"),
        ('[host."https://a"]\n[host."https://a".host."https://b"]', "a host within a host"),
    ],
)  # fmt: skip
def test_bad_files_name_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(BadRegistryConfig) as caught:
        places(tmp_path, text)
    assert key in str(caught.value)
    assert str(tmp_path / DOMAIN / "hosts.toml") in str(caught.value)


def test_a_header_may_be_a_secret_and_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(BadRegistryConfig) as caught:
        places(tmp_path, '[header]\nauthorization = "Basic s3cret\\n"')
    assert "s3cret" not in str(caught.value)
    write(tmp_path, '[header]\nauthorization = "Basic s3cret"', "a.io")
    found = endpoints_of(RegistryConfig(host_directories=(tmp_path,)), "a.io")
    assert "s3cret" not in repr(found)


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    directory = tmp_path / DOMAIN
    (directory / "hosts.toml").mkdir(parents=True)
    with pytest.raises(BadRegistryConfig, match=r"hosts\.toml: Is a directory"):
        read_directory(directory)
    other = tmp_path / "a.io"
    other.write_text("")
    with pytest.raises(BadRegistryConfig, match=r"a\.io"):
        read_directory(other)
    big = tmp_path / "big"
    big.mkdir()
    (big / "hosts.toml").write_bytes(b"#" * (1 << 21))
    with pytest.raises(BadRegistryConfig, match="more than 1048576 bytes"):
        read_directory(big)
    (big / "hosts.toml").write_bytes(b"\xff")
    with pytest.raises(BadRegistryConfig, match="not valid TOML"):
        read_directory(big)


def test_unknown_keys_are_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = places(tmp_path, '[host."https://a"]\nca_cert = "x"\n')
    assert len(found) == 2
    assert "unknown key" in caplog.text


@pytest.mark.parametrize(
    ("endpoint", "server_address", "shown"),
    [
        (Endpoint("https://a.io/v2", trusted=True), "", True),
        (Endpoint("https://a.io/v2", trusted=True), "https://a.io", True),
        (Endpoint("https://a.io/v2", trusted=True), "b.io", False),
        (Endpoint("https://mirror/v2", namespace="a.io"), "", False),
        (Endpoint("https://mirror/v2", namespace="a.io"), "a.io", False),
        (Endpoint("https://mirror/v2", namespace="a.io"), "https://mirror/", True),
        (Endpoint("https://mirror:1/v2", namespace="a.io"), "mirror", False),
    ],
)
def test_who_sees_the_credentials(endpoint: Endpoint, server_address: str, shown: bool) -> None:
    given = Credentials(username="u", password="p", server_address=server_address)
    assert (credentials_for(endpoint, "a.io", given) is not None) is shown
    assert credentials_for(endpoint, "a.io", None) is None
