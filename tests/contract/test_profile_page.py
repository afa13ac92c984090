"""The page of a profile in a real browser: it draws, it answers to keys and pointer, and it asks for nothing.

Needs Chromium (``apt install chromium``), or a Chrome; skips without.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from outcrop.cli.main import main

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
KERNEL = """
import nki
import nki.isa as nisa
import nki.language as nl

@nki.jit
def product(a, b):
    out = nl.ndarray((128, 512), nl.float32, buffer=nl.shared_hbm)
    left = nl.ndarray((128, 128), a.dtype, buffer=nl.sbuf)
    right = nl.ndarray((128, 512), b.dtype, buffer=nl.sbuf)
    nisa.dma_copy(left, a)
    nisa.dma_copy(right, b)
    total = nl.ndarray((128, 512), nl.float32, buffer=nl.psum)
    nisa.nc_matmul(total, left, right)
    result = nl.ndarray((128, 512), nl.float32, buffer=nl.sbuf)
    nisa.tensor_copy(result, total)
    nisa.dma_copy(out, result)
    return out
"""
# Run in the page after it has drawn itself: presses keys, then leaves what it saw in the document's title.
PROBE = """
<script>
const press = (key) => dispatchEvent(new KeyboardEvent("keydown", { key }));
setTimeout(() => {
  paint(); // the page's own, which otherwise waits for the browser's next frame
  const canvas = document.getElementById("timeline");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  let colours = new Set();
  for (let at = 0; at < pixels.length; at += 4) colours.add(pixels[at] << 16 | pixels[at + 1] << 8 | pixels[at + 2]);
  press("n"); press("+"); press("ArrowRight"); press("c"); press("t");
  setTimeout(() => {
    const seen = {
      colours: colours.size, pinned: document.getElementById("detail").textContent.slice(0, 200),
      theme: document.documentElement.dataset.theme, path: document.querySelector('[data-act="path"]').ariaPressed,
      wide: document.documentElement.scrollWidth <= innerWidth,
      requests: performance.getEntriesByType("resource").length,
    };
    document.title = "SEEN " + Object.entries(seen).map(([key, value]) => key + "=" + value).join("; ");
  }, 200);
}, 200);
</script>
"""


@pytest.fixture(scope="module")
def browser() -> str:
    for name in BROWSERS:
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium or Chrome is installed; apt install chromium")


@pytest.mark.parametrize("size", ["1280,900", "390,844"])
def test_the_page_draws_answers_and_asks_for_nothing(
    browser: str, size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "kernel.py").write_text(KERNEL)
    arguments = ["--arg", "a=bfloat16[128,128]", "--arg", "b=bfloat16[128,512]", "--out", str(tmp_path / "made")]
    assert main(["kernel", "profile", f"{tmp_path / 'kernel.py'}:product", *arguments]) == 0
    capsys.readouterr()
    page = tmp_path / "made" / "probed.html"
    page.write_text((tmp_path / "made" / "profile.html").read_text().replace("</body>", PROBE + "</body>"))
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={size}",
            f"--user-data-dir={tmp_path / 'browser'}", "--virtual-time-budget=5000", "--enable-logging=stderr",
            "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=100, check=True,
    )  # fmt: skip
    assert "Uncaught" not in done.stderr
    assert "Content Security Policy" not in done.stderr
    dom = done.stdout
    title = re.search(r"<title>SEEN (.*?)</title>", dom)
    assert title is not None, dom[:2000]
    seen = dict(each.split("=", 1) for each in title.group(1).split("; "))
    assert int(seen["colours"]) > 10
    assert seen["pinned"].startswith("nc_matmul #")
    assert seen["path"] == "true"
    assert seen["theme"] in ("light", "dark")
    assert seen["wide"] == "true"
    assert seen["requests"] == "0"
    assert "expected, between" in dom
    assert "nisa.nc_matmul(total, left, right)" in dom
