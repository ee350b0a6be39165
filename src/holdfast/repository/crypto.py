"""Authenticated encryption as restic defines it: `IV(16) || AES-256-CTR ciphertext || Poly1305-AES MAC(16)`.

Rules upheld here:
- The MAC is checked before a single byte is decrypted.
- Every sealing draws a fresh random IV. The Poly1305 one-time key is `r || AES-128(k, IV)`.
- Key material never shows in a repr.

Source: restic doc/design.rst, "Keys, Encryption and MAC"; Bernstein, "The Poly1305-AES message-authentication code".
"""

from __future__ import annotations

import os
import threading

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305

from holdfast.store.base import Bytes

IV_SIZE = 16
MAC_SIZE = 16
OVERHEAD = IV_SIZE + MAC_SIZE
"""Bytes that sealing adds to a plaintext."""

_KEY_SIZE = 64


class AuthenticationError(Exception):
    """The bytes were not sealed with this key, or were changed since. Callers raise an error that names the object."""


class MasterKey:
    """The key of a repository: 32 bytes for AES-256, 16 for AES-128 of the MAC (k), 16 for Poly1305 (r)."""

    __slots__ = ("_contexts", "_encrypt", "_mac_k", "_mac_r")

    def __init__(self, encrypt: bytes, mac_k: bytes, mac_r: bytes) -> None:
        if (len(encrypt), len(mac_k), len(mac_r)) != (32, 16, 16):
            raise ValueError("key material has the wrong length")
        self._encrypt, self._mac_k, self._mac_r = encrypt, mac_k, mac_r
        # Making a Cipher costs 32 µs, as much as sealing 50 KB: one pair per thread is kept and re-keyed by nonce.
        self._contexts = threading.local()

    def __repr__(self) -> str:
        return "MasterKey(…)"

    @classmethod
    def generate(cls) -> MasterKey:
        """A new random key."""
        return cls.from_bytes(os.urandom(_KEY_SIZE))

    @classmethod
    def from_bytes(cls, material: bytes) -> MasterKey:
        """A key from 64 bytes: AES-256 key, k, r — the order in which scrypt's output is used."""
        return cls(material[:32], material[32:48], material[48:64])

    def seal(self, plaintext: Bytes) -> bytes:
        """Encrypt and authenticate: len(plaintext) + 32 bytes."""
        iv = os.urandom(IV_SIZE)
        encryptor, _, _ = self._ciphers()
        encryptor.reset_nonce(iv)
        ciphertext = encryptor.update(plaintext)
        return b"".join((iv, ciphertext, Poly1305.generate_tag(self._one_time_key(iv), ciphertext)))

    def open(self, sealed: Bytes) -> bytes:
        """Check and decrypt. Raises: AuthenticationError."""
        view = memoryview(sealed)
        if len(view) < OVERHEAD:
            raise AuthenticationError("shorter than its own overhead")
        iv, ciphertext, mac = bytes(view[:IV_SIZE]), view[IV_SIZE:-MAC_SIZE], bytes(view[-MAC_SIZE:])
        try:
            Poly1305.verify_tag(self._one_time_key(iv), ciphertext, mac)
        except InvalidSignature as error:
            raise AuthenticationError("its authentication code does not match") from error
        _, decryptor, _ = self._ciphers()
        decryptor.reset_nonce(iv)
        return decryptor.update(ciphertext)

    def to_json(self) -> bytes:
        """The key as restic stores it, sealed by a user key, in a key file."""
        return msgspec.json.encode({"mac": {"k": self._mac_k, "r": self._mac_r}, "encrypt": self._encrypt})

    @classmethod
    def from_json(cls, data: bytes) -> MasterKey:
        """The reverse of `to_json`. Raises: ValueError, msgspec.DecodeError."""
        stored = msgspec.json.decode(data, type=_StoredKey)
        return cls(stored.encrypt, stored.mac.k, stored.mac.r)

    def _one_time_key(self, iv: bytes) -> bytes:
        return self._mac_r + self._ciphers()[2].update(iv)

    def _ciphers(self) -> tuple[CipherContext, CipherContext, CipherContext]:
        try:
            found: tuple[CipherContext, CipherContext, CipherContext] = self._contexts.ciphers
        except AttributeError:
            zero = bytes(IV_SIZE)
            data = Cipher(AES(self._encrypt), CTR(zero))
            # ECB of single blocks is AES itself, which is what Poly1305-AES asks for.
            nonce = Cipher(AES(self._mac_k), ECB()).encryptor()  # noqa: S305  one block, as the MAC is defined
            found = self._contexts.ciphers = (data.encryptor(), data.decryptor(), nonce)
        return found


class _StoredMac(msgspec.Struct):
    k: bytes
    r: bytes


class _StoredKey(msgspec.Struct):
    mac: _StoredMac
    encrypt: bytes
