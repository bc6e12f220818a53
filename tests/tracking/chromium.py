"""`ctt ui` in headless Chromium."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.tiny import environment

BINARIES = ("chromium", "chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--window-size=1800,1100", "--hide-scrollbars",
)  # fmt: skip


@contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    """A browser's driver; its profile lies in the folder."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    browser, driver_binary = (str(shutil.which(name)) for name in BINARIES)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(driver_binary))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def browsing(store: Path, sweep: str, folder: Path) -> Iterator[tuple[Any, str]]:
    """A browser, and the address of the sweep's page that `ctt ui` has printed."""
    command = [sys.executable, "-m", "ctt", "ui", "--port", "0", f"store={store}"]
    ui = subprocess.Popen(command, env=environment(store), stdout=subprocess.PIPE, text=True)
    try:
        assert ui.stdout is not None
        server = ui.stdout.readline().split()[1].partition("/#")[0]
        addresses = {}
        while sweep not in addresses:
            line = ui.stdout.readline()
            assert line, f"`ctt ui` shows no page of {sweep}"
            name, address = line.split()
            assert address.startswith(server)
            addresses[name.rstrip(":")] = address
        with chromium(folder) as driver:
            yield driver, addresses[sweep]
    finally:
        ui.send_signal(signal.SIGINT)
        assert ui.wait(60) == 0
