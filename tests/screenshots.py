"""Pictures of the page for docs/: `python -m tests.screenshots <folder>`.

A gateway of its own, whose messages are then given words that people would write: the scripted agent's orders are none.
"""

from __future__ import annotations

import asyncio
import random
import socket
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.support.browser import chromium, visit
from tests.support.gateway_process import GatewayProcess

_SAID = "the price in the basket is off by a cent when there are two taxes"
_ANSWER = """\
Each line was rounded before it was added up. Now the sum is rounded, once, in `shop/basket.py`:

```python
def total(lines: list[Line]) -> Money:
    \"\"\"What the customer pays; rounded once, at the end.\"\"\"
    return round(sum(line.price * (1 + line.tax) for line in lines), 2)
```

| tests | before | now |
|---|---|---|
| passed | 118 | 121 |
| failed | 2 | 0 |
"""
_ASKED = "the tests are green: put it on the staging server, and tell me when it is up so that I can look at it"
_DAYS = 30


async def main(folder: Path) -> None:
    """Take all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as there, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        config: dict[str, dict[str, Any]] = {
            "gateway": {"listen": f"127.0.0.1:{port}"},
            "agent": {"kind": "scripted", "permissions": "ask"},
            "dispatcher": {"coalesce_window_ms": 50},
        }
        with GatewayProcess(Path(there), config) as gateway:
            await gateway.start()
            asked = await _fill(gateway)
            async with chromium() as browser:
                await _look(gateway, browser, folder)
            asked.cancel()


async def _fill(gateway: GatewayProcess) -> asyncio.Task[Any]:
    for name in ("site", "api", "shop"):
        await gateway.send(f"new project {name}", name)
    source = gateway.projects / "shop" / "shop"
    source.mkdir()
    (source / "basket.py").write_text("def total(lines):\n    return sum(round(line.gross, 2) for line in lines)\n")
    (source / "new.py").write_text(_ANSWER.partition("```python\n")[2].partition("```")[0])
    await gateway.send("switch site", "s1", "web")
    await gateway.send("@@fail The tests did not pass: 2 of 118.", "f", "web")
    await gateway.send("switch api", "s2")
    return asyncio.create_task(gateway.send(f"{_ASKED}\n@@permission Bash git push origin main", "q"))


async def _look(gateway: GatewayProcess, browser: Browser, folder: Path) -> None:
    async with visit(browser) as light, visit(browser, dark=True) as dark, visit(browser, phone=True) as phone:
        desk = await _log_in(gateway, await light.new_page())
        home = desk.url
        await desk.goto(f"{home}chat/shop")
        await desk.get_by_label("Message").fill("@@run mv shop/new.py shop/basket.py\n@@cost 0.21")
        await desk.get_by_role("button", name="Send").click()
        await expect(desk.locator("#rows .theirs")).to_be_visible()
        _reword(gateway)
        for page, name in ((desk, "light"), (await dark.new_page(), "dark"), (await phone.new_page(), "phone")):
            if name != "light":
                await _log_in(gateway, page)
            for view, path in _VIEWS[name].items():
                await page.goto(f"{home}{path}")
                await page.wait_for_load_state("networkidle")
                await page.screenshot(path=folder / f"page-{view}-{name}.png")


#: What is shown of the page, by the look.
_VIEWS = {
    "light": {"home": "", "changes": "project/shop/changes"},
    "dark": {"chat": "chat/shop", "usage": "usage?days=7&by=project"},
    "phone": {"home": "", "chat": "chat/shop"},
}


async def _log_in(gateway: GatewayProcess, page: Page) -> Page:
    await page.goto(await gateway.page_link())
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("heading", name="Projects")).to_be_visible()
    return page


def _reword(gateway: GatewayProcess) -> None:
    """Give what was said the words of people, and the days before turns that they asked for."""
    (file,) = gateway.state.rglob("huskies.db")
    chance = random.Random(1)
    with sqlite3.connect(file, timeout=30) as database:
        database.execute("UPDATE messages SET text = ?, sender_name = 'Ana' WHERE text LIKE '@@run%'", (_SAID,))
        database.execute("UPDATE outbox SET text = ? WHERE text LIKE '(The agent finished%'", (_ANSWER,))
        names = [row[1] for row in database.execute("PRAGMA table_info(turns)")]
        rows = [dict(zip(names, row, strict=True)) for row in database.execute("SELECT * FROM turns WHERE ended_at")]
        for number in range(150):
            row = {**chance.choice(rows), "run": f"day-{number}", "slot": 1000 + number, "ending": "answered"}
            row |= {
                "started_at": time.time() - 86400 * chance.uniform(0.1, _DAYS),
                "cost_usd": chance.uniform(0.01, 0.6),
            }
            row |= {"ended_at": row["started_at"] + chance.uniform(5, 400), "input_tokens": chance.randrange(90_000)}
            row |= {"output_tokens": chance.randrange(9000), "project_id": chance.choice([1, 2, 3, 3])}
            del row["id"]
            marks = ", ".join("?" * len(row))
            database.execute(f"INSERT INTO turns ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    database.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
