"""Times as people write them on the command line. UTC unless they say otherwise."""

import datetime as dt
from collections.abc import Iterator
from typing import Final

DAY_S: Final = 86_400


def moment(text: str) -> int:
    """Read a date ("2026-10-01": its first second) or a time, UTC unless it says otherwise.

    Returns epoch seconds; raises ValueError.
    """
    try:
        when = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2026-10-01 or 2026-10-01T12:00+07:00"
        ) from None
    when = when if when.tzinfo else when.replace(tzinfo=dt.UTC)
    epoch_s = int(when.timestamp())
    if epoch_s < 0:
        raise ValueError(f"{text!r} is before 1970")
    return epoch_s


def day_name(epoch_s: int) -> str:
    """Return the UTC day of a time, as 2026-10-01."""
    return dt.datetime.fromtimestamp(epoch_s, dt.UTC).date().isoformat()


def days(begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a span (epoch s, both ends included) at each midnight UTC."""
    while begin <= end:
        last = min(end, begin - begin % DAY_S + DAY_S - 1)
        yield begin, last
        begin = last + 1
