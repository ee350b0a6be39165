"""Telling people: each channel is told once when a finding starts and once when it ends, again until it took it.

Rules upheld here:
- A channel that is down costs nothing but its own message: it is tried a few times, then kept for the next run.
- What is told is one message per channel and run, however many findings there are.
- The URL of a channel is a secret: it is in no message and no log line.
"""

from __future__ import annotations

import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from holdfast.errors import ConfigError
from holdfast.model.monitor import Finding, Severity

if TYPE_CHECKING:
    from holdfast.config.models import Config
    from holdfast.config.monitor import Channel

log = logging.getLogger(__name__)

PAUSES = (1.0, 4.0)
"""Seconds between the attempts of one run."""

_MOST_KEPT = 200
_SECONDS = 20.0


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """That a finding started or ended, for one channel."""

    channel: str
    event: Literal["started", "ended"]
    finding: Finding


def notices(channels: Sequence[Channel], started: Sequence[Finding], ended: Sequence[Finding]) -> list[Notice]:
    """What each channel has to be told of this run."""
    events: list[tuple[Literal["started", "ended"], Finding]] = [
        *(("started", finding) for finding in started),
        *(("ended", finding) for finding in ended),
    ]
    return [
        Notice(channel=channel.name, event=event, finding=finding)
        for channel in channels
        for event, finding in events
        if finding.severity.rank >= Severity(channel.severity).rank
    ]


def settled(waiting: Sequence[Notice]) -> list[Notice]:
    """Without the pairs that nobody was told the first half of: a finding that started and ended meanwhile."""
    started = {(n.channel, n.finding.name) for n in waiting if n.event == "started"}
    both = {(n.channel, n.finding.name) for n in waiting if n.event == "ended"} & started
    return [notice for notice in waiting if (notice.channel, notice.finding.name) not in both][-_MOST_KEPT:]


def deliver(
    config: Config,
    host: str,
    waiting: Sequence[Notice],
    *,
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[list[Notice], list[str]]:
    """Tell every channel what waits for it; what is still to be told, and which channels did not take it."""
    left: list[Notice] = []
    failed: list[str] = []
    known = {channel.name: channel for channel in config.notify}
    for name in dict.fromkeys(notice.channel for notice in waiting):
        mine = [notice for notice in waiting if notice.channel == name]
        if name in known and not _tell(known[name], host, mine, sleep):
            left.extend(mine)
            failed.append(name)
    return left, failed


def _tell(channel: Channel, host: str, mine: Sequence[Notice], sleep: Callable[[float], None]) -> bool:
    title, body = message(host, mine)
    for pause in (*PAUSES, None):
        try:
            if _send(channel.url().reveal(), title, body, mine):
                return True
        except ConfigError as error:
            log.warning("channel %s cannot be told: %s", channel.name, error)
            return False
        if pause is not None:
            sleep(pause)
    log.warning("channel %s did not take %d notices; they are kept for the next run", channel.name, len(mine))
    return False


def message(host: str, told: Sequence[Notice]) -> tuple[str, str]:
    """Title and body, in plain text."""
    started = [notice.finding for notice in told if notice.event == "started"]
    ended = [notice.finding for notice in told if notice.event == "ended"]
    parts = [f"{len(started)} new" if started else "", f"{len(ended)} over" if ended else ""]
    worst = max((finding.severity for finding in started), key=lambda severity: severity.rank, default=None)
    title = f"Holdfast on {host}: {', '.join(filter(None, parts))}" + (f" ({worst})" if worst else "")
    lines = []
    for finding in started:
        lines += [str(finding), *([f"  do: {finding.hint}"] if finding.hint else [])]
    lines += [f"OVER: {finding.kind}, {finding.subject}" for finding in ended]
    return title, "\n".join(lines)


def _send(url: str, title: str, body: str, mine: Sequence[Notice]) -> bool:
    import apprise

    if not isinstance(mine, list):
        mine = list(mine)
    worst = max((n.finding.severity.rank for n in mine if n.event == "started"), default=-1)
    kinds = {-1: apprise.NotifyType.SUCCESS, 0: apprise.NotifyType.INFO, 1: apprise.NotifyType.WARNING}
    sender = apprise.Apprise()
    if not sender.add(url):
        raise ConfigError(
            "a channel's URL cannot be understood",
            wanted="an Apprise URL",
            hint="for example mailto://user:password@example.com or jsons://host/path",
        )
    return bool(sender.notify(title=title, body=body, notify_type=kinds.get(worst, apprise.NotifyType.FAILURE)))


def ping(url: str, *, bad: bool, body: str) -> str | None:
    """Ask a dead man's switch: a POST, to `/fail` below it when something is critical. What went wrong, or None."""
    target = url.rstrip("/") + ("/fail" if bad else "")
    if not target.startswith(("http://", "https://")):
        return "the URL to ping does not begin with http:// or https://"
    request = urllib.request.Request(target, data=body.encode()[:10_000], method="POST")  # noqa: S310  the operator's own URL, checked as one  checked above
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):  # noqa: S310  the operator's own URL, checked as one
            return None
    except urllib.error.HTTPError as error:
        return f"the dead man's switch answered {error.code}"
    except OSError as error:
        return f"the dead man's switch does not answer: {getattr(error, 'reason', None) or type(error).__name__}"
