"""Fields of a node as Go writes them: `os.FileMode`, RFC 3339 times with nanoseconds, names by `strconv.Quote`.

Rules upheld here:
- What is written reads back to the same bits, bytes and nanoseconds; restic reads it the same way.
- What is read is untrusted: a name that is empty, `.` or `..`, or holds `/` or NUL, is refused (`UnsafeName`).

Source: Go documentation of os.FileMode, strconv.Quote, time.RFC3339Nano; restic doc/design.rst, "Trees and Data".
"""

from __future__ import annotations

import calendar
import re
import time
from functools import lru_cache

from holdfast.errors import CorruptObject, UnsafeName
from holdfast.model.entry import Kind

_GO_TYPE_BITS = {
    Kind.FILE: 0,
    Kind.DIR: 1 << 31,
    Kind.SYMLINK: 1 << 27,
    Kind.BLOCKDEV: 1 << 26,
    Kind.FIFO: 1 << 25,
    Kind.SOCKET: 1 << 24,
    Kind.CHARDEV: 1 << 26 | 1 << 21,
}
_GO_SPECIAL_BITS = ((0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20))


def go_mode(kind: Kind, mode: int) -> int:
    """Twelve permission bits and a type as Go's `os.FileMode`."""
    go = mode & 0o777 | _GO_TYPE_BITS[kind]
    if mode & 0o7000:
        go |= sum(bit for unix, bit in _GO_SPECIAL_BITS if mode & unix)
    return go


def unix_mode(go: int) -> int:
    """The twelve permission bits of a Go `os.FileMode`."""
    return go & 0o777 | sum(unix for unix, bit in _GO_SPECIAL_BITS if go & bit)


_seconds: dict[int, str] = {}
_MIN_SECOND, _MAX_SECOND = -62135596800, 253402300799  # the years 1 to 9999, all that both sides can say


@lru_cache(maxsize=16)  # of one file it is asked up to four times in a row
def format_time(ns: int) -> str:
    """Nanoseconds since the epoch as RFC 3339 in UTC, the fraction without trailing zeros (Go's RFC3339Nano)."""
    second, fraction = divmod(ns, 1_000_000_000)
    text = _seconds.get(second)
    if text is None:
        if len(_seconds) > 4096:
            _seconds.clear()
        clamped = min(max(second, _MIN_SECOND), _MAX_SECOND)
        date = time.gmtime(clamped)
        text = _seconds[second] = f"{date.tm_year:04d}-{time.strftime('%m-%dT%H:%M:%S', date)}"
    return f"{text}.{fraction:09d}".rstrip("0") + "Z" if fraction else f"{text}Z"


_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))")


def parse_time(text: str) -> int:
    """RFC 3339 as nanoseconds since the epoch; 0 for the empty text. Raises: CorruptObject."""
    if not text:
        return 0
    # What Go writes of UTC; the seconds of a directory's files are often the same ones.
    second = _parsed_seconds.get(text[:19]) if text[-1] == "Z" else None
    if second is not None and text[19] == "." and text[20:-1].isdecimal():
        return second * 1_000_000_000 + int(text[20:29].rstrip("Z").ljust(9, "0"))
    return _parse_any_time(text)


_parsed_seconds: dict[str, int] = {}


def _parse_any_time(text: str) -> int:
    match = _TIME.fullmatch(text)
    if match is None:
        raise CorruptObject("a time in the repository is badly written", which=repr(text[:80]), wanted="RFC 3339")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = match.groups()[6:]
    try:
        # Go's zero year is clamped as ours is; a 13th month is not.
        seconds = calendar.timegm((max(year, 1), month, day, hour, minute, second))
    except ValueError as error:
        raise CorruptObject("a time in the repository is badly written", which=text, found=str(error)) from error
    if sign:
        offset = int(offset_hours) * 3600 + int(offset_minutes) * 60
        seconds -= offset if sign == "+" else -offset
    else:
        if len(_parsed_seconds) > 4096:
            _parsed_seconds.clear()
        _parsed_seconds[text[:19]] = seconds
    return seconds * 1_000_000_000 + int((fraction or "0")[:9].ljust(9, "0"))


_GO_ESCAPES = {7: r"\a", 8: r"\b", 12: r"\f", 10: r"\n", 13: r"\r", 9: r"\t", 11: r"\v", 34: r"\"", 92: r"\\"}
_GO_UNESCAPES = {text[1]: bytes([code]) for code, text in _GO_ESCAPES.items()} | {"'": b"'"}
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{3}|.)", re.DOTALL)


@lru_cache(maxsize=16)  # of one file it is asked twice
def quote(name: bytes) -> str:
    r"""A file name as Go's `strconv.Quote` writes it, without the outer quotes: bytes that are not UTF-8 as `\xNN`."""
    try:
        text = name.decode()
    except UnicodeDecodeError:
        text = name.decode("utf-8", "surrogateescape")
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return "".join(_quote_char(char) for char in text)


def _quote_char(char: str) -> str:
    code = ord(char)
    if code in _GO_ESCAPES:
        return _GO_ESCAPES[code]
    if char.isprintable():
        return char
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def unquote(quoted: str) -> bytes:
    """The name's bytes, safe to use as one path component. Raises: UnsafeName, CorruptObject."""
    name = quoted.encode("utf-8", "surrogateescape") if "\\" not in quoted else _unescape(quoted)
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise UnsafeName(
            "a name in the repository would lead outside its directory",
            which=repr(name),
            wanted="one plain path component",
            hint="this repository was not written by an honest client: restore nothing from it as root",
        )
    return name


def _unescape(quoted: str) -> bytes:
    parts: list[bytes] = []
    position = 0
    for match in _ESCAPE.finditer(quoted):
        parts.append(quoted[position : match.start()].encode("utf-8", "surrogateescape"))
        parts.append(_unescape_one(match[1]))
        position = match.end()
    rest = quoted[position:]
    if "\\" in rest:
        raise CorruptObject("a name in the repository is badly quoted", which=repr(quoted))
    return b"".join((*parts, rest.encode("utf-8", "surrogateescape")))


def _unescape_one(escape: str) -> bytes:
    try:
        if escape[0] == "x":
            return bytes([int(escape[1:], 16)])
        if escape[0] in "uU":
            return chr(int(escape[1:], 16)).encode()
        if len(escape) == 3:
            return bytes([int(escape, 8)])
        return _GO_UNESCAPES[escape]
    except (KeyError, ValueError) as error:
        raise CorruptObject("a name in the repository is badly quoted", which=repr(escape)) from error
