"""Dialects of S3 and bad days of a network, as behaviours of the proxy in front of a real server."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import replace
from fnmatch import fnmatchcase

from tests.support.proxy import Answer, Behaviour, Forward, Request, refusal

_CONTENTS = re.compile(rb"<Contents>.*?</Contents>", re.DOTALL)
_KEY = re.compile(rb"<Key>(.*?)</Key>")


def ignores_conditions(request: Request, forward: Forward) -> Answer:
    """`If-None-Match` is taken and means nothing."""
    return forward(request.without("if-none-match"))


def refuses_conditions(request: Request, forward: Forward) -> Answer:
    """`If-None-Match` is not implemented, and that is said."""
    return refusal(501, "NotImplemented") if "if-none-match" in request.headers else forward(request)


def refuses_trailers(request: Request, forward: Forward) -> Answer:
    """Checksums that follow the body are refused, as several servers do over TLS."""
    chunked = "aws-chunked" in request.headers.get("content-encoding", "") or "x-amz-trailer" in request.headers
    return refusal(501, "NotImplemented") if chunked else forward(request)


def ignores_checksums(request: Request, forward: Forward) -> Answer:
    """No checksum of a request is looked at, and the ETag is no MD5."""
    sums = [name for name in request.headers if name == "content-md5" or name.startswith("x-amz-checksum")]
    answer = forward(request.without(*sums))
    return replace(answer, headers=answer.headers | {"etag": '"0123-7"'}) if "etag" in answer.headers else answer


def thousand_parts(request: Request, forward: Forward) -> Answer:
    """An upload may have 1,000 parts."""
    part = re.search(r"partNumber=(\d+)", request.path)
    return refusal(400, "InvalidArgument") if part and int(part[1]) > 1000 else forward(request)


def lists_late(seconds: float) -> Behaviour:
    """An object is in no listing before some seconds are over."""
    written: dict[str, float] = {}

    def behave(request: Request, forward: Forward) -> Answer:
        answer = forward(request)
        if request.method == "PUT" and answer.status == 200:
            written.setdefault(request.key.partition("/")[2], time.monotonic())
        if not request.lists:
            return answer

        def shown(found: re.Match[bytes]) -> bytes:
            key = _KEY.search(found[0])
            since = written.get(key[1].decode(), 0.0) if key else 0.0
            return b"" if time.monotonic() - since < seconds else found[0]

        return replace(answer, body=_CONTENTS.sub(shown, answer.body))

    return behave


def flips_a_bit(pattern: str, *, times: int = 1_000_000, digests: bool = True) -> Behaviour:
    """A bit of what is written to matching keys changes on the way, behind whatever checks what the client sent.

    Without `digests` the server gets no digest to compare with either.
    """
    left, lock = [times], threading.Lock()

    def behave(request: Request, forward: Forward) -> Answer:
        if request.method != "PUT" or not request.body or not fnmatchcase(request.key, pattern):
            return forward(request)
        with lock:
            left[0] -= 1
            if left[0] < 0:
                return forward(request)
        body = bytes([request.body[0] ^ 1]) + request.body[1:]
        changed = replace(request, body=body)
        return forward(changed if digests else changed.without("content-md5"))

    return behave


def every(number: int, fault: Behaviour, *, method: str = "*") -> Behaviour:
    """Every n-th request of a method goes wrong; the others are served."""
    count, lock = [0], threading.Lock()

    def behave(request: Request, forward: Forward) -> Answer:
        if not fnmatchcase(request.method, method):
            return forward(request)
        with lock:
            count[0] += 1
            due = count[0] % number == 0
        return fault(request, forward) if due else forward(request)

    return behave


def slow_down(request: Request, forward: Forward) -> Answer:
    """The server is busy."""
    return refusal(503, "SlowDown")


def loses_the_answer(request: Request, forward: Forward) -> Answer:
    """It is done, and nobody hears of it."""
    return replace(forward(request), lost=True)


def breaks_off(request: Request, forward: Forward) -> Answer:
    """A body ends half-way."""
    return replace(forward(request), broken=True)


def is_slow(request: Request, forward: Forward) -> Answer:
    """The answer takes its time."""
    time.sleep(0.3)
    return forward(request)
