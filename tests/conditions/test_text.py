"""The text encoder whose weights lie in a package."""

import numpy as np
import pytest
import torch

from realuid.conditions import text
from realuid.conditions.text import WordLlama
from realuid.data.builtin import captions
from realuid.utils.errors import RunError

pytest.importorskip("wordllama")
safetensors = pytest.importorskip("safetensors.numpy")
tokenizers = pytest.importorskip("tokenizers")


def test_tokens_and_their_embeddings():
    """Against the package's own files, read another way."""
    weights, tokens = WordLlama()._files()
    table = safetensors.load_file(weights)["embedding.weight"]
    tokenizer = tokenizers.Tokenizer.from_file(str(tokens))
    prompts = ["a handwritten seven", "quatre", "Fünf, von Hand geschrieben", "x"]
    condition = WordLlama(length=5)(prompts)
    assert condition["text"].dtype == torch.float16
    for row, prompt in enumerate(prompts):
        ids = tokenizer.encode(prompt, add_special_tokens=False).ids[:5]
        expected = np.zeros((5, 256), np.float16)
        expected[: len(ids)] = table[ids]
        assert np.array_equal(condition["text"][row].numpy(), expected)
        assert condition["mask"][row].tolist() == [i < len(ids) for i in range(5)]


def test_prompts_are_independent_and_in_their_order():
    encoder = WordLlama(length=8)
    prompts = ["one", "a much longer prompt than the others are", "", "trois"]
    together = encoder(prompts)
    for row, prompt in enumerate(prompts):
        alone = encoder([prompt])
        for name in together:
            assert torch.equal(together[name][row], alone[name][0])
    assert not together["mask"][2].any()
    assert not together["text"][2].any()
    assert encoder([])["text"].shape == (0, 8, 256)


def test_fields_are_what_it_gives():
    for length in (1, 16):
        encoder = WordLlama(length=length)
        condition = encoder(["seven", "eight of them"])
        assert {field.name for field in encoder.fields} == set(condition)
        for field in encoder.fields:
            assert condition[field.name].shape == (2, *field.shape)
            assert condition[field.name].dtype == field.torch_dtype


def test_the_checksum_stands_for_the_answers(tmp_path, monkeypatch):
    assert WordLlama(length=4).checksum == WordLlama(length=4).checksum != WordLlama(length=5).checksum
    files = list(WordLlama()._files())
    copies = []
    for file in files:
        copies.append(tmp_path / file.name)
        copies[-1].write_bytes(file.read_bytes())
    before = WordLlama(length=4).checksum
    monkeypatch.setattr(WordLlama, "_files", lambda self: tuple(copies))
    assert WordLlama(length=4).checksum == before
    copies[0].write_bytes(copies[0].read_bytes()[:-1] + b"?")
    assert WordLlama(length=4).checksum != before


def test_the_package_may_be_missing(monkeypatch):
    monkeypatch.setattr(text.importlib.util, "find_spec", lambda name: None)
    for ask in (lambda: WordLlama().checksum, lambda: WordLlama()(["x"])):
        with pytest.raises(RunError, match=r"pip install realuid\[text\]"):
            ask()
    with pytest.raises(ValueError, match="length must be at least 1"):
        WordLlama(length=0)


def test_held_out_prompts_are_no_captions():
    """Of any digit, in any language; and a caption names one digit."""
    known = {digit: set(captions.training(digit)) for digit in range(10)}
    everything = set().union(*known.values())
    for digit in range(10):
        assert not everything & set(captions.held_out(digit))
        assert len(captions.held_out(digit)) == 7
        for other in range(digit):
            assert not known[digit] & known[other]
