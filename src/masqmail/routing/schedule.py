"""When to try again, when to warn and when to give up."""

from datetime import timedelta

from masqmail.frozen import frozen


@frozen
class RetrySchedule:
    """The wait after the first, second, … attempt; the last one repeats. Raises `ValueError` for none or no wait."""

    waits: tuple[timedelta, ...]

    def __post_init__(self) -> None:
        if not self.waits or min(self.waits) <= timedelta(0):
            raise ValueError("a retry schedule needs at least one wait, each longer than nothing")

    def wait_after(self, attempts: int) -> timedelta:
        """How long to wait when so many attempts were made."""
        return self.waits[min(max(attempts, 1), len(self.waits)) - 1]

    @property
    def longest(self) -> timedelta:
        """No due time is ever further away than this."""
        return max(self.waits)


@frozen
class Lifetime:
    """Ages at which the originator is warned, and at which we give up.

    An age counts only time in which one of the recipient's routes could be used.
    """

    warn_after: tuple[timedelta, ...]
    give_up_after: timedelta

    def is_over(self, age: timedelta) -> bool:
        return age >= self.give_up_after

    def warnings_due(self, age: timedelta) -> int:
        """How many warnings should have gone out by this age."""
        return sum(age >= threshold for threshold in self.warn_after)
