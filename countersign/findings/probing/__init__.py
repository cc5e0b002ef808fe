"""A server looked at from outside: what it shows, what it offers, and what a client needs to reach it.

Two kinds of connections are made. One is a whole handshake, as the machine's own Python makes it, opened with its key
log and decoded like any capture (:mod:`.handshaking`): the chain, the request for a client certificate, ALPN. The
others are hellos of our own making that offer one thing at a time (:mod:`.offering`): a ServerHello or an alert is
answer enough to know which versions, suites and groups there are, and no key is ever agreed on.
"""

from countersign.findings.probing.model import CertificateLook, Plan, Probe, Seen
from countersign.findings.probing.probing import census, probe, verdict_on

__all__ = ["CertificateLook", "Plan", "Probe", "Seen", "census", "probe", "verdict_on"]
