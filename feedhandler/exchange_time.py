"""The exchange's days: timestamps of the feed count nanoseconds from midnight in New York."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

EXCHANGE_ZONE = ZoneInfo("America/New_York")
_HOUR_NS = 3_600_000_000_000
_SECOND_NS = 1_000_000_000


def midnight_ns(day: date) -> int:
    """Return UTC nanoseconds of 00:00 exchange time of a day.

    The day itself may have 23 or 25 hours: the next one's midnight tells where it ends.
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=EXCHANGE_ZONE)
    return int(midnight.timestamp()) * _SECOND_NS


def day_of(ts_ns: int) -> date:
    """Return the exchange's day that a time in UTC nanoseconds lies in."""
    return datetime.fromtimestamp(ts_ns // _SECOND_NS, tz=UTC).astimezone(EXCHANGE_ZONE).date()


def days_of_hours(hours: list[int]) -> list[date]:
    """Return the days, in order, that hours (since 1970, UTC) have a part of."""
    ends = (end for hour in hours for end in (hour * _HOUR_NS, (hour + 1) * _HOUR_NS - 1))
    return sorted({day_of(end) for end in ends})
