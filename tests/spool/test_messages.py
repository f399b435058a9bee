from pathlib import Path

import pytest

from masqmail.spool import messages
from masqmail.spool.api import Selection
from masqmail.spool.sqlite import SqliteSpool
from spool.conformance import message, recipient


@pytest.mark.parametrize(("page", "page_recipients"), [(1, 500), (2, 500), (3, 2), (100, 1), (100, 500)])
async def test_the_size_of_the_slices_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: int, page_recipients: int
) -> None:
    monkeypatch.setattr(messages, "PAGE", page)
    monkeypatch.setattr(messages, "PAGE_RECIPIENTS", page_recipients)
    spool = await SqliteSpool.open(tmp_path)
    names = [f"m{n}" for n in range(6)]
    await spool.accept(
        [message(name, recipient("a@x"), recipient("b@x"), owner_uid=n % 2) for n, name in enumerate(names)]
    )
    for limit in (None, 0, 1, 2, 3, 6, 7):
        assert [item.message.queue_id for item in await spool.listing(limit=limit)] == names[:limit]
    assert [item.message.queue_id for item in await spool.listing(owner_uid=1)] == names[1::2]
    assert [item.message.queue_id for item in await spool.listing(owner_uid=0, limit=2)] == names[:4:2]
    assert await spool.select(Selection(owner_uid=1)) == names[1::2]
    await spool.close()
