"""The three dialects of the old configuration, and how to tell them by the settings that a tree uses."""

from collections.abc import Iterable
from enum import Enum


class Dialect(Enum):
    """A line of versions whose files are read alike."""

    V02 = "0.2"
    V03 = "0.3"
    V10 = "1.0"

    @property
    def is_old(self) -> bool:
        """Before 1.0: rewriting for every domain, Sender always set, blanks belong to the items of a list."""
        return self is not Dialect.V10


_V02 = frozenset({Dialect.V02})
_V03 = frozenset({Dialect.V03})
_V10 = frozenset({Dialect.V10})

#: Settings that not every version knows, by the name or by its beginning up to the dot.
KNOWN_TO: dict[str, frozenset[Dialect]] = {
    **dict.fromkeys(("get.", "online_gets.", "remote_port", "maildir_users", "mserver_iface", "pop3_login"), _V02),
    **dict.fromkeys(("do_uidl", "do_uidl_dele", "do_keep", "max_size_delete", "max_count"), _V02),
    **dict.fromkeys(("online_routes.", "connect_route.", "local_net_route", "local_nets"), _V02 | _V03),
    **dict.fromkeys(("online_detect", "online_file", "online_pipe", "alias_local_caseless"), _V02 | _V03),
    **dict.fromkeys(("ident_trusted_nets", "protocol", "set_h_from_domain", "set_h_reply_to_domain"), _V02 | _V03),
    **dict.fromkeys(("set_return_path_domain", "expand_h_sender_domain", "expand_h_sender_address"), _V02 | _V03),
    **dict.fromkeys(("allowed_mail_locals", "not_allowed_mail_locals", "allowed_return_paths"), _V02 | _V03),
    **dict.fromkeys(("not_allowed_return_paths", "allowed_rcpt_domains", "not_allowed_rcpt_domains"), _V02 | _V03),
    **dict.fromkeys(("do_ssl",), _V02 | _V03),
    **dict.fromkeys(("query_routes.", "permanent_routes", "online_query", "globalias_file"), _V03 | _V10),
    **dict.fromkeys(("caseless_matching", "allowed_senders", "denied_senders", "allowed_recipients"), _V03 | _V10),
    **dict.fromkeys(("denied_recipients", "allowed_from_hdrs", "denied_from_hdrs"), _V03 | _V10),
    **dict.fromkeys(("pid_dir", "smtp_port", "map_outgoing_addresses", "map_h_sender_addresses"), _V10),
}


def versions_with(name: str) -> frozenset[Dialect]:
    """The dialects that know a setting; all of them for one that says nothing about it."""
    prefix = name.partition(".")[0] + "." if "." in name else name
    return KNOWN_TO.get(prefix, frozenset(Dialect))


def guess(names: Iterable[str]) -> tuple[Dialect, str]:
    """The dialect of a tree that uses these settings, and why.

    Where several fit it is the oldest, but 0.3 when nothing tells at all; where none does it is the one that knows
    the most of them.
    """
    telling = {name: versions_with(name) for name in names if len(versions_with(name)) < len(Dialect)}
    if not telling:
        return Dialect.V03, "nothing in it tells the version"
    scores = {dialect: sum(dialect in versions for versions in telling.values()) for dialect in Dialect}
    best = max(Dialect, key=lambda dialect: scores[dialect])  # the first, the oldest, of equals
    reasons = [name for name, versions in telling.items() if best in versions]
    reason = "it uses " + ", ".join(sorted(reasons, key=lambda name: len(telling[name]))[:3])
    if others := [name for name, versions in telling.items() if best not in versions]:
        reason += f", although {', '.join(others[:3])} belongs to other versions"
    elif len(same := [dialect.value for dialect in Dialect if scores[dialect] == scores[best]]) > 1:
        reason += f", which {' and '.join(same)} know alike"
    return best, reason
