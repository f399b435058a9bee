"""Who a peer of a Unix socket is, as the system's account files say. May take a while where they are a network's."""

import os
import pwd


def groups_of(uid: int | None, gid: int | None) -> frozenset[int]:
    """The groups a peer belongs to: the one its process has now, and those of its account."""
    own = frozenset() if gid is None else frozenset({gid})
    if uid is None:
        return own
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return own
    return own | frozenset(os.getgrouplist(account.pw_name, account.pw_gid))


def user_name(uid: int | None) -> str:
    """The name of a peer for people; "uid 1234" for one without an account."""
    if uid is None:
        return "somebody"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
