"""Report and comparison, opened by a real browser where there is one: nothing fails, nothing sticks out."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from realuid.evaluation.image_grid import image_grid, save_grid
from realuid.reports.charts import standalone
from realuid.reports.comparison import Entry, html_page
from realuid.reports.report import write_report
from realuid.reports.study import Plan, Row, curves

playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(BROWSER is None, reason="no chromium on this system"),
]

LONG = "an_unusually_long_name_of_something_that_somebody_measures_in_a_run_of_theirs"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        program = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])  # as root, in containers
        yield program
        program.close()


def tiles(count, height=8, width=8):
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 1, height, width), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A run with everything a report can hold, some of it long or wide."""
    folder = tmp_path_factory.mktemp("runs") / f"fm_digits-{LONG}"
    for name in ("student", "teacher", "data", *(f"step_{100 * k:07d}" for k in range(1, 20))):
        save_grid(folder / "samples" / f"{name}.png", tiles(80), columns=10, scale=6)
    (folder / "samples" / "captions.json").write_text(json.dumps([f"caption {k}: {LONG}" for k in range(10)]))
    with (folder / "metrics.jsonl").open("w") as file:
        for k in range(1, 300):
            row = {"step": k, "images": 64 * k, "fake_loss": 1 / k, "generator_loss": -k, "gap": 3 / k, LONG: k}
            if k % 50 == 0:
                row |= {"student_frechet": 20 / k, "student_frechet@0.99": 21 / k, "student_label_accuracy": k / 300}
            file.write(json.dumps(row) + "\n")
    summary = {"student_frechet": 0.07, "teacher_frechet": 0.06, "halves_frechet": 0.4, f"student_{LONG}": 1.5}
    summary |= {"best": {"metric": "student_frechet", "value": 0.06, "ema": "0.99", "images": 6400}, "wall_s": 77.0}
    (folder / "summary.json").write_text(
        json.dumps(summary | {"provenance": {"student_frechet": {"network": "x" * 300}}})
    )
    (folder / "config.gin").write_text(f"Trainer.data = '{LONG * 5}'\n" * 30)
    (folder / "exit.json").write_text(json.dumps({"code": 3, "reason": f"a reason: {LONG * 2}"}))
    start = {"begun": "2026-11-28T08:31:02+01:00", "started": "2026-11-28T08:31:02+01:00", "commit": "0123456789"}
    start |= {"command": f"realuid train --gin {LONG}/{LONG}.gin", "device": "A CPU, 2 threads", "teacher": LONG * 3}
    (folder / "run.json").write_text(json.dumps(start))
    return write_report(folder)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    provenance = {"network": LONG, "network_sha256": "0" * 64, "resize": "none", "count": 5, "seed": 0}
    provenance |= {
        "reference": "1" * 64,
        "reference_count": 9,
        "sampler": f"Euler-50 {LONG}",
        "ema": "0.99",
        "images": 7,
    }
    values = {f"metric_{k}": k / 7 for k in range(14)} | {"frechet": 1.0}
    curves = {against: [(1.0, 2.0), (2.0, 1.0)] for against in ("images", "wall_s")}
    entries = [
        Entry(
            f"run {k} {LONG}", values, {"frechet": provenance}, image_grid(tiles(20), 10, 5), curves, provenance, ["a"]
        )
        for k in range(3)
    ]
    path = tmp_path_factory.mktemp("comparison") / "comparison.html"
    path.write_text(html_page(entries, "frechet"))
    return path


def opened(browser, path: Path, width: int, scheme: str = "light"):
    """The page, and what went wrong on it."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("requestfailed", lambda request: faults.append(request.url[:100]))
    page.goto(path.as_uri())
    return page, faults


STICKING_OUT = """() => [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.wide, pre, details:not([open]), svg')
        && (e.getBoundingClientRect().right > innerWidth + 1 || e.getBoundingClientRect().left < -1))
    .map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40))"""
"""What leaves the window, beside parts that scroll on their own."""

COLOURS = (
    "() => ['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number))"
)


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["report", "comparison"])
def test_nothing_fails_and_nothing_sticks_out(browser, which, width, request):
    page, faults = opened(browser, request.getfixturevalue(which), width)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert faults == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(STICKING_OUT) == []
    page.close()


@pytest.mark.parametrize("which", ["report", "comparison"])
def test_every_picture_is_loaded(browser, which, request):
    page, _ = opened(browser, request.getfixturevalue(which), 1280)
    pictures = page.evaluate(
        "[...document.images].map(i => [i.complete, i.naturalWidth, i.getBoundingClientRect().width])"
    )
    assert len(pictures) == {"report": 2 + 1 + 11, "comparison": 3}[which]
    assert all(done and natural > 0 and shown > 50 for done, natural, shown in pictures)
    charts = page.evaluate("[...document.querySelectorAll('.chart > svg')].map(c => c.getBoundingClientRect().height)")
    assert len(charts) >= 2
    assert min(charts) > 100
    page.close()


def luminance(rgb):
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in rgb[:3])]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_light_and_in_dark(browser, report, scheme):
    page, _ = opened(browser, report, 1280, scheme)
    ink, paper = (luminance(colour) for colour in page.evaluate(COLOURS))
    assert (ink > paper) is (scheme == "dark")
    assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7, "WCAG's enhanced contrast"
    soft = page.evaluate("getComputedStyle(document.querySelector('.chart text')).fill.match(/\\d+/g).map(Number)")
    panel = page.evaluate(
        "getComputedStyle(document.querySelector('.chart')).backgroundColor.match(/\\d+/g).map(Number)"
    )
    one, other = luminance(soft), luminance(panel)
    assert (max(one, other) + 0.05) / (min(one, other) + 0.05) > 4.5
    page.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study's chart as its page shows it: a picture of its own, with long names of rows."""
    rows = tuple(Row(f"{name} {LONG}", ("x.gin",), (), (0, 1)) for name in "ABCDEF")
    points = [[1000 * k, 20 / k, 3.5 * k] for k in range(1, 60)]
    own = {"student_frechet": 1.0, "provenance": {"student_frechet": {}}, "curve": points}
    records = {(row.name, seed): own | {"curve_metric": "student_frechet"} for row in rows for seed in (0, 1)}
    folder = tmp_path_factory.mktemp("study")
    charts = curves(Plan("study", rows, ("student_frechet",), ()), records)
    for against, chart in charts.items():
        (folder / f"{against}.svg").write_text(standalone(chart))
    return folder


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_charts_of_a_study_are_pictures_that_can_be_read(browser, study, width, scheme):
    for against in ("images", "time"):
        page, faults = opened(browser, study / f"{against}.svg", width, scheme)
        assert faults == []
        beyond = page.evaluate(
            """() => [...document.querySelectorAll('text')].filter(e => e.getBoundingClientRect().right >
                document.documentElement.getBoundingClientRect().right + 1).map(e => e.textContent)"""
        )
        assert beyond == [], "texts are cut off"
        paper = page.evaluate("getComputedStyle(document.querySelector('rect')).fill.match(/\\d+/g).map(Number)")
        inks = page.evaluate(
            "[...document.querySelectorAll('text')].map(e => getComputedStyle(e).fill.match(/\\d+/g).map(Number))"
        )
        for ink in inks:
            one, other = luminance(ink), luminance(paper)
            assert (max(one, other) + 0.05) / (min(one, other) + 0.05) > 4.5, "whatever lies behind the picture"
        page.close()


def test_the_link_to_the_teachers_report_leads_there(browser, tmp_path):
    for name in ("a run", "a teacher"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.gin").write_text("")
        write_report(folder)
    (tmp_path / "a run" / "run.json").write_text(json.dumps({"teacher_run": "../a teacher"}))
    page, faults = opened(browser, write_report(tmp_path / "a run"), 390)
    page.click("text=a teacher")
    page.wait_for_url("**/report.html")
    assert page.inner_text("h1") == "a teacher"
    assert faults == []
    page.close()


def test_a_picture_that_the_page_cannot_show_is_noticed(browser, tmp_path):
    """The checks above see what they are to see: a page spoiled on purpose."""
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    path = tmp_path / "broken.html"
    path.write_text("<body><img src='nowhere.png'><div style='width: 2000px'>wide</div><script>oops()</script></body>")
    page, faults = opened(browser, path, 390)
    assert len(faults) >= 2
    assert page.evaluate(STICKING_OUT) != []
    page.close()
