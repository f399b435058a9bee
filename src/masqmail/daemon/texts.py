"""What [notices] says: in which language people are told, and in whose words."""

from logging import WARNING

from masqmail.config.model import Notices
from masqmail.config.templates import read_template
from masqmail.frozen import frozen
from masqmail.mail.dsn import Action
from masqmail.mail.template import Template
from masqmail.mail.wording import Language, Wording, wording
from masqmail.settings import TemplateSource
from masqmail.system.events import TEMPLATE_FAULTY, emit


@frozen
class Texts:
    """The language, and the templates that take the place of built-in texts."""

    language: Language = Language.ENGLISH
    bounce: Template | None = None
    warning: Template | None = None

    @property
    def words(self) -> Wording:
        return wording(self.language)

    def template_for(self, action: Action) -> Template | None:
        """Whose words a report has; None for ours."""
        return {Action.FAILED: self.bounce, Action.DELAYED: self.warning}.get(action)


def texts_of(notices: Notices) -> Texts:
    """The texts with the templates as their files are now; one that cannot be used is passed over, and logged."""
    return Texts(notices.language, _template(notices.bounce_template), _template(notices.warning_template))


def _template(source: TemplateSource | None) -> Template | None:
    if source is None:
        return None
    try:
        return read_template(source)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        emit(TEMPLATE_FAULTY, level=WARNING, file=str(source.path or "the text in [notices]"), reason=reason)
        return None
