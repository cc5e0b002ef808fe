"""Dialogues of each protocol, as real clients and servers speak them, up to the ClientHello."""

from __future__ import annotations

from countersign.recorder.wire.events import Side

C, S = Side.CLIENT, Side.SERVER
Turn = tuple[Side, bytes]

HELLO = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"
SECRET = b"aHVudGVyMg=="

NS = b"urn:ietf:params:xml:ns:xmpp-tls"
_STREAM = b"<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:%b' to='a' version='1.0'>"
_MYSQL_TAIL = b"\x21\x02\x00\xff\xc1\x15" + bytes(10) + b"x" * 12 + b"\0caching_sha2_password\0"


def mysql_packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((number,)) + payload


def mysql_greeting(*, flags: int = 0xFFFF) -> bytes:
    body = b"\x0a8.0.33\0" + b"\x08\0\0\0" + b"abcdefgh\0" + flags.to_bytes(2, "little") + _MYSQL_TAIL
    return mysql_packet(0, body)


MYSQL_SSL_REQUEST = mysql_packet(1, b"\x85\xae\xff\x19" + bytes(4) + b"\x21" + bytes(23))
MYSQL_LOGIN = b"\x85\xa6\xff\x19" + bytes(28) + b"root\0" + SECRET
SSL_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f"
GSSENC_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x30"

LDAP_BIND = b"\x30\x20\x02\x01\x01\x60\x1b\x02\x01\x03\x04\x08cn=admin\x80\x0c" + SECRET
LDAP_BIND_NO = b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x0d\x04\x00\x04\x00"
LDAP_START_TLS = b"\x30\x1d\x02\x01\x02\x77\x18\x80\x161.3.6.1.4.1.1466.20037"
LDAP_LONG_FORM = b"\x30\x84\x00\x00\x00\x1d\x02\x01\x02\x77\x18\x80\x161.3.6.1.4.1.1466.20037"


def ldap_answer(code: int, number: int = 2) -> bytes:
    return b"\x30\x0c\x02\x01" + bytes((number,)) + b"\x78\x07\x0a\x01" + bytes((code,)) + b"\x04\x00\x04\x00"


DIALOGUES: dict[str, list[Turn]] = {
    "smtp": [
        (S, b"220 mx.test ESMTP\r\n"),
        (C, b"EHLO me.test\r\n"),
        (S, b"250-mx.test\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 8BITMIME\r\n"),
        (C, b"AUTH PLAIN " + SECRET + b"\r\n"),
        (S, b"530 5.7.0 Must issue a STARTTLS command first\r\n"),
        (C, b"AUTH LOGIN\r\n"),
        (S, b"334 VXNlcm5hbWU6\r\n"),
        (C, SECRET + b"\r\n"),
        (S, b"535 no\r\n"),
        (C, b"STARTTLS\r\n"),
        (S, b"220 2.0.0 Ready to start TLS\r\n"),
    ],
    "smtp with a message before": [
        (S, b"220-mx.test\r\n220 ESMTP\r\n"),
        (C, b"HELO me\r\n"),
        (S, b"250 mx\r\n"),
        (C, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"),
        (S, b"250 ok\r\n250 ok\r\n354 go on\r\n"),
        (C, b"Subject: x\r\n\r\nSTARTTLS\r\n..\r\n.\r\nRSET\r\n"),
        (S, b"250 queued\r\n250 ok\r\n"),
        (C, b"BDAT 10\r\nSTARTTLS\r\nBDAT 2 LAST\r\n.\nNOOP\r\n"),
        (S, b"250 10\r\n250 2\r\n250 ok\r\n"),
        (C, b"starttls\r\n"),
        (S, b"220 go\r\n"),
    ],
    "lmtp": [
        (S, b"220 mx LMTP\r\n"),
        (C, b"LHLO me\r\n"),
        (S, b"250-mx\r\n250 STARTTLS\r\n"),
        (C, b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<e@f>\r\nRCPT TO:<no@f>\r\nDATA\r\n"),
        (S, b"250 ok\r\n250 ok\r\n250 ok\r\n550 no\r\n354 go on\r\n"),
        (C, b".\r\nSTARTTLS\r\n"),
        (S, b"250 c\r\n250 e\r\n220 go\r\n"),
    ],
    "imap": [
        (S, b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n"),
        (C, b". CAPABILITY\r\n"),
        (S, b"* CAPABILITY IMAP4rev1 STARTTLS\r\n. OK done\r\n"),
        (C, b"a1 LOGIN {5}\r\n"),
        (S, b"+ go on\r\n"),
        (C, b"a2 ST {12}\r\n"),
        (S, b"* 1 FETCH {22}\r\na1 OK STARTTLS\r\na2 OK\r\n)\r\n+ go on\r\n"),
        (C, SECRET + b"\r\n"),
        (S, b"a1 NO not before TLS\r\n"),
        (C, b"a2 LOGIN me {99}\r\n"),
        (S, b"a2 BAD too long\r\n"),
        (C, b"a3 AUTHENTICATE PLAIN\r\n"),
        (S, b"+ \r\n"),
        (C, SECRET + b"\r\n"),
        (S, b"a3 NO\r\n"),
        (C, b"a4 STARTTLS\r\n"),
        (S, b"* OK by the way\r\na4 OK begin TLS\r\n"),
    ],
    "pop3": [
        (S, b"+OK POP3 ready\r\n"),
        (C, b"CAPA\r\n"),
        (S, b"+OK list follows\r\nSTLS\r\nUIDL\r\n.\r\n"),
        (C, b"AUTH\r\n"),
        (S, b"+OK\r\nPLAIN\r\n.\r\n"),
        (C, b"AUTH PLAIN\r\n"),
        (S, b"+ \r\n"),
        (C, SECRET + b"\r\n"),
        (S, b"-ERR not before TLS\r\n"),
        (C, b"USER me\r\nPASS " + SECRET + b"\r\n"),
        (S, b"+OK\r\n-ERR no\r\n"),
        (C, b"STLS\r\n"),
        (S, b"+OK begin\r\n"),
    ],
    "ftp": [
        (S, b"220-Welcome\r\n  230 to this\r\n220 server\r\n"),
        (C, b"FEAT\r\n"),
        (S, b"211-Features:\r\n AUTH TLS\r\n211 End\r\n"),
        (C, b"USER me\r\n"),
        (S, b"331 password\r\n"),
        (C, b"PASS " + SECRET + b"\r\n"),
        (S, b"150 wait\r\n530 no\r\n"),
        (C, b"AUTH TLS\r\n"),
        (S, b"234 proceed\r\n"),
    ],
    "ftp pipelined": [
        (S, b"120 soon\r\n220 server\r\n"),
        (C, b"NOOP\r\nAUTH SSL\r\n"),
        (S, b"150 wait\r\n200 ok\r\n234 proceed\r\n"),
    ],
    "ldap": [
        (C, LDAP_BIND),
        (S, LDAP_BIND_NO),
        (C, LDAP_START_TLS),
        (S, ldap_answer(0)),
    ],
    "ldap in long form": [(C, LDAP_LONG_FORM), (S, ldap_answer(0))],
    "postgres": [(C, SSL_REQUEST), (S, b"S")],
    "postgres after gssapi": [(C, GSSENC_REQUEST), (S, b"N"), (C, SSL_REQUEST), (S, b"S")],
    "mysql": [(S, mysql_greeting()), (C, MYSQL_SSL_REQUEST)],
    "mysql before 4.1": [(S, mysql_greeting()), (C, mysql_packet(1, b"\x05\x08\0\0\0"))],
    "xmpp": [
        (C, b"<?xml version='1.0'?>" + _STREAM % b"client"),
        (S, b"<?xml version='1.0'?>" + _STREAM % b"client"),
        (S, b"<stream:features><starttls xmlns='" + NS + b"'><required/></starttls><mechanisms xmlns='urn:x'>"
            b"<mechanism>PLAIN</mechanism></mechanisms></stream:features>"),
        (C, b"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>" + SECRET + b"</auth>"),
        (S, b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><encryption-required/></failure>"),
        (C, b"<message><starttls xmlns='" + NS + b"'/></message> \n<starttls xmlns='" + NS + b"'/>"),
        (S, b"<proceed xmlns='" + NS + b"'/>"),
    ],
    "xmpp between servers": [
        (C, _STREAM % b"server"),
        (S, _STREAM % b"server" + b"<stream:features><starttls xmlns='" + NS + b"'/></stream:features>"),
        (C, b'<t:starttls xmlns:t="' + NS + b'"><!-- odd --></t:starttls>'),
        (S, b'<proceed xmlns="' + NS + b'"></proceed>'),
    ],
}  # fmt: skip

REFUSALS: dict[str, tuple[list[Turn], str]] = {
    "smtp": ([(S, b"220 mx\r\n"), (C, b"STARTTLS\r\n"), (S, b"454 4.7.0 TLS not available\r\n")], "454 4.7.0"),
    "imap": ([(S, b"* OK\r\n"), (C, b"a STARTTLS\r\n"), (S, b"a BAD unknown\r\n")], "a BAD unknown"),
    "pop3": ([(S, b"+OK\r\n"), (C, b"STLS\r\n"), (S, b"-ERR unknown\r\n")], "-ERR unknown"),
    "ftp": ([(S, b"220 ftp\r\n"), (C, b"AUTH TLS\r\n"), (S, b"504 no\r\n")], "504 no"),
    "ldap": ([(C, LDAP_START_TLS), (S, ldap_answer(2))], "extendedResponse 2"),
    "postgres": ([(C, SSL_REQUEST), (S, b"N")], "N to the SSLRequest"),
    "xmpp": (
        [*DIALOGUES["xmpp"][:2], (C, b"<starttls xmlns='" + NS + b"'/>"), (S, b"<failure xmlns='" + NS + b"'/>")],
        "<failure/>",
    ),
}  # fmt: skip
