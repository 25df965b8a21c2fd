"""The page as a new user goes through it, in a headless Chromium: record, drop, train, listen, download, delete."""

import json
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import CHROMIUM, Browser, browsing
from servers import Running, recordings

from egrecho_inner.serve.auth import new_token

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("browser")
    time_ = np.arange(48000 * 3) / 48000
    soundfile.write(folder / "speech.wav", 0.3 * np.sin(2 * np.pi * 440 * time_), 48000)
    with browsing(folder / "profile", folder / "speech.wav") as found:
        yield found


def write(folder: Path, count: int = 6) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name, content in recordings(count).items():
        (folder / name).write_bytes(content)
    return sorted(folder.iterdir())


def enter(browser: Browser, server: Running) -> None:
    browser.seen.clear()
    browser.run("sessionStorage.clear()") if browser.run("location.protocol") == "http:" else None
    browser.go(server.address)
    browser.until("!document.getElementById('work').hidden")


def test_from_files_to_the_download(browser: Browser, server: Running, tmp_path: Path) -> None:
    enter(browser, server)
    assert browser.run("document.getElementById('start').disabled")
    browser.choose_files("#files", write(tmp_path / "clips"))
    browser.until("document.getElementById('split-summary').textContent.includes('6 recordings')")
    assert "tested in turn" in browser.text("#split-summary")
    assert browser.run("document.querySelectorAll('#recordings tr').length") == 6
    browser.run("document.getElementById('epochs').value = 12")
    browser.run("document.getElementById('name').value = '<b>me</b>'")
    browser.click("#start")
    browser.until("!document.getElementById('job').hidden && document.getElementById('curves').hidden === false")
    assert browser.text("#h-job") == "<b>me</b>"
    browser.until("document.getElementById('job-state').textContent.startsWith('finished')")
    assert browser.run("document.querySelectorAll('#chart path').length") == 2
    assert "Better: use the tuned model." in browser.text("#verdict")
    browser.until("document.querySelectorAll('#pairs li').length > 0")
    assert browser.text("#pairs mark") == "one"
    browser.click("#pairs button")
    browser.until("document.querySelector('#pairs audio')?.readyState >= 1")
    assert browser.run("document.querySelector('#pairs audio').duration") == pytest.approx(0.2, abs=0.02)
    browser.ask("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
    browser.click("#download")
    for _ in range(100):
        if found := list((tmp_path / "downloads").glob("*.tar.gz")):
            break
        time.sleep(0.1)
    with tarfile.open(found[0]) as archive:
        names = archive.getnames()
    assert "results/model/model.safetensors" in names
    browser.run("window.confirm = () => true")
    browser.click("#job-actions button:last-child")
    browser.until("document.getElementById('job').hidden")
    assert list(server.settings.jobs.iterdir()) == []
    assert browser.complaints() == []
    assert {url.split("/")[2] for url in browser.addresses()} == {server.address.split("/")[2]}


def test_sentences_are_recorded_as_wav(browser: Browser, server: Running) -> None:
    enter(browser, server)
    first = browser.text("#sentence")
    browser.click("#record")
    browser.until("document.getElementById('record').getAttribute('aria-pressed') === 'true'")
    browser.until("document.getElementById('level').value > 0.1")
    time.sleep(1.2)
    browser.click("#record")
    browser.until("!document.getElementById('take').hidden")
    browser.click("#keep")
    browser.until("document.getElementById('split-summary').textContent !== ''")
    assert browser.text("#sentence") != first
    (folder,) = server.settings.datasets.iterdir()
    (wav,) = (folder / "files").glob("*.wav")
    assert wav.with_suffix(".txt").read_text() == first
    samples, rate = soundfile.read(wav)
    assert rate == 16000
    assert samples.ndim == 1
    assert 0.8 < len(samples) / rate < 4
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum) * rate / len(samples) == pytest.approx(440, abs=5)
    assert browser.complaints() == []


def test_a_text_that_is_missing_can_be_written(browser: Browser, server: Running, tmp_path: Path) -> None:
    enter(browser, server)
    paths = [path for path in write(tmp_path / "clips") if path.name != "u3.txt"]
    browser.choose_files("#files", paths)
    browser.until("document.getElementById('split-notes').textContent.includes('u3: no transcript')")
    browser.run("document.querySelector('#split-notes input').value = 'written later'")
    browser.click("#split-notes button")
    browser.until("document.getElementById('split-summary').textContent.includes('6 recordings')")
    browser.click("#recordings button")
    browser.until("document.getElementById('split-summary').textContent.includes('5 recordings')")


def test_a_refused_file_is_told(browser: Browser, server: Running, tmp_path: Path) -> None:
    enter(browser, server)
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"caf\xe9")
    browser.choose_files("#files", [bad, *write(tmp_path / "clips")])
    browser.until("document.getElementById('alert').textContent.includes('bad.txt')")


def test_a_token_is_asked_for(browser: Browser, make_server: Callable[..., Running], tmp_path: Path) -> None:
    secret = new_token(tmp_path / "tokens.json", "anna", "write")
    server = make_server(tokens=tmp_path / "tokens.json")
    browser.seen.clear()
    browser.go(server.address)
    browser.until("!document.getElementById('token-form').hidden")
    assert browser.run("document.getElementById('work').hidden")
    browser.run("document.getElementById('token').value = 'wrong'")
    browser.click("#token-form button")
    browser.until("document.getElementById('alert').textContent.includes('unknown')")
    browser.run(f"document.getElementById('token').value = {json.dumps(secret)}")
    browser.click("#token-form button")
    browser.until("!document.getElementById('work').hidden")
    assert secret not in "".join(browser.addresses())
    browser.choose_files("#files", write(tmp_path / "clips"))
    browser.until("document.getElementById('split-summary').textContent.includes('6 recordings')")
    browser.click("#start")
    browser.until("document.getElementById('job-state').textContent.startsWith('finished')")
    browser.until("document.querySelectorAll('#pairs li').length > 0")


CONTRAST = """(() => {
  const curve = (value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const channel = (value) => curve(value / 255);
  const light = (color) => {
    const [r, g, b] = color.match(/[0-9.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if (!color.endsWith(", 0)")) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  const texts = "h1, h2, h3, p, label, button, .button, select, input, summary, li, code";
  for (const node of document.querySelectorAll(texts)) {
    if (!node.textContent.trim() || !node.checkVisibility() || node.disabled) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    if ((a + 0.05) / (b + 0.05) < 4.5) poor.push(`${node.tagName} ${node.textContent.slice(0, 30)}`);
  }
  return poor;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(browser: Browser, server: Running, scheme: str) -> None:
    browser.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    enter(browser, server)
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert browser.run(CONTRAST) == []


def test_a_phone_shows_it_without_scrolling_aside(browser: Browser, server: Running, tmp_path: Path) -> None:
    browser.ask("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)
    try:
        enter(browser, server)
        browser.choose_files("#files", write(tmp_path / "clips"))
        browser.until("document.getElementById('split-summary').textContent.includes('6 recordings')")
        browser.run("document.querySelector('details').open = true")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        targets = "[...document.querySelectorAll('button, .button, select')].filter(n => n.checkVisibility())"
        assert browser.run(f"{targets}.filter(n => n.offsetHeight < 44).length") == 0
    finally:
        browser.ask("Emulation.clearDeviceMetricsOverride")


def test_the_keyboard_reaches_everything(browser: Browser, server: Running) -> None:
    enter(browser, server)
    wanted = browser.run(
        "[...document.querySelectorAll('a[href], button:not([disabled]), input, select, summary')]"
        ".filter(n => n.checkVisibility()).map(n => n.id || n.className || n.textContent)"
    )
    reached = []
    browser.run("document.activeElement.blur()")
    for _ in range(3 * len(wanted)):
        browser.press("Tab")
        reached.append(browser.run("(n => n.id || n.className || n.textContent)(document.activeElement)"))
    assert set(wanted) <= set(reached)
    assert wanted.index("folder") < wanted.index("record") < wanted.index("model")
    browser.run("document.getElementById('skip').focus()")
    before = browser.text("#sentence")
    browser.press("Enter")
    assert browser.text("#sentence") != before


def test_every_control_has_a_name_for_screen_readers(browser: Browser, server: Running, tmp_path: Path) -> None:
    enter(browser, server)
    browser.choose_files("#files", write(tmp_path / "clips"))
    browser.until("document.getElementById('split-summary').textContent.includes('6 recordings')")
    browser.run("document.querySelector('details').open = true")
    tree = browser.ask("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "textbox", "combobox", "spinbutton", "link", "meter", "progressbar", "img", "columnheader")
    nodes = [node for node in tree if not node["ignored"] and node["role"]["value"] in roles]
    assert len(nodes) > 10
    assert [node for node in nodes if not node.get("name", {}).get("value")] == []
    names = [node["role"]["value"] for node in tree if not node["ignored"]]
    assert {"main", "banner", "contentinfo", "heading"} <= set(names)
    assert browser.run("document.documentElement.lang") == "en"
