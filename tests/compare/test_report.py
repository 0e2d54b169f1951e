"""report.html: in a browser, without network, on a desk and on a phone."""

import base64
import io
import re
import shutil

import numpy as np
import pytest
from compare_fakes import Raiser, Tree
from sklearn.datasets import load_wine

import skpapers
from skpapers._compare._plot import scatter

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
BASELINES = ["LogisticRegression", "SVC", "DummyClassifier", "SVCCA"]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    X, y = load_wine(return_X_y=True, as_frame=True)
    skpapers.compare(X, y, include=[*BASELINES, Tree(), Raiser()], folds=3, output=folder)
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver")
    binary = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with chromedriver is installed")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    chrome = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    yield chrome
    chrome.quit()


def open_page(browser, report, width, height=1000):
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(report.as_uri())


def first_column(browser, column):
    script = (
        "return [...document.querySelectorAll('#board tbody tr')]"
        ".map(row => row.cells[arguments[0]]?.innerText ?? '')"
    )
    return browser.execute_script(script, column)


def pixels(browser):
    image = pytest.importorskip("PIL.Image")
    return np.asarray(image.open(io.BytesIO(base64.b64decode(browser.get_screenshot_as_base64()))))


def test_opens_without_errors_and_without_network(browser, report):
    open_page(browser, report, 1200)
    assert browser.get_log("browser") == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert not [name for name in loaded if name.startswith("http")]
    assert "wine" not in browser.title and "skpapers compare" in browser.title


@pytest.mark.parametrize("width", [1200, 390])
def test_is_not_blank_and_fits_the_screen(browser, report, width):
    open_page(browser, report, width)
    assert len(np.unique(pixels(browser).reshape(-1, 4)[:, :3], axis=0)) > 50
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.plot svg')]"
        ".map(plot => plot.getBoundingClientRect().width)"
    )
    assert sorted(w > 300 for w in shown) == [False, True]  # the picture made for this width


def test_sorts_by_a_click(browser, report):
    open_page(browser, report, 1200)
    ranks = first_column(browser, 0)
    assert ranks == ["1", "2", "3", "4", "5", ""]
    buttons = browser.find_elements("css selector", "#board th button")
    buttons[1].click()
    names = first_column(browser, 1)
    assert names[:-1] == sorted(names[:-1], key=str.lower) and names[-1] == "Raiser"
    buttons[3].click()
    seconds = [float(s) for s in first_column(browser, 3)[:-1]]
    assert seconds == sorted(seconds)
    buttons[3].click()
    seconds = [float(s) for s in first_column(browser, 3)[:-1]]
    assert seconds == sorted(seconds, reverse=True)
    assert (
        browser.find_element("css selector", "th[aria-sort]").get_attribute("aria-sort")
        == "descending"
    )


def test_a_click_on_a_method_opens_its_section(browser, report):
    open_page(browser, report, 1200)
    section = browser.find_element("id", "m2")
    assert section.get_attribute("open") is None
    browser.find_element("css selector", "#board a[href='#m2']").click()
    assert section.get_attribute("open") is not None
    assert "Reproduce this row" in section.text


def test_holds_what_a_reader_needs(report):
    text = report.read_text(encoding="utf-8")
    (paper,) = skpapers.papers("svcca")
    needed = [paper.title, paper.url, "cross_val_score", "make_pipeline", "± 0.0", "max_iter=1000"]
    for part in [*needed, "the matrix is not to my liking", "3 stratified folds"]:
        assert part in text, part
    outside = re.findall(
        r'(?:src|srcset)="([^"]*)"|<link[^>]*href="(?!data:)([^"]*)"|@import|url\(', text
    )
    assert outside == []
    assert "{{" not in text and "{%" not in text


def test_names_are_escaped(tmp_path):
    X, y = load_wine(return_X_y=True, as_frame=True)
    X = X.rename(columns={X.columns[0]: "<script>alert(1)</script>"})
    skpapers.compare(
        X, y.rename("<b>t</b>"), include=["DummyClassifier"], folds=2, output=tmp_path
    )
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text and "<b>t</b>" not in text and "&lt;b&gt;t" in text


def test_plot_keeps_scores_in_the_frame():
    rows = [
        {"method": f"M{i}", "origin": "skpapers", "score": s, "score_std": 0.01, "fit_seconds": t}
        for i, (s, t) in enumerate([(0.9, 0.01), (0.9, 0.01), (0.8, 10.0), (-1e6, 0.0)])
    ]
    svg = scatter(rows, "R²")
    circles = np.array(re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg), dtype=float)
    assert len(circles) == 4
    assert np.all((circles > 0) & (circles < [720, 420]))
    gaps = np.linalg.norm(circles[:, None] - circles, axis=2) + 100 * np.eye(4)
    assert gaps.min() > 18  # equal results do not cover each other
    assert "▾ -1000000.00" in svg
    assert scatter([], "R²") == ""
    assert "NaN" not in scatter(rows[:1], "R²") and "nan" not in scatter(rows[:1], "R²")
