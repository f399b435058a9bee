"""What whoever delivers locally needs of the configuration: the daemon itself, or its privileged parent."""

from collections.abc import Callable

from masqmail.config.model import Configuration
from masqmail.delivery.job import LocalMethod, Mailstore
from masqmail.delivery.local import LocalSettings


def local_settings_of(configuration: Configuration) -> LocalSettings:
    """The same for both, so that they agree on whose mailbox is where."""
    return LocalSettings(configuration.host.name, configuration.local.alias_user, mailstores_of(configuration))


def mailstores_of(configuration: Configuration) -> Callable[[str], Mailstore]:
    """How each user gets mail."""

    def mailbox_of(user: str) -> Mailstore:
        store, where = configuration.local.mailbox_of(user)
        method = LocalMethod(store.value)
        return Mailstore(method, where) if isinstance(where, str) else Mailstore(method, command=where)

    return mailbox_of
