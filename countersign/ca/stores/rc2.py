"""RC2 in CBC mode (RFC 2268), for PKCS #12 files that hide their certificates under 40 bits of it.

Java 8 and ``openssl pkcs12 -legacy`` write such files to this day. The library at hand has RC2 with 128 bits alone
and is about to drop it, and 40 bits protect nothing: this is for reading what exists and for writing what old
programs read.
"""

from __future__ import annotations

_BLOCK = 8
_ROUNDS = ("mix",) * 5 + ("mash",) + ("mix",) * 6 + ("mash",) + ("mix",) * 5
_SHIFTS = (1, 2, 3, 5)


# PITABLE of section 2, made from the digits of pi.
_PI = bytes.fromhex(
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2"
    "179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0bf09521225c6b4e82"
    "54d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb626"
    "6fbf0eda4669075727f21d9bbc944303f811c7f690ef3ee706c3d52fc8661ed7"
    "08e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ec"
    "c2e0416e0f51cbcc2491af50a1f47039997c3a8523b8b47afc02365b25559731"
    "2d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9"
    "0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"
)


def _expand(key: bytes, bits: int) -> list[int]:
    """Section 2: 64 words from the key, of which ``bits`` bits count."""
    expanded = bytearray(key)
    for at in range(len(key), 128):
        expanded.append(_PI[(expanded[at - 1] + expanded[at - len(key)]) & 0xFF])
    size = (bits + 7) // 8
    expanded[128 - size] = _PI[expanded[128 - size] & 0xFF >> (8 * size - bits)]
    for at in range(127 - size, -1, -1):
        expanded[at] = _PI[expanded[at + 1] ^ expanded[at + size]]
    return [int.from_bytes(expanded[at : at + 2], "little") for at in range(0, 128, 2)]


def _decrypt_block(words: list[int], block: bytes) -> bytes:
    """Section 4."""
    r = [int.from_bytes(block[at : at + 2], "little") for at in range(0, 8, 2)]
    key = 63
    for kind in reversed(_ROUNDS):
        if kind == "mix":
            for i in (3, 2, 1, 0):
                shift = _SHIFTS[i]
                value = (r[i] >> shift | r[i] << 16 - shift) & 0xFFFF
                r[i] = value - words[key] - (r[i - 1] & r[i - 2]) - (~r[i - 1] & r[i - 3]) & 0xFFFF
                key -= 1
        else:
            for i in (3, 2, 1, 0):
                r[i] = r[i] - words[r[i - 1] & 63] & 0xFFFF
    return b"".join(word.to_bytes(2, "little") for word in r)


def _encrypt_block(words: list[int], block: bytes) -> bytes:
    """Section 3."""
    r = [int.from_bytes(block[at : at + 2], "little") for at in range(0, 8, 2)]
    key = 0
    for kind in _ROUNDS:
        if kind == "mix":
            for i in range(4):
                value = r[i] + words[key] + (r[i - 1] & r[i - 2]) + (~r[i - 1] & r[i - 3]) & 0xFFFF
                r[i] = (value << _SHIFTS[i] | value >> 16 - _SHIFTS[i]) & 0xFFFF
                key += 1
        else:
            for i in range(4):
                r[i] = r[i] + words[r[i - 1] & 63] & 0xFFFF
    return b"".join(word.to_bytes(2, "little") for word in r)


def decrypt(key: bytes, bits: int, iv: bytes, data: bytes) -> bytes:
    """CBC; ``data`` in whole blocks, padding left on."""
    words, before, out = _expand(key, bits), int.from_bytes(iv), bytearray()
    for at in range(0, len(data), _BLOCK):
        block = data[at : at + _BLOCK]
        out += (int.from_bytes(_decrypt_block(words, block)) ^ before).to_bytes(_BLOCK)
        before = int.from_bytes(block)
    return bytes(out)


def encrypt(key: bytes, bits: int, iv: bytes, data: bytes) -> bytes:
    """CBC; ``data`` padded to whole blocks already."""
    words, before, out = _expand(key, bits), int.from_bytes(iv), bytearray()
    for at in range(0, len(data), _BLOCK):
        block = _encrypt_block(words, (int.from_bytes(data[at : at + _BLOCK]) ^ before).to_bytes(_BLOCK))
        out += block
        before = int.from_bytes(block)
    return bytes(out)
