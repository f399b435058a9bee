"""How many connections to one next hop pay. See docs/decisions/0006.

One connection that streams can fill the line. More of them help only where each message keeps a connection waiting
longer than the line needs for it: the server works on it, or without CHUNKING the 354 has to come back first.
"""

import math

from masqmail.frozen import frozen

#: A connection costs the server, the line and us something; it must save at least that much time ...
LEAST_SAVED_SECONDS = 0.1
#: ... and this part of what it takes to make one.
LEAST_SAVED_PART = 0.1

NEWS_FACTOR = 1.25
#: A host is faster than it was known to be when so many messages have shown it.
PROVEN_MESSAGES = 3


@frozen
class Speed:
    """What was measured on a connection that works.

    Until one can be used `setup_seconds` go by. Then each message keeps it busy for `message_seconds`; where the
    line is slower than that it needs `line_seconds`, else that is 0. Such is the mean of so many `messages`, or a
    guess before there were any.
    """

    setup_seconds: float
    message_seconds: float
    line_seconds: float = 0.0
    messages: int = 0

    def is_news(self, known: "Speed | None") -> bool:
        """Whether it differs from what was known by so much that it could change anything, or proves it.

        Guesses only alarm.
        """
        if known is None or self.message_seconds > known.message_seconds * NEWS_FACTOR:
            return True
        if known.messages < PROVEN_MESSAGES <= self.messages:
            return True
        return self.messages >= PROVEN_MESSAGES and self.message_seconds < known.message_seconds / NEWS_FACTOR


def connections_that_pay(waiting: int, speed: Speed, most: int) -> int:
    """How many connections bring this number of messages through soonest; of those that hardly help none.

    The others begin their part of the work when they are set up; until then the first one goes on alone.
    """
    to_share = waiting * speed.message_seconds - speed.setup_seconds
    least = max(LEAST_SAVED_SECONDS, LEAST_SAVED_PART * speed.setup_seconds)
    count = 1
    while count < most:
        is_line_full = speed.line_seconds * count >= speed.message_seconds
        saved = to_share / count - to_share / (count + 1)
        if is_line_full or saved < least:
            break
        count += 1
    return count


def messages_under_way(speed: Speed, round_trip_seconds: float, most: int) -> int:
    """How many unanswered messages keep line and server at work on a connection. More would be missing elsewhere."""
    slowest = max(speed.message_seconds, speed.line_seconds)
    until_answered = speed.line_seconds + round_trip_seconds + speed.message_seconds
    is_quick = speed.message_seconds < speed.line_seconds / 2  # then only the line counts
    if is_quick or until_answered >= slowest * most:
        return most
    return min(most, 1 + math.ceil(until_answered / slowest))
