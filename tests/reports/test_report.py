import base64
import json
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest
import torch

from realuid.evaluation.image_grid import save_grid
from realuid.reports.report import write_report

VOID = {"meta", "img", "br", "line", "circle", "polyline", "polygon"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and fails where tags do not nest."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.texts = [], [], []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def grid(path):
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    save_grid(path, images, columns=2, scale=2)


@pytest.fixture
def full(tmp_path):
    folder = tmp_path / "digits <script>alert(0)"
    for name in ("teacher", "student", "data", *(f"step_{1000 * k:07d}" for k in range(1, 31))):
        grid(folder / "samples" / f"{name}.png")
    with (folder / "metrics.jsonl").open("w") as file:
        for k in range(1, 301):
            row = {
                "step": 5 * k,
                "images": 256 * k,
                "wall_s": k / 10,
                "generator_loss": -1.0 + k / 300,
                "fake_loss": float("nan") if k == 7 else 30 - k / 20,
                "generator_grad_norm": 10 ** (2 - k / 100),
                "teacher_fake_gap": 1 / k,
                "images_per_s": 9000 + k,
                "<script>alert(1)</script>": k,
                "kind": "generator",
            }
            if k % 50 == 0:
                row["student_frechet"] = 20 / k
            file.write(json.dumps(row) + "\n")
        file.write('{"step": 1505, "ima')
    summary = {
        "student_frechet": 0.6312,
        "teacher_frechet": 0.412,
        "halves_frechet": 0.289,
        "pixel_gaussian_frechet": 5.066,
        "student_label_accuracy": 0.981,
        "steps": 1500,
        "images": 76800,
        "wall_s": 4532.2,
        "images_per_s": 9034.3,
        "provenance": {"student_frechet": {"network": "x", "accuracy": 0.9889, "note": "<script>alert(2)</script>"}},
        "best": {"metric": "student_frechet", "value": 0.5817, "ema": "0.99", "images": 51200},
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "exit.json").write_text('{"code": 3, "reason": "<script>alert(3)</script>"}')
    (folder / "samples" / "captions.json").write_text('["a nine", "<script>alert(5)</script>"]')
    start = {
        "begun": "2026-11-28T08:31:02+01:00",
        "started": "2026-11-29T09:00:00+01:00",
        "command": "realuid train --gin 'my <script>alert(6)</script>.gin'",
        "commit": "0123456789+",
        "device": "One CPU, 2 threads",
        "teacher_run": "../a teacher",
    }
    (folder / "run.json").write_text(json.dumps(start))
    (tmp_path / "a teacher").mkdir()
    (tmp_path / "a teacher" / "report.html").write_text("a report")
    (folder / "config.gin").write_text("# https://example.org\nRealUID.alpha = 0.94\nx = '<script>alert(4)</script>'\n")
    return folder


def test_a_full_run(full):
    page = Page(write_report(full))
    for shown in (
        "0.6312",
        "0.412",
        "0.289",
        "5.066",
        "98.1%",
        "98.9%",
        "0.5817",
        "1,500",
        "76,800",
        "1 h 15 min",
        "9,034",
    ):
        assert shown in page.texts, shown
    for section in ("Samples", "Results", "Training", "Samples in time ", "Loss of the fake network", "11 of 30"):
        assert section in page.texts, section
    assert "Stopped by a fault" in page.text
    assert "RealUID.alpha = 0.94" in page.text
    pictures = page.all("img")
    assert len(pictures) == 2 + 1 + 11
    assert pictures[2]["alt"] == "real images"
    assert pictures[-1]["alt"] == "step 30,000"
    for picture, name in zip(pictures, ("student", "teacher"), strict=False):
        kind, data = picture["src"].split(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data) == (full / "samples" / f"{name}.png").read_bytes()
    assert sum(attrs.get("class") == "chart" for attrs in page.all("figure")) == 7


def test_it_says_when_and_how_the_run_was_started_and_links_its_teacher(full, tmp_path):
    page = Page(write_report(full))
    for shown in (
        "2026-11-28 08:31 UTC+01:00, resumed 2026-11-29 09:00 UTC+01:00",
        "0123456789+",
        "One CPU, 2 threads",
    ):
        assert shown in page.texts, shown
    (link,) = page.all("a")
    assert (full / unquote(link["href"])).resolve() == (tmp_path / "a teacher" / "report.html").resolve()
    assert "a teacher" in page.texts
    (tmp_path / "a teacher" / "report.html").unlink()
    assert Page(write_report(full)).all("a") == []


def test_captions_belong_to_the_columns(full):
    page = Page(write_report(full))
    assert "The columns, from the left:" in page.texts
    assert [page.texts.index(text) for text in ("a nine", "<script>alert(5)</script>")] == sorted(
        page.texts.index(text) for text in ("a nine", "<script>alert(5)</script>")
    )
    for damaged in ("{", "3", '{"a": 1}'):
        (full / "samples" / "captions.json").write_text(damaged)
        assert "The columns, from the left:" not in Page(write_report(full)).texts


def test_nothing_is_fetched_and_nothing_runs(full):
    page = Page(write_report(full))
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name, value in attrs.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "srcset", "action"):
                assert value.startswith("data:") or (tag, value) == ("a", "../a%20teacher/report.html")
    assert not re.search(r"url\(|@import", page.source)
    assert "<script" not in page.source
    # In the name, a curve, a provenance, the reason, the configuration, a caption and the command: seen as text.
    for number in range(7):
        assert f"<script>alert({number})" in page.text


def test_an_empty_folder(tmp_path):
    page = Page(write_report(tmp_path))
    assert page.all("h2") == page.all("img") == page.all("table") == page.all("details") == []
    assert "Not ended" in page.text


def test_a_run_without_evaluation(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "images": 64, "wall_s": 0.1, "loss": 2.5}\n')
    page = Page(write_report(tmp_path))
    assert len(page.all("h2")) == len(page.all("figure")) == 1


def test_the_line_written_last_counts(tmp_path):
    # A resumed run repeats the steps after its checkpoint.
    rows = [{"images": images, "loss": loss} for images, loss in ((1, 9.0), (2, 8.0), (3, 7.0), (2, 5.0))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = Page(write_report(tmp_path))
    titles = [text for text in page.texts if " at " in text]
    assert titles == ["9 at 1", "5 at 2", "7 at 3"]


def test_damaged_files_leave_their_section_out(tmp_path):
    (tmp_path / "summary.json").write_text("{")
    (tmp_path / "exit.json").write_text("[1]")
    (tmp_path / "metrics.jsonl").write_bytes(b'\xff\xfe\n3\n{"images": "many", "loss": 1}\n')
    assert Page(write_report(tmp_path)).all("h2") == []


def test_it_is_written_again_over_the_old(full):
    first = write_report(full)
    source = first.read_text()
    assert write_report(full) == first == full / "report.html"
    assert first.read_text() == source
    assert {path.name for path in full.iterdir()} == {
        "samples", "metrics.jsonl", "summary.json", "exit.json", "config.gin", "run.json", "report.html"
    }  # fmt: skip


def test_dark_phone_and_paper(full):
    source = write_report(full).read_text()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in source
    for rule in ("prefers-color-scheme: dark", "max-width: 700px", "@media print", "image-rendering: pixelated"):
        assert rule in source


def test_values_of_fewer_images_are_drawn_apart(full):
    with (full / "metrics.jsonl").open("a") as file:
        for k in (400, 500):
            file.write(
                json.dumps({"images": k, "student_frechet_of_500": 9.0, "student_frechet_of_500@0.99": 8.0}) + "\n"
            )
    captions = [text.strip() for text in Page(write_report(full)).texts if "Fréchet distance to the real data" in text]
    assert captions == ["Fréchet distance to the real data", "Fréchet distance to the real data, of 500 images"]
