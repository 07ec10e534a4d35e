"""Small pipelines, saved by diffusers once a session."""

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch, tmp_path_factory):
    torch.set_num_threads(1)
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """A function from the class of a pipeline to the pipeline and its folder."""
    from tests.pretrained.pipelines.cases import CASES

    made = {}

    def get(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
            pipeline = CASES[name].make()
            pipeline.save_pretrained(folder)
            pipeline.set_progress_bar_config(disable=True)
            made[name] = pipeline, str(folder)
        return made[name]

    return get
