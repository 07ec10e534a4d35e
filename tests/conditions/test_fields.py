"""What data give and networks need."""

import pytest

from realuid.conditions import Field, class_label, classes_of, unmet

TEXT = Field("text", (16, 256), "float16")
MASK = Field("mask", (16,), "bool")


@pytest.mark.parametrize(
    ("needed", "given", "reason"),
    [
        ([], [TEXT], None),
        ([TEXT], [TEXT, MASK], None),
        ([Field("text", (None, 256))], [TEXT], None),  # any number of tokens, and another floating-point type
        ([Field("text", (None, 128))], [TEXT], "needs text [any, 128] float32, but text [16, 256] float16 is given"),
        ([Field("text", (256,))], [TEXT], "needs text [256] float32, but text [16, 256] float16 is given"),
        ([Field("mask", (16,), "int64")], [MASK], "needs mask [16] int64, but mask [16] bool is given"),
        ([Field("mask", (16,))], [MASK], "needs mask [16] float32, but mask [16] bool is given"),
        ([MASK], [], "needs mask [16] bool, which is not given"),
        ([MASK], [TEXT], "needs mask [16] bool, which is not given (text [16, 256] float16 is)"),
        (class_label(10), class_label(10), None),
        (class_label(10), class_label(3), "needs label (10 classes), but label (3 classes) is given"),
        (class_label(10), [], "needs label (10 classes), which is not given"),
        (class_label(0), [], None),
    ],
)
def test_needs(needed, given, reason):
    assert unmet(needed, given) == reason


def test_classes():
    assert classes_of((TEXT, *class_label(7))) == 7
    assert classes_of((TEXT,)) == 0
    assert class_label(0) == ()


@pytest.mark.parametrize(
    "arguments", [{"dtype": "float31"}, {"dtype": "nn"}, {"shape": (-1,)}, {"classes": -1}, {"dtype": "Tensor"}]
)
def test_fields_that_there_are_not(arguments):
    with pytest.raises(ValueError, match=r"no type|negative size"):
        Field("x", **arguments)


def test_shown():
    assert [str(field) for field in (TEXT, MASK, Field("scale"), *class_label(4))] == [
        "text [16, 256] float16",
        "mask [16] bool",
        "scale float32",
        "label (4 classes)",
    ]
