"""The kinds of handshakes that are held against other witnesses: who speaks, how, and what must come of it.

A :class:`Kind` is one row: the target's and the client's settings, and under ``shows`` what proves that the
conversation was of this kind. The conversations themselves are had by :mod:`tests.peers.witness`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.hazmat.primitives.serialization import Encoding

from countersign.proxy import Identity
from countersign.recorder.recording import LegRole, Status
from tests.peers.certs import SERVER_NAMES
from tests.peers.curl import curl
from tests.peers.java import java_client
from tests.peers.openssl import VERSION_ARGS, OpensslServer, openssl_client, parse_msg
from tests.peers.openssl4 import ModernServer, modern_client
from tests.peers.process import Background, run
from tests.peers.witness import KEYLOGS, witness

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.peers.certs import Issued, Lab
    from tests.peers.openssl import Msg
    from tests.peers.witness import Scene, Target, Witnessed

LAB_NAME = "server.lab.test"
HOSTS = {LAB_NAME: "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Shows:
    """What a leg must turn out to be. ``counts`` is how often each message type comes, of those that are named."""

    version: str | None = None
    cipher: str | None = None
    group: str | None = None
    alpn: str | None = None
    resumed: bool | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


class Outcome(NamedTuple):
    status: Status = Status.ESTABLISHED
    broken_by: str | None = None
    leg: str | None = None
    alert: str | None = None


ESTABLISHED = Outcome()


@dataclass(frozen=True, slots=True)
class Kind:
    """``both`` is shown by the last connection's two legs, ``client`` and ``server`` by one of them."""

    name: str
    client: Callable[[Scene], Sequence[Msg] | None]
    both: Shows = Shows()
    client_leg: Shows = Shows()
    server_leg: Shows = Shows()
    outcome: Outcome = ESTABLISHED
    leaf: Callable[[Lab], Issued] = lambda lab: lab.server
    target_args: tuple[str, ...] = ()
    target: Mapping[str, Any] = field(default_factory=dict)
    target_is: Callable[..., AbstractContextManager[Target]] = OpensslServer
    identity: Callable[[Lab], Issued] | None = None
    sessions: int = 1
    peers: tuple[str, ...] = ("openssl",)

    def happen(self, lab: Lab, folder: Path) -> Witnessed:
        """Have this conversation."""
        given = dict(self.target)
        if given.pop("asks", None):
            given["verify_ca"] = lab.root_pem
        target = self.target_is(self.leaf(lab), *self.target_args, keylog=folder / KEYLOGS[LegRole.SERVER], **given)
        identity = None if self.identity is None else _identity(self.identity(lab))
        return witness(
            self.client,
            target,
            folder,
            target_root=lab.root_pem,
            sessions=self.sessions,
            roots=(lab.root.certificate.public_bytes(Encoding.DER),),
            identity=identity,
        )


def _identity(issued: Issued) -> Identity:
    chain = (issued.certificate, *issued.issuers[:-1])
    return Identity(tuple(c.public_bytes(Encoding.DER) for c in chain), issued.key)


# -- clients -------------------------------------------------------------------------------------------------------


def openssl(*args: str, trusting: bool = True, **options: Any) -> Callable[[Scene], Sequence[Msg]]:
    """``openssl s_client`` that says hello and hears it reversed, so that all that came before was read."""

    def client(scene: Scene) -> Sequence[Msg]:
        ca = scene.root if trusting else scene.target_root
        said: dict[str, Any] = {"send": b"hello\n", "until": r"^olleh$", "ca": ca, "keylog": scene.keylog}
        return openssl_client(scene.address, *args, **(said | options)).messages

    return client


def openssl_twice(*args: str, **options: Any) -> Callable[[Scene], Sequence[Msg]]:
    """The second time with the session of the first."""

    def client(scene: Scene) -> Sequence[Msg]:
        session = str(scene.folder / "session.pem")
        first = openssl(*args, "-sess_out", session, **options)(scene)
        return [*first, *openssl(*args, "-sess_in", session, **options)(scene)]

    return client


def openssl_dialogue(*steps: tuple[str, str, str, str], version: str) -> Callable[[Scene], Sequence[Msg]]:
    """Each step: who types (``client`` or ``target``) what, and on whose terminal what has to show up then."""

    def client(scene: Scene) -> Sequence[Msg]:
        words = ("-connect", scene.address, "-msg", "-servername", "localhost", "-CAfile", scene.root)
        with Background("openssl", "s_client", *words, *VERSION_ARGS[version], "-keylogfile", scene.keylog) as s_client:
            s_client.wait_for(r"^---\n(?s:.*)Verify return code: 0")
            for who, typed, whose, shown in steps:
                if who == "target":
                    scene.target.command(typed)
                else:
                    s_client.say(f"{typed}\n".encode())
                (scene.target if whose == "target" else s_client).wait_for(shown)
            s_client.hang_up()
            s_client.wait(10)
            return parse_msg(s_client.stop().stdout, "client")

    return client


def a_request_by_curl(*args: str) -> Callable[[Scene], None]:
    def client(scene: Scene) -> None:
        answer = curl(f"https://localhost:{scene.port}/", *args, ca=scene.root, keylog=scene.keylog)
        assert answer.status == 200, answer.completed

    return client


def a_request_by_gnutls(priority: str) -> Callable[[Scene], None]:
    def client(scene: Scene) -> None:
        words = ("--priority", priority, "--x509cafile", scene.root, "-p", str(scene.port), "localhost")
        with Background("gnutls-cli", *words, env={"SSLKEYLOGFILE": str(scene.keylog)}) as gnutls:
            gnutls.wait_for("Handshake was completed")
            gnutls.say(b"hello\n")
            gnutls.wait_for("^olleh$")
            gnutls.hang_up()
            gnutls.wait(10)

    return client


NODE_CLIENT = """
const [port, ca, proto] = process.argv.slice(1);
const versions = {minVersion: proto, maxVersion: proto};
const where = {port, host: 'localhost', family: 4, ca: require('fs').readFileSync(ca)};
require('https').get({...where, ...versions}, (answer) => {
  answer.on('data', () => {}).on('end', () => console.log(answer.statusCode));
}).on('error', (error) => console.log(error.code));
"""


def node_says(scene: Scene, protocol: str, *, ca: Path | None = None) -> str:
    """What ``https.get`` of node prints: the status, or the error's code."""
    words = (f"--tls-keylog={scene.keylog}", "-e", NODE_CLIENT, str(scene.port), ca or scene.root, protocol)
    return run("node", *words, timeout=20).check().stdout.strip()


def a_request_by_node(protocol: str) -> Callable[[Scene], None]:
    def client(scene: Scene) -> None:
        assert node_says(scene, protocol) == "200"

    return client


def a_request_by_a_jvm(protocol: str) -> Callable[[Scene], None]:
    def client(scene: Scene) -> None:
        store = scene.jvm_trust
        url = f"https://{LAB_NAME}:{scene.port}/"
        done = java_client(url, truststore=store, hosts=HOSTS, protocols=[protocol])
        assert done.ok, done.completed

    return client


def a_word_by_openssl_4(groups: str) -> Callable[[Scene], None]:
    def client(scene: Scene) -> None:
        assert modern_client(scene.port, groups=groups, ca=scene.root, keylog=scene.keylog)

    return client


# -- targets -------------------------------------------------------------------------------------------------------


class DheServer(OpensslServer):
    """One that has parameters for ephemeral Diffie-Hellman, which the others do without."""

    def __init__(self, identity: Issued, *args: Any, **options: Any) -> None:
        super().__init__(identity, *args, **options)
        self._process.args = tuple(word for word in self._process.args if word != "-no_dhe")


def a_leaf(key: Any, *more_names: str) -> Callable[[Lab], Issued]:
    return lambda lab: lab.issue(*SERVER_NAMES, *more_names, key=key)


def under_many_authorities(lab: Lab) -> Issued:
    signer = lab.root
    for number in range(6):
        signer = lab.issue(common_name=f"Authority {number}", signer=signer, ca=True, key="rsa-2048")
    return lab.issue(*SERVER_NAMES, signer=signer)


def a_stranger(lab: Lab) -> Issued:
    """A client certificate of nobody's CA."""
    return lab.issue(common_name="Stranger", signer=None, usages=("client",))


# -- the kinds -----------------------------------------------------------------------------------------------------


def _version(version: str, name: str, **more: Any) -> Kind:
    """Everything as the defaults of this version are."""
    said = "TLSv1.0" if version == "TLSv1" else version
    both = Shows(version=said, counts={"change_cipher_spec": 2, "finished": 2, "alert": 2})
    return Kind(name, openssl(version=version), both, target={"version": version}, **more)


def _suite(name: str, cipher: str, iana: str, **more: Any) -> Kind:
    """TLS 1.2 with this one suite."""
    counts = {"server_key_exchange": 0 if iana.startswith("TLS_RSA") else 1, "client_key_exchange": 1}
    both = Shows(version="TLSv1.2", cipher=iana, counts=counts)
    return Kind(name, openssl("-cipher", cipher, version="TLSv1.2"), both, **more)


def _suite13(name: str, suite: str, **more: Any) -> Kind:
    """TLS 1.3 with this one suite."""
    client = openssl("-ciphersuites", suite, version="TLSv1.3")
    both = Shows(version="TLSv1.3", cipher=suite)
    return Kind(name, client, both, target_args=("-ciphersuites", suite), **more)


def _by(name: str, peer: str, client: Callable[[Scene], None], version: str, *more: str) -> Kind:
    """Another program as the client."""
    www = {} if peer == "gnutls-cli" else {"mode": "www"}
    return Kind(name, client, Shows(version=version), target=www, peers=("openssl", peer, *more))


def _asked(name: str, version: str, *, asks: int = 1, **more: Any) -> Kind:
    """The target asks for a client certificate; the client is not asked for its own."""
    return Kind(
        name,
        openssl(version=version),
        client_leg=Shows(counts={"certificate_request": 0}),
        server_leg=Shows(version=version, counts={"certificate_request": asks}),
        **more,
    )


GOOD_RSA = a_leaf("rsa-2048")
NO_TICKET = ("-no_ticket",)
REFUSED_BY_CLIENT = Outcome(Status.FAILED, "client", "client", "unknown_ca")

KINDS = [
    _version("TLSv1", "tls10"),
    _version("TLSv1.1", "tls11", leaf=GOOD_RSA),
    _version("TLSv1.2", "tls12"),
    _version("TLSv1.3", "tls13"),
    # Suites and key exchanges
    _suite("rsa-key-exchange", "AES256-GCM-SHA384", "TLS_RSA_WITH_AES_256_GCM_SHA384", leaf=GOOD_RSA),
    _suite(
        "dhe-rsa-gcm",
        "DHE-RSA-AES128-GCM-SHA256",
        "TLS_DHE_RSA_WITH_AES_128_GCM_SHA256",
        leaf=GOOD_RSA,
        target_is=DheServer,
    ),
    _suite(
        "ecdhe-rsa-cbc-encrypt-then-mac",
        "ECDHE-RSA-AES128-SHA256",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        leaf=GOOD_RSA,
    ),
    Kind(
        "ecdhe-rsa-cbc-mac-then-encrypt",
        openssl("-cipher", "ECDHE-RSA-AES256-SHA384", "-no_etm", version="TLSv1.2"),
        Shows(cipher="TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384"),
        leaf=GOOD_RSA,
        target_args=("-no_etm",),
    ),
    _suite("ecdhe-ecdsa-gcm", "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    _suite(
        "ecdhe-ecdsa-ccm",
        "ECDHE-ECDSA-AES128-CCM",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CCM",
        target_args=("-cipher", "ECDHE-ECDSA-AES128-CCM"),
    ),
    _suite(
        "ecdhe-rsa-chacha20",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        leaf=GOOD_RSA,
    ),
    _suite13("tls13-aes128-gcm", "TLS_AES_128_GCM_SHA256"),
    _suite13("tls13-chacha20", "TLS_CHACHA20_POLY1305_SHA256"),
    _suite13("tls13-ccm", "TLS_AES_128_CCM_SHA256"),
    _suite13("tls13-ccm8", "TLS_AES_128_CCM_8_SHA256"),
    # Groups
    Kind(
        "hello-retry-request",
        openssl("-groups", "X25519:P-384", version="TLSv1.3"),
        Shows(group="secp384r1", counts={"client_hello": 2, "hello_retry_request": 1, "server_hello": 1}),
        target={"groups": "P-384"},
    ),
    Kind(
        "ffdhe2048",
        openssl("-groups", "ffdhe2048", version="TLSv1.3"),
        Shows(group="ffdhe2048", counts={"hello_retry_request": 0}),
        target={"groups": "ffdhe2048"},
    ),
    Kind(
        "post-quantum-hybrid",
        a_word_by_openssl_4("X25519MLKEM768:X25519"),
        Shows(version="TLSv1.3", group="X25519MLKEM768"),
        target_is=ModernServer,
        target={"groups": "X25519MLKEM768:X25519"},
        peers=(),
    ),
    # Leaves
    *(
        Kind(f"{key}-leaf-{name}", openssl(version=version), Shows(version=version), leaf=a_leaf(key))
        for key in ("rsa-3072", "ec-p384", "ed25519")
        for name, version in (("tls12", "TLSv1.2"), ("tls13", "TLSv1.3"))
    ),
    Kind(
        "big-certificate",
        openssl(version="TLSv1.3"),
        leaf=a_leaf("ec-p256", *(f"tenant-{n:04}.a-name-of-some-length.lab.test" for n in range(500))),
    ),
    Kind("long-chain", openssl(version="TLSv1.3"), leaf=under_many_authorities),
    # Client certificates
    _asked("client-certificate-absent-tls12", "TLSv1.2", target={"asks": True, "require_client_cert": False}),
    _asked("client-certificate-absent-tls13", "TLSv1.3", target={"asks": True, "require_client_cert": False}),
    *(
        Kind(
            f"client-certificate-presented-{name}",
            openssl(version=version),
            client_leg=Shows(counts={"certificate_request": 0, "certificate": 1}),
            server_leg=Shows(counts={"certificate_request": 1, "certificate": 2, "certificate_verify": verifies}),
            target={"asks": True, "version": version},
            identity=lambda lab: lab.client,
        )
        for name, version, verifies in (("tls10", "TLSv1", 1), ("tls12", "TLSv1.2", 1), ("tls13", "TLSv1.3", 2))
    ),
    _asked(
        "client-certificate-required-tls12",
        "TLSv1.2",
        target={"asks": True},
        outcome=Outcome(Status.FAILED, "target", "server", "handshake_failure"),
    ),
    _asked(
        "client-certificate-required-tls13",
        "TLSv1.3",
        target={"asks": True},
        outcome=Outcome(Status.FAILED, "target", "server", "certificate_required"),
    ),
    _asked(
        "client-certificate-refused-tls13",
        "TLSv1.3",
        target={"asks": True},
        identity=a_stranger,
        outcome=Outcome(Status.FAILED, "target", "server", "unknown_ca"),
    ),
    # Resumption, on both sides
    Kind(
        "resumed-by-session-id",
        openssl_twice(*NO_TICKET, version="TLSv1.2"),
        client_leg=Shows(resumed=True, counts={"certificate": 0, "new_session_ticket": 0}),
        server_leg=Shows(resumed=True),
        sessions=2,
    ),
    Kind(
        "resumed-by-ticket",
        openssl_twice(version="TLSv1.2"),
        client_leg=Shows(resumed=True, counts={"certificate": 0}),
        server_leg=Shows(resumed=True),
        sessions=2,
    ),
    Kind(
        "resumed-by-psk",
        openssl_twice(version="TLSv1.3"),
        client_leg=Shows(resumed=True, counts={"certificate": 0}),
        server_leg=Shows(resumed=True),
        sessions=2,
    ),
    # After the handshake
    *(
        Kind(
            f"{count}-tickets",
            openssl(version="TLSv1.3"),
            client_leg=Shows(counts={"new_session_ticket": 2}),
            server_leg=Shows(counts={"new_session_ticket": count}),
            target_args=("-num_tickets", str(count)),
        )
        for count in (0, 7)
    ),
    Kind(
        "key-update-by-client",
        openssl_dialogue(
            ("client", "K", "client", "KEYUPDATE"),
            ("client", "hello", "client", "^olleh$"),
            ("client", "k", "client", r"KEYUPDATE\n(?s:.*)KEYUPDATE"),
            ("client", "once more", "client", "^erom ecno$"),
            version="TLSv1.3",
        ),
        client_leg=Shows(counts={"key_update": 3}),
        server_leg=Shows(counts={"key_update": 0}),
    ),
    Kind(
        "key-update-by-target",
        openssl_dialogue(
            ("target", "a word", "client", "^a word$"),
            ("target", "K", "target", "^>>> .*KeyUpdate"),
            ("target", "a second word", "client", "^a second word$"),
            ("client", "an answer", "target", "^an answer$"),
            ("target", "k", "target", "^>>> .*KeyUpdate(?s:.*)^>>> .*KeyUpdate"),
            ("target", "a third word", "client", "^a third word$"),
            version="TLSv1.3",
        ),
        client_leg=Shows(counts={"key_update": 0}),
        server_leg=Shows(counts={"key_update": 3}),
        target={"mode": "plain"},
    ),
    Kind(
        "renegotiation-by-target",
        openssl_dialogue(
            ("target", "r", "target", "SSL_do_handshake -> 1"),
            ("client", "hello", "target", "^hello$"),
            ("target", "a word", "client", "^a word$"),
            version="TLSv1.2",
        ),
        client_leg=Shows(counts={"client_hello": 1}),
        server_leg=Shows(counts={"hello_request": 1, "client_hello": 2, "finished": 4, "change_cipher_spec": 4}),
        target={"mode": "plain"},
    ),
    Kind(
        "renegotiation-by-client",
        openssl_dialogue(
            ("client", "hello", "client", "^olleh$"),
            ("client", "R", "client", "^>>> .*Alert"),
            version="TLSv1.2",
        ),
        client_leg=Shows(counts={"client_hello": 2}),
        server_leg=Shows(counts={"client_hello": 1}),
    ),
    # Extensions
    Kind("alpn-h2", openssl("-alpn", "h2,http/1.1"), Shows(alpn="h2"), target_args=("-alpn", "h2,http/1.1")),
    Kind(
        "alpn-refused",
        openssl("-alpn", "h2"),
        target_args=("-alpn", "http/1.1"),
        outcome=Outcome(Status.FAILED, "target", "server", "no_application_protocol"),
    ),
    Kind("no-sni", openssl(name=None), client_leg=Shows(version="TLSv1.3")),
    Kind("no-middlebox-compatibility", openssl("-no_middlebox"), client_leg=Shows(counts={"change_cipher_spec": 1})),
    Kind("small-fragments", openssl("-maxfraglen", "512")),
    Kind("status-request-tls12", openssl("-status", version="TLSv1.2"), Shows(counts={"certificate_status": 0})),
    Kind("status-request-tls13", openssl("-status", version="TLSv1.3")),
    # Refusals
    Kind("client-refuses-tls12", openssl(trusting=False, version="TLSv1.2"), outcome=REFUSED_BY_CLIENT),
    Kind("client-refuses-tls13", openssl(trusting=False, version="TLSv1.3"), outcome=REFUSED_BY_CLIENT),
    Kind(
        "target-speaks-no-tls13",
        openssl(version="TLSv1.3"),
        target={"version": "TLSv1.2"},
        outcome=Outcome(Status.FAILED, "target", "server", "protocol_version"),
    ),
    # Other clients
    _by("curl-tls12", "curl", a_request_by_curl("--tls-max", "1.2"), "TLSv1.2"),
    _by("curl-tls13", "curl", a_request_by_curl("--tlsv1.3"), "TLSv1.3"),
    _by("gnutls-tls12", "gnutls-cli", a_request_by_gnutls("NORMAL:-VERS-ALL:+VERS-TLS1.2"), "TLSv1.2"),
    _by("gnutls-tls13", "gnutls-cli", a_request_by_gnutls("NORMAL:-VERS-ALL:+VERS-TLS1.3"), "TLSv1.3"),
    _by("node-tls12", "node", a_request_by_node("TLSv1.2"), "TLSv1.2"),
    _by("node-tls13", "node", a_request_by_node("TLSv1.3"), "TLSv1.3"),
    _by("jvm-tls12", "java", a_request_by_a_jvm("TLSv1.2"), "TLSv1.2", "javac", "keytool"),
    _by("jvm-tls13", "java", a_request_by_a_jvm("TLSv1.3"), "TLSv1.3", "javac", "keytool"),
]
