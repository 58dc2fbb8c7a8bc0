"""Chromium, in front of a gateway's page."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, BrowserContext, async_playwright, expect

from gateway.testing import patience


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser of its own, which ends with the block. A test that asks for it is left out where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("there is no Chromium")
    # As root there is no sandbox, and the page is our own.
    flags = ["--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=flags, timeout=60_000 * patience())
        try:
            yield browser
        finally:
            await browser.close()


@contextlib.asynccontextmanager
async def visit(browser: Browser, *, dark: bool = False, phone: bool = False) -> AsyncIterator[BrowserContext]:
    """Somebody's browser, without anything of others in it."""
    size = {"width": 360, "height": 740} if phone else {"width": 1280, "height": 860}
    context = await browser.new_context(
        color_scheme="dark" if dark else "light",
        viewport=size,  # type: ignore[arg-type]
        timezone_id="Europe/Berlin",
    )
    context.set_default_timeout(15_000 * patience())
    expect.set_options(timeout=15_000 * patience())
    try:
        yield context
    finally:
        await context.close()
