"""What whoever delivers locally needs of the configuration: the daemon itself, or its privileged parent."""

from collections.abc import Callable

from masqmail.config.model import Configuration
from masqmail.delivery.job import LocalMethod, Mailstore
from masqmail.delivery.local import LocalSettings
from masqmail.delivery.piperoute import PipeProgram
from masqmail.routing.route import Way


def local_settings_of(configuration: Configuration) -> LocalSettings:
    """The same for both, so that they agree on whose mailbox is where."""
    local = configuration.local
    return LocalSettings(
        configuration.host.name,
        local.alias_user,
        mailstores_of(configuration),
        recipient_delimiter=local.recipient_delimiter,
        programs=programs_of(configuration),
    )


def mailstores_of(configuration: Configuration) -> Callable[[str], Mailstore]:
    """How each user gets mail."""

    def mailbox_of(user: str) -> Mailstore:
        store, where = configuration.local.mailbox_of(user)
        method = LocalMethod(store.value)
        return Mailstore(method, where) if isinstance(where, str) else Mailstore(method, command=where)

    return mailbox_of


def programs_of(configuration: Configuration) -> dict[str, PipeProgram]:
    """The programs of the pipe routes, by the route's name."""
    return {
        name: PipeProgram(tuple(section.command or ()), section.from_line, section.escape_from)
        for name, section in configuration.routes.items()
        if section.way is Way.PIPE
    }
