"""From which time on recorded events are wanted."""

from __future__ import annotations

import datetime
import re
from typing import Final

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(since: str | datetime.datetime) -> str:
    """The time as events have it: RFC 3339, UTC, nanoseconds.

    Args:
        since: how long ago (`90s`, `10m`, `2h`, `1d`), a time in ISO 8601 (`2026-01-31T12:00:00Z`), or a datetime; one
            without a time zone is local.

    Raises:
        ValueError: it is none of these.
    """
    try:
        if isinstance(since, str) and (ago := re.fullmatch("([0-9]{1,12})([smhd])", since)):
            then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        else:
            then = since if isinstance(since, datetime.datetime) else datetime.datetime.fromisoformat(since)
        return then.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z").zfill(30)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{since!r} is not a time; use 10m, 2h or 2026-01-31T12:00:00Z") from None
