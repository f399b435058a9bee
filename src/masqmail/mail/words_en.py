"""What we say in English. The meanings follow RFC 3463 §3 with the additions of RFC 7504, 7505 and 7372."""

from masqmail.mail.wording import Action, Advice, Language, Letter, Wording

_ASK_POSTMASTER = "This is not your doing. Please forward this report to your postmaster."
_SEND_LESS = "Send it in smaller parts, or leave out attachments and share them in another way."
_OTHER_WAY = "Try again in a few days, or reach the recipient in another way."
_CHECK_DOMAIN = "Check the part behind the @ for a typing mistake."
_CHECK_SETTINGS = "Check the sender's address in the settings of your mail program."
_TRUST = Advice(
    "The other server could not make sure that the message really comes from your domain.", _ASK_POSTMASTER
)

_ADVICE = {
    "1.1": Advice(
        "There is no mailbox of this name there.",
        "Check the address for a typing mistake, above all before the @. If it is right, the mailbox may have"
        " been closed: ask the recipient in another way.",
    ),
    "1.2": Advice("The domain behind the @ does not exist, or no mail server can be found for it.", _CHECK_DOMAIN),
    "1.3": Advice(
        "This is not written as an address has to be.",
        "Check it: an address is a name, an @ and a domain, without blanks or commas.",
    ),
    "1.4": Advice("More than one mailbox fits this address.", "Ask the recipient for the complete address."),
    "1.6": Advice("The recipient has moved and left no new address.", "Ask the recipient for the new address."),
    "1.7": Advice("The other server thinks that your own address is badly written.", _CHECK_SETTINGS),
    "1.8": Advice("The other server does not accept your own address as that of a sender.", _CHECK_SETTINGS),
    "1.10": Advice("The owner of this domain has declared that it takes no mail at all.", _CHECK_DOMAIN),
    "1": Advice("The address is not one that the message can be delivered to.", "Check it for a typing mistake."),
    "2.1": Advice("The mailbox exists, but takes no messages at present.", "Reach the recipient in another way."),
    "2.2": Advice("The recipient's mailbox is full.", _OTHER_WAY),
    "2.3": Advice("The message is bigger than this mailbox allows.", _SEND_LESS),
    "2.4": Advice("This is a mailing list, and there is trouble with its members.", "Tell the owner of the list."),
    "2": Advice("There is trouble with the recipient's mailbox.", _OTHER_WAY),
    "3.1": Advice("The mail server has no space left.", _OTHER_WAY),
    "3.2": Advice("The mail server takes no messages at present.", _OTHER_WAY),
    "3.4": Advice("The message is too big for one of the mail servers on its way.", _SEND_LESS),
    "3": Advice("There is trouble with a mail server on the way.", _ASK_POSTMASTER),
    "4.1": Advice("The other mail server does not answer.", _OTHER_WAY),
    "4.2": Advice("The connection to the other mail server kept breaking off.", _OTHER_WAY),
    "4.4": Advice("No way to a mail server for this domain was found.", _CHECK_DOMAIN),
    "4.6": Advice("The message went in a circle between mail servers.", _ASK_POSTMASTER),
    "4.7": Advice(
        "All attempts within the time that is allowed for it were in vain.",
        "Send it again if it still matters, or reach the recipient in another way.",
    ),
    "4": Advice("The message found no way through the network.", _OTHER_WAY),
    "5.3": Advice(
        "The message has more recipients than the other server allows.",
        "Send it to fewer recipients at a time.",
    ),
    "5": Advice("The two mail servers did not understand each other.", _ASK_POSTMASTER),
    "6.7": Advice(
        "An address in this message has characters that a server on the way cannot handle.",
        "Ask the recipient for an address in plain letters without accents.",
    ),
    "6": Advice(
        "A mail server on the way cannot handle messages of this form.",
        "Send it as plain text, or in another file format.",
    ),
    "7.20": _TRUST,
    "7.23": _TRUST,
    "7.25": _TRUST,
    "7.26": _TRUST,
    "7.1": Advice(
        "A rule of the other server forbids this message: perhaps it was taken for spam, or you may not write to"
        " this address.",
        "Read what the server says. If that does not help, ask the recipient in another way to let your"
        " messages in, or forward this report to your postmaster.",
    ),
    "7": Advice("The other server refuses the message for reasons of security.", _ASK_POSTMASTER),
    "0": Advice(
        "No exact reason was given.",
        "Read the words above. If they do not help, forward this report to your postmaster.",
    ),
}

_OPENINGS = {
    Action.FAILED: (
        "{message}, accepted on {when}, could not be delivered to the address below. It will not be tried again.",
        "{message}, accepted on {when}, could not be delivered to the addresses below. It will not be tried again.",
    ),
    Action.DELAYED: (
        "{message}, accepted on {when}, could not be delivered to the address below so far. You need not do"
        " anything: it is still being tried. If it cannot be delivered in the end you will be told.",
        "{message}, accepted on {when}, could not be delivered to the addresses below so far. You need not do"
        " anything: it is still being tried. If it cannot be delivered in the end you will be told.",
    ),
    Action.DELIVERED: (
        "{message}, accepted on {when}, was delivered to the address below, as you wanted to know.",
        "{message}, accepted on {when}, was delivered to the addresses below, as you wanted to know.",
    ),
    Action.RELAYED: (
        "{message}, accepted on {when}, was handed to the mail server of the address below. That server does not"
        " confirm deliveries, so you will hear no more about it unless something goes wrong.",
        "{message}, accepted on {when}, was handed to the mail server of the addresses below. That server does not"
        " confirm deliveries, so you will hear no more about it unless something goes wrong.",
    ),
    Action.EXPANDED: (
        "{message}, accepted on {when}, was accepted for the address below, which stands for other addresses, and"
        " was passed on to them. You will hear no more about it unless something goes wrong.",
        "{message}, accepted on {when}, was accepted for the addresses below, which stand for other addresses, and"
        " was passed on to them. You will hear no more about it unless something goes wrong.",
    ),
}

WORDS = Wording(
    language=Language.ENGLISH,
    date="",
    subjects={
        Action.FAILED: "Your message could not be delivered",
        Action.DELAYED: "Your message has not been delivered yet",
        Action.DELIVERED: "Your message was delivered",
        Action.RELAYED: "Your message was handed on",
        Action.EXPANDED: "Your message was passed on to a group",
    },
    openings=_OPENINGS,
    advice=_ADVICE,
    given_back=Advice(
        "The administrator of this mail server took the message out of the queue and gave it back to its sender.",
        "If you do not know why, ask your postmaster before you send it again, or reach the recipient in"
        " another way.",
    ),
    this_is="This is the mail server {host_name}.",
    titled='Your message "{subject}"',
    untitled="Your message without a subject",
    more_recipients="... and {count} more, which the second part of this report lists.",
    asked_for="(you wrote to {address})",
    said="The mail server {host} said:",
    reason="Reason: {reason}",
    means="This means: {meaning}",
    you_can="What you can do: {advice}",
    tried_until="It will be tried until about {when}.",
    header_attached="Its header is attached.",
    all_attached="The whole message is attached, nothing of it is lost.",
    known_as="The message was known here as {queue_id}.",
    route_stopped=Letter(
        "Route {route} does not work",
        """\
Mail over route {route} has been waiting since {since} UTC, although its
link is up: {next_hop} could not be used {failures} times. The last reason was:

  {reason}

Nothing is lost; it is tried again and again. `masqmail status` shows how it stands.
""",
    ),
    without_route=Letter(
        "Mail that no route is meant for",
        """\
Mail in the queue fits no route (recipients: {count}): the sender, address, From or
size is excluded by the conditions of every one. Such mail waits until the
configuration changes. `masqmail queue` lists it, `masqmail explain ADDRESS --from
SENDER` says which condition excludes it.
""",
    ),
    reports_held=Letter(
        "Reports are held back",
        """\
More than {each} reports to one address, or {all} to all together, would have gone
out within an hour. Those beyond that were not sent ({count}):

{list}

Perhaps somebody writes under the addresses of others, or a program sends the same
mail again and again. Nothing is lost: the reports are held in the queue.
`masqmail queue list` shows them,
`masqmail queue release --sender '<>' --recipient ADDRESS` sends them,
`masqmail queue remove --sender '<>' --recipient ADDRESS` throws them away.
""",
    ),
    pickup_refused=Letter(
        "Your message could not be sent",
        """\
This is the mail server {host_name}.

A message that you handed in with the sendmail command, while the mail
server was not running, could not be sent now that it is:

    {reason}

Nothing of it is lost. The administrator finds it in this file:

    {path}
""",
    ),
    fetch_left=Letter(
        "A message of {size} waits on the server",
        """\
This is the mail server {host_name}.

A message for you stays on the server {server}. It is bigger than the {limit}
that are fetched from the account {account} by themselves:

  From:    {author}
  Date:    {date}
  Subject: {subject}
  Size:    {size}

To get it, reply to this notice; you need not write anything. Or type

  {command}

Until then it stays where it is. You will not be told of it again.
""",
    ),
    fetch_refused=Letter(
        "A message on the server cannot be taken",
        """\
A message on the server {server} was fetched from the account {account} and
could not be taken:

  {reason}

It stays on the server, nothing of it is lost, and it will not be fetched again by
itself. To try it once more, type

  {command}
""",
    ),
    fetch_gone=Letter(
        "The message is no longer on the server",
        """\
You replied to a notice about a message that was left on the server {server} of
the account {account}. There is no such message any more ({uid}): somebody has
fetched or deleted it.
""",
    ),
    fetch_stopped=Letter(
        "No mail comes from the account {account}",
        """\
Since {since} UTC no mail could be fetched from the account {account} on
the server {server}. The last reason was:

  {reason}

Nothing is lost: the mail waits on the server. It is tried again and again, with long
pauses when name or password were refused. `masqmail status` shows how it stands,
`masqmail fetch {account}` tries it at once.
""",
    ),
    fetched_redirected=Letter(
        "A fetched message found no mailbox",
        """\
A message that was fetched from {origin}
was for an address that does not work here:

{list}

  From:    {author}
  Subject: {subject}
  Fetched: {when}

Its sender was not told. The whole message is in your mailbox instead; it was known
here as {queue_id}. If there will be more such mail, make an alias for the address.
""",
    ),
    fetched_held=Letter(
        "A fetched message could not be delivered",
        """\
A message that was fetched from {origin}
could not be delivered:

{list}

  From:    {author}
  Subject: {subject}
  Fetched: {when}

Its sender was not told, and nothing is lost: the message is held in the queue.
`masqmail queue show {queue_id}` shows it,
`masqmail queue release {queue_id}` tries again,
`masqmail queue remove {queue_id}` throws it away.
""",
    ),
    fetched_delayed=Letter(
        "A fetched message has not been delivered yet",
        """\
A message that was fetched from {origin}
could not be delivered so far:

{list}

  From:    {author}
  Subject: {subject}
  Fetched: {when}

You need not do anything: it is still being tried. `masqmail queue show {queue_id}`
shows how it stands.
""",
    ),
)
