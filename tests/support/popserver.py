"""A POP3 server that does what a test tells it to, on the loopback ports of `scripted_server`."""

from dataclasses import dataclass

from support.scripted_server import ScriptedServer


@dataclass
class PopServer(ScriptedServer):
    """Takes any name, and the password that it has. The policy is asked for each command, CONNECT included."""

    greeting: str = "+OK <1.2@pop.test> Hello"
    capabilities: tuple[str, ...] = ("USER", "SASL PLAIN")

    def _obey(self, line: str) -> None:
        self.commands.append(line)
        verb, _, argument = line.partition(" ")
        match verb:
            case "CAPA":
                self._judge(verb, "", "\r\n".join(("+OK", *self.capabilities, ".")))
            case "STLS":
                self.wants_tls = self._judge(verb, "", "+OK Begin").startswith("+OK")
            case "USER":
                self._judge(verb, argument, "+OK")
            case "PASS":
                self._judge(verb, argument, "+OK" if argument == self.password else "-ERR [AUTH] Wrong password")
            case "AUTH" | "APOP":
                self._judge(verb, argument, "+OK")
            case "QUIT":
                self._judge(verb, "", "+OK Bye")
                self.is_closed = True
            case _:
                self._say("-ERR What?")
