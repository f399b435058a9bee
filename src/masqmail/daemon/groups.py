"""Which groups a peer of a Unix socket belongs to: its own and those of its account."""

import os
import pwd


def groups_of(uid: int | None, gid: int | None) -> frozenset[int]:
    """The group IDs of a user, with the one its process has now."""
    own = frozenset() if gid is None else frozenset({gid})
    if uid is None:
        return own
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        return own
    return own | frozenset(os.getgrouplist(account.pw_name, account.pw_gid))
