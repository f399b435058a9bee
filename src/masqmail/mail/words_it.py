"""What we say in Italian."""

from masqmail.mail.wording import Action, Advice, Language, Letter, Wording

_ASK_POSTMASTER = "Non dipende da Lei. La preghiamo di inoltrare questo rapporto al Suo postmaster."
_SEND_LESS = "Lo invii in più parti, oppure tolga gli allegati e li condivida in un altro modo."
_OTHER_WAY = "Riprovi fra qualche giorno, oppure raggiunga il destinatario in un altro modo."
_CHECK_DOMAIN = "Controlli che non ci siano errori di battitura dopo la @."
_CHECK_SETTINGS = "Controlli l'indirizzo del mittente nelle impostazioni del Suo programma di posta."
_TRUST = Advice(
    "L'altro server non ha potuto accertare che il messaggio provenga davvero dal Suo dominio.", _ASK_POSTMASTER
)

_ADVICE = {
    "1.1": Advice(
        "Su quel server non esiste una casella con questo nome.",
        "Controlli che non ci siano errori di battitura nell'indirizzo, soprattutto prima della @. Se è giusto, la"
        " casella è forse stata chiusa: lo chieda al destinatario in un altro modo.",
    ),
    "1.2": Advice(
        "Il dominio dopo la @ non esiste, oppure non si trova alcun server di posta che lo serva.", _CHECK_DOMAIN
    ),
    "1.3": Advice(
        "Un indirizzo non si scrive così.",
        "Lo controlli: un indirizzo è composto da un nome, una @ e un dominio, senza spazi né virgole.",
    ),
    "1.4": Advice(
        "A questo indirizzo corrisponde più di una casella.", "Chieda al destinatario l'indirizzo completo."
    ),
    "1.6": Advice(
        "Il destinatario si è trasferito e non ha lasciato un nuovo indirizzo.",
        "Chieda al destinatario il nuovo indirizzo.",
    ),
    "1.7": Advice("L'altro server ritiene che il Suo indirizzo sia scritto male.", _CHECK_SETTINGS),
    "1.8": Advice("L'altro server non accetta il Suo indirizzo come mittente.", _CHECK_SETTINGS),
    "1.10": Advice("Il titolare di questo dominio ha dichiarato che non accetta alcuna posta.", _CHECK_DOMAIN),
    "1": Advice(
        "Il messaggio non può essere consegnato a questo indirizzo.",
        "Controlli che non contenga errori di battitura.",
    ),
    "2.1": Advice(
        "La casella esiste, ma al momento non accetta messaggi.", "Raggiunga il destinatario in un altro modo."
    ),
    "2.2": Advice("La casella del destinatario è piena.", _OTHER_WAY),
    "2.3": Advice("Il messaggio è più grande di quanto questa casella consenta.", _SEND_LESS),
    "2.4": Advice(
        "Questa è una lista di distribuzione, e ci sono problemi con i suoi membri.",
        "Avvisi il responsabile della lista.",
    ),
    "2": Advice("Ci sono problemi con la casella del destinatario.", _OTHER_WAY),
    "3.1": Advice("Il server di posta non ha più spazio.", _OTHER_WAY),
    "3.2": Advice("Il server di posta al momento non accetta messaggi.", _OTHER_WAY),
    "3.4": Advice("Il messaggio è troppo grande per uno dei server di posta sul suo percorso.", _SEND_LESS),
    "3": Advice("Ci sono problemi con un server di posta sul percorso.", _ASK_POSTMASTER),
    "4.1": Advice("L'altro server di posta non risponde.", _OTHER_WAY),
    "4.2": Advice("La connessione con l'altro server di posta si è interrotta ogni volta.", _OTHER_WAY),
    "4.4": Advice("Non è stata trovata alcuna via verso un server di posta di questo dominio.", _CHECK_DOMAIN),
    "4.6": Advice("Il messaggio ha girato in tondo fra server di posta.", _ASK_POSTMASTER),
    "4.7": Advice(
        "Tutti i tentativi nel tempo previsto sono stati vani.",
        "Lo invii di nuovo se ha ancora importanza, oppure raggiunga il destinatario in un altro modo.",
    ),
    "4": Advice("Il messaggio non ha trovato una via attraverso la rete.", _OTHER_WAY),
    "5.3": Advice(
        "Il messaggio ha più destinatari di quanti l'altro server ne consenta.",
        "Lo invii a meno destinatari per volta.",
    ),
    "5": Advice("I due server di posta non si sono capiti.", _ASK_POSTMASTER),
    "6.7": Advice(
        "Un indirizzo di questo messaggio contiene caratteri che un server sul percorso non sa trattare.",
        "Chieda al destinatario un indirizzo in lettere semplici, senza accenti.",
    ),
    "6": Advice(
        "Un server di posta sul percorso non sa trattare messaggi di questa forma.",
        "Lo invii come testo semplice, oppure in un altro formato di file.",
    ),
    "7.20": _TRUST,
    "7.23": _TRUST,
    "7.25": _TRUST,
    "7.26": _TRUST,
    "7.1": Advice(
        "Una regola dell'altro server vieta questo messaggio: forse è stato preso per posta indesiderata, oppure Lei"
        " non ha il permesso di scrivere a questo indirizzo.",
        "Legga che cosa dice il server. Se non basta, chieda al destinatario in un altro modo di ammettere i Suoi"
        " messaggi, oppure inoltri questo rapporto al Suo postmaster.",
    ),
    "7": Advice("L'altro server rifiuta il messaggio per motivi di sicurezza.", _ASK_POSTMASTER),
    "0": Advice(
        "Non è stato indicato un motivo preciso.",
        "Legga il testo qui sopra. Se non basta, inoltri questo rapporto al Suo postmaster.",
    ),
}

_OPENINGS = {
    Action.FAILED: (
        "{message}, accettato il {when}, non ha potuto essere consegnato all'indirizzo indicato sotto. Non ci saranno"
        " altri tentativi.",
        "{message}, accettato il {when}, non ha potuto essere consegnato agli indirizzi indicati sotto. Non ci"
        " saranno altri tentativi.",
    ),
    Action.DELAYED: (
        "{message}, accettato il {when}, non ha ancora potuto essere consegnato all'indirizzo indicato sotto. Non"
        " deve fare nulla: i tentativi continuano. Se alla fine non potrà essere consegnato, La informeremo.",
        "{message}, accettato il {when}, non ha ancora potuto essere consegnato agli indirizzi indicati sotto. Non"
        " deve fare nulla: i tentativi continuano. Se alla fine non potrà essere consegnato, La informeremo.",
    ),
    Action.DELIVERED: (
        "{message}, accettato il {when}, è stato consegnato all'indirizzo indicato sotto, come aveva"
        " chiesto di sapere.",
        "{message}, accettato il {when}, è stato consegnato agli indirizzi indicati sotto, come aveva"
        " chiesto di sapere.",
    ),
    Action.RELAYED: (
        "{message}, accettato il {when}, è stato affidato al server di posta dell'indirizzo indicato sotto. Quel"
        " server non conferma le consegne: non riceverà altre notizie, a meno che qualcosa non vada storto.",
        "{message}, accettato il {when}, è stato affidato al server di posta degli indirizzi indicati sotto. Quel"
        " server non conferma le consegne: non riceverà altre notizie, a meno che qualcosa non vada storto.",
    ),
    Action.EXPANDED: (
        "{message}, accettato il {when}, era per l'indirizzo indicato sotto, che rappresenta altri indirizzi, ed è"
        " stato trasmesso a questi. Non riceverà altre notizie, a meno che qualcosa non vada storto.",
        "{message}, accettato il {when}, era per gli indirizzi indicati sotto, che rappresentano altri indirizzi, ed"
        " è stato trasmesso a questi. Non riceverà altre notizie, a meno che qualcosa non vada storto.",
    ),
}

WORDS = Wording(
    language=Language.ITALIAN,
    date="%d/%m/%Y alle %H:%M (%z)",
    subjects={
        Action.FAILED: "Non è stato possibile consegnare il Suo messaggio",
        Action.DELAYED: "Il Suo messaggio non è ancora stato consegnato",
        Action.DELIVERED: "Il Suo messaggio è stato consegnato",
        Action.RELAYED: "Il Suo messaggio è stato affidato a un altro server",
        Action.EXPANDED: "Il Suo messaggio è stato trasmesso a un gruppo",
    },
    openings=_OPENINGS,
    advice=_ADVICE,
    given_back=Advice(
        "L'amministratore di questo server di posta ha tolto il messaggio dalla coda e lo ha restituito al mittente.",
        "Se non sa perché, lo chieda al Suo postmaster prima di inviare di nuovo il messaggio, oppure"
        " raggiunga il destinatario in un altro modo.",
    ),
    this_is="Questo è il server di posta {host_name}.",
    titled="Il Suo messaggio «{subject}»",
    untitled="Il Suo messaggio senza oggetto",
    more_recipients="... e altri {count}, che la seconda parte di questo rapporto elenca.",
    asked_for="(ha scritto a {address})",
    said="Il server di posta {host} ha risposto:",
    reason="Motivo: {reason}",
    means="Questo significa: {meaning}",
    you_can="Che cosa può fare: {advice}",
    tried_until="I tentativi continueranno fino al {when} circa.",
    header_attached="La sua intestazione è allegata.",
    all_attached="L'intero messaggio è allegato, nulla ne è andato perduto.",
    known_as="Il messaggio era noto qui come {queue_id}.",
    route_stopped=Letter(
        "La via {route} non funziona",
        """\
La posta per la via (route) {route} attende dal {since} UTC, benché il collegamento
sia attivo: {next_hop} non ha potuto essere usato {failures} volte. L'ultimo motivo era:

  {reason}

Nulla è perduto; i tentativi continuano. `masqmail status` mostra come stanno le cose.
""",
    ),
    without_route=Letter(
        "Posta a cui nessuna via è destinata",
        """\
Nella coda c'è posta che non corrisponde ad alcuna via (destinatari: {count}): il
mittente, l'indirizzo, il campo From o la dimensione sono esclusi dalle condizioni di
ciascuna. Tale posta attende che la configurazione cambi. `masqmail queue` la elenca,
`masqmail explain INDIRIZZO --from MITTENTE` dice quale condizione la esclude.
""",
    ),
    reports_held=Letter(
        "Alcuni rapporti sono trattenuti",
        """\
Più di {each} rapporti a un solo indirizzo, o {all} in tutto, sarebbero partiti in
un'ora. I rapporti in più non sono stati inviati ({count}):

{list}

Forse qualcuno scrive con gli indirizzi di altri, o un programma invia di continuo la
stessa posta. Nulla è perduto: i rapporti sono trattenuti nella coda.
`masqmail queue list` li mostra,
`masqmail queue release --sender '<>' --recipient INDIRIZZO` li invia,
`masqmail queue remove --sender '<>' --recipient INDIRIZZO` li elimina.
""",
    ),
    pickup_refused=Letter(
        "Non è stato possibile inviare il Suo messaggio",
        """\
Questo è il server di posta {host_name}.

Un messaggio che Lei ha consegnato con il comando sendmail, mentre il server di
posta non era in funzione, non ha potuto essere inviato ora che lo è:

    {reason}

Nulla ne è andato perduto. L'amministratore lo trova in questo file:

    {path}
""",
    ),
    fetch_left=Letter(
        "Un messaggio di {size} attende sul server",
        """\
Questo è il server di posta {host_name}.

Un messaggio per Lei resta sul server {server}. È più grande dei {limit}
che vengono prelevati da soli dall'account {account}:

  Da:         {author}
  Data:       {date}
  Oggetto:    {subject}
  Dimensione: {size}

Per riceverlo risponda a questo avviso; non occorre scrivere nulla. Oppure digiti:

  {command}

Fino ad allora resta dov'è. Non ne riceverà un secondo avviso.
""",
    ),
    fetch_refused=Letter(
        "Un messaggio sul server non può essere accettato",
        """\
Un messaggio sul server {server} è stato prelevato dall'account {account} e
non ha potuto essere accettato:

  {reason}

Resta sul server, nulla di esso è perduto, e non sarà più prelevato da solo. Per
provare ancora una volta, digiti:

  {command}
""",
    ),
    fetch_gone=Letter(
        "Il messaggio non è più sul server",
        """\
Lei ha risposto all'avviso che un messaggio è rimasto sul server {server}
dell'account {account}. Quel messaggio non c'è più ({uid}): qualcuno lo ha
prelevato o cancellato.
""",
    ),
    fetch_stopped=Letter(
        "Dall'account {account} non arriva posta",
        """\
Dal {since} UTC non è stato possibile prelevare posta dall'account {account}
sul server {server}. L'ultimo motivo era:

  {reason}

Nulla va perduto: la posta attende sul server. Si riprova di continuo, con lunghe pause
quando il nome o la password sono stati rifiutati. `masqmail status` mostra come stanno
le cose, `masqmail fetch {account}` prova subito.
""",
    ),
    fetched_redirected=Letter(
        "Un messaggio prelevato non ha trovato una casella",
        """\
Un messaggio prelevato da {origin}
era per un indirizzo che qui non funziona:

{list}

  Da:        {author}
  Oggetto:   {subject}
  Prelevato: {when}

Il mittente non ne ha saputo nulla. L'intero messaggio è invece nella Sua casella; qui
era noto come {queue_id}. Se arriverà altra posta simile, crei un alias per
l'indirizzo.
""",
    ),
    fetched_held=Letter(
        "Un messaggio prelevato non ha potuto essere consegnato",
        """\
Un messaggio prelevato da {origin}
non ha potuto essere consegnato:

{list}

  Da:        {author}
  Oggetto:   {subject}
  Prelevato: {when}

Il mittente non ne ha saputo nulla, e nulla è perduto: il messaggio è trattenuto nella
coda.
`masqmail queue show {queue_id}` lo mostra,
`masqmail queue release {queue_id}` riprova,
`masqmail queue remove {queue_id}` lo butta via.
""",
    ),
    fetched_delayed=Letter(
        "Un messaggio prelevato non è ancora consegnato",
        """\
Un messaggio prelevato da {origin}
finora non ha potuto essere consegnato:

{list}

  Da:        {author}
  Oggetto:   {subject}
  Prelevato: {when}

Non occorre fare nulla: si continua a provare. `masqmail queue show {queue_id}`
mostra come stanno le cose.
""",
    ),
)
