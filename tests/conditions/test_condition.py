"""Conditions as named tensors, row by row; fields, and what keeps some from serving for others."""

import dataclasses

import pytest
import torch

from realuid.conditions import LABEL, Condition, Field, class_label, classes_of, labelled, unmet


def prompts(count=4, seed=0):
    """Embeddings, a mask of their tokens, and a number."""
    generator = torch.Generator().manual_seed(seed)
    return Condition(
        {
            "text": torch.randn(count, 3, 2, generator=generator),
            "mask": torch.rand(count, 3, generator=generator) < 0.5,
            "aesthetic": torch.randn(count, generator=generator),
        }
    )


def same(one, other):
    """Whether both hold the same, with the same fields in the same order and of the same types."""
    alike = [(name, tensor.shape, tensor.dtype) for name, tensor in one.items()]
    alike_too = [(name, tensor.shape, tensor.dtype) for name, tensor in other.items()]
    return alike == alike_too and all(torch.equal(one[name], other[name]) for name in one)


def test_it_is_a_mapping_of_names_to_tensors():
    tensors = dict(prompts())
    condition = Condition(tensors)
    assert list(condition) == ["text", "mask", "aesthetic"]
    assert len(condition) == 3
    assert condition.samples == 4
    assert condition["mask"] is tensors["mask"]
    assert "text" in condition
    assert LABEL not in condition
    assert condition.get("image") is None
    with pytest.raises(KeyError):
        condition["image"]
    assert repr(condition) == "Condition(text [4, 3, 2], mask [4, 3], aesthetic [4])"


def test_it_cannot_be_changed():
    tensors = dict(prompts())
    condition = Condition(tensors)
    del tensors["text"]
    assert "text" in condition
    with pytest.raises(TypeError, match="does not support item assignment"):
        condition["text"] = tensors["mask"]
    with pytest.raises(AttributeError):
        condition.more = 1


@pytest.mark.parametrize("empty", [Condition(), Condition({})])
def test_the_empty_one_stays_empty(empty):
    assert (len(empty), empty.samples, dict(empty), bool(empty)) == (0, None, {}, False)
    rows = torch.tensor([2, 0])
    parts = [empty.take(rows), empty.take(slice(1, 3)), empty.repeated(5, 7), empty.only(["text"]), empty.to("meta")]
    parts += [empty.map(torch.neg), empty.where(torch.tensor([True]), Condition()), Condition.cat([empty, Condition()])]
    assert all(part == {} for part in parts)


def test_a_single_sample_is_one():
    assert bool(prompts(1))
    assert prompts(0).samples == 0


@pytest.mark.parametrize("changed", ["text", "mask", "aesthetic"])
def test_unequal_rows_are_refused(changed):
    tensors = dict(prompts())
    sizes = {name: 5 if name == changed else 4 for name in tensors}
    message = f"the fields of a condition must have one row a sample, got {sizes} rows"
    with pytest.raises(ValueError) as refusal:  # noqa: PT011
        Condition(tensors | {changed: prompts(5)[changed]})
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("rows", "numbers"),
    [
        (torch.tensor([3, 0, 0]), [3, 0, 0]),
        (torch.tensor([True, False, False, True]), [0, 3]),
        (slice(1, 3), [1, 2]),
        (slice(2, None), [2, 3]),
        (torch.tensor([], dtype=torch.int64), []),
    ],
    ids=["numbers", "mask", "slice", "rest", "none"],
)
def test_rows_are_taken_from_every_field(rows, numbers):
    condition = prompts()
    taken = condition.take(rows)
    expected = {name: [tensor[i].tolist() for i in numbers] for name, tensor in condition.items()}
    assert {name: tensor.tolist() for name, tensor in taken.items()} == expected
    assert taken.samples == len(numbers)
    assert [tensor.shape[1:] for tensor in taken.values()] == [tensor.shape[1:] for tensor in condition.values()]


@pytest.mark.parametrize(("start", "count"), [(0, 4), (3, 6), (9, 1), (0, 11)])
def test_samples_are_repeated_from_any_number_on(start, count):
    condition = prompts()
    rows = torch.tensor([(start + i) % 4 for i in range(count)])
    assert same(condition.repeated(start, count), condition.take(rows))


def test_every_tensor_is_changed_alike():
    condition = prompts()
    seen = []
    doubled = condition.map(lambda tensor: seen.append(tensor) or tensor + tensor)
    assert [id(tensor) for tensor in seen] == [id(tensor) for tensor in condition.values()]
    assert all(torch.equal(doubled[name], condition[name] + condition[name]) for name in condition)
    with pytest.raises(ValueError, match="one row a sample"):
        condition.map(lambda tensor: tensor.flatten())


def test_fields_are_chosen_by_name():
    condition = prompts()
    assert same(
        condition.only(["aesthetic", "mask", "image"]), Condition({n: condition[n] for n in ("mask", "aesthetic")})
    )
    assert condition.only([]) == {}
    assert same(condition.only(name for name in ("text",)), Condition({"text": condition["text"]}))


def test_it_is_moved_to_a_device():
    moved = prompts().to("meta")
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}
    assert same(prompts().to(torch.device("cpu"), non_blocking=True), prompts())


def test_samples_of_one_where_a_mask_says_so_and_else_of_another():
    one, other = prompts(seed=1), prompts(seed=2)
    mask = torch.tensor([True, False, False, True])
    mixed = one.where(mask, other)
    for name in one:
        for i, mine in enumerate(mask.tolist()):
            assert torch.equal(mixed[name][i], (one if mine else other)[name][i])
    assert same(one.where(torch.ones(4, dtype=torch.bool), other), one)
    with pytest.raises(KeyError):
        one.where(mask, labelled(torch.zeros(4, dtype=torch.int64)))


def test_conditions_are_joined_in_order():
    parts = [prompts(3, seed=1), prompts(1, seed=2), prompts(2, seed=3)]
    whole = Condition.cat(parts)
    assert whole.samples == 6
    for part, rows in zip(parts, (slice(0, 3), slice(3, 4), slice(4, 6)), strict=True):
        assert same(whole.take(rows), part)
    assert same(Condition.cat(parts[:1]), parts[0])


@pytest.mark.parametrize(
    ("other", "shown"),
    [
        (Condition({"text": torch.zeros(2, 3, 2)}), r"Condition\(text \[2, 3, 2\]\)"),
        (Condition(), r"Condition\(\)"),
        (labelled(torch.zeros(2, dtype=torch.int64)), r"Condition\(label \[2\]\)"),
    ],
)
def test_conditions_of_different_fields_are_not_joined(other, shown):
    mine = r"Condition\(text \[4, 3, 2\], mask \[4, 3\], aesthetic \[4\]\)"
    with pytest.raises(ValueError, match=f"conditions of different fields cannot be joined: {mine}, {shown}$"):
        Condition.cat([prompts(), other])
    with pytest.raises(ValueError, match="cannot be joined"):
        Condition.cat([other, prompts()])


def test_labels():
    labels = torch.tensor([2, 0, 1])
    condition = labelled(labels)
    assert list(condition) == [LABEL] == ["label"]
    assert condition[LABEL] is labels


FIELDS = {
    "label (10 classes)": Field("label", dtype="int64", classes=10),
    "text [16, 256] float32": Field("text", (16, 256)),
    "text [any, 256] bfloat16": Field("text", (None, 256), "bfloat16"),
    "mask [16] bool": Field("mask", (16,), "bool"),
    "guidance float32": Field("guidance"),
}


@pytest.mark.parametrize("shown", FIELDS)
def test_fields_as_messages_show_them(shown):
    assert str(FIELDS[shown]) == shown


def test_what_a_field_says():
    field = Field("text", (None, 256), "bfloat16")
    assert (field.torch_dtype, field.sizes, field.classes) == (torch.bfloat16, (256,), 0)
    assert Field("mask", (16,), "bool").sizes == (16,)
    assert field == Field("text", (None, 256), "bfloat16")
    assert len({field, Field("text", (None, 256), "bfloat16"), Field("text", (None, 255), "bfloat16")}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        field.name = "other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "float33"}, "torch has no type 'float33'"),
        ({"dtype": "nn"}, "torch has no type 'nn'"),  # there is such a thing, and it is no type
        ({"dtype": "Tensor"}, "torch has no type 'Tensor'"),
        ({"shape": (3, -1)}, r"the field 'text' has a negative size: \(3, -1\), 0 classes"),
        ({"classes": -2}, r"the field 'text' has a negative size: \(\), -2 classes"),
    ],
)
def test_fields_that_are_none(arguments, message):
    with pytest.raises(ValueError, match=message):
        Field("text", **arguments)


def test_class_labels_as_fields():
    assert class_label(0) == ()
    assert class_label(7) == (Field("label", dtype="int64", classes=7),)
    assert classes_of(()) == 0
    assert classes_of([Field("text", (4,)), *class_label(7)]) == 7
    assert classes_of([Field("other", dtype="int64", classes=5)]) == 0


TEXT, MASK = Field("text", (16, 256)), Field("mask", (16,), "bool")


@pytest.mark.parametrize(
    ("needed", "given"),
    [
        ((), ()),
        ((), (TEXT,)),
        ((TEXT, MASK), (MASK, TEXT)),
        (class_label(10), (TEXT, *class_label(10))),
        ((TEXT,), (Field("text", (16, 256), "float16"),)),  # floats are cast
        ((Field("text", (None, 256)),), (TEXT,)),
        ((Field("text", (None, None)),), (TEXT,)),
    ],
)
def test_what_is_given_serves(needed, given):
    assert unmet(needed, given) is None


@pytest.mark.parametrize(
    ("needed", "given", "message"),
    [
        (class_label(10), (), "needs label (10 classes), which is not given"),
        (
            class_label(10),
            (TEXT, MASK),
            "needs label (10 classes), which is not given (text [16, 256] float32, mask [16] bool is)",
        ),
        (class_label(10), class_label(3), "needs label (10 classes), but label (3 classes) is given"),
        ((TEXT,), (Field("text", (8, 256)),), "needs text [16, 256] float32, but text [8, 256] float32 is given"),
        ((TEXT,), (Field("text", (256,)),), "needs text [16, 256] float32, but text [256] float32 is given"),
        (
            (Field("text", (None, 256)),),
            (Field("text", (16, 128)),),
            "needs text [any, 256] float32, but text [16, 128] float32 is given",
        ),
        ((MASK,), (Field("mask", (16,)),), "needs mask [16] bool, but mask [16] float32 is given"),
        ((Field("mask", (16,)),), (MASK,), "needs mask [16] float32, but mask [16] bool is given"),
        (
            (Field("tokens", (16,), "int64"),),
            (Field("tokens", (16,), "int32"),),
            "needs tokens [16] int64, but tokens [16] int32 is given",
        ),
        (
            (TEXT, *class_label(2), MASK),
            (TEXT,),
            "needs label (2 classes), which is not given (text [16, 256] float32 is)",
        ),
    ],
)
def test_what_keeps_it_from_serving(needed, given, message):
    assert unmet(needed, given) == message
    assert unmet(iter(needed), iter(given)) == message
