"""What the configuration says of keeping restore points, as the rules that retention decides by."""

from __future__ import annotations

import re

from holdfast.config.models import Config
from holdfast.policy.retention import Duration, Rules
from holdfast.services.stacks import stack_of


def rules_of(config: Config, stack: str) -> Rules | None:
    """The rules that the configuration sets for a stack; None when it sets none. Raises: ConfigError."""
    retention = stack_of(config, stack).retention
    if retention is None:
        return None
    return Rules(
        keep_last=retention.keep_last,
        keep_hourly=retention.keep_hourly,
        keep_daily=retention.keep_daily,
        keep_weekly=retention.keep_weekly,
        keep_monthly=retention.keep_monthly,
        keep_yearly=retention.keep_yearly,
        keep_within=parse_duration(retention.keep_within) if retention.keep_within else None,
        recovery_window=parse_duration(retention.recovery_window) if retention.recovery_window else None,
        timezone=config.timezone,
    )


def parse_duration(text: str) -> Duration:
    """`1y6m2d12h` as a value. Raises: ValueError."""
    found = re.fullmatch(r"(?=\d)(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)d)?(?:(\d+)h)?", text)
    if found is None or not any(int(part or 0) for part in found.groups()):
        raise ValueError(f"not a duration: {text!r}, such as 1y6m2d12h")
    return Duration(*(int(part or 0) for part in found.groups()))
