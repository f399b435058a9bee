"""What whoever delivers locally needs of the configuration: the daemon itself, or its privileged parent."""

from masqmail.config.model import Configuration
from masqmail.delivery.job import LocalMethod
from masqmail.delivery.local import LocalSettings


def local_settings_of(configuration: Configuration) -> LocalSettings:
    """The same for both, so that they agree on whose mailbox is where."""
    local = configuration.local

    def mailbox_of(user: str) -> tuple[LocalMethod, str]:
        store, path = local.mailbox_of(user)
        return LocalMethod(store.value), path

    return LocalSettings(configuration.host.name, local.alias_user, mailbox_of)
