"""Clients are recognised, sent somewhere, and told what to trust."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from countersign.errors import UserError
from countersign.scenarios.running.clients import (
    UNKNOWN,
    Place,
    Way,
    environment,
    family_named,
    family_of,
    filled,
    placeholders,
)

PLACE = Place(
    way=Way.CONNECT,
    host="instance.lab.test",
    port=443,
    proxy="127.0.0.1:8443",
    ca=Path("/tmp/ca.pem"),
    trust_store=Path("/tmp/ca.p12"),
    store_password="changeit",
    client_cert=Path("/tmp/client.pem"),
    client_key=Path("/tmp/client.key"),
    client_store=Path("/tmp/client.p12"),
    hosts=Path("/tmp/hosts"),
    wgetrc=Path("/tmp/wgetrc"),
)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("curl -s {url}", "curl"),
        ("/usr/local/bin/curl {url}", "curl"),
        ("env A=b -i timeout 5 curl {url}", "curl"),
        ("timeout -k 1s 10 nice -n5 curl {url}", "curl"),
        ("wget -q {url}", "gnutls"),
        ("gnutls-cli -p {port} {host}", "gnutls"),
        ("openssl s_client -connect {host}:{port}", "openssl"),
        ("python3.12 client.py", "python"),
        ("/opt/venv/bin/python -m requests", "python"),
        ("pytest tests", "python"),
        ("node app.js", "node"),
        ("java -jar client.jar", "java"),
        ("./gradlew test", "java"),
        ("java -cp bcprov.jar:. Client", "java-bc"),
        ("java -Dorg.bouncycastle.fips=fips:BC -cp bctls.jar Client", "java-fips"),
        ("go run .", "go"),
        ("git ls-remote {url}", "gnutls"),
        ("./run-the-tests.sh", None),
        ("curly {url}", None),
        ("env", None),
    ],
)
def test_the_family_is_told_by_the_program(line: str, name: str | None) -> None:
    assert family_of(line.split()).name == name


def test_a_family_can_be_named_where_the_program_does_not_tell() -> None:
    assert family_named("Java").name == "java"
    assert family_named("gnutls-cli").title == "gnutls-cli"
    assert (family_named("java-fips").name, family_named("Java-BC").name) == ("java-fips", "java-bc")
    with pytest.raises(UserError, match=r"--family takes curl, wget, .*; got 'cobol'"):
        family_named("cobol")


@pytest.mark.parametrize(
    ("word", "becomes"),
    [
        ("{{url}}", "{url}"),
        ("{{foo}}", "{foo}"),
        ("${url}", "${url}"),
        ("${HOME}/x", "${HOME}/x"),
        ('{"a":{"port":{port}}}', '{"a":{"port":443}}'),
        ("{a,b}{}{1}{readFileSync}{.Names}", "{a,b}{}{1}{readFileSync}{.Names}"),
        ("curl {url} | awk '{print}'", "curl https://instance.lab.test:443/ | awk '{print}'"),
        ("print(f'{answer} {{port}} {{answer}} {host}')", "print(f'{answer} {port} {{answer}} instance.lab.test')"),
    ],
)
def test_braces_that_are_no_placeholders_reach_the_client(word: str, becomes: str) -> None:
    assert filled([word], PLACE) == (becomes,)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("{foo}", r"no placeholder \{foo\}\. There are \{url\} \{host\}"),
        ("https://{hots}:{port}/", r"no placeholder \{hots\}; did you mean \{host\}\? There are"),
        ("--cacert={cacert}", r"\{cacert\}.* itself, write \{\{cacert\}\}$"),
    ],
)
def test_a_placeholder_that_there_is_not_is_a_mistake(word: str, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        filled(["curl", word], PLACE)
    with pytest.raises(UserError, match=hint):
        placeholders(["curl", word])


def test_placeholders_are_filled_in_and_other_braces_stay() -> None:
    argv = ["x", "{url}", "--at={host}:{port}", '{"json": "{ca}"}', "{proxy}", "{no thing}", "{client_cert}"]
    assert filled(argv, PLACE) == (
        "x",
        "https://instance.lab.test:443/",
        "--at=instance.lab.test:443",
        '{"json": "/tmp/ca.pem"}',
        "127.0.0.1:8443",
        "{no thing}",
        "/tmp/client.pem",
    )
    assert placeholders(argv) == {"url", "host", "port", "ca", "proxy", "client_cert"}


def test_what_would_turn_a_client_aside_is_taken_away() -> None:
    aside = {
        "NO_PROXY": "*", "no_proxy": "localhost", "HTTP_PROXY": "x", "ALL_PROXY": "y", "SSL_CERT_DIR": "/etc/ssl",
        "NODE_TLS_REJECT_UNAUTHORIZED": "0", "GIT_SSL_NO_VERIFY": "1", "SSLKEYLOGFILE": "/tmp/keys",
    }  # fmt: skip
    env = environment({"HOME": "/root", **aside}, PLACE)
    assert not set(env) & (set(aside) - {"HTTPS_PROXY"})
    assert env["HOME"] == "/root"
    assert env["HTTPS_PROXY"] == env["https_proxy"] == "http://127.0.0.1:8443"


def test_every_kind_of_client_is_told_what_to_trust() -> None:
    env = environment({}, PLACE)
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO"):
        assert env[name] == "/tmp/ca.pem"
    assert env["WGETRC"] == "/tmp/wgetrc"


def test_a_client_that_is_sent_straight_is_told_of_no_proxy() -> None:
    env = environment({"https_proxy": "http://old:3128"}, replace(PLACE, way=Way.REVERSE))
    assert not [name for name in env if name.lower().endswith("_proxy") and name != "NODE_USE_ENV_PROXY"]
    assert "proxyHost" not in env["JAVA_TOOL_OPTIONS"]


def test_a_jvm_gets_both_proxies_an_empty_exception_and_names_of_its_own() -> None:
    options = environment({"JAVA_TOOL_OPTIONS": "-Xmx64m"}, PLACE)["JAVA_TOOL_OPTIONS"].split(" ")
    assert options[0] == "-Xmx64m"
    assert {
        "-Dhttp.proxyHost=127.0.0.1",
        "-Dhttp.proxyPort=8443",
        "-Dhttps.proxyHost=127.0.0.1",
        "-Dhttps.proxyPort=8443",
        "-Dhttp.nonProxyHosts=",
        "-Djdk.net.hosts.file=/tmp/hosts",
        "-Djavax.net.ssl.trustStore=/tmp/ca.p12",
        "-Djavax.net.ssl.trustStorePassword=changeit",
        "-Djavax.net.ssl.keyStore=/tmp/client.p12",
    } <= set(options)


def test_an_option_with_a_blank_in_it_is_quoted_for_the_jvm() -> None:
    place = replace(PLACE, trust_store=Path("/tmp/a b/ca.p12"))
    assert '"-Djavax.net.ssl.trustStore=/tmp/a b/ca.p12"' in environment({}, place)["JAVA_TOOL_OPTIONS"]


def test_the_unknown_family_has_no_name_and_obeys_a_proxy() -> None:
    assert (UNKNOWN.name, UNKNOWN.way) == (None, Way.CONNECT)
