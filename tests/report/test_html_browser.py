"""The report in a real headless Chromium: clicked, hovered, sorted, blended; no console error, no outside request.

These tests need Debian's packages chromium and chromium-driver (or their like) and are skipped where they are not
installed, unless CXRFEAT_NEED_BROWSER is set, as in CI: there a missing browser is a failure.
"""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import pytest

from cxrfeat import _pages as pages
from cxrfeat._run import Run

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
NEEDED = bool(os.environ.get("CXRFEAT_NEED_BROWSER"))
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER) and not NEEDED, reason="needs chromium and chromedriver (apt install chromium-driver)"
)
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1200,900"
)


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    assert CHROMIUM and DRIVER, "CXRFEAT_NEED_BROWSER is set and there is no chromium: apt install chromium-driver"
    options = Options()
    options.binary_location = CHROMIUM
    for flag in FLAGS.split():
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory, trained, run_writer):
    """A report with a real gallery, and one of two runs with a training curve and a hostile study name."""
    folder = tmp_path_factory.mktemp("html")
    gallery, two = folder / "gallery.html", folder / "two.html"
    pages.report([trained.run], gallery, replicates=20, images=4, cards=False)
    first = run_writer(folder / "first", study={"name": "<b onmouseover=alert(1)>x", "sha256": "0"}, weights="random:0")
    (first / "history.csv").write_text("epoch,loss,val_loss\n1,0.7,0.8\n2,0.5,0.7\n3,0.4,0.75\n")
    runs = [Run.open(first), Run.open(run_writer(folder / "second", strength=1.6))]
    pages.report(runs, two, replicates=20, images=0)
    return SimpleNamespace(gallery=gallery, two=two)


@pytest.fixture
def opened(browser, page):
    """Open one of the pages, its logs empty before."""

    def open_page(name: str):
        browser.get_log("browser"), browser.get_log("performance")
        browser.get(getattr(page, name).as_uri())
        return browser

    return open_page


def js(browser, code: str, *args):
    return browser.execute_script(code, *args)


def find(browser, selector: str):
    return browser.find_element("css selector", selector)


def key(browser, selector: str, name: str) -> None:
    from selenium.webdriver.common.keys import Keys

    find(browser, selector).send_keys(getattr(Keys, name))


@pytest.mark.parametrize("name", ["two", "gallery"])
def test_no_console_line_and_no_request_but_the_page_itself(opened, page, name):
    browser = opened(name)
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert asked and all(url == getattr(page, name).as_uri() or url.startswith("data:") for url in asked), asked


def test_a_table_sorts_by_click_and_by_keyboard_with_undefined_values_last(opened):
    browser = opened("two")
    rows = "[...document.querySelector('#run-1 table.sortable').tBodies[0].rows]"
    column = f"return {rows}.map(row => row.cells[2].dataset.key)"  # AUROC
    heading = "#run-1 table.sortable thead th:nth-child(3)"
    before = js(browser, column)
    find(browser, f"{heading} button").click()
    after = js(browser, column)
    numbers = [float(v) for v in after if v]
    assert numbers == sorted(numbers) and after[-1] == "" and after != before
    assert find(browser, heading).get_attribute("aria-sort") == "ascending"
    key(browser, f"{heading} button", "ENTER")
    falling = [float(v) for v in js(browser, column) if v]
    assert falling == sorted(falling, reverse=True) and js(browser, column)[-1] == ""
    key(browser, f"{heading} button", "SPACE")
    assert js(browser, column) == before, "a third time gives the first order back"


def test_curves_are_switched_and_read_out_under_the_pointer(opened):
    from selenium.webdriver.common.action_chains import ActionChains

    browser = opened("two")
    find(browser, "#run-1-roc summary").click()
    shown = "return document.querySelectorAll('#run-1-roc .plot g.series:not([hidden])').length"
    assert js(browser, shown) == 13
    find(browser, "#run-1-roc [data-show=none]").click()
    assert js(browser, shown) == 0
    find(browser, "#run-1-roc .legend input[data-series='2']").click()
    assert js(browser, shown) == 1
    svg = find(browser, "#run-1-roc .plot svg")
    js(browser, "arguments[0].scrollIntoView({block: 'center'})", svg)
    ActionChains(browser).move_to_element(svg).perform()
    said = find(browser, "#run-1-roc .readout").text
    assert said.startswith("Effusion: false positive rate ") and "true positive rate" in said and "threshold" in said


def test_curves_are_read_out_by_arrow_keys(opened):
    browser = opened("two")
    svg = "#run-1-roc .plot svg"
    find(browser, "#run-1-roc summary").click()
    key(browser, svg, "ARROW_RIGHT")
    first = find(browser, "#run-1-roc .readout").text
    assert "false positive rate 0, true positive rate 0, threshold above every score" in first
    for _ in range(5):
        key(browser, svg, "ARROW_RIGHT")
    further = find(browser, "#run-1-roc .readout").text
    assert further != first and further.split(":")[0] == first.split(":")[0]
    key(browser, svg, "ARROW_DOWN")
    assert find(browser, "#run-1-roc .readout").text.split(":")[0] != first.split(":")[0]


def test_the_slider_blends_the_map_and_the_choice_changes_it(opened):
    browser = opened("gallery")
    figure = "#run-1-picture-1"
    opacity = f"return getComputedStyle(document.querySelector('{figure} .heat')).opacity"
    assert float(js(browser, opacity)) == pytest.approx(0.6)
    key(browser, f"{figure} .opacity", "HOME")
    assert float(js(browser, opacity)) == 0
    key(browser, ".opacity-all", "END")
    assert float(js(browser, opacity)) == 1
    visible = f"return [...document.querySelectorAll('{figure} .heat:not([hidden])')].map(e => e.dataset.layer)"
    key(browser, f"{figure} .layers input:checked", "ARROW_DOWN")
    chosen = find(browser, f"{figure} .layers input:checked").get_attribute("value")
    assert chosen == "1" and js(browser, visible) in ([chosen], []), "a map without evidence shows nothing"
    sizes = js(browser, "return [...document.images].map(i => i.naturalWidth)")
    assert sizes and min(sizes) > 50, "every picture decodes"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["two", "gallery"])
def test_light_and_dark_and_narrow_without_a_sideways_scroll(opened, scheme, name):
    browser = opened(name)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    narrow = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", narrow)
    try:
        background = js(browser, "return getComputedStyle(document.body).backgroundColor")
        assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 28)"}[scheme]
        assert js(browser, "return document.documentElement.scrollWidth") <= 360
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_in_print_the_content_stays_and_the_controls_go(opened):
    browser = opened("gallery")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        shown = "return [...document.querySelectorAll(arguments[0])].some(e => e.getClientRects().length > 0)"
        assert not js(browser, shown, "nav, .control, .buttons, .readout")
        assert js(browser, shown, "figure.chart svg") and js(browser, shown, "figure.picture .heat")
        assert js(browser, "return document.documentElement.scrollWidth <= innerWidth")
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
