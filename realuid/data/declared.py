"""What a recipe declares of a data set against what the set's index says."""

from realuid.data.dataset import Dataset
from realuid.data.decode import Form
from realuid.data.index import ShardIndex, Split
from realuid.errors import DataError

__all__ = ["fitting"]


def fitting(data: Dataset, kind: str, path: str, index: ShardIndex, split: str) -> tuple[Form, Split]:
    """What the samples must be, and the split, once `index` is known to be what `data`, a `kind`, declares.

    Raises:
        DataError: it is not; the line names the argument.
    """
    declared = (*data.shape,)
    form = index.form(channels=declared[0], pairs=data.has_sources)
    if declared != form.shape:
        raise DataError(f"{kind}.shape is {declared}, but '{path}' holds images of shape {form.shape}")
    if data.classes not in (0, form.classes):
        raise DataError(f"{kind}.classes is {data.classes}, but '{path}' has {form.classes} classes")
    if split not in index.splits:
        raise DataError(f"{kind}.split is '{split}', but '{path}' has the splits {', '.join(index.splits)}")
    if not index.splits[split].samples:
        raise DataError(f"{path}: split '{split}' is empty")
    return form, index.splits[split]
