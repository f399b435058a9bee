"""`masqmail serve`: imports next to nothing, as the privileged parent keeps whatever is imported here."""

import os
import sys

from masqmail.daemon.serve import serve as run

TYPE_CHECKING = False  # as in `typing`, which would stay in the memory of the parent
if TYPE_CHECKING:
    from masqmail.config.model import Configuration
    from masqmail.config.surroundings import Surroundings


def serve(config: str) -> int:
    """Runs the daemon with this configuration file (empty: the one of this account) until SIGTERM or SIGINT."""
    try:
        return run(_Loader(config).load)
    except Exception as error:
        faults = getattr(error, "faults", None)
        if not faults:
            raise
        for fault in faults:
            print(fault, file=sys.stderr)
        return os.EX_CONFIG


class _Loader:
    """Reads the configuration, as often as it is asked to."""

    def __init__(self, config: str) -> None:
        self._config = config
        self._surroundings: Surroundings | None = None

    def load(self) -> "Configuration":
        """The configuration, with the files it names looked at too. Raises `ConfigurationFaulty`."""
        from masqmail.cli.configuration import load_checked
        from masqmail.config.surroundings import Surroundings

        if self._surroundings is None:
            self._surroundings = Surroundings.of_this_process()  # as it was before root was given up
        return load_checked(self._config, self._surroundings)
