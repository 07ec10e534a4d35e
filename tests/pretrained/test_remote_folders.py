"""Folders of other places: copied file by file, a repository of the hub at one commit."""

import hashlib
import http.server
import threading

import fsspec
import pytest
import torch

from realuid.jobs.first_look import look_at_weights
from realuid.pretrained import read, remote_folders
from realuid.pretrained.remote_folders import local_file, local_folder, wanted
from realuid.utils.errors import CheckpointError
from tests.pretrained.pipelines.hub import COMMIT, Hub

pytest.importorskip("huggingface_hub")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub, as a server of this machine with a repository of three files."""
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "repository"
    for name, content in {"model_index.json": "{}", "vae/config.json": '{"a": 1}', "vae/more.json": "{}"}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    with Hub(folder) as server:
        serve(server, monkeypatch)
        yield server, folder


def serve(server, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setitem(fsspec.config.conf, "hf", {"endpoint": server.url})
    remote_folders.at_one_commit.cache_clear()


def test_a_repository_is_pinned_and_copied_once(hub):
    server, folder = hub
    copy = local_folder("hf://owner/name", ("vae/",))
    assert (copy / "vae/config.json").read_text() == '{"a": 1}'
    assert not (copy / "model_index.json").exists()
    assert local_folder(f"hf://owner/name@{COMMIT}", ("model_index.json",)) != folder
    before = len(server.asked)
    assert local_folder("hf://owner/name", ("vae/",)) == copy
    assert len(server.asked) == before, "what is there is not asked for again"
    (copy / "vae/config.json").unlink()
    local_folder("hf://owner/name", ("vae/",))
    assert server.asked[before:]
    assert all(COMMIT in path for path in server.asked[before:])


def test_a_copy_that_was_cut_later_is_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    place = f"memory://{tmp_path.name}-cut/vae"
    fs, root = fsspec.core.url_to_fs(place)
    fs.makedirs(root)
    head = b'{"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}'
    whole = len(head).to_bytes(8, "little") + head + bytes(16)
    fs.pipe_file(f"{root}/w.safetensors", whole)
    copy = local_folder(place, ("",)) / "w.safetensors"
    copy.write_bytes(whole[:-3])
    assert local_folder(place, ("",)) / "w.safetensors" == copy
    assert copy.read_bytes() == whole


def test_a_tag_is_a_commit(hub):
    assert remote_folders.at_one_commit("hf://owner/name@v1") == f"hf://owner/name@{COMMIT}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("hf://owner/none", r"^cannot read hf://owner/none: there is no such repository, or it is private"),
        ("hf://owner/name@old", r"^cannot read hf://owner/name@old: the repository has no such revision$"),
        ("hf://owner/gated", r"is gated: accept its licence at https://huggingface.co/owner/gated and set HF_TOKEN$"),
        ("hf://owner", r"a repository of the hub is hf://owner/name"),
    ],
)
def test_what_may_not_be_read_is_one_line(hub, url, message):
    with pytest.raises(CheckpointError, match=message):
        local_folder(url, ("",))


def test_a_gated_repository_is_told_before_a_network_is_built(hub):
    look_at_weights("hf://owner/name", "Teacher.checkpoint")
    for url, message in {"closed": "it is gated: accept its licence", "none": "hf://owner/none"}.items():
        with pytest.raises(CheckpointError, match=message):
            look_at_weights(f"hf://owner/{url}", "Teacher.checkpoint")


def test_a_file_of_a_repository_is_one_at_a_commit(hub):
    server, _ = hub
    path = local_file("hf://owner/name@v1/vae/config.json")
    assert path.read_text() == '{"a": 1}'
    assert COMMIT in server.asked[-1]
    digest = hashlib.sha256(b'{"a": 1}').hexdigest()
    before = len(server.asked)
    assert local_file(f"hf://owner/name@{COMMIT}/vae/config.json", digest) == path
    assert len(server.asked) == before, "what is there is not asked for again"
    with pytest.raises(CheckpointError, match=r"vae/config.json has the sha256 .*, not 00; it was fetched twice"):
        local_file(f"hf://owner/name@{COMMIT}/vae/config.json", "00")
    with pytest.raises(
        CheckpointError, match=r"is gated: accept its licence at https://huggingface.co/owner/gated and"
    ):
        local_file("hf://owner/gated/x.safetensors")
    with pytest.raises(CheckpointError, match=r"a file of the hub is hf://owner/name/path"):
        local_file("hf://owner/name")


def test_other_places_and_missing_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    memory = fsspec.filesystem("memory")
    memory.pipe("/models/small/vae/config.json", b"{}")
    copy = local_folder("memory://models/small", ("vae/",))
    assert (copy / "vae/config.json").read_bytes() == b"{}"
    with pytest.raises(CheckpointError, match=r"^there is no folder memory://models/none$"):
        local_folder("memory://models/none", ("",))
    with pytest.raises(CheckpointError, match=r"^there is no folder .*nowhere$"):
        local_folder(str(tmp_path / "nowhere"), ("",))


def test_no_weights_are_fetched_twice():
    there = [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "text_encoder/pytorch_model.bin",
        "text_encoder/flax_model.msgpack",
        "tokenizer/merges.txt",
        "sd_xl_base_1.0.safetensors",
        "README.md",
    ]
    assert wanted(there, ("unet/", "text_encoder/")) == [there[0], there[1], there[5]]
    assert wanted(there, ("tokenizer/merges.txt",)) == [there[7]]


def test_a_pipeline_of_the_hub_is_read(tmp_path, monkeypatch):
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    from tests.pretrained.pipelines.cases import CASES

    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    CASES["StableDiffusionPipeline"].make().save_pretrained(tmp_path / "pipeline")
    with Hub(tmp_path / "pipeline") as server:
        serve(server, monkeypatch)
        far = read("hf://owner/name")
    near = read(str(tmp_path / "pipeline"))
    assert far.state.keys() == near.state.keys()
    assert all(torch.equal(value, near.state[name]) for name, value in far.state.items())


class Web:
    """A web server on this machine: its files, and whether it says when they changed."""

    def __init__(self, tells=True):
        self.files, self.fetched = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.answer()

            def do_GET(self):
                outer.fetched.append(self.path)
                self.wfile.write(self.answer())

            def answer(self):
                content = outer.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                if tells and content is not None:
                    self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
                self.end_headers()
                return content or b""

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()


def test_weights_that_were_replaced_at_their_url_are_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    with Web() as web:
        web.files["/w.bin"] = b"the first"
        assert local_file(f"{web.url}/w.bin").read_bytes() == b"the first"
        assert local_file(f"{web.url}/w.bin").read_bytes() == b"the first"
        assert web.fetched == ["/w.bin"]
        web.files["/w.bin"] = b"the other"  # of the same length
        assert local_file(f"{web.url}/w.bin").read_bytes() == b"the other"
        assert len(web.fetched) == 2
        pinned = hashlib.sha256(b"the other").hexdigest()
        web.files["/w.bin"] = b"the third"
        assert local_file(f"{web.url}/w.bin", pinned).read_bytes() == b"the other", "a checksum says more"
    assert local_file(f"{web.url}/w.bin").read_bytes() == b"the other", "nobody answers: what is there is taken"


def test_a_server_that_tells_nothing_is_asked_for_weights_once(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    with Web(tells=False) as web:
        web.files["/w.bin"] = b"the first"
        for _ in range(2):
            assert local_file(f"{web.url}/w.bin").read_bytes() == b"the first"
        assert web.fetched == ["/w.bin"]


def test_a_file_of_a_folder_that_was_replaced_is_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    place = f"memory://{tmp_path.name}-replaced/vae"
    fs, root = fsspec.core.url_to_fs(place)
    fs.makedirs(root)
    for name in ("a.json", "b.json"):
        fs.pipe_file(f"{root}/{name}", b"[1]")
    copy = local_folder(place, ("",))
    kept = (copy / "a.json").stat().st_mtime_ns
    fs.rm(f"{root}/b.json")
    fs.pipe_file(f"{root}/b.json", b"[2]")
    remote_folders._listing.cache_clear()  # another process
    assert (local_folder(place, ("",)) / "b.json").read_bytes() == b"[2]"
    assert (copy / "a.json").stat().st_mtime_ns == kept, "the others are not fetched again"


def test_a_file_that_is_listed_and_not_there_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("REALUID_CACHE", str(tmp_path / "cache"))
    place = f"memory://{tmp_path.name}-gone/vae"
    fs, root = fsspec.core.url_to_fs(place)
    fs.makedirs(root)
    fs.pipe_file(f"{root}/a.json", b"[1]")
    assert (local_folder(place, ("",)) / "a.json").exists()  # its listing is kept for this process
    fs.rm(f"{root}/a.json")
    next((tmp_path / "cache").rglob("a.json")).unlink()
    with pytest.raises(CheckpointError, match=r"vae lists a.json, and there is no such file$"):
        local_folder(place, ("",))
