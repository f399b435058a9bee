"""The documents of the control socket as text for people."""

from collections.abc import Iterable
from typing import Any

from masqmail.cli import text


def status(document: dict[str, Any]) -> str:
    """Links, routes and the queue, each with its reason."""
    queue = document["queue"]
    lines = [f"MasqMail {document['version']} on {document['host']}", "", "Links"]
    lines.append(text.table(_link_rows(document["links"]), indent="  "))
    lines += ["", "Routes"]
    rows = [
        (route["name"], route["state"], f"{route['queued']} waiting", route["reason"]) for route in document["routes"]
    ]
    lines.append(text.table(rows, indent="  ") or "  none: mail to other hosts waits until there is a route")
    lines += ["", f"Queue: {_counts(queue)}"]
    for problem in document.get("problems", []):
        lines.append(text.paint(f"Attention: {problem}", "yellow"))
    return "\n".join(lines)


def _counts(queue: dict[str, Any]) -> str:
    if not queue["messages"]:
        return "empty"
    parts = [
        _count(queue["messages"], "message"),
        _count(queue["recipients"], "recipient"),
        text.size(queue["bytes"]),
    ]
    parts += [f"{queue[state]} {state}" for state in ("deferred", "held") if queue[state]]
    if queue["oldest_at"]:
        parts.append(f"the oldest came {text.since(queue['oldest_at'])}")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _link_rows(links: Iterable[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (link["name"], link["state"], "by hand" if link["source"] == "manual" else "", link["reason"])
        for link in links
    ]


def links(document: list[dict[str, Any]]) -> str:
    return text.table(
        (link["name"], link["state"], f"since {text.since(link['since'])}", link["reason"]) for link in document
    )


def queue(document: list[dict[str, Any]]) -> str:
    """One line per message and one per recipient that has not ended."""
    if not document:
        return "The queue is empty."
    blocks = []
    for message in document:
        came = f"{text.size(message['size'])}  {text.since(message['received_at'])}"
        head = f"{message['id']}  {came}  from {message['sender']}"
        rows = [
            (recipient["state"], recipient["address"], _when(recipient))
            for recipient in message["recipients"]
            if recipient["state"] not in ("delivered", "failed")
        ]
        blocks.append(text.paint(head, "bold") + "\n" + text.table(rows, indent="    "))
    messages = len(document)
    recipients = sum(len(message["recipients"]) for message in document)
    blocks.append(f"{_count(messages, 'message')} with {_count(recipients, 'recipient')}")
    return "\n".join(blocks)


def _when(recipient: dict[str, Any]) -> str:
    reason = str(recipient["reason"] or "")
    when = text.since(recipient["next_attempt_at"])
    return f"{reason} (next attempt {when})" if when and recipient["state"] == "deferred" else reason


def message(document: dict[str, Any]) -> str:
    """One message: its envelope, every recipient and everything that happened."""
    facts = [
        ("from", document["sender"]),
        ("received", f"{document['received_at']} ({text.since(document['received_at'])})"),
        ("by", document["received_from"]),
        ("size", text.size(document["size"])),
    ]
    lines = [text.paint(document["id"], "bold"), text.table(facts, indent="  ")]
    for recipient in document["recipients"]:
        lines += ["", f"  {text.paint(recipient['address'], 'bold')}: {text.paint_state(recipient['state'])}"]
        lines.append(text.table(_recipient_facts(recipient), indent="    "))
    if document.get("history"):
        lines += ["", "What happened", text.table(_history_rows(document["history"]), indent="  ")]
    return "\n".join(lines)


def _recipient_facts(recipient: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [
        ("asked for", recipient["original"] if recipient["original"] != recipient["address"] else ""),
        ("why", recipient["reason"] or ""),
        ("route", recipient["route"] or ""),
        ("attempts", str(recipient["attempts"]) if recipient["attempts"] else ""),
        ("last answer", recipient["last_status"] or ""),
        ("next attempt", text.since(recipient["next_attempt_at"])),
    ]
    return [(name, value) for name, value in facts if value]


def history(document: list[dict[str, Any]]) -> str:
    if not document:
        return "Nothing is known."
    return text.table(
        (entry["at"], entry["id"], *row[1:]) for entry, row in zip(document, _history_rows(document), strict=True)
    )


def _history_rows(entries: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            entry["at"],
            entry["event"],
            entry["recipient"] or "",
            " ".join(
                part for part in (entry["route"] and f"over {entry['route']}", entry["host"], entry["text"]) if part
            ),
        )
        for entry in entries
    ]


def explanation(document: dict[str, Any]) -> str:
    """A dry run in the order of the questions asked."""
    where = "is delivered on this host" if document["local"] else "goes to another host"
    lines = [f"{text.paint(document['address'], 'bold')} {where}."]
    if document["expanded"] and document["expanded"] != [document["address"]]:
        lines.append("Aliases lead to " + ", ".join(document["expanded"]) + ".")
    for plan in document["plan"]:
        lines += ["", f"{text.paint(plan['recipient'], 'bold')}: {_action(plan)}"]
        rows = [
            ("taken" if item["taken"] else "passed over", item["route"], item["reason"])
            for item in plan["considered"]
        ]
        if rows:
            lines.append(text.table(rows, indent="  "))
        for rewrite in plan["rewrites"]:
            lines.append(f"  {rewrite['field']}: {rewrite['from']} becomes {rewrite['to']}")
    return "\n".join(lines)


def _action(plan: dict[str, Any]) -> str:
    way = f" over route {plan['route']}" if plan["route"] else ""
    way += f" and link {plan['link']}" if plan["link"] else ""
    way += f" to {plan['next_hop']}" if plan["next_hop"] else ""
    return plan["action"].replace("-", " ") + way
