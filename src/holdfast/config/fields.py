"""The types of single values: names, paths, URLs, times. Each is spelled in one place and checked without I/O."""

from __future__ import annotations

import difflib
import posixpath
import re
import zoneinfo
from typing import Annotated

from pydantic import Field

from holdfast.config.cron import check_cron
from holdfast.config.spelling import Spelling, Words
from holdfast.store.url import ACCEPTED, LocalUrl, parse_url

_DURATION = r"^(?=[0-9])(?:[0-9]{1,4}y)?(?:[0-9]{1,4}m)?(?:[0-9]{1,5}d)?(?:[0-9]{1,6}h)?$"


def _absolute(text: str) -> str:
    if "\0" in text or ".." in text.split("/"):
        raise ValueError("it has a part that is no name")
    path = posixpath.normpath(text).replace("//", "/")
    if path == "/":
        raise ValueError("the whole machine is no source: name the directories that matter")
    return path


def _repository_url(text: str) -> str:
    if isinstance(parse_url(text), LocalUrl) and not re.match(r"/|file:|local:/", text):
        raise ValueError("a relative path would depend on where Holdfast is started")
    return text


def _zone(text: str) -> str:
    try:
        zoneinfo.ZoneInfo(text)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(_zone_problem(text)) from None
    return text


def is_zone(text: str) -> bool:
    """Whether the machine's time zone database knows this name."""
    try:
        return bool(_zone(text))
    except ValueError:
        return False


def _zone_problem(text: str) -> str:
    known = {name.lower(): name for name in zoneinfo.available_timezones()}
    if not known:
        return "this machine has no time zone database, install tzdata"
    near = difflib.get_close_matches(text.lower(), known, n=1)
    return f"no such zone, perhaps {known[near[0]]}" if near else "the time zone database does not know it"


def _exclusion(text: str) -> str:
    if not text.strip("*/. "):
        raise ValueError("it would leave out everything")
    return text


def _percentage(text: str) -> str:
    if not 0 < float(text.removesuffix("%")) <= 100:
        raise ValueError("it is not above 0 % and up to 100 %")
    return text


def _duration(text: str) -> str:
    if not re.search("[1-9]", text):
        raise ValueError("it has no length")
    return text


def length(text: str) -> float:
    """A length of time in seconds: `1d2h` is 93600.0. The text is a `TimeText`."""
    units = {"d": 86400, "h": 3600, "min": 60, "s": 1}
    return float(sum(int(count) * units[unit] for count, unit in re.findall(r"([0-9]+)(d|h|min|s)", text)))


def share(text: str) -> float:
    """A `Percentage` as a share: `80%` is 0.8."""
    return float(text.removesuffix("%")) / 100


_PLAIN = "one line of text without control characters"

StackName = Annotated[
    str,
    Spelling("a stack's name", "small letters, digits, _ and -, a letter or digit first", r"^[a-z0-9][a-z0-9_-]*$"),
]
VolumeName = Annotated[
    str,
    Spelling(
        "a volume's name",
        "two or more letters, digits, _ . and -, a letter or digit first",
        r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$",
        hint="docker volume ls shows the names; a directory of the host belongs in paths",
    ),
]
ContainerName = Annotated[
    str,
    Spelling(
        "a container's name",
        "two or more letters, digits, _ . and -, a letter or digit first",
        r"^[a-zA-Z0-9][a-zA-Z0-9_.-]+$",
        hint="docker ps shows the names in its last column",
    ),
]
SourceName = Annotated[
    str, Spelling("a label", "letters, digits, _ . and -, a letter or digit first", r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
]
HostName = Annotated[
    str,
    Spelling("a host's name", "letters, digits, _ . - and, in an address, :", r"^[a-zA-Z0-9:][a-zA-Z0-9_.:-]{0,252}$"),
]
RoleName = Annotated[str, Spelling("a PostgreSQL role", _PLAIN, r"^[^\x00-\x1f\x7f]{1,63}$")]
SlotName = Annotated[
    str, Spelling("a replication slot's name", "small letters, digits and _, up to 63", r"^[a-z0-9_]{1,63}$")
]
DatabaseName = Annotated[str, Spelling("a database's name", _PLAIN, r"^[^\x00-\x1f\x7f]{1,63}$")]
ProfileName = Annotated[str, Spelling("a profile of the AWS configuration", _PLAIN, r"^[^\x00-\x1f\x7f]{1,100}$")]
RegionName = Annotated[str, Spelling("a region", "small letters, digits and -", r"^[a-z0-9][a-z0-9-]{0,62}$")]
Port = Annotated[int, Field(strict=True, ge=1, le=65535), Words("a port, 1 to 65535")]

DirectoryPath = Annotated[
    str, Spelling("an absolute path", "a path that begins with /, without ..", r"^/[^\x00]*$", check=_absolute)
]
Exclusion = Annotated[
    str,
    Spelling(
        "a pattern", "* within a name, ** across directories, ? for one character", r"^[^\x00]+$", check=_exclusion
    ),
]
SecretFile = Annotated[
    str,
    Spelling(
        "a secret's file",
        "the absolute path of a file",
        r"^/[^\x00\n]+$",
        hint="the secret itself does not belong here: write it to a file of mode 600 and name that file",
        hidden=True,
    ),
]
SecretVariable = Annotated[
    str,
    Spelling(
        "an environment variable's name",
        "capital letters, digits and _",
        r"^[A-Z_][A-Z0-9_]*$",
        hint="the secret itself does not belong here: export it in a variable and name that variable",
        hidden=True,
    ),
]

RepositoryUrl = Annotated[str, Spelling("a repository's URL", ACCEPTED, check=_repository_url, hidden=True)]
EndpointUrl = Annotated[
    str,
    Spelling(
        "an S3 endpoint",
        "http:// or https:// with host and port, without credentials",
        r"^https?://[^\s@?#/]+(?:/[^\s@?#]*)?$",
        hidden=True,
    ),
]
EngineUrl = Annotated[
    str,
    Spelling(
        "an Engine's URL",
        "unix:///path or tcp://host:port",
        r"^(?:unix:///[^\s]+|tcp://[^\s@/]+:[0-9]{1,5})$",
        hidden=True,
    ),
]

CronText = Annotated[
    str,
    Spelling("a cron expression", 'five fields, for example "0 3 * * *"', check=check_cron),
]
ZoneName = Annotated[
    str, Spelling("a time zone", "an IANA name such as Europe/Berlin", r"^[A-Za-z0-9_+/-]+$", check=_zone)
]
Percentage = Annotated[
    str,
    Spelling("a percentage", "such as 5% or 0.5%", r"^[0-9]{1,3}(?:\.[0-9]{1,3})?%$", check=_percentage),
]
DurationText = Annotated[
    str,
    Spelling(
        "a duration",
        "years, months, days and hours as restic writes them, such as 2y5m7d3h",
        _DURATION,
        check=_duration,
    ),
]
TimeText = Annotated[
    str,
    Spelling(
        "a length of time",
        "days, hours, minutes and seconds such as 1d2h, 15min or 90s",
        r"^(?=[0-9])(?:[0-9]{1,4}d)?(?:[0-9]{1,4}h)?(?:[0-9]{1,5}min)?(?:[0-9]{1,6}s)?$",
        check=_duration,
    ),
]
ListenAddress = Annotated[
    str,
    Spelling("an address to listen on", "host:port, such as 127.0.0.1:9464", r"^[a-zA-Z0-9.-]{1,253}:[0-9]{1,5}$"),
]
FilePath = Annotated[str, Spelling("a file", "the absolute path of a file", r"^/[^\x00]*[^/\x00]$", check=_absolute)]
Amount = Annotated[str, Spelling("an amount", "a number such as 0.023", r"^[0-9]{1,6}(?:\.[0-9]{1,6})?$")]
UserName = Annotated[
    str, Spelling("a user of a container", "a name or a number, with :group if need be", r"^[^\x00-\x20\x7f]{1,64}$")
]
FileName = Annotated[str, Spelling("a file's name", "a plain name without /", r"^(?!\.{1,2}$)[^\x00/]{1,255}$")]
Word = Annotated[str, Spelling("a word of a command", "text without a zero byte", r"^[^\x00]*$")]
CommandWords = Annotated[
    tuple[Word, ...], Field(min_length=1), Words("list: the program, then its arguments; no shell reads it")
]
Seconds = Annotated[int, Field(strict=True, ge=1, le=86400), Words("seconds, 1 to 86400")]
Bytes = Annotated[int, Field(strict=True, ge=0), Words("a number of bytes")]
Count = Annotated[int, Field(strict=True, ge=1), Words("a whole number, 1 or more")]

_RATE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_RATE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(B|KiB|MiB|GiB)/s")


def rate_bytes(text: str) -> int:
    """A `Rate` in bytes per second."""
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError("not a rate")
    return int(float(match[1]) * _RATE_UNITS[match[2]])


def _rate(text: str) -> str:
    if rate_bytes(text) < 1024:
        raise ValueError("it is less than 1 KiB/s")
    return text


Rate = Annotated[str, Spelling("a rate", "such as 500KiB/s, 20MiB/s or 1.5GiB/s", rf"^{_RATE.pattern}$", check=_rate)]
