"""The report of a run at work: at every line, as long as that is cheap."""

import json

import pytest

from realuid.reports.report import write_report
from realuid.training import live_report as live
from realuid.training.live_report import SHARE, LiveReport
from realuid.training.run_folder import RunFolder
from realuid.training.tracking import Tracker


class Watch:
    """Counts the reports, each of which takes as long as it is told on a clock of its own."""

    def __init__(self, monkeypatch, cost):
        self.now, self.cost, self.reports = 1000.0, cost, 0
        monkeypatch.setattr(LiveReport, "_now", lambda report: self.now)
        monkeypatch.setattr(live, "write_report", self.report)

    def report(self, folder):
        self.reports += 1
        self.now += self.cost


@pytest.mark.parametrize(
    ("cost", "every", "least", "most"), [(0.01, 1.0, 500, 500), (1.0, 1.0, 8, 12), (0.0, 0.1, 500, 500)]
)
def test_it_takes_a_fiftieth_of_the_time_at_most(monkeypatch, tmp_path, cost, every, least, most):
    watch, report = Watch(monkeypatch, cost), LiveReport()
    report.open(RunFolder(tmp_path), 0)
    start = watch.now
    for line in range(500):
        watch.now += every
        report.write(line, {})
    assert least <= watch.reports <= most
    assert watch.reports * cost <= SHARE * (watch.now - start) + cost


def test_the_page_shows_what_was_written_so_far(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_text(folder.config, "")
    tracker = Tracker(folder, 0, 4, [LiveReport()])
    tracker.write({"step": 1, "images": 4, "loss": 2.5})
    text = (folder.path / "report.html").read_text()
    assert "Not ended" in text
    assert "2.5" in text
    tracker.close()


def test_a_report_that_cannot_be_written_ends_no_run(tmp_path, monkeypatch):
    def full(folder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live, "write_report", full)
    report = LiveReport()
    report.open(RunFolder(tmp_path), 0)
    report.write(1, {})


def test_the_report_of_a_long_run_is_cheap(tmp_path):
    """Its size does not grow with the number of lines."""
    sizes = []
    for count in (2_000, 8_000):
        with (tmp_path / "metrics.jsonl").open("w") as file:
            for step in range(count):
                file.write(json.dumps({"step": step, "images": 64 * step, "loss": (step % 7) / 7}) + "\n")
        sizes.append(write_report(tmp_path).stat().st_size)
    assert sizes[1] < 1.1 * sizes[0]
