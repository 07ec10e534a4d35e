"""Where the package asks an object what it is, and where it speaks of class labels: counted, with a reason each.

Contracts, tables and protocols say what an object can do. A condition is any set of named tensors, and a class label is
one of its fields. A place that is new here is a mistake, or has a reason of its own to be added.
"""

import ast
import re
from collections import Counter

from tests.docs.blocks import ROOT

PROBES = {
    "benchmarks/overhead.py": (1, "the methods that a stopwatch is put around are told by name"),
    "config/registry.py": (2, "what a module's __all__ names; class attributes that plain components need not have"),
    "networks/adapter.py": (2, "a factory, and an attribute of an answer, that the user names in a gin file"),
    "pretrained/conventions.py": (
        1,
        "a class by its name in our own table, so that its module is imported when needed",
    ),
    "training/precision.py": (1, "torch.cpu.get_capabilities, which older versions of torch lack"),
    "utils/libraries.py": (1, "a class of diffusers or transformers by its name in a file or in our table"),
    "utils/remote.py": (3, "errors of aiohttp, requests and botocore, none of which need be installed"),
}

LABELS = {
    "a data set's labels, their number, counts and names, from files to batches": """
        data/buckets.py data/builtin/sets.py data/corrupted.py data/dataset.py data/memory.py data/mixed.py
        data/pairs.py data/preparation/conversion.py data/preparation/prepare.py data/preparation/tasks.py
        data/several.py data/shard_set.py data/shards/decode.py data/shards/index.py data/shards/layout.py
        data/shards/reader.py data/shards/repair.py data/shards/stored.py data/shards/writer.py
        data/sources/arrays.py data/sources/base.py data/sources/files.py data/sources/opening.py
        data/sources/pairs.py data/sources/parquet.py data/sources/part.py data/sources/published.py
        data/sources/shards.py data/sources/split_names.py data/sources/tables.py data/streaming.py
        commands/make_shards.py jobs/make_shards.py jobs/buckets_gin.py jobs/recipe.py
        benchmarks/assembly.py benchmarks/data.py benchmarks/readers.py benchmarks/reading_sets.py check/rehearsal.py
        check/small.py""",
    "the field `label` itself": "conditions/__init__.py conditions/condition.py conditions/fields.py",
    "the argument `classes` of networks that read labels": """
        networks/adapter.py networks/base.py networks/dit.py networks/edm2_unet.py networks/edm_layers.py
        networks/edm_unet.py networks/mlp.py networks/unet.py""",
    "how many labels a checkpoint of another project reads": """
        pretrained/conventions.py pretrained/description.py pretrained/diffusers.py pretrained/dit.py pretrained/edm.py
        pretrained/guided.py pretrained/loading.py pretrained/pipelines/reading.py jobs/runs.py""",
    "labels are drawn by their frequencies, and shown or asked for one after another": """
        training/grids.py training/loop.py training/method.py training/randomness.py training/trainer.py
        evaluation/draws.py evaluation/inputs.py commands/sample.py jobs/sample.py export/student.py""",
    "an exported student's labels": "export/card.py export/folder.py export/pipeline.py export/programs.py",
    "kinds of drawn shapes, which come in turn": "data/builtin/shapes.py",
    "a coupling within classes": "paths/couplings.py",
    "classifiers, and metrics by class": """
        evaluation/class_share.py evaluation/classwise.py evaluation/evaluator.py evaluation/features.py
        evaluation/label_accuracy.py evaluation/lite0.py evaluation/metric.py evaluation/pretrained_features.py
        evaluation/small_classifier.py reports/results.py""",
    "names of version 0.1": "config/renames.py",
    "Python's classes, and those of a style sheet": """
        config/__init__.py config/registry.py config/spelling.py pretrained/pipelines/__init__.py
        pretrained/pipelines/encoder.py pretrained/pipelines/table.py pretrained/pipelines/tiny.py reports/charts.py""",
}


def files():
    """The package's files: path in the package, and text."""
    folder = ROOT / "realuid"
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.py")}


def probes(text):
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return sum(isinstance(called, ast.Name) and called.id in ("getattr", "hasattr") for called in calls)


def test_probes_are_those_of_the_table():
    found = Counter({name: probes(text) for name, text in files().items()})
    assert dict(+found) == {name: count for name, (count, _) in PROBES.items()}


def test_the_table_of_probes_counts_calls():
    assert probes("getattr(x, 'y')\nif hasattr(x, 'y'): x.getattr\nsetattr(x, 'y', 1)\n'getattr(x)'") == 2


def test_files_that_speak_of_labels_or_classes_are_those_of_the_table():
    there = {name for name, text in files().items() if re.search(r"\bclasses\b|labels", text)}
    listed = [name for names in LABELS.values() for name in names.split()]
    assert len(listed) == len(set(listed))
    assert there == set(listed)
