"""What we say in German."""

from masqmail.mail.wording import Action, Advice, Language, Letter, Wording

_ASK_POSTMASTER = "Das liegt nicht an Ihnen. Bitte leiten Sie diesen Bericht an Ihren Postmaster weiter."
_SEND_LESS = "Teilen Sie die Nachricht auf, oder lassen Sie Anhänge weg und geben Sie diese auf anderem Weg weiter."
_OTHER_WAY = "Versuchen Sie es in einigen Tagen noch einmal, oder erreichen Sie den Empfänger auf anderem Weg."
_CHECK_DOMAIN = "Prüfen Sie den Teil hinter dem @ auf Tippfehler."
_CHECK_SETTINGS = "Prüfen Sie die Absenderadresse in den Einstellungen Ihres Mailprogramms."
_TRUST = Advice(
    "Der andere Server konnte sich nicht vergewissern, dass die Nachricht wirklich aus Ihrer Domain kommt.",
    _ASK_POSTMASTER,
)

_ADVICE = {
    "1.1": Advice(
        "Dort gibt es kein Postfach mit diesem Namen.",
        "Prüfen Sie die Adresse auf Tippfehler, vor allem vor dem @. Ist sie richtig, dann besteht das Postfach"
        " vielleicht nicht mehr: Fragen Sie den Empfänger auf anderem Weg.",
    ),
    "1.2": Advice(
        "Die Domain hinter dem @ gibt es nicht, oder es ist kein Mailserver für sie zu finden.", _CHECK_DOMAIN
    ),
    "1.3": Advice(
        "So wird eine Adresse nicht geschrieben.",
        "Prüfen Sie sie: Eine Adresse besteht aus einem Namen, einem @ und einer Domain, ohne Leerzeichen und"
        " Kommas.",
    ),
    "1.4": Advice(
        "Zu dieser Adresse passt mehr als ein Postfach.", "Fragen Sie den Empfänger nach der vollständigen Adresse."
    ),
    "1.6": Advice(
        "Der Empfänger ist umgezogen und hat keine neue Adresse hinterlassen.",
        "Fragen Sie den Empfänger nach der neuen Adresse.",
    ),
    "1.7": Advice("Der andere Server hält Ihre eigene Adresse für falsch geschrieben.", _CHECK_SETTINGS),
    "1.8": Advice("Der andere Server nimmt von Ihrer eigenen Adresse als Absender nichts an.", _CHECK_SETTINGS),
    "1.10": Advice("Der Inhaber dieser Domain hat erklärt, dass sie keinerlei Mail annimmt.", _CHECK_DOMAIN),
    "1": Advice("An diese Adresse lässt sich die Nachricht nicht zustellen.", "Prüfen Sie sie auf Tippfehler."),
    "2.1": Advice(
        "Das Postfach gibt es, aber es nimmt zurzeit keine Nachrichten an.",
        "Erreichen Sie den Empfänger auf anderem Weg.",
    ),
    "2.2": Advice("Das Postfach des Empfängers ist voll.", _OTHER_WAY),
    "2.3": Advice("Die Nachricht ist größer, als dieses Postfach zulässt.", _SEND_LESS),
    "2.4": Advice(
        "Das ist eine Mailingliste, und mit ihren Mitgliedern gibt es Schwierigkeiten.",
        "Sagen Sie dem Betreiber der Liste Bescheid.",
    ),
    "2": Advice("Mit dem Postfach des Empfängers gibt es Schwierigkeiten.", _OTHER_WAY),
    "3.1": Advice("Der Mailserver hat keinen Platz mehr.", _OTHER_WAY),
    "3.2": Advice("Der Mailserver nimmt zurzeit keine Nachrichten an.", _OTHER_WAY),
    "3.4": Advice("Die Nachricht ist zu groß für einen der Mailserver auf ihrem Weg.", _SEND_LESS),
    "3": Advice("Mit einem Mailserver auf dem Weg gibt es Schwierigkeiten.", _ASK_POSTMASTER),
    "4.1": Advice("Der andere Mailserver antwortet nicht.", _OTHER_WAY),
    "4.2": Advice("Die Verbindung zum anderen Mailserver brach immer wieder ab.", _OTHER_WAY),
    "4.4": Advice("Es wurde kein Weg zu einem Mailserver für diese Domain gefunden.", _CHECK_DOMAIN),
    "4.6": Advice("Die Nachricht lief zwischen Mailservern im Kreis.", _ASK_POSTMASTER),
    "4.7": Advice(
        "Alle Versuche in der dafür vorgesehenen Zeit waren vergeblich.",
        "Senden Sie die Nachricht noch einmal, wenn sie noch wichtig ist, oder erreichen Sie den Empfänger auf"
        " anderem Weg.",
    ),
    "4": Advice("Die Nachricht fand keinen Weg durch das Netz.", _OTHER_WAY),
    "5.3": Advice(
        "Die Nachricht hat mehr Empfänger, als der andere Server zulässt.",
        "Senden Sie sie an weniger Empfänger auf einmal.",
    ),
    "5": Advice("Die beiden Mailserver haben einander nicht verstanden.", _ASK_POSTMASTER),
    "6.7": Advice(
        "Eine Adresse in dieser Nachricht enthält Zeichen, mit denen ein Server auf dem Weg nicht umgehen kann.",
        "Bitten Sie den Empfänger um eine Adresse in einfachen Buchstaben ohne Umlaute und Akzente.",
    ),
    "6": Advice(
        "Ein Mailserver auf dem Weg kann mit Nachrichten dieser Form nicht umgehen.",
        "Senden Sie sie als reinen Text oder in einem anderen Dateiformat.",
    ),
    "7.20": _TRUST,
    "7.23": _TRUST,
    "7.25": _TRUST,
    "7.26": _TRUST,
    "7.1": Advice(
        "Eine Regel des anderen Servers verbietet diese Nachricht: Vielleicht wurde sie für Spam gehalten, oder Sie"
        " dürfen nicht an diese Adresse schreiben.",
        "Lesen Sie, was der Server sagt. Hilft das nicht weiter, dann bitten Sie den Empfänger auf anderem Weg,"
        " Ihre Nachrichten zuzulassen, oder leiten Sie diesen Bericht an Ihren Postmaster weiter.",
    ),
    "7": Advice("Der andere Server weist die Nachricht aus Sicherheitsgründen ab.", _ASK_POSTMASTER),
    "0": Advice(
        "Ein genauer Grund wurde nicht genannt.",
        "Lesen Sie den Wortlaut oben. Hilft er nicht weiter, dann leiten Sie diesen Bericht an Ihren Postmaster"
        " weiter.",
    ),
}

_OPENINGS = {
    Action.FAILED: (
        "{message}, angenommen am {when}, konnte an die folgende Adresse nicht zugestellt werden. Es wird kein"
        " weiterer Versuch unternommen.",
        "{message}, angenommen am {when}, konnte an die folgenden Adressen nicht zugestellt werden. Es wird kein"
        " weiterer Versuch unternommen.",
    ),
    Action.DELAYED: (
        "{message}, angenommen am {when}, konnte an die folgende Adresse bisher nicht zugestellt werden. Sie"
        " brauchen nichts zu tun: Die Versuche gehen weiter. Lässt sie sich am Ende nicht zustellen, dann"
        " erfahren Sie es.",
        "{message}, angenommen am {when}, konnte an die folgenden Adressen bisher nicht zugestellt werden. Sie"
        " brauchen nichts zu tun: Die Versuche gehen weiter. Lässt sie sich am Ende nicht zustellen, dann"
        " erfahren Sie es.",
    ),
    Action.DELIVERED: (
        "{message}, angenommen am {when}, wurde an die folgende Adresse zugestellt, wie Sie es wissen wollten.",
        "{message}, angenommen am {when}, wurde an die folgenden Adressen zugestellt, wie Sie es wissen wollten.",
    ),
    Action.RELAYED: (
        "{message}, angenommen am {when}, wurde dem Mailserver der folgenden Adresse übergeben. Dieser Server"
        " bestätigt Zustellungen nicht; Sie hören also nur noch davon, wenn etwas schiefgeht.",
        "{message}, angenommen am {when}, wurde dem Mailserver der folgenden Adressen übergeben. Dieser Server"
        " bestätigt Zustellungen nicht; Sie hören also nur noch davon, wenn etwas schiefgeht.",
    ),
    Action.EXPANDED: (
        "{message}, angenommen am {when}, ging an die folgende Adresse, die für andere Adressen steht, und wurde an"
        " diese weitergegeben. Sie hören nur noch davon, wenn etwas schiefgeht.",
        "{message}, angenommen am {when}, ging an die folgenden Adressen, die für andere Adressen stehen, und wurde"
        " an diese weitergegeben. Sie hören nur noch davon, wenn etwas schiefgeht.",
    ),
}

WORDS = Wording(
    language=Language.GERMAN,
    date="%d.%m.%Y um %H:%M Uhr (%z)",
    subjects={
        Action.FAILED: "Ihre Nachricht konnte nicht zugestellt werden",
        Action.DELAYED: "Ihre Nachricht ist noch nicht zugestellt",
        Action.DELIVERED: "Ihre Nachricht wurde zugestellt",
        Action.RELAYED: "Ihre Nachricht wurde übergeben",
        Action.EXPANDED: "Ihre Nachricht wurde an eine Gruppe weitergegeben",
    },
    openings=_OPENINGS,
    advice=_ADVICE,
    given_back=Advice(
        "Der Administrator dieses Mailservers hat die Nachricht aus der Warteschlange genommen und dem"
        " Absender zurückgegeben.",
        "Wenn Sie nicht wissen, warum, dann fragen Sie Ihren Postmaster, bevor Sie die Nachricht noch einmal"
        " senden, oder erreichen Sie den Empfänger auf anderem Weg.",
    ),
    this_is="Hier ist der Mailserver {host_name}.",
    titled="Ihre Nachricht „{subject}“",
    untitled="Ihre Nachricht ohne Betreff",
    more_recipients="... und {count} weitere, die der zweite Teil dieses Berichts aufführt.",
    asked_for="(Sie schrieben an {address})",
    said="Der Mailserver {host} sagte dazu:",
    reason="Grund: {reason}",
    means="Das bedeutet: {meaning}",
    you_can="Was Sie tun können: {advice}",
    tried_until="Die Versuche gehen noch bis etwa zum {when} weiter.",
    header_attached="Ihre Kopfzeilen sind beigefügt.",
    all_attached="Die ganze Nachricht ist beigefügt, nichts von ihr ist verloren.",
    known_as="Die Nachricht war hier unter {queue_id} bekannt.",
    route_stopped=Letter(
        "Die Route {route} funktioniert nicht",
        """\
Mail über die Route {route} wartet seit {since} UTC, obwohl die Verbindung
steht: {next_hop} war {failures}-mal nicht zu gebrauchen. Der letzte Grund war:

  {reason}

Es geht nichts verloren; es wird immer wieder versucht. `masqmail status` zeigt, wie
es steht.
""",
    ),
    without_route=Letter(
        "Mail, für die keine Route gedacht ist",
        """\
In der Warteschlange ist Mail, zu der keine Route passt (Empfänger: {count}): Absender,
Adresse, From oder Größe werden von den Bedingungen jeder Route ausgeschlossen. Solche
Mail wartet, bis sich die Konfiguration ändert. `masqmail queue` führt sie auf,
`masqmail explain ADRESSE --from ABSENDER` sagt, welche Bedingung sie ausschließt.
""",
    ),
    reports_held=Letter(
        "Berichte werden zurückgehalten",
        """\
Mehr als {each} Berichte an eine Adresse, oder {all} an alle zusammen, wären innerhalb
einer Stunde hinausgegangen. Die darüber hinaus wurden nicht gesendet ({count}):

{list}

Vielleicht schreibt jemand unter fremden Adressen, oder ein Programm sendet dieselbe
Mail immer wieder. Es ist nichts verloren: Die Berichte werden in der Warteschlange
festgehalten. `masqmail queue list` zeigt sie,
`masqmail queue release --sender '<>' --recipient ADRESSE` sendet sie,
`masqmail queue remove --sender '<>' --recipient ADRESSE` wirft sie weg.
""",
    ),
    pickup_refused=Letter(
        "Ihre Nachricht konnte nicht gesendet werden",
        """\
Hier ist der Mailserver {host_name}.

Eine Nachricht, die Sie mit dem Befehl sendmail abgegeben haben, während der
Mailserver nicht lief, konnte nun, da er läuft, nicht gesendet werden:

    {reason}

Es ist nichts von ihr verloren. Der Administrator findet sie in dieser Datei:

    {path}
""",
    ),
    fetch_left=Letter(
        "Eine Nachricht von {size} wartet auf dem Server",
        """\
Hier ist der Mailserver {host_name}.

Eine Nachricht für Sie bleibt auf dem Server {server}. Sie ist größer als
die {limit}, die vom Konto {account} von selbst abgeholt werden:

  Von:     {author}
  Datum:   {date}
  Betreff: {subject}
  Größe:   {size}

Um sie zu bekommen, antworten Sie auf diese Mitteilung; zu schreiben brauchen Sie
nichts. Oder geben Sie ein:

  {command}

Bis dahin bleibt sie, wo sie ist. Sie erfahren von ihr kein zweites Mal.
""",
    ),
    fetch_refused=Letter(
        "Eine Nachricht auf dem Server kann nicht angenommen werden",
        """\
Eine Nachricht auf dem Server {server} wurde vom Konto {account} abgeholt und
konnte nicht angenommen werden:

  {reason}

Sie bleibt auf dem Server, nichts von ihr ist verloren, und sie wird von selbst nicht
wieder abgeholt. Um es noch einmal zu versuchen, geben Sie ein:

  {command}
""",
    ),
    fetch_gone=Letter(
        "Die Nachricht ist nicht mehr auf dem Server",
        """\
Sie haben auf die Mitteilung geantwortet, dass eine Nachricht auf dem Server
{server} des Kontos {account} geblieben ist. Diese Nachricht gibt es dort nicht
mehr ({uid}): Jemand hat sie abgeholt oder gelöscht.
""",
    ),
    fetch_stopped=Letter(
        "Vom Konto {account} kommt keine Mail",
        """\
Seit {since} UTC konnte vom Konto {account} auf dem Server {server}
keine Mail abgeholt werden. Der letzte Grund war:

  {reason}

Es geht nichts verloren: Die Mail wartet auf dem Server. Es wird immer wieder versucht,
mit langen Pausen, wenn Name oder Passwort abgelehnt wurden. `masqmail status` zeigt,
wie es steht, `masqmail fetch {account}` versucht es sofort.
""",
    ),
    fetched_redirected=Letter(
        "Eine abgeholte Nachricht fand kein Postfach",
        """\
Eine Nachricht, abgeholt von {origin},
war für eine Adresse, die es hier so nicht gibt:

{list}

  Von:      {author}
  Betreff:  {subject}
  Abgeholt: {when}

Ihr Absender hat davon nichts erfahren. Die ganze Nachricht liegt statt dessen in Ihrem
Postfach; hier hieß sie {queue_id}. Kommt mehr solche Mail, legen Sie für die
Adresse einen Alias an.
""",
    ),
    fetched_held=Letter(
        "Eine abgeholte Nachricht konnte nicht zugestellt werden",
        """\
Eine Nachricht, abgeholt von {origin},
konnte nicht zugestellt werden:

{list}

  Von:      {author}
  Betreff:  {subject}
  Abgeholt: {when}

Ihr Absender hat davon nichts erfahren, und nichts ist verloren: Die Nachricht wird in
der Warteschlange festgehalten.
`masqmail queue show {queue_id}` zeigt sie,
`masqmail queue release {queue_id}` versucht es noch einmal,
`masqmail queue remove {queue_id}` wirft sie weg.
""",
    ),
    fetched_delayed=Letter(
        "Eine abgeholte Nachricht ist noch nicht zugestellt",
        """\
Eine Nachricht, abgeholt von {origin},
konnte bisher nicht zugestellt werden:

{list}

  Von:      {author}
  Betreff:  {subject}
  Abgeholt: {when}

Sie müssen nichts tun: Es wird weiter versucht. `masqmail queue show {queue_id}`
zeigt, wie es steht.
""",
    ),
)
