"""Settings that are wrong only together, or only in these surroundings."""

import pytest

from support.configuration import AS_USER, configuration, faults

ROUTE = '[routes.x]\nsmarthost = "mail.example.org:587"\n'
DIRECT = '[routes.x]\ndeliver = "direct"\n'

BROKEN: list[tuple[str, str]] = [
    (
        'host.local_addresses = "bob"',
        '1: host.local_addresses has "bob" without a domain; write "bob@example.org" with its own domain',
    ),
    (
        'host.local_addresses = "a@b.c"\nhost.not_local_addresses = "a@b.c"',
        '2: "a@b.c" is in both local_addresses and not_local_addresses; take it out of one',
    ),
    (
        f'paths.runtime = "/{"r" * 100}"',
        "1: paths.runtime is too long for the sockets below it; write a path of 90 bytes or less",
    ),
    (
        "queue.retry = []",
        '1: queue.retry is empty, so nothing would be tried again; write it like ["5m", "1h"]',
    ),
    ('queue.retry = ["1m", "0s"]', '1: queue.retry has a wait of no time; write at least "1s"'),
    ('queue.warn_after = ["4h", "4h"]', '1: queue.warn_after does not ascend; write it like ["4h", "1d"]'),
    ('queue.give_up_after = "0d"', '1: queue.give_up_after is no time at all; write it like "5d"'),
    ('log.keep = "0d"', '1: log.keep is no time at all; write at least "1s"'),
    ('smtp.certificate = "c"', "1: smtp.certificate has no key; write private_key as well"),
    ('smtp.private_key = "k"', "1: smtp.private_key has no certificate; write certificate as well"),
    (
        'smtp.tls_listen = "[::1]"',
        "1: smtp.tls_listen needs a certificate; write certificate and private_key",
    ),
    (
        '[smtp]\nlisten = "[::1]:465"\ntls_listen = "[::1]"\ncertificate = "c"\nprivate_key = "k"',
        "3: [::1]:465 is in both listen and tls_listen; take it out of one",
    ),
    ("smtp.max_recipients = 0", "1: smtp.max_recipients is 0, so nothing would be accepted; write a number above 0"),
    (
        '[links.always]\ndetect = "manual"',
        "1: the link always is up without being configured; write another name for yours",
    ),
    (
        '[links.a]\ndetect = "command"\ncommand = "x"\ninterval = "0s"',
        '4: links.a.interval is no time at all; write it like "5s"',
    ),
    (
        '[routes.local]\ndeliver = "direct"',
        "1: no route may be called local, the name of delivery on this host; write another name",
    ),
    (
        "[routes.x]",
        '1: routes.x does not say where to send; write smarthost = "mail.example.org:587", or deliver = "direct"',
    ),
    (ROUTE + 'deliver = "direct"', '3: routes.x has a smarthost and deliver = "direct"; take one of them out'),
    (
        '[routes.x]\nsmarthost = "mail.example.org"\ndeliver = "pipe"\ncommand = "sendfax"',
        '3: routes.x has a smarthost and deliver = "pipe"; take one of them out',
    ),
    (
        '[routes.x]\ndeliver = "pipe"',
        '2: routes.x.deliver = "pipe", and there is no routes.x.command; '
        'write command = ["/usr/local/bin/sendfax", "${recipient_local}"]',
    ),
    (
        '[routes.x]\ndeliver = "pipe"\ncommand = "sendfax ${recipient_locale}"',
        '3: routes.x.command has "${recipient_locale}", and there is no variable "recipient_locale"; '
        'write "recipient_local"',
    ),
    (
        ROUTE + "from_line = true",
        '3: routes.x.from_line is for a program that takes the mail; take it out, or write deliver = "pipe"',
    ),
    (
        '[routes.x]\ndeliver = "pipe"\ncommand = "sendfax"\nusername = "ann"\npassword_file = "secret"',
        "4: routes.x delivers to a program, where there is nothing to log in to; "
        "take the username out, or write a smarthost",
    ),
    (
        DIRECT + 'wrapper = "nc shore 25"',
        "3: routes.x.wrapper is for a smarthost; take it out, or write a smarthost in place of deliver",
    ),
    (
        DIRECT + "send_first = true",
        "3: routes.x.send_first is for a smarthost; take it out, or write a smarthost in place of deliver",
    ),
    (
        '[routes.x]\nsmarthost = ["a.example:25", "b.example:25"]\nwrapper = "nc shore 25"',
        "2: routes.x has a wrapper and 2 smarthosts, and the program leads to one; "
        'write smarthost = "a.example:25" alone',
    ),
    (
        '[host]\nname = "bücher.example"\nlocal_domains = ["localhost"]',
        '2: host.name has letters that not every server reads; write "xn--bcher-kva.example"',
    ),
    (
        ROUTE + 'helo = "laptop.bücher.example"',
        '3: routes.x.helo has letters that not every server reads; write "laptop.xn--bcher-kva.example"',
    ),
    (DIRECT + "resolve = []", '3: routes.x.resolve is empty; write it like ["mx", "a"]'),
    (ROUTE + "links = []", '3: routes.x.links is empty; write it like ["internet"]'),
    (
        ROUTE + 'links = ["always", "umts"]',
        '3: routes.x.links names "umts", and there is no such link; add a section [links.umts]',
    ),
    (
        ROUTE + 'username = "ann"',
        "3: routes.x has a username and no password; "
        "write password_file, password_command or password_credential as well",
    ),
    (
        ROUTE + 'password_file = "secret"',
        "3: routes.x has password_file and no username; write username as well",
    ),
    (
        ROUTE + 'username = "ann"\npassword_command = "pass"\npassword_file = "secret"',
        "4: routes.x has both password_file and password_command; take one of them out",
    ),
    (
        DIRECT + 'username = "ann"\npassword_file = "secret"',
        "3: routes.x delivers directly, where there is nothing to log in to; "
        "take the username out, or write a smarthost",
    ),
    (
        DIRECT + 'tls = "implicit"',
        "3: routes.x delivers directly, and no mail server awaits implicit TLS on port 25; "
        'write tls = "starttls" or "opportunistic"',
    ),
    (
        ROUTE + 'tls = "none"\ntls_ca = "ca.pem"',
        '4: routes.x has tls_ca beside tls = "none"; take it out, or write tls = "starttls"',
    ),
    (ROUTE + "max_connections = 0", "3: routes.x.max_connections is 0; write at least 1"),
    (
        ROUTE + 'rewrite.return_path = { ann = "Ann <ann@isp.example>" }',
        '3: routes.x.rewrite.return_path has a display name in "Ann <ann@isp.example>"; '
        'write "ann@isp.example" for "ann"',
    ),
    (
        'local.delivery = "mda"',
        '1: local.delivery = "mda", and there is no local.mda; '
        'write mda = ["/usr/bin/procmail", "-Y", "-d", "${recipient_local}"]',
    ),
    (
        '[local.users.ann]\ndelivery = "lmtp"',
        '2: local.users.ann.delivery = "lmtp", and there is no local.users.ann.lmtp; '
        'write lmtp = "/run/dovecot/lmtp"',
    ),
    (
        'local.mda = ["mda", "${usr}"]',
        '1: local.mda has "${usr}", and there is no variable "usr"; write "user"',
    ),
    ('local.alias_user = "root"', '1: local.alias_user is root, which must not run pipes; write "masqmail"'),
]


@pytest.mark.parametrize(("text", "fault"), BROKEN, ids=range(len(BROKEN)))
def test_a_broken_rule_is_one_fault_with_its_line(text: str, fault: str) -> None:
    assert faults(text) == [fault]


QUIET: list[str] = [
    'queue.retry = "soon"',
    'queue.warn_after = "soon"',
    "[routes.x]\nsmarthost = 1",
    '[routes.x]\ndeliver = "directly"',
    '[routes.x]\ndeliver = "pipe"\ncommand = 1',
    ROUTE + 'username = "ann"\npassword_file = 1',
    ROUTE + 'username = "ann"\npassword = "x"',
    ROUTE + 'username = "ann"\ntoken_command = "x"',
    ROUTE + 'username = 1\npassword_file = "x"',
    ROUTE + 'links = "dsl"\n[links.dsl]\ndetect = "probe"',
    ROUTE + 'links = "dsl"\n[links.dsl]\ndetect = "interfaces"',
    '[smtp]\ncertificate = 1\nprivate_key = "k"\ntls_listen = "[::1]"',
    '[smtp]\ncertificate = "c"\nprivate_key = 1',
]


@pytest.mark.parametrize("text", QUIET)
def test_what_is_already_wrong_breaks_no_further_rule(text: str) -> None:
    assert len(faults(text)) == 1


FINE: list[str] = [
    "queue.warn_after = []",
    'smtp.relay_networks = []\nsmtp.listen = []\nlocal.recipient_delimiter = ""',
    ROUTE + "max_messages_per_connection = 0",
    ROUTE + 'links = ["internet", "always"]',
    ROUTE + 'username = "ann"\npassword_credential = "isp"\ntls = "none"',
    ROUTE + 'username = "ann"\npassword_credential = "isp"\ntls = "opportunistic"',
    DIRECT + 'tls = "starttls"\ntls_ca = "ca.pem"',
    '[links.always]\ndetect = "always"',
    ROUTE + 'wrapper = "ssh -C shore nc localhost 25"\nsend_first = true\ntls = "none"\nhelo = "address"',
    '[routes.x]\ndeliver = "pipe"\ncommand = ["sendfax", "${recipient_local}"]\nresolve = []\nfrom_line = true',
    '[local]\nmda = "procmail"\n[local.users.ann]\ndelivery = "mda"',
    '[local]\nlmtp = "[::1]:24"\n[local.users.ann]\ndelivery = "lmtp"',
    '[local.users.ann]\ndelivery = "mda"\nmda = "maildrop -d ${user}"',
    ROUTE + 'links = "a.b"\n[links."a.b"]\ndetect = "manual"',
]


@pytest.mark.parametrize("text", FINE)
def test_what_keeps_the_rules_loads(text: str) -> None:
    assert configuration(text)


def test_a_daemon_of_a_user_may_have_the_file_of_another() -> None:
    assert configuration('host.user = "root"\nlocal.alias_user = "ann"', AS_USER).host.user == "root"
