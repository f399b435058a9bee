"""What we say in French."""

from masqmail.mail.wording import Action, Advice, Language, Letter, Wording

_ASK_POSTMASTER = "Vous n'y êtes pour rien. Veuillez transmettre ce rapport à votre postmaster."
_SEND_LESS = "Envoyez-le en plusieurs parties, ou retirez les pièces jointes et partagez-les autrement."
_OTHER_WAY = "Réessayez dans quelques jours, ou joignez le destinataire par un autre moyen."
_CHECK_DOMAIN = "Vérifiez qu'il n'y a pas de faute de frappe après le @."
_CHECK_SETTINGS = "Vérifiez l'adresse d'expéditeur dans les réglages de votre logiciel de messagerie."
_TRUST = Advice(
    "L'autre serveur n'a pas pu s'assurer que le message provient bien de votre domaine.", _ASK_POSTMASTER
)

_ADVICE = {
    "1.1": Advice(
        "Aucune boîte aux lettres de ce nom n'existe sur ce serveur.",
        "Vérifiez qu'il n'y a pas de faute de frappe dans l'adresse, surtout avant le @. Si elle est juste, la boîte"
        " a peut-être été fermée\u00a0: demandez au destinataire par un autre moyen.",
    ),
    "1.2": Advice(
        "Le domaine qui suit le @ n'existe pas, ou aucun serveur de messagerie n'est trouvé pour lui.", _CHECK_DOMAIN
    ),
    "1.3": Advice(
        "Une adresse ne s'écrit pas ainsi.",
        "Vérifiez-la\u00a0: une adresse se compose d'un nom, d'un @ et d'un domaine, sans espaces ni virgules.",
    ),
    "1.4": Advice(
        "Plusieurs boîtes aux lettres correspondent à cette adresse.",
        "Demandez au destinataire son adresse complète.",
    ),
    "1.6": Advice(
        "Le destinataire a déménagé sans laisser de nouvelle adresse.",
        "Demandez au destinataire sa nouvelle adresse.",
    ),
    "1.7": Advice("L'autre serveur juge que votre propre adresse est mal écrite.", _CHECK_SETTINGS),
    "1.8": Advice("L'autre serveur n'accepte pas votre propre adresse comme expéditeur.", _CHECK_SETTINGS),
    "1.10": Advice(
        "Le propriétaire de ce domaine a déclaré qu'il n'accepte aucun courrier électronique.", _CHECK_DOMAIN
    ),
    "1": Advice(
        "Le message ne peut pas être remis à cette adresse.", "Vérifiez qu'elle ne contient pas de faute de frappe."
    ),
    "2.1": Advice(
        "La boîte aux lettres existe, mais n'accepte pas de messages pour le moment.",
        "Joignez le destinataire par un autre moyen.",
    ),
    "2.2": Advice("La boîte aux lettres du destinataire est pleine.", _OTHER_WAY),
    "2.3": Advice("Le message est plus gros que ce que cette boîte aux lettres autorise.", _SEND_LESS),
    "2.4": Advice(
        "C'est une liste de diffusion, et il y a un problème avec ses membres.",
        "Prévenez le responsable de la liste.",
    ),
    "2": Advice("Il y a un problème avec la boîte aux lettres du destinataire.", _OTHER_WAY),
    "3.1": Advice("Le serveur de messagerie n'a plus de place.", _OTHER_WAY),
    "3.2": Advice("Le serveur de messagerie n'accepte pas de messages pour le moment.", _OTHER_WAY),
    "3.4": Advice("Le message est trop gros pour l'un des serveurs de messagerie sur son chemin.", _SEND_LESS),
    "3": Advice("Il y a un problème avec un serveur de messagerie sur le chemin.", _ASK_POSTMASTER),
    "4.1": Advice("L'autre serveur de messagerie ne répond pas.", _OTHER_WAY),
    "4.2": Advice("La connexion à l'autre serveur de messagerie a été coupée à chaque fois.", _OTHER_WAY),
    "4.4": Advice("Aucun chemin vers un serveur de messagerie de ce domaine n'a été trouvé.", _CHECK_DOMAIN),
    "4.6": Advice("Le message a tourné en rond entre des serveurs de messagerie.", _ASK_POSTMASTER),
    "4.7": Advice(
        "Toutes les tentatives faites dans le délai prévu ont été vaines.",
        "Renvoyez-le s'il a encore de l'importance, ou joignez le destinataire par un autre moyen.",
    ),
    "4": Advice("Le message n'a pas trouvé de chemin à travers le réseau.", _OTHER_WAY),
    "5.3": Advice(
        "Le message a plus de destinataires que l'autre serveur n'en autorise.",
        "Envoyez-le à moins de destinataires à la fois.",
    ),
    "5": Advice("Les deux serveurs de messagerie ne se sont pas compris.", _ASK_POSTMASTER),
    "6.7": Advice(
        "Une adresse de ce message contient des caractères qu'un serveur sur le chemin ne sait pas traiter.",
        "Demandez au destinataire une adresse en lettres simples, sans accents.",
    ),
    "6": Advice(
        "Un serveur de messagerie sur le chemin ne sait pas traiter les messages de cette forme.",
        "Envoyez-le en texte brut, ou dans un autre format de fichier.",
    ),
    "7.20": _TRUST,
    "7.23": _TRUST,
    "7.25": _TRUST,
    "7.26": _TRUST,
    "7.1": Advice(
        "Une règle de l'autre serveur interdit ce message\u00a0: il a peut-être été pris pour un courrier"
        " indésirable, ou vous n'avez pas le droit d'écrire à cette adresse.",
        "Lisez ce que dit le serveur. Si cela ne suffit pas, demandez au destinataire par un autre moyen"
        " d'autoriser vos messages, ou transmettez ce rapport à votre postmaster.",
    ),
    "7": Advice("L'autre serveur refuse le message pour des raisons de sécurité.", _ASK_POSTMASTER),
    "0": Advice(
        "Aucune raison précise n'a été donnée.",
        "Lisez le texte ci-dessus. S'il ne suffit pas, transmettez ce rapport à votre postmaster.",
    ),
}

_OPENINGS = {
    Action.FAILED: (
        "{message}, accepté le {when}, n'a pas pu être remis à l'adresse ci-dessous. Il n'y aura pas d'autre"
        " tentative.",
        "{message}, accepté le {when}, n'a pas pu être remis aux adresses ci-dessous. Il n'y aura pas d'autre"
        " tentative.",
    ),
    Action.DELAYED: (
        "{message}, accepté le {when}, n'a pas encore pu être remis à l'adresse ci-dessous. Vous n'avez rien à"
        " faire\u00a0: les tentatives continuent. S'il ne peut finalement pas être remis, nous vous en informerons.",
        "{message}, accepté le {when}, n'a pas encore pu être remis aux adresses ci-dessous. Vous n'avez rien à"
        " faire\u00a0: les tentatives continuent. S'il ne peut finalement pas être remis, nous vous en informerons.",
    ),
    Action.DELIVERED: (
        "{message}, accepté le {when}, a été remis à l'adresse ci-dessous, comme vous souhaitiez le savoir.",
        "{message}, accepté le {when}, a été remis aux adresses ci-dessous, comme vous souhaitiez le savoir.",
    ),
    Action.RELAYED: (
        "{message}, accepté le {when}, a été confié au serveur de messagerie de l'adresse ci-dessous. Ce serveur ne"
        " confirme pas les remises\u00a0: vous n'aurez plus de nouvelles, sauf en cas de problème.",
        "{message}, accepté le {when}, a été confié au serveur de messagerie des adresses ci-dessous. Ce serveur ne"
        " confirme pas les remises\u00a0: vous n'aurez plus de nouvelles, sauf en cas de problème.",
    ),
    Action.EXPANDED: (
        "{message}, accepté le {when}, était destiné à l'adresse ci-dessous, qui représente d'autres adresses,"
        " et leur a été transmis. Vous n'aurez plus de nouvelles, sauf en cas de problème.",
        "{message}, accepté le {when}, était destiné aux adresses ci-dessous, qui représentent d'autres"
        " adresses, et leur a été transmis. Vous n'aurez plus de nouvelles, sauf en cas de problème.",
    ),
}

WORDS = Wording(
    language=Language.FRENCH,
    date="%d/%m/%Y à %H:%M (%z)",
    subjects={
        Action.FAILED: "Votre message n'a pas pu être remis",
        Action.DELAYED: "Votre message n'a pas encore été remis",
        Action.DELIVERED: "Votre message a été remis",
        Action.RELAYED: "Votre message a été confié à un autre serveur",
        Action.EXPANDED: "Votre message a été transmis à un groupe",
    },
    openings=_OPENINGS,
    advice=_ADVICE,
    given_back=Advice(
        "L'administrateur de ce serveur de messagerie a retiré le message de la file d'attente et l'a rendu à"
        " son expéditeur.",
        "Si vous ne savez pas pourquoi, demandez-le à votre postmaster avant de renvoyer le message, ou"
        " joignez le destinataire par un autre moyen.",
    ),
    this_is="Ici le serveur de messagerie {host_name}.",
    titled="Votre message «\u00a0{subject}\u00a0»",
    untitled="Votre message sans objet",
    more_recipients="... et {count} autres, que la deuxième partie de ce rapport énumère.",
    asked_for="(vous avez écrit à {address})",
    said="Le serveur de messagerie {host} a répondu\u00a0:",
    reason="Motif\u00a0: {reason}",
    means="Cela signifie\u00a0: {meaning}",
    you_can="Ce que vous pouvez faire\u00a0: {advice}",
    tried_until="Les tentatives continueront jusqu'au {when} environ.",
    header_attached="Son en-tête est joint.",
    all_attached="Le message entier est joint, rien n'en est perdu.",
    known_as="Le message était connu ici sous le nom de {queue_id}.",
    route_stopped=Letter(
        "La route {route} ne fonctionne pas",
        """\
Du courrier pour la route {route} attend depuis {since} UTC, bien que la liaison
soit établie\u00a0: {next_hop} n'a pas pu être utilisé {failures} fois. La dernière raison était\u00a0:

  {reason}

Rien n'est perdu\u00a0; les tentatives continuent. `masqmail status` montre où en sont
les choses.
""",
    ),
    without_route=Letter(
        "Du courrier auquel aucune route n'est destinée",
        """\
Dans la file d'attente, du courrier ne correspond à aucune route (destinataires\u00a0:
{count})\u00a0: l'expéditeur, l'adresse, le champ From ou la taille sont exclus par les
conditions de chacune. Ce courrier attend que la configuration change. `masqmail
queue` l'énumère, `masqmail explain ADRESSE --from EXPÉDITEUR` dit quelle condition
l'exclut.
""",
    ),
    reports_held=Letter(
        "Des rapports sont retenus",
        """\
Plus de {each} rapports à une même adresse, ou {all} en tout, seraient partis en une
heure. Ceux qui dépassent ce nombre n'ont pas été envoyés ({count})\u00a0:

{list}

Quelqu'un écrit peut-être sous l'adresse d'autrui, ou un programme envoie sans cesse
le même courrier. Rien n'est perdu\u00a0: les rapports sont retenus dans la file d'attente.
`masqmail queue list` les montre,
`masqmail queue release --sender '<>' --recipient ADRESSE` les envoie,
`masqmail queue remove --sender '<>' --recipient ADRESSE` les supprime.
""",
    ),
    pickup_refused=Letter(
        "Votre message n'a pas pu être envoyé",
        """\
Ici le serveur de messagerie {host_name}.

Un message que vous avez déposé avec la commande sendmail, alors que le serveur
de messagerie ne fonctionnait pas, n'a pas pu être envoyé maintenant qu'il
fonctionne\u00a0:

    {reason}

Rien n'en est perdu. L'administrateur le trouve dans ce fichier\u00a0:

    {path}
""",
    ),
    fetch_left=Letter(
        "Un message de {size} attend sur le serveur",
        """\
Ici le serveur de messagerie {host_name}.

Un message pour vous reste sur le serveur {server}. Il est plus grand que
les {limit} qui sont relevés d'eux-mêmes du compte {account} :

  De :     {author}
  Date :   {date}
  Objet :  {subject}
  Taille : {size}

Pour le recevoir, répondez à cet avis ; il n'est pas nécessaire d'y écrire quelque
chose. Ou tapez :

  {command}

Jusque-là, il reste où il est. Vous n'en serez pas informé une seconde fois.
""",
    ),
    fetch_refused=Letter(
        "Un message sur le serveur ne peut pas être accepté",
        """\
Un message sur le serveur {server} a été relevé du compte {account} et n'a
pas pu être accepté :

  {reason}

Il reste sur le serveur, rien n'en est perdu, et il ne sera plus relevé de lui-même.
Pour essayer encore une fois, tapez :

  {command}
""",
    ),
    fetch_gone=Letter(
        "Le message n'est plus sur le serveur",
        """\
Vous avez répondu à l'avis qu'un message est resté sur le serveur {server} du
compte {account}. Ce message n'y est plus ({uid}) : quelqu'un l'a relevé ou
supprimé.
""",
    ),
    fetch_stopped=Letter(
        "Aucun courrier ne vient du compte {account}",
        """\
Depuis {since} UTC, aucun courrier n'a pu être relevé du compte {account}
sur le serveur {server}. La dernière raison était :

  {reason}

Rien n'est perdu : le courrier attend sur le serveur. De nouveaux essais ont lieu sans
cesse, avec de longues pauses quand le nom ou le mot de passe ont été refusés.
`masqmail status` montre où cela en est, `masqmail fetch {account}` essaie tout de suite.
""",
    ),
    fetched_redirected=Letter(
        "Un message relevé n'a pas trouvé de boîte aux lettres",
        """\
Un message relevé de {origin}
était destiné à une adresse qui ne fonctionne pas ici :

{list}

  De :     {author}
  Objet :  {subject}
  Relevé : {when}

Son expéditeur n'en a rien su. Le message entier est dans votre boîte aux lettres à la
place ; il était connu ici comme {queue_id}. S'il vient d'autres messages de ce
genre, créez un alias pour cette adresse.
""",
    ),
    fetched_held=Letter(
        "Un message relevé n'a pas pu être remis",
        """\
Un message relevé de {origin}
n'a pas pu être remis :

{list}

  De :     {author}
  Objet :  {subject}
  Relevé : {when}

Son expéditeur n'en a rien su, et rien n'est perdu : le message est retenu dans la file.
`masqmail queue show {queue_id}` le montre,
`masqmail queue release {queue_id}` essaie de nouveau,
`masqmail queue remove {queue_id}` le jette.
""",
    ),
    fetched_delayed=Letter(
        "Un message relevé n'est pas encore remis",
        """\
Un message relevé de {origin}
n'a pas pu être remis jusqu'ici :

{list}

  De :     {author}
  Objet :  {subject}
  Relevé : {when}

Vous n'avez rien à faire : les essais continuent. `masqmail queue show {queue_id}`
montre où cela en est.
""",
    ),
)
