"""The small formats: what is written reads back, what is changed is refused."""

from __future__ import annotations

import os
import random

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.errors import CorruptObject, UnsafeName
from holdfast.model.entry import Kind
from holdfast.model.ids import BlobId
from holdfast.repository.blobs import Compressor, blob_id, open_blob, open_blobs
from holdfast.repository.chunker import MAX_SIZE, MIN_SIZE, cut_buffer, cut_stream
from holdfast.repository.crypto import AuthenticationError, MasterKey
from holdfast.repository.extract import Fetched, read_ranges
from holdfast.repository.gofields import format_time, go_mode, parse_time, quote, unix_mode, unquote
from holdfast.repository.index import Location
from holdfast.repository.objects import Folder, key_of
from holdfast.repository.pack import BlobKind, PackBuilder, parse_header
from holdfast.repository.polynomial import is_irreducible, random_irreducible
from holdfast.repository.repository import Repository
from tests.support.memory_store import MemoryStore
from tests.support.repositories import new_repository_on

KEY = MasterKey.generate()


@given(st.binary(max_size=5000))
def test_sealed_bytes_open(plaintext: bytes) -> None:
    sealed = KEY.seal(plaintext)
    assert len(sealed) == len(plaintext) + 32
    assert KEY.open(sealed) == plaintext


@given(st.binary(max_size=200), st.data())
def test_any_changed_bit_is_refused(plaintext: bytes, data: st.DataObject) -> None:
    sealed = bytearray(KEY.seal(plaintext))
    position = data.draw(st.integers(0, len(sealed) - 1))
    sealed[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(AuthenticationError):
        KEY.open(sealed)


def test_mac_is_poly1305_aes_by_hand() -> None:
    """The construction again, in integers, from Bernstein's definition."""
    material = os.urandom(64)
    key = MasterKey.from_bytes(material)
    sealed = key.seal(b"some plaintext that spans more than one block of sixteen bytes")
    iv, ciphertext, mac = sealed[:16], sealed[16:-16], sealed[-16:]
    r = int.from_bytes(material[48:], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(ciphertext), 16):
        total = (total + int.from_bytes(ciphertext[at : at + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    pad = Cipher(AES(material[32:48]), ECB()).encryptor().update(iv)  # noqa: S305  one block, as the MAC is defined
    assert ((total + int.from_bytes(pad, "little")) % (1 << 128)).to_bytes(16, "little") == mac


def test_key_does_not_show_itself() -> None:
    material = os.urandom(64)
    assert material[:8].hex() not in repr(MasterKey.from_bytes(material))


_names = st.binary(min_size=1, max_size=60).filter(lambda n: n not in (b".", b"..") and not set(n) & {0, 47})


@given(_names)
def test_names_survive_quoting(name: bytes) -> None:
    quoted = quote(name)
    quoted.encode()  # JSON can hold it
    assert unquote(quoted) == name


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (b"plain name", "plain name"),
        ("日本".encode(), "日本"),
        (b'a"b\\c', r"a\"b\\c"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"a\nb\tc\x07\x01\x7f", r"a\nb\tc\a\x01\x7f"),
        ("\u00a0\u200b\U000e0001".encode(), r"\u00a0\u200b\U000e0001"),
        (b"x\xed\xa0\x80", r"x\xed\xa0\x80"),
    ],
)
def test_quoting_is_go_s(name: bytes, quoted: str) -> None:
    """Expected values as printed by Go's strconv.Quote."""
    assert quote(name) == quoted


@pytest.mark.parametrize("quoted", ["", ".", "..", "a/b", "/", r"\x2f", r"..\x2f..", r"\x00", r"\056\056"])
def test_names_that_lead_elsewhere_are_refused(quoted: str) -> None:
    with pytest.raises(UnsafeName):
        unquote(quoted)


@pytest.mark.parametrize("quoted", ["\\", "a\\", r"\xg0", r"\ud800", r"\U00110000", r"\777", r"\q"])
def test_bad_quoting_is_named(quoted: str) -> None:
    with pytest.raises(CorruptObject):
        unquote(quoted)


@given(st.integers(-62135596800 * 10**9, 253402300799 * 10**9))
def test_times_survive(ns: int) -> None:
    assert parse_time(format_time(ns)) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000),
        ("2022-11-24T12:00:00.123456789-05:30", 1669311000123456789),
        ("0001-01-01T00:00:00Z", -62135596800 * 10**9),
    ],
)
def test_times_of_others_are_read(text: str, ns: int) -> None:
    assert parse_time(text) == ns


@given(st.sampled_from(list(Kind)), st.integers(0, 0o7777))
def test_modes_survive(kind: Kind, mode: int) -> None:
    assert unix_mode(go_mode(kind, mode)) == mode


def _pack(blobs: list[bytes]) -> tuple[bytes, list[tuple[BlobId, bytes]]]:
    builder, compressor = PackBuilder(BlobKind.DATA), Compressor()
    for blob in blobs:
        packed = compressor.compress(blob)
        builder.add(blob_id(blob), KEY.seal(blob if packed is None else packed), 0 if packed is None else len(blob))
    return bytes(builder.finish(KEY)), [(blob_id(blob), blob) for blob in blobs]


@given(st.lists(st.binary(max_size=300) | st.integers(1, 50).map(lambda n: b"again " * n), max_size=20))
def test_packs_read_back(blobs: list[bytes]) -> None:
    data, wanted = _pack(blobs)
    length = int.from_bytes(data[-4:], "little")
    header = parse_header(KEY, data[-4 - length : -4], len(data), "pack")
    opened = [
        (
            b.id,
            open_blob(KEY, data[b.offset : b.offset + b.length], b.id, Location("p", b.offset, b.length, b.raw_length)),
        )
        for b in header
    ]
    assert opened == wanted


def test_header_that_does_not_add_up_is_refused() -> None:
    data, _ = _pack([b"one", b"two"])
    length = int.from_bytes(data[-4:], "little")
    with pytest.raises(CorruptObject, match="header that lists"):
        parse_header(KEY, data[-4 - length : -4], len(data) + 1, "pack")


@given(st.binary(max_size=200))
def test_any_header_bytes_give_blobs_or_corrupt_object(header: bytes) -> None:
    with pytest.raises(CorruptObject, match="pack"):
        parse_header(KEY, KEY.seal(header), 1 << 40, "pack")


def test_frame_that_claims_more_is_refused() -> None:
    bomb = Compressor().compress(bytes(50_000_000))
    assert bomb is not None
    sealed = KEY.seal(bomb)
    with pytest.raises(CorruptObject, match="claim"):
        open_blob(KEY, sealed, BlobId(bytes(32)), Location("p", 0, len(sealed), 1000))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 40), st.integers(50_000, 5_000_000))
def test_cuts_depend_on_content_alone(seed: int, step: int) -> None:
    data = random.Random(seed).randbytes(200_000) * 25 + random.Random(seed + 1).randbytes(20_000_000)
    pieces = [bytes(chunk) for chunk in cut_stream(_Slow(data, step))]
    assert b"".join(pieces) == data
    assert pieces == [bytes(chunk) for chunk in cut_buffer(data)]
    assert all(MIN_SIZE <= len(piece) <= MAX_SIZE for piece in pieces[:-1])


class _Slow:
    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step, self._at = data, step, 0

    def read(self, size: int, /) -> bytes:
        piece = self._data[self._at : self._at + min(size, self._step)]
        self._at += len(piece)
        return piece

    def close(self) -> None:
        return None


def test_polynomials_are_irreducible() -> None:
    assert is_irreducible(0x3DA3358B4DC173)  # the one in restic's own tests
    assert not is_irreducible(0b101)  # x^2 + 1 is the square of x + 1
    assert not is_irreducible(0x3DA3358B4DC173 << 1)
    found = random_irreducible()
    assert found.bit_length() == 54
    assert is_irreducible(found)


def test_many_small_blobs_are_stored_and_read_as_one_by_one() -> None:
    repository = new_repository_on(MemoryStore())
    pieces = [*(bytes([number]) * 5000 + os.urandom(100) for number in range(40)), os.urandom(3000), b"x" * 9, b"x" * 9]
    with repository.writer() as blobs:
        ids = blobs.save_all(BlobKind.DATA, [memoryview(piece) for piece in pieces])
        assert blobs.save_all(BlobKind.DATA, pieces) == ids, "known by now"
        added = blobs.finish()
    assert added.blobs == len(pieces) - 1, "the same one twice is stored once"
    assert added.bytes == sum(map(len, pieces)) - 9
    stored = _stored(repository, ids)
    opened = open_blobs(repository.key, list(stored.values()))
    assert opened is not None
    found = dict(zip(stored, opened, strict=True))
    assert [found[blob] for blob in ids] == pieces
    assert ids == [blob_id(piece) for piece in pieces]


def test_of_many_small_blobs_only_the_damaged_one_is_lost() -> None:
    repository = new_repository_on(MemoryStore())
    pieces = [bytes([number]) * 5000 + os.urandom(100) for number in range(40)]
    with repository.writer() as blobs:
        ids = blobs.save_all(BlobKind.DATA, pieces)
        blobs.finish()
    where = repository.reader.locate(BlobKind.DATA, ids[7])
    key = key_of(Folder.DATA, where.pack)
    whole = repository.store.get(key)
    at = where.offset + 20
    repository.store.put(key, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    stored = _stored(repository, ids)
    assert open_blobs(repository.key, list(stored.values())) is None
    with pytest.raises(CorruptObject, match=where.pack):
        open_blob(repository.key, *stored.pop(ids[7]))
    assert open_blobs(repository.key, list(stored.values())) == [pieces[ids.index(blob)] for blob in stored]


def _stored(repository: Repository, ids: list[BlobId]) -> dict[BlobId, tuple[bytes, BlobId, Location]]:
    """What is stored of these, as it is read for a restore."""
    found: dict[BlobId, tuple[bytes, BlobId, Location]] = {}

    def handle(fetched: Fetched) -> None:
        for piece in fetched.pieces:
            found[piece.blob] = (bytes(fetched.stored(piece)), piece.blob, piece.where)

    read_ranges(repository, ids, handle, lambda _, error: pytest.fail(str(error)))
    return found
