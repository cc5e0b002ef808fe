"""Changes a draft as its spec says: field by field, and nothing else."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from countersign.ca import assemble, keys, pieces
from countersign.ca.draft import Draft, part
from countersign.ca.pieces import EXTENSIONS
from countersign.ca.recipes.model import BasicConstraints, NameConstraints, RecipeError
from countersign.ca.signer import ALGORITHMS
from countersign.recorder import der
from countersign.recorder.certificates import key_usages
from countersign.recorder.der import DerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from countersign.ca.randomness import Rng
    from countersign.ca.recipes.model import CertSpec

Value = bytes | Literal[False]
"""What stands in an extension, or that it is left out."""

_CRITICAL = {"basic_constraints", "key_usage", "name_constraints"}  # what RFC 5280 wants critical where it is put anew


def filled(texts: Iterable[str], host: str) -> tuple[str, ...]:
    """``texts`` with the host for ``{name}`` and its domain for ``{parent}``."""
    parent = host.partition(".")[2] or host
    return tuple(text.replace("{name}", host).replace("{parent}", parent) for text in texts)


def change(draft: Draft, spec: CertSpec, *, host: str, now: datetime, rng: Rng) -> None:
    """Put into ``draft`` what ``spec`` says of fields and extensions; subject, key and issuer are there already."""
    if spec.issuer_name is not None:
        draft.issuer = _name(spec.issuer_name, host)
    if spec.version is not None:
        draft.version = _version(spec.version)
    if spec.serial is not None:
        draft.serial = spec.serial
    _change_dates(draft, spec, now)
    if spec.public_key is not None:
        draft.public_key = spec.public_key
    if spec.extensions is False:
        draft.extensions = []
    for word, value in _values(spec, host, now, rng):
        if value is False:
            draft.drop(EXTENSIONS[word])
        else:
            there = draft.find(EXTENSIONS[word])
            draft.put(EXTENSIONS[word], value, critical=there.critical if there else word in _CRITICAL)
    if spec.more_key_usage:
        _add_key_usage(draft, spec.more_key_usage)
    draft.extensions += [part(each.oid, each.value, critical=each.critical) for each in spec.extra]
    _change_flags(draft, spec)
    for word in spec.twice:
        twin = draft.find(number(word))
        if twin is None:
            raise RecipeError(f"cannot put {word} into a certificate twice: it is not there once")
        draft.extensions.append(twin)


def check(spec: CertSpec) -> None:
    """Raise :class:`~countersign.errors.UserError` for a value that could be put into no certificate."""
    if spec.key is not None:
        keys.key_kind(spec.key)
    for named in (spec.inner_algorithm, spec.outer_algorithm):
        if isinstance(named, str):
            named_algorithm(named, "")
    if spec.signature is not None and not any(spec.signature in schemes for schemes in ALGORITHMS.values()):
        known = dict.fromkeys(scheme for schemes in ALGORITHMS.values() for scheme in schemes)
        raise RecipeError(f"cannot sign with {spec.signature!r}: expected {', '.join(known)}")
    pieces.key_usage(spec.more_key_usage)
    if isinstance(spec.subject, tuple):
        _name(spec.subject, "host.test")
    for word in (*spec.twice, *spec.critical, *spec.not_critical):
        number(word)
    for each in spec.extra:
        pieces.dotted(each.oid, "an extension")
    bare = replace(spec, twice=(), critical=(), not_critical=())
    change(_nothing(), bare, host="host.test", now=datetime(2026, 1, 1, tzinfo=UTC), rng=bytes)


def _nothing() -> Draft:
    dates = assemble.validity_der(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    return Draft(serial=1, issuer=b"", validity=dates, subject=b"", public_key=b"")


def named_algorithm(named: str, own: str) -> bytes:
    """An AlgorithmIdentifier (DER) by its scheme: ``sha384`` of the ``own`` type of key, ``rsa:sha256`` of another.

    With no type of its own, a scheme of any will do.
    """
    kind, found, scheme = named.partition(":")
    tables = [ALGORITHMS[each] for each in ([kind] if found else [own] if own else ALGORITHMS) if each in ALGORITHMS]
    for schemes in tables:
        if (scheme if found else named) in schemes:
            return schemes[scheme if found else named]
    known = ", ".join(ALGORITHMS.get(own) or ALGORITHMS["rsa"])
    raise RecipeError(
        f"cannot name the signature algorithm {named!r}: expected {known}, "
        "or rsa:sha256, ec:sha256, ed25519:ed25519 and the like for another type of key"
    )


def number(word: str) -> str:
    """The object identifier of an extension, by its word or its number."""
    return EXTENSIONS.get(word) or pieces.dotted(word, f"an extension ({', '.join(EXTENSIONS)})")


def _name(words: tuple[str, ...] | bytes, host: str) -> bytes:
    return words if isinstance(words, bytes) else pieces.name(filled(words, host))


def _version(version: int | bytes) -> bytes:
    """RFC 5280 4.1.2.1: version 1 is the default, and left out."""
    if isinstance(version, bytes):
        return version
    return b"" if version == 1 else der.encode(0xA0, der.encode_integer(version - 1))


def _change_dates(draft: Draft, spec: CertSpec, now: datetime) -> None:
    if spec.validity is not None:
        draft.validity = spec.validity
        return
    if spec.not_before is None and spec.not_after is None:
        return
    try:
        before, after = (each.raw for each in der.exactly(2, der.first_piece(draft.validity).body, "a Validity"))
    except DerError:  # of a target: what it does not say it cannot keep
        before = after = der.encode(der.UTC_TIME)
    draft.validity = assemble.validity_der(
        before if spec.not_before is None else pieces.moment(spec.not_before, now),
        after if spec.not_after is None else pieces.moment(spec.not_after, now),
    )


def _add_key_usage(draft: Draft, more: tuple[str, ...]) -> None:
    """One that is not there or cannot be read (a target's) stays as it is."""
    there = draft.find(assemble.KEY_USAGE)
    if there is not None:
        with contextlib.suppress(DerError):
            value = pieces.key_usage((*key_usages(there.value), *more))
            draft.put(assemble.KEY_USAGE, value, critical=there.critical)


def _change_flags(draft: Draft, spec: CertSpec) -> None:
    """Set or clear ``critical``, whatever the RFC wants of the extension."""
    for words, critical in ((spec.critical, True), (spec.not_critical, False)):
        for word in words:
            there = draft.find(number(word))
            if there is None:
                raise RecipeError(f"cannot make {word} {'' if critical else 'not '}critical: it is not there")
            draft.put(there.oid, there.value, critical=critical)


def _values(spec: CertSpec, host: str, now: datetime, rng: Rng) -> Iterable[tuple[str, Value]]:
    """The extensions that are otherwise."""
    if spec.san is not None or spec.more_names:
        yield "san", _names(spec, host)
    match spec.basic_constraints:
        case BasicConstraints(ca=ca, path_length=length):
            yield "basic_constraints", assemble.basic_constraints_value(ca=ca, path_length=length)
        case (bytes() | False) as value:
            yield "basic_constraints", value
    lists: tuple[tuple[str, tuple[str, ...] | Value | None, Callable[[tuple[str, ...]], bytes]], ...] = (
        ("key_usage", spec.key_usage, pieces.key_usage),
        ("extended_key_usage", spec.extended_key_usage, pieces.extended_key_usage),
        ("policies", spec.policies, pieces.policies),
        ("crl", spec.crl, pieces.crl_points),
    )
    for word, given, encode in lists:
        if given is not None:
            yield word, encode(filled(given, host)) if isinstance(given, tuple) else given
    match spec.name_constraints:
        case NameConstraints(permitted=permitted, excluded=excluded):
            both = ([assemble.constraint_base(each) for each in filled(one, host)] for one in (permitted, excluded))
            yield "name_constraints", assemble.subtrees(*both)
        case (bytes() | False) as value:
            yield "name_constraints", value
    if spec.ski is not None:
        yield "ski", assemble.key_id_value(_hex(spec.ski)) if isinstance(spec.ski, str) else spec.ski
    if spec.aki is not None:
        yield "aki", assemble.issuer_key_id_value(_hex(spec.aki)) if isinstance(spec.aki, str) else spec.aki
    if spec.ocsp is not None or spec.ca_issuers is not None:
        ocsp, ca_issuers = filled(spec.ocsp or (), host), filled(spec.ca_issuers or (), host)
        yield "aia", pieces.authority_info_access(ocsp, ca_issuers) if ocsp or ca_issuers else False
    if spec.must_staple is not None:
        yield "must_staple", pieces.MUST_STAPLE if spec.must_staple is True else spec.must_staple
    match spec.scts:
        case (bytes() | False) as value:
            yield "scts", value
        case int() as count:
            yield "scts", pieces.scts(count, now, rng)


def _names(spec: CertSpec, host: str) -> Value:
    """The alternative names, made-up ones behind those that are given (or behind the host)."""
    if spec.san is False or isinstance(spec.san, bytes):
        return spec.san
    names = filled(("{name}",) if spec.san is None else spec.san, host)
    return pieces.alternative_names((*names, *(f"host-{each}.{host}" for each in range(1, spec.more_names + 1))))


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise RecipeError(f"cannot read the key identifier {text!r}: expected pairs of hexadecimal digits") from None
