"""What is in a bundle: everything that somebody needs who was not there, and nothing that opens what was sent."""

from __future__ import annotations

import io
import json
import platform
import ssl
import sys
import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

from countersign import __version__
from countersign.errors import AnswerIsNo
from countersign.findings.diagnosing import diagnose
from countersign.findings.diagnosing.showing import show
from countersign.findings.pages import recording_page
from countersign.recorder.files.ladder import render_ladder
from countersign.recorder.files.pcapng import export_pcapng
from countersign.recorder.files.pem import export_pem
from countersign.recorder.recording import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from countersign.findings.bundling.pseudonyms import Pseudonyms
    from countersign.recorder.recording import Recording

_WIDTH = 120


def bundle(recording: Recording, *, history: Sequence[Recording] = (), pseudonyms: Pseudonyms | None = None) -> bytes:
    """The zip's bytes: ladder, page, JSON, pcapng, chain, findings, environment, and what was left out.

    Secrets are never in it, whatever the recording keeps. With ``pseudonyms`` hosts, names and addresses are others.
    """
    diagnosis = diagnose(recording, history=history)
    bare = replace(recording, legs=tuple(replace(leg, secrets=()) for leg in recording.legs))
    if pseudonyms is not None:
        others = [pseudonyms.redacted(one) for one in history]
        bare = pseudonyms.redacted(bare)
        diagnosis = diagnose(bare, history=others)
    files = {
        "README.txt": _readme(recording, bare, pseudonyms),
        "ladder.txt": render_ladder(bare, width=_WIDTH),
        "recording.html": recording_page(bare, diagnosis).decode(),
        "recording.json": json.dumps(to_json(bare), indent=2) + "\n",
        "findings.txt": show(diagnosis, width=_WIDTH),
        "findings.json": json.dumps(diagnosis.to_json(), indent=2) + "\n",
        "environment.json": json.dumps(_environment(), indent=2) + "\n",
    }
    try:
        files["chain.pem"] = export_pem(bare)
    except AnswerIsNo as why:
        files["chain.txt"] = f"{why}\n"
    out = io.BytesIO()
    folder = f"countersign-{bare.id}"
    when = bare.started.timetuple()[:6]
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, text in files.items():
            packed.writestr(zipfile.ZipInfo(f"{folder}/{name}", when), text.encode(), zipfile.ZIP_DEFLATED)
        capture = zipfile.ZipInfo(f"{folder}/recording.pcapng", when)
        packed.writestr(capture, export_pcapng(bare), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _readme(recording: Recording, bare: Recording, pseudonyms: Pseudonyms | None) -> str:
    lines = [
        f"Recording {bare.id} of {bare.started:%Y-%m-%d %H:%M:%S} UTC, made by countersign {__version__}.",
        "",
        bare.outcome.text,
        "",
        "ladder.txt        what was said, message by message",
        "recording.html    the same as a page",
        "recording.json    everything that was recorded",
        "recording.pcapng  for Wireshark and tshark (its secrets are made up for it: they open this file alone)",
        "findings.txt      what broke it, and what to do",
        "chain.pem         the certificates that were shown",
        "environment.json  where the bundle was made",
        "",
        "Left out or changed:",
        "- application data is never recorded",
    ]
    kept = sum(len(leg.secrets) for leg in recording.legs)
    lines.append(f"- {kept} secrets that the recording keeps" if kept else "- no secrets: the recording keeps none")
    if pseudonyms is None:
        lines.append("- names of hosts and certificates are as they were (--redact gives them pseudonyms)")
        return "\n".join(lines) + "\n"
    lines += [f"- {count} x {kind}: pseudonyms" for kind, count in sorted(pseudonyms.counts.items())]
    lines += [
        "- so signatures of certificates and of the handshake do not hold any more, and hashes are others;",
        "  lengths, order, dates, keys, extensions and everything else are as they were",
        "- the same name has the same pseudonym in all bundles of this home, so they can be compared",
    ]
    return "\n".join(lines) + "\n"


def _environment() -> dict[str, str]:
    return {
        "countersign": __version__,
        "python": sys.version.split()[0],
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "openssl_of_python": ssl.OPENSSL_VERSION,
    }
