"""What runs on a Debian host and sends mail: each with our `sendmail` in the place it knows."""

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon, smarthost_route
from support.debianhost import DebianHost, empty_folder
from support.peers import needs, open_way

pytestmark = pytest.mark.peer

ROOT = "root@laptop.example.org"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Keeps mail for far.test in the queue, since the line is down."""
    needs("postfix", "unshare")
    daemon = Daemon(tmp_path_factory.mktemp("real"), smarthost_route("far", 9, link="line"))
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def host(tmp_path: Path, daemon: Daemon) -> DebianHost:
    return DebianHost(tmp_path, daemon)


def test_cron_mails_what_a_job_prints(host: DebianHost, tmp_path: Path) -> None:
    needs("cron")
    spool = empty_folder(tmp_path / "spool")
    table = empty_folder(spool / "crontabs", mode=0o1730) / "root"
    table.write_text("@reboot echo Hello from cron, Grüße\n")
    table.chmod(0o600)
    (tmp_path / "crontab").touch()
    places = [spool, "/var/spool/cron", empty_folder(tmp_path / "cron.d"), "/etc/cron.d"]
    places += [tmp_path / "crontab", "/etc/crontab", empty_folder(tmp_path / "run"), "/run"]
    with host.running("cron", "-f", places=places):
        letter = host.delivered("echo Hello from cron")
    assert (letter.sender, letter.recipients) == (ROOT, (ROOT,))
    assert letter.text == "Hello from cron, Grüße\n"
    assert letter.content["From"] == ROOT


def test_at_mails_what_a_job_prints(host: DebianHost, tmp_path: Path) -> None:
    needs("at", "atd")
    spool = empty_folder(tmp_path / "spool")
    empty_folder(spool / "atjobs", owner="daemon", mode=0o1770)
    empty_folder(spool / "atspool", owner="daemon", mode=0o1770)
    (spool / "atjobs" / ".SEQ").touch()
    shutil.chown(spool / "atjobs" / ".SEQ", "daemon", "daemon")
    places = [spool, "/var/spool/cron", empty_folder(tmp_path / "run"), "/run"]
    host.run("sh", "-c", "echo 'echo Hello from at' | at now && atd -s", places=places)
    letter = host.delivered("Output from your job")
    assert (letter.sender, letter.recipients) == (ROOT, (ROOT,))
    assert letter.text == "Hello from at\n"


def test_anacron_mails_what_a_job_prints(host: DebianHost, tmp_path: Path) -> None:
    needs("anacron")
    table = tmp_path / "anacrontab"
    table.write_text("MAILTO=ann@far.test\n1 0 daily.job echo Hello from anacron\n")
    host.run("anacron", "-d", "-f", "-n", "-t", str(table), "-S", str(empty_folder(tmp_path / "spool")))
    letter = host.queued("Anacron job")
    assert (letter.sender, letter.recipients) == (ROOT, ("ann@far.test",))
    assert letter.text == "Hello from anacron\n"


def test_mutt_sends_an_attachment_and_blind_copies(host: DebianHost, tmp_path: Path) -> None:
    needs("mutt")
    (tmp_path / "muttrc").write_text(
        'set from=anna@laptop.example.org realname="Anna Müller" use_envelope_from=yes\n'
        'set record="" copy=no send_charset=utf-8 dsn_notify=failure,delay dsn_return=hdrs\n'
    )
    (tmp_path / "list.csv").write_text("a,b\n")
    words = ["-s", "Grüße from mutt", "-c", "bob@far.test", "-b", "eve@far.test", "-a", str(tmp_path / "list.csv")]
    host.run("mutt", "-n", "-F", str(tmp_path / "muttrc"), *words, "--", "ann@far.test", text="Hello,\n.\nbye\n")
    letter = host.queued("from mutt")
    assert letter.sender == "anna@laptop.example.org"
    assert letter.recipients == ("ann@far.test", "bob@far.test", "eve@far.test")
    assert letter.content["Bcc"] is None
    assert letter.text == "Hello,\n.\nbye\n"
    (attachment,) = letter.content.iter_attachments()
    assert attachment.get_filename() == "list.csv"


def test_mutt_takes_another_path_from_its_setting(host: DebianHost, tmp_path: Path) -> None:
    needs("mutt")
    (tmp_path / "muttrc").write_text(f'set sendmail="{host.sendmail} -oem -oi" copy=no\n')
    host.run("mutt", "-n", "-F", str(tmp_path / "muttrc"), "-s", "by setting", "ann@far.test", text="Hello\n")
    assert host.queued("by setting").recipients == ("ann@far.test",)


@pytest.mark.parametrize("program", ["bsd-mailx", "mail.mailutils"])
def test_mail_sends_to_several(host: DebianHost, program: str) -> None:
    needs(program)
    subject = f"Sent with {program}"
    host.run(program, "-s", subject, "ann@far.test", "bob@far.test", text="Hello,\n..\nbye\n")
    letter = host.queued(subject)
    assert (letter.sender, letter.recipients) == (ROOT, ("ann@far.test", "bob@far.test"))
    assert letter.text == "Hello,\n..\nbye\n"
    assert ROOT in letter.content["From"]


@pytest.mark.parametrize("program", ["bsd-mailx", "mail.mailutils"])
def test_mail_names_another_sender(host: DebianHost, program: str) -> None:
    needs(program)
    subject = f"Another with {program}"
    host.run(program, "-s", subject, "-r", "backup@laptop.example.org", "ann@far.test", text="Hello\n")
    assert host.queued(subject).sender == "backup@laptop.example.org"


def test_a_user_without_rights_sends_too(host: DebianHost) -> None:
    needs("bsd-mailx", "setpriv")
    open_way(host.folder)
    open_way(host.daemon.folder)
    nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    more = {"USER": "nobody", "LOGNAME": "nobody"}
    host.run(*nobody, "bsd-mailx", "-s", "Sent by nobody", "ann@far.test", text="Hello\n", more=more)
    letter = host.queued("Sent by nobody")
    assert letter.sender == "nobody@laptop.example.org"
    assert "nobody@laptop.example.org" in letter.content["From"]


def test_s_nail_sends(host: DebianHost) -> None:
    needs("s-nail")
    words = ["-S", "from=anna@laptop.example.org", "-r", "anna@laptop.example.org", "-c", "bob@far.test"]
    host.run("s-nail", "-n", "-s", "Sent with s-nail", *words, "ann@far.test", text="Grüße\n")
    letter = host.queued("Sent with s-nail")
    assert (letter.sender, letter.recipients) == ("anna@laptop.example.org", ("ann@far.test", "bob@far.test"))
    assert letter.text == "Grüße\n"


@pytest.mark.parametrize(("way", "sender"), [("sendmail/smtp", "anna@laptop.example.org"), ("sendmail/pipe", ROOT)])
def test_nmh_sends(host: DebianHost, tmp_path: Path, way: str, sender: str) -> None:
    """The first way is `sendmail -bs`: SMTP on standard input and output."""
    needs("/usr/bin/mh/send")
    subject = f"nmh by {way}"
    (tmp_path / "Mail").mkdir()
    (tmp_path / ".mh_profile").write_text("Path: Mail\n")
    draft = tmp_path / "draft"
    draft.write_text(
        f"From: anna@laptop.example.org\nTo: ann@far.test\nBcc: bob@far.test\nSubject: {subject}\n\nHello\n.\nbye\n"
    )
    host.run("/usr/bin/mh/send", "-mts", way, str(draft))
    letters = host.all_queued(subject)
    assert {letter.sender for letter in letters} == {sender}
    assert sorted(address for letter in letters for address in letter.recipients) == ["ann@far.test", "bob@far.test"]
    assert letters[0].text == "Hello\n.\nbye\n"


@pytest.mark.parametrize("setting", ["", "sendmailcmd"])
def test_git_sends_patches(host: DebianHost, tmp_path: Path, setting: str) -> None:
    needs("git")
    subject = f"Patch-{setting or 'plain'}"
    identity = {"GIT_CONFIG_GLOBAL": "/dev/null"}
    for name, value in (("NAME", "Anna"), ("EMAIL", "anna@laptop.example.org")):
        identity |= {f"GIT_AUTHOR_{name}": value, f"GIT_COMMITTER_{name}": value}
    (tmp_path / "file").write_text("From here\n.\n")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", f"{subject}\n\nFrom me to you"]):
        host.run("git", *words, more=identity)
    extra = [f"--sendmail-cmd={host.sendmail}"] if setting else []
    to = ["--to=ann@far.test", "--cc=bob@far.test", "--suppress-cc=all", "--envelope-sender=anna@laptop.example.org"]
    host.run("git", "send-email", "--quiet", "--confirm=never", *extra, *to, "--root", "-1", more=identity)
    letter = host.queued(subject)
    assert letter.sender == "anna@laptop.example.org"
    assert letter.recipients == ("ann@far.test", "bob@far.test")
    assert "+From here\n+.\n" in letter.text


@pytest.mark.parametrize("setting", ["", "sendmail_path"])
def test_php_sends(host: DebianHost, setting: str) -> None:
    needs("php")
    subject = f"PHP {setting or 'plain'}"
    code = (
        f'exit(mail("ann@far.test", "{subject}", "Hello\\n.\\nbye\\n", '
        '"From: shop@laptop.example.org\\r\\nCc: bob@far.test", "-fwww-data@laptop.example.org") ? 0 : 1);'
    )
    path = ["-d", f"sendmail_path={host.sendmail} -t -i"] if setting else []
    host.run("php", "-n", *path, "-r", code)
    letter = host.queued(subject)
    assert letter.sender == "www-data@laptop.example.org"
    assert letter.recipients == ("ann@far.test", "bob@far.test")
    assert letter.text.rstrip("\n") == "Hello\n.\nbye"


def test_logwatch_sends_its_report(host: DebianHost, tmp_path: Path) -> None:
    needs("logwatch")
    (tmp_path / "auth.log").write_text(
        "Nov 20 10:00:00 laptop sshd[1]: Accepted publickey for anna from 192.0.2.1 port 22 ssh2\n"
    )
    logs = ["--logdir", str(tmp_path), "--service", "sshd", "--range", "all"]
    host.run("logwatch", "--output", "mail", "--mailto", "ann@far.test", *logs)
    letter = host.queued("Logwatch")
    assert (letter.sender, letter.recipients) == (ROOT, ("ann@far.test",))
    assert "192.0.2.1: 1 Time" in letter.text


def test_smartd_warns_of_a_disk(host: DebianHost) -> None:
    needs("smartd", "mail")
    warning = {
        "SMARTD_MAILER": "/usr/share/smartmontools/smartd-runner",
        "SMARTD_ADDRESS": "root",
        "SMARTD_FAILTYPE": "EmailTest",
        "SMARTD_MESSAGE": "TEST EMAIL from smartd for device: /dev/sda",
    }
    host.run("/usr/share/smartmontools/smartd_warning.sh", more=warning)
    letter = host.delivered("SMART error (EmailTest)")
    assert (letter.sender, letter.recipients) == (ROOT, (ROOT,))
    assert "TEST EMAIL from smartd" in letter.text


def test_mdadm_tells_of_an_array(host: DebianHost, tmp_path: Path) -> None:
    """Its test message needs no array; one about a broken disk goes the same way."""
    needs("mdadm")
    (tmp_path / "mdadm.conf").write_text(
        "MAILADDR ann@far.test\nARRAY /dev/md0 UUID=11111111:22222222:33333333:44444444\n"
    )
    words = ["--monitor", "--scan", "--test", "--oneshot", f"--config={tmp_path}/mdadm.conf"]
    host.run("mdadm", *words)
    letter = host.queued("TestMessage event on /dev/md0")
    assert (letter.sender, letter.recipients) == (ROOT, ("ann@far.test",))
    assert letter.content["From"] == f"mdadm monitoring <{ROOT}>"
    assert "A TestMessage event had been detected on md device /dev/md0" in letter.text


def test_mdadm_may_say_who_it_is(host: DebianHost, tmp_path: Path) -> None:
    needs("mdadm")
    (tmp_path / "mdadm.conf").write_text(
        "MAILADDR root\nMAILFROM RAID <raid>\nARRAY /dev/md1 UUID=11111111:22222222:33333333:44444444\n"
    )
    host.run("mdadm", "--monitor", "--scan", "--test", "--oneshot", f"--config={tmp_path}/mdadm.conf")
    letter = host.delivered("TestMessage event on /dev/md1")
    assert (letter.sender, letter.recipients) == (ROOT, (ROOT,))
    assert letter.content["From"] == "RAID <raid@laptop.example.org>"


CHANGES = """\
masqtest (2.0-1) unstable; urgency=medium

  * Grüße: it sends more mail.

 -- Anna Müller <anna@laptop.example.org>  Fri, 20 Nov 2026 10:00:00 +0000

masqtest (1.0-1) unstable; urgency=medium

  * First release.

 -- Anna Müller <anna@laptop.example.org>  Thu, 19 Nov 2026 10:00:00 +0000
"""


def test_apt_listchanges_mails_what_is_new_in_a_package(host: DebianHost, tmp_path: Path) -> None:
    needs("apt-listchanges", "dpkg-deb")
    package = tmp_path / "package"
    for folder in ("DEBIAN", "usr/share/doc/masqtest"):
        (package / folder).mkdir(parents=True)
    (package / "usr/share/doc/masqtest/changelog.Debian.gz").write_bytes(gzip.compress(CHANGES.encode()))
    (package / "DEBIAN" / "control").write_text(
        "Package: masqtest\nVersion: 2.0-1\nArchitecture: all\nMaintainer: anna@laptop.example.org\nDescription: x\n"
    )
    host.run("dpkg-deb", "--root-owner-group", "--build", str(package), str(tmp_path / "masqtest.deb"))
    words = ["--profile=none", "--frontend=mail", "--email-address=ann@far.test", "--which=both", "--since=1.0-1"]
    host.run("apt-listchanges", *words, str(tmp_path / "masqtest.deb"))
    letter = host.queued("apt-listchanges: changelogs for laptop.example.org")
    assert (letter.sender, letter.recipients) == (ROOT, ("ann@far.test",))
    assert "* Grüße: it sends more mail." in letter.text
    assert "First release" not in letter.text


def test_unattended_upgrades_reports(host: DebianHost) -> None:
    needs("unattended-upgrade")
    code = (
        "import importlib.machinery as m, importlib.util as u, sys\n"
        "sys.dont_write_bytecode = True\n"
        "loader = m.SourceFileLoader('upgrades', '/usr/bin/unattended-upgrade')\n"
        "upgrades = u.module_from_spec(u.spec_from_loader('upgrades', loader))\n"
        "loader.exec_module(upgrades)\n"
        "sys.exit(upgrades._send_mail_using_sendmail('root', 'root', 'unattended-upgrades result', 'Grüße\\n'))\n"
    )
    host.run("/usr/bin/python3", "-c", code)
    letter = host.delivered("unattended-upgrades result")
    assert (letter.sender, letter.recipients) == (ROOT, (ROOT,))
    assert letter.text == "Grüße\n"
