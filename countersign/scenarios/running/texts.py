"""What clients say when something goes wrong, and what it means: the words of OpenSSL, GnuTLS, Java, Node and others.

A line is understood by a phrase in it; of several meanings the first counts, so what is more telling stands higher.
Nothing is concluded from these words: the verdict comes from the recording, and the words stand beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MEANINGS: dict[str, tuple[str, ...]] = {
    # Before any TLS
    "a port that it wants for itself is taken": ("address already in use", "eaddrinuse"),
    "it does not find the host's address": (
        "could not resolve host", "name or service not known", "enotfound", "unknownhostexception", "eai_again",
        "no such host", "temporary failure in name resolution", "unable to resolve host",
    ),
    "nobody listens where it went": ("connection refused", "econnrefused"),
    "the proxy gave it no tunnel": (
        "proxy authentication required", "response 407", "connect tunnel failed", "tunnel connection failed",
        "unable to tunnel through proxy", "proxy connect aborted", "proxy tunneling failed", "clienthttpproxyerror",
        "proxyerror",
    ),
    # Dates
    "a certificate has expired": (
        "certificate has expired", "cert_has_expired", "certificateexpiredexception", "notafter:",
        "expired certificate", "certificate expired",
    ),
    "a certificate is not valid yet": (
        "not yet valid", "cert_not_yet_valid", "certificatenotyetvalidexception", "notbefore:", "not yet activated",
    ),
    "a certificate is not valid at this time": ("validity check failed", "expired or is not yet valid"),
    # Names
    "the certificate is for another name": (
        "no alternative certificate subject name matches", "hostname mismatch", "doesn't match", "host name mismatch",
        "err_tls_cert_altname_invalid", "no subject alternative", "https hostname wrong", "no name matching",
        "name in the certificate does not", "owner does not match", "ip address mismatch", "certificate is valid for",
    ),
    # Revocation
    "a certificate is revoked": (
        "certificate revoked", "certificaterevokedexception", "cert_revoked", "has been revoked",
        "was revoked", "certificate_revoked",
    ),
    "it could not find out whether a certificate is revoked": (
        "unable to determine revocation status", "could not determine revocation status", "ocsp revoke check",
        "does not specify ocsp responder", "no crls found",
    ),
    "the OCSP answer that comes with the certificate is missing or wrong": (
        "ssl_invalidcertstatus", "no ocsp response", "ocsp response", "certificate status",
    ),
    # Trust
    "it does not trust the root that was sent": (
        "self-signed certificate in certificate chain", "self signed certificate in certificate chain",
        "self_signed_cert_in_chain",
    ),
    "it does not trust a certificate that vouches for itself": (
        "self-signed certificate", "self signed certificate", "depth_zero_self_signed_cert",
    ),
    "it finds no way to a root that it trusts: that one is not in its store, or a certificate between is missing": (
        "unable to get local issuer certificate", "unable_to_get_issuer_cert", "unable to verify the first certificate",
        "unable_to_verify_leaf_signature", "unable to find valid certification path", "no issuer certificate for",
        "unable to find certificate chain", "issuer is unknown", "unknown authority", "isn't trusted", "is not trusted",
        "not trusted", "not signed by known authorities", "unable to get issuer certificate",
        "doesn't have a known issuer", "path building failed", "server certificate verification failed",
    ),
    "there are more authorities in the chain than one of them allows": (
        "path length constraint", "pathlenconstraint", "path_length", "too many intermediate", "chain too long",
        "certificate chain too long",
    ),
    "an authority of the chain may not speak for this name": (
        "permitted subtree", "excluded subtree", "name constraint", "not permitted to sign",
    ),
    "a certificate is not meant for this use": (
        "certificate purpose", "extended key usage", "extendedkeyusage", "invalid_purpose", "incompatible key usage",
        "keyusage", "key usage", "inappropriate certificate",
    ),
    "a certificate that signs is not one of an authority": (
        "invalid ca certificate", "basic constraints", "basicconstraints", "not a ca", "invalid_ca",
    ),
    "a key or signature algorithm is too weak for it": (
        "key too small", "key too weak", "too weak", "insecure algorithm", "disabled algorithm",
        "algorithm constraints check failed",
    ),
    "a signature is wrong": (
        "signature failure", "cert_signature_failure", "signature check failed", "signatureexception", "bad signature",
        "invalid signature", "signature does not match", "decrypt error", "decrypt_error",
    ),
    "there is a critical extension that it does not know": (
        "unhandled critical", "unrecognized critical", "unknown critical",
    ),
    # Client certificates
    "the other side refuses its certificate, or misses one": (
        "certificate required", "certificate_required", "alert bad certificate", "alert certificate unknown",
        "alert unsupported certificate", "alert unknown ca", "received fatal alert: bad_certificate",
        "received fatal alert: certificate_unknown", "received fatal alert: unknown_ca",
        "received fatal alert: unsupported_certificate", "received fatal alert: certificate_expired",
    ),
    # Protocol
    "there is no protocol version that both take, or what answered is no TLS": (
        "unsupported protocol", "alert protocol version", "protocol_version", "no protocols available",
        "wrong version number", "no appropriate protocol", "inappropriate fallback", "inappropriate_fallback",
        "downgrade",
    ),
    "there is nothing that both take (cipher, group, signature), or a certificate is missing": (
        "no shared cipher", "handshake failure", "handshake_failure", "no ciphers available", "no suitable",
        "insufficient security", "insufficient_security", "wrong cipher returned", "wrong signature type",
    ),
    "what came is no TLS": (
        "unsupported or unrecognized ssl message", "packet length", "not an ssl", "does not look like a tls",
    ),
    "the handshake was broken in its middle": (
        "record overflow", "record_overflow", "bad record mac", "bad_record_mac", "decryption failed", "record length",
        "unexpected message", "unexpected_message", "decode error", "decode_error", "illegal parameter",
        "illegal_parameter", "tlsv1 alert", "sslv3 alert", "fatal alert", "internal error", "internal_error",
        "unsolicited extension", "unexpected packet",
    ),
    # The connection
    "it waited too long": ("timed out", "timeout", "etimedout", "time-out"),
    "the connection was reset": (
        "connection reset", "connection was reset", "econnreset", "recv failure", "broken pipe", "epipe",
    ),
    "the connection ended too early": (
        "unexpected eof", "eof occurred in violation", "ssl_error_syscall", "closed by remote", "closed by peer",
        "remote host terminated", "peer closed", "socket hang up", "non-properly terminated", "empty reply",
        "premature", "transfer closed", "incompleteread", "aborted", "server disconnected", "unexpectedly closed",
        "closed connection", "closed the connection", "end of file", "eofexception", "socket disconnected",
    ),
    "the handshake failed, and the reason was swallowed": ("peer not authenticated",),
}  # fmt: skip

_COMPLAINS = re.compile(r"error|exception|fail|cannot|could not|unable|refused|fatal|\*\*\*", re.IGNORECASE)
_STACK = re.compile(r"\s+(at |\.\.\. \d+ more)")
_TRACEBACK = re.compile(r"^([ |]*)  File \"[^\n]*\n(?:\1    [^\n]*(?:\n|$))*", re.MULTILINE)
"""A frame of Python's: where it is, and the program's line, which is not what the program says."""
_ECHOED = re.compile(r"^(NOTE: )?Picked up \w+_OPTIONS:.*\n?", re.MULTILINE)
_MOST_LINES = 4
_LONGEST_LINE = 400


@dataclass(frozen=True, slots=True)
class Said:
    """A line of a client, and what it means where that is known."""

    line: str
    meaning: str | None


def meaning_of(line: str) -> str | None:
    """What an error line means, in plain words; None where that is not known."""
    folded = line.lower()
    return next((meaning for meaning, phrases in _MEANINGS.items() if any(each in folded for each in phrases)), None)


def what_it_said(output: str, errors: str) -> tuple[Said, ...]:
    """The lines in which a client tells what went wrong: the first of each meaning, else those that complain, else the
    last one among its errors.
    """
    said, printed = (
        [
            line.strip()[:_LONGEST_LINE]
            for line in _TRACEBACK.sub("", text).splitlines()
            if line.strip() and not _STACK.match(line)
        ]
        for text in (without_echo(errors), output)
    )
    lines = said + printed
    understood: dict[str, Said] = {}
    for line in lines:
        if (meaning := meaning_of(line)) is not None:
            understood.setdefault(meaning, Said(line, meaning))
    others = dict.fromkeys(Said(line, None) for line in lines if _COMPLAINS.search(line))
    others = others or dict.fromkeys(Said(line, None) for line in said[-1:])
    return tuple(understood.values() or others)[:_MOST_LINES]


def without_echo(text: str) -> str:
    """The output less what a JVM says of the options that it was given, a password among them."""
    return _ECHOED.sub("", text)
