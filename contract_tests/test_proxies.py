"""The mock, in a process, behind proxies as people run them: no false alarm, and breaches are still noticed.

nginx, HAProxy, Apache httpd and Caddy, each in a default and a stricter configuration, with TLS, as far as they are
installed: `make contract-proxies`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest
import trustme

from .conftest import process
from .difference import compare
from .mutants import MUTANTS
from .report import Report
from .scenario import run
from .target import load

NGINX = """
daemon off; worker_processes 1; error_log stderr error; pid %(folder)s/nginx.pid;
events { worker_connections 256; }
http { access_log off; client_body_temp_path %(folder)s/a; proxy_temp_path %(folder)s/b; fastcgi_temp_path %(folder)s/c;
  uwsgi_temp_path %(folder)s/d; scgi_temp_path %(folder)s/e; %(more)s
  server { listen 127.0.0.1:%(port)s ssl; ssl_certificate %(folder)s/both.pem; ssl_certificate_key %(folder)s/both.pem;
    location %(prefix)s { %(inside)s } } }
"""
HAPROXY = """
global
  expose-experimental-directives
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
listen all
  bind 127.0.0.1:%(port)s ssl crt %(folder)s/both.pem
  %(inside)s
  server one 127.0.0.1:%(to)s
"""
APACHE = """
ServerName localhost
ServerRoot %(folder)s
PidFile %(folder)s/httpd.pid
Mutex pthread
ErrorLog /dev/stderr
LogLevel crit
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
User www-data
Group www-data
TraceEnable Off
Listen 127.0.0.1:%(port)s
SSLEngine on
SSLCertificateFile %(folder)s/both.pem
SSLCertificateKeyFile %(folder)s/both.pem
%(inside)s
"""
CADDY = """
{
  admin off
  auto_https off
}
https://127.0.0.1:%(port)s {
  tls %(folder)s/both.pem %(folder)s/both.pem
  %(inside)s
  reverse_proxy 127.0.0.1:%(to)s
}
"""
TO = "proxy_pass http://127.0.0.1:%(to)s;"
TO_SLASH = "proxy_pass http://127.0.0.1:%(to)s/;"
TO_ALL = "ProxyPass / http://127.0.0.1:%(to)s/"

PROXIES: Mapping[str, tuple[str, tuple[str, ...], str, dict[str, str]]] = {
    # The command, its arguments before the file, the file, and what stands in its places.
    "nginx": ("nginx", ("-c",), NGINX, {"prefix": "/", "inside": TO, "more": ""}),
    "nginx, with a path": ("nginx", ("-c",), NGINX, {"prefix": "/api/", "inside": TO_SLASH, "more": ""}),
    "nginx, strict": ("nginx", ("-c",), NGINX, {
        "prefix": "/", "more": "large_client_header_buffers 4 4k; limit_req_zone $server_name zone=z:1m rate=300r/s;",
        "inside": "limit_req zone=z burst=100 nodelay; limit_except POST { deny all; } " + TO_SLASH}),
    "HAProxy": ("haproxy", ("-db", "-f"), HAPROXY, {"inside": ""}),
    "HAProxy, strict": ("haproxy", ("-db", "-f"), HAPROXY, {
        "inside": "http-request normalize-uri path-merge-slashes\n  http-request normalize-uri path-strip-dotdot full\n"
                  "  http-request deny deny_status 405 unless METH_POST\n"
                  "  http-request deny if { path -m sub -i %%2f %%5c %%00 }"}),
    "Apache httpd": ("apache2", ("-DFOREGROUND", "-f"), APACHE, {"inside": TO_ALL}),
    "Apache httpd, strict": ("apache2", ("-DFOREGROUND", "-f"), APACHE, {
        "inside": "AllowEncodedSlashes NoDecode\nLimitRequestLine 4094\nLimitRequestFieldSize 4094\n"
                  "<Location />\n<LimitExcept POST>\nRequire all denied\n</LimitExcept>\n</Location>\n"
                  f"{TO_ALL} nocanon"}),
    "Caddy": ("caddy", ("run", "--adapter", "caddyfile", "--config"), CADDY, {"inside": ""}),
    "Caddy, strict": ("caddy", ("run", "--adapter", "caddyfile", "--config"), CADDY, {
        "inside": "@other not method POST\n  respond @other 405\n  @odd path_regexp //|%%2F\n  respond @odd 400"}),
}  # fmt: skip


BREACHES = (
    "the key in an error", "a prefix of the key will do", "409 for a finished batch", "identifiers in any case",
    "a 404 says where the batch is", "the machine keeps the key", "only Bearer with a capital", "500 on an emoji",
    "406 for XML", "a body names the batch", "under load, one gets the task of another", "FastAPI's detail",
)  # fmt: skip


def _command(proxy: str) -> str | None:
    return shutil.which(PROXIES[proxy][0], path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextlib.contextmanager
def before(name: str, url: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Run a proxy before a server on this machine.

    Yields:
        The base URL to use, and the file with the certificate of the authority that signed the proxy's.
    """
    _, arguments, text, inside = PROXIES[name]
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(
        str(folder / "both.pem")
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    values = {"folder": str(folder), "port": str(port), "to": url.rpartition(":")[2]}
    path = folder / "proxy.conf"
    path.write_text(text % {**{key: value % values for key, value in inside.items()}, **values})
    log = (folder / "proxy.log").open("w")
    environment = {**os.environ, "HOME": str(folder)}
    with (
        log,
        subprocess.Popen(
            [str(_command(name)), *arguments, str(path)], stdout=log, stderr=log, env=environment, cwd=folder
        ) as proxy,
    ):
        try:
            _wait(proxy, port, folder / "proxy.log")
            yield f"https://127.0.0.1:{port}{inside.get('prefix', '/').rstrip('/')}", folder / "ca.pem"
        finally:
            proxy.terminate()


def _wait(proxy: subprocess.Popen[bytes], port: int, log: Path) -> None:
    give_up = time.monotonic() + 15
    while time.monotonic() < give_up and proxy.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"The proxy did not start: {log.read_text()}")


@pytest.fixture(params=PROXIES)
def proxy(request: pytest.FixtureRequest) -> str:
    """The name of a proxy that is installed."""
    name: str = request.param
    return name if _command(name) else pytest.skip(f"{name}: {PROXIES[name][0]} is not installed")


def behind(proxy: str, mutant: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Run everything against a mutant behind a proxy."""
    with process(mutant, folder) as (config, key):
        first, *others = config.read_text().splitlines()
        with before(proxy, first.partition('"')[2].rstrip('"'), folder) as (url, authority):
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
            config.write_text("\n".join([f'base_url = "{url}"', *others]))
            target = load(config, {"MIXPEEK_API_KEY": key})
            return run(target, 1, until=MUTANTS[mutant].clauses if mutant in MUTANTS else ())


def test_no_false_alarm(proxy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a proxy does on its own account breaks no clause, and makes no difference between mock and real."""
    report = behind(proxy, "none", tmp_path, monkeypatch)
    assert [(result.clause.name, result.breach) for result in report.having("broken")] == []
    assert not report.stopped
    assert [attrs.evolve(one, curl="") for one in compare(report)] == []


@pytest.mark.parametrize("mutant", BREACHES)
def test_breach_is_noticed(proxy: str, mutant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is noticed without a proxy is noticed behind one."""
    report = behind(proxy, mutant, tmp_path, monkeypatch)
    assert {result.clause for result in report.having("broken")} & {*MUTANTS[mutant].clauses}
