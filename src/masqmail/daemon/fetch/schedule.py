"""When an account is fetched again after a failure."""

from datetime import timedelta

from masqmail.config.fetch import Interval
from masqmail.mail.outcome import Culprit

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)

#: Waits after the first, second, … failure in a row; then each is twice as long as the one before.
WAITS = (_MINUTE, 2 * _MINUTE, 5 * _MINUTE, 10 * _MINUTE, 20 * _MINUTE, 40 * _MINUTE, _HOUR)

#: The same when name or password were refused: providers lock accounts that are tried often.
LOGIN_WAITS = (15 * _MINUTE, _HOUR, 2 * _HOUR, 4 * _HOUR)


def wait_after(failures: int, culprit: Culprit, interval: Interval) -> timedelta:
    """How long to wait after so many failures in a row: at most the last of the waits, or the interval if longer."""
    waits = LOGIN_WAITS if culprit is Culprit.LOGIN else WAITS
    usual = interval if isinstance(interval, timedelta) else timedelta(0)
    longest = max(waits[-1], usual)
    if failures <= len(waits):
        return min(waits[max(failures, 1) - 1], longest)
    doublings = min(failures - len(waits), 20)
    return min(waits[-1] * (1 << doublings), longest)
