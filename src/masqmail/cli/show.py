"""The documents of the control socket as text for people. `text.clean` has been over them."""

from collections.abc import Iterable, Iterator
from typing import Any

from masqmail.cli import text

Document = dict[str, Any]

#: So many recipients of a message are listed; `queue show` has them all.
MAX_RECIPIENTS = 20


def status(document: Document) -> str:
    """Links, routes, fetch accounts and the queue, each with its reason."""
    lines = [text.paint(f"MasqMail {document['version']} on {document['host']}", "bold"), "", "Links"]
    rows = [(link["name"], link["state"], link["reason"]) for link in document["links"]]
    lines += [text.table(rows, indent="  ") or "  none", "", "Routes"]
    rows = [(route["name"], route["state"], _of_route(route)) for route in document["routes"]]
    lines.append(text.table(rows, indent="  ") or "  none: mail to other hosts waits until there is one")
    if rows := [(account["name"], account["state"], _of_account(account)) for account in document.get("fetch", ())]:
        lines += ["", "Fetch", text.table(rows, indent="  ")]
    lines += ["", f"Queue: {_counts(document['queue'])}"]
    lines += [text.paint(f"Attention: {problem}", "yellow") for problem in document.get("problems", ())]
    return "\n".join(lines)


def _of_route(route: Document) -> str:
    again = text.since(route.get("next_attempt_at"))
    parts = [f"{route['queued']} waiting" if route["queued"] else "", route["reason"], again and f"next try {again}"]
    return "; ".join(part for part in parts if part)


def visit(document: Document) -> str:
    """What became of a login at a provider."""
    outcome = "fine" if document["was_tried"] else "not tried"
    if document["reason"]:
        outcome = f"{text.paint_state('failed')}: {document['reason']}"
    advice = f"; {document['advice']}" if document["advice"] else ""
    return f"{document['section']}: {document['server']}: {outcome}{advice}"


def _of_account(account: Document) -> str:
    last, again = text.since(account["last_at"]), text.since(account["next_at"])
    parts = [account["reason"], last and f"last fetched {last}", again and f"next time {again}"]
    return "; ".join(part for part in parts if part)


def _counts(queue: Document) -> str:
    if not queue["messages"]:
        return "empty"
    parts = [
        text.count(queue["messages"], "message"),
        text.count(queue["recipients"], "recipient"),
        text.size(queue["bytes"]),
    ]
    parts += [f"{queue[state]} {state}" for state in ("deferred", "held") if queue[state]]
    if queue["oldest_at"]:
        parts.append(f"the oldest came {text.since(queue['oldest_at'])}")
    return ", ".join(parts)


def links(document: list[Document]) -> str:
    """One line per link."""
    return text.table((link["name"], link["state"], _how_long(link["since"]), link["reason"]) for link in document)


def _how_long(instant: str) -> str:
    span = text.since(instant).removesuffix(" ago")
    return "just now" if span == "now" else f"for {span}"


def queue(document: Iterable[Document]) -> Iterator[str]:
    """One line per message and one per recipient that has not ended, then how many there were."""
    messages = recipients = 0
    for message in document:
        waiting = [item for item in message["recipients"] if item["state"] not in ("delivered", "failed")]
        came = f"{text.size(message['size'])}, {text.since(message['received_at'])}"
        yield f"{text.paint(message['id'], 'bold')}  {came}, from {message['sender']}"
        yield text.table(_waiting_rows(waiting[:MAX_RECIPIENTS]), indent="    ")
        if len(waiting) > MAX_RECIPIENTS:
            yield f"    and {len(waiting) - MAX_RECIPIENTS} more; see masqmail queue show {message['id']}"
        messages += 1
        recipients += len(waiting)
    if messages:
        yield f"{text.count(messages, 'message')}, {text.count(recipients, 'recipient')}"
    else:
        yield "The queue is empty."


def _waiting_rows(recipients: list[Document]) -> Iterator[tuple[str, str, str]]:
    """A reason that many share is written once."""
    before = ""
    for recipient in recipients:
        reason = _why(recipient)
        yield recipient["state"], recipient["address"], "(as above)" if reason and reason == before else reason
        before = reason


def _why(recipient: Document) -> str:
    reason = str(recipient["reason"] or "")
    when = text.since(recipient["next_attempt_at"])
    return f"{reason}; next try {when}" if when else reason


def message(document: Document) -> str:
    """One message: its envelope, every recipient and everything that happened."""
    facts = [
        ("from", document["sender"]),
        ("received", f"{text.local_time(document['received_at'])} ({text.since(document['received_at'])})"),
        ("by", document["received_from"]),
        ("size", text.size(document["size"])),
    ]
    lines = [text.paint(document["id"], "bold"), text.table(facts, indent="  ")]
    for recipient in document["recipients"]:
        lines += ["", f"  {text.paint(recipient['address'], 'bold')}: {text.paint_state(recipient['state'])}"]
        lines.append(text.table(_recipient_facts(recipient), indent="    "))
    if document.get("history"):
        rows = [(text.local_time(entry["at"]), entry["event"], _event(entry)) for entry in document["history"]]
        lines += ["", "What happened", text.table(rows, indent="  ")]
    return "\n".join(line for index, line in enumerate(lines) if line or lines[index - 1])


def _recipient_facts(recipient: Document) -> list[tuple[str, str]]:
    facts = [
        ("asked for", recipient["original"] if recipient["original"] != recipient["address"] else ""),
        ("why", recipient["reason"] or ""),
        ("route", recipient["route"] or ""),
        ("attempts", str(recipient["attempts"]) if recipient["attempts"] else ""),
        ("last try", text.since(recipient["last_attempt_at"])),
        (
            "last answer",
            recipient["last_status"] if recipient["last_status"] not in (recipient["reason"], None) else "",
        ),
        ("next try", text.since(recipient["next_attempt_at"])),
    ]
    return [(name, value) for name, value in facts if value]


def history(document: list[Document]) -> str:
    """What happened, a line each."""
    if not document:
        return "Nothing has happened yet."
    return text.table(
        (text.local_time(entry["at"]), entry["id"], entry["event"], _event(entry)) for entry in document
    )


def _event(entry: Document) -> str:
    """Who, which way and what was said, as far as they matter for an event."""
    host = entry["host"] if entry["host"] not in entry["text"] else ""  # once is enough
    way = " over " * bool(entry["route"]) + entry["route"] + " at " * bool(host) + host
    who = f"{entry['recipient']}{way}".strip()
    return f"{who}: {entry['text']}" if who and entry["text"] else who or entry["text"]


def progress(document: Document) -> str:
    """How far a flush is."""
    failed = f", {document['failed']} failed" if document["failed"] else ""
    return f"{document['delivered']} delivered{failed}, {document['waiting']} waiting"


_ACTIONS = {
    "deliver-local": "is delivered on this host",
    "deliver-remote": "is sent",
    "pipe": "is given to a program",
    "wait": "waits",
    "fail": "fails",
}


def explanation(document: Document) -> str:
    """A dry run in the order of the questions asked."""
    where = "this host" if document["local"] else "another host"
    lines = [f"{text.paint(document['address'], 'bold')} is on {where}; mail for it from {document['sender']}"]
    if document["expanded"]:
        lines.append("Aliases lead to " + ", ".join(document["expanded"]))
    for plan in document["plan"]:
        lines += ["", f"{text.paint(plan['recipient'], 'bold')} {_ACTIONS[plan['action']]}{_way(plan)}"]
        rows = [
            (item["route"], "taken" if item["taken"] else "passed over", item["reason"])
            for item in plan["considered"]
        ]
        lines.append(text.table(rows, indent="  ") or f"  {plan['reason']}")
        changes = [(rewrite["field"], f"{rewrite['from']} becomes {rewrite['to']}") for rewrite in plan["rewrites"]]
        lines += [text.table(changes, indent="  ")] if changes else []
    return "\n".join(lines)


def _way(plan: Document) -> str:
    parts = [("over route", plan["route"]), ("and link", plan["link"]), ("to", plan["next_hop"])]
    return "".join(f" {word} {name}" for word, name in parts if name)
