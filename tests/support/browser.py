"""A page in headless Chromium: what it asks of the network, what it complains of, and whether anything overlaps."""

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import NamedTuple

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# In the page: pairs of texts in pictures that overlap, texts that leave their picture, what is wider than the screen.
PROBE = """<script>
addEventListener("load", () => {
  const shown = [...document.querySelectorAll("figure svg")].filter(e => e.getBoundingClientRect().width > 0);
  const overlaps = [], outside = [];
  for (const svg of shown) {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll("text")].map(e => [e.textContent, e.getBoundingClientRect()]);
    texts.forEach(([one, a], i) => {
      if (a.left < frame.left - 2 || a.right > frame.right + 2 || a.top < frame.top - 2 || a.bottom > frame.bottom + 2)
        outside.push(one);
      texts.slice(i + 1).forEach(([other, b]) => {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 1.5 && high > 3) overlaps.push(one + " | " + other);
      });
    });
  }
  const found = {
    pictures: shown.length, overlaps, outside, wider: document.documentElement.scrollWidth - innerWidth,
    background: getComputedStyle(document.body).backgroundColor, color: getComputedStyle(document.body).color,
    requests: performance.getEntriesByType("resource").map(e => e.name).filter(name => !name.startsWith("data:")),
    axes: shown.map(svg => [...svg.querySelectorAll("text")].map(e => e.textContent).join("; ")),
  };
  const probe = document.createElement("pre");
  probe.id = "probe"; probe.hidden = true; probe.textContent = JSON.stringify(found);
  document.body.append(probe);
});
</script>"""


class Seen(NamedTuple):
    """Look of a page in a browser."""

    pictures: int
    overlaps: list[str]
    outside: list[str]  # texts that are not within their picture
    wider: int  # pixels by which the page is wider than the screen
    background: str
    color: str
    axes: list[str]  # texts of each picture
    requests: list[str]  # addresses that it asked for
    console: list[str]  # complaints


def look(page: Path, width: int, scratch: Path, *, dark: bool) -> Seen:
    """Open a page in a browser of a width, and look at it; skips the test where there is no browser."""
    browser = next((found for name in NAMES if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    probed, text = scratch / "probed.html", page.read_text(encoding="utf-8")
    text = text.replace("</body>", f"{PROBE}</body>").replace(
        "default-src 'none'", "default-src 'none'; script-src 'unsafe-inline'"
    )
    probed.write_text(text, encoding="utf-8")
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={scratch / 'profile'}", f"--window-size={width},1200"),
        "--host-resolver-rules=MAP * ~NOTFOUND",  # it asks for its own updates
        *(f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--enable-logging=stderr", "--dump-dom"),
    ]
    places = dict.fromkeys(("HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(scratch))
    command, surroundings = [browser, *options, probed.as_uri()], {**os.environ, **places}
    ran = subprocess.run(command, env=surroundings, capture_output=True, text=True, timeout=100, check=True)
    said = re.search(r'<pre id="probe"[^>]*>(.*?)</pre>', ran.stdout, re.DOTALL)
    assert said is not None, ran.stderr[-2000:]
    found = json.loads(unescape(said[1]))
    console = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    return Seen(**found, console=console)
