"""What a recipe declares of a set of shards, against what the set's index says."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence

from realuid.conditions import LABEL, Field, class_label, unmet
from realuid.conditions.caption import Caption
from realuid.conditions.text import TextEncoder
from realuid.data.builtin.sets import BUILTIN, SPLIT, absence, ensure
from realuid.data.dataset import Dataset
from realuid.data.shards.decode import Form
from realuid.data.shards.index import ShardIndex, Split, has_index
from realuid.data.shards.location import locate, open_folder, reaching
from realuid.utils import budget
from realuid.utils.errors import DataError, RunError

__all__ = ["Described", "ShardSet"]


@dataclasses.dataclass(frozen=True)
class Described:
    """A split of a set: where it lies, what the index says of it, and what is to be read of each sample."""

    url: str
    index: ShardIndex
    split: Split
    form: Form


class ShardSet(Dataset):
    """One split of a set of shards. What is declared is checked against the index, never adapted to.

    Args:
        path: a built-in set's name, a folder inside `REALUID_DATA`, an absolute path, or any fsspec URL.
        shape: of one image, (C, H, W).
        classes: the number of classes; 0 leaves the data's labels unused.
        split: which part of the data set.
        pairs: whether each sample's source image is read.
        encoder: made the set's text embeddings; its fields are read. None leaves them unread.
        conditions: further fields of the samples' conditions to be read.
    """

    def __init__(
        self,
        *,
        path: str,
        shape: tuple[int, int, int],
        classes: int,
        split: str,
        pairs: bool,
        encoder: TextEncoder | None,
        conditions: Sequence[Field],
    ) -> None:
        self.path, self.shape, self.classes, self.split = path, shape, classes, split
        self.has_sources, self.encoder = pairs, encoder
        self.fields = (*class_label(classes), *(encoder.fields if encoder else ()), *conditions)

    @property
    def conditions(self) -> tuple[Field, ...]:
        return self.fields

    def made_by(self) -> Mapping[str, str]:
        url = locate(self.path)
        return ShardIndex.read(url).encoder if has_index(url) else {}

    def stated_checksum(self) -> str | None:
        url = locate(self.path)
        split = ShardIndex.read(url).splits.get(self.split) if has_index(url) else None
        if split is None:
            return None
        return hashlib.sha256("".join(shard.sha256 for shard in split.shards).encode()).hexdigest()

    def missing(self) -> str | None:
        line = absence(self.path)
        if line is None:
            try:
                self._fitting(locate(self.path))
            except RunError as error:  # the text encoder is not there
                return str(error)
        elif self.path in BUILTIN:
            recipe = BUILTIN[self.path]
            self._check_declared(recipe.shape, len(recipe.classes), [SPLIT])
        return line

    def _check_declared(self, shape: tuple[int, ...] | None, classes: int, splits: Iterable[str]) -> None:
        kind, path = type(self).__name__, self.path
        if self.has_images and tuple(self.shape) != shape:
            raise DataError(f"{kind}.shape is {tuple(self.shape)}, but '{path}' holds images of shape {shape}")
        if self.classes not in (0, classes):
            raise DataError(f"{kind}.classes is {self.classes}, but '{path}' has {classes} classes")
        if self.split not in splits:
            raise DataError(f"{kind}.split is '{self.split}', but '{path}' has the splits {', '.join(splits)}")

    def _described(self) -> Described:
        """The declared split, made first if it belongs to a built-in set that is not there.

        Raises:
            DataError: there is none, or it is not as declared.
        """
        return self._fitting(ensure(self.path))

    def _fitting(self, url: str) -> Described:
        """Compares; the line of an error names the argument."""
        kind, path, index = type(self).__name__, self.path, ShardIndex.read(url)
        form = index.form(channels=self.shape[0], pairs=self.has_sources)
        if self.has_images and form.shape is None:
            raise DataError(f"'{path}' holds conditions without images: bind @Prompts() in place of @{kind}()")
        self._check_declared(form.shape, form.classes, index.splits)
        wanted = [field for field in self.fields if field.name != LABEL and not isinstance(field, Caption)]
        given = {field.name: field for field in form.conditions}
        for field in wanted:
            if given.get(field.name) != field:  # also of another floating-point type: batches are what is declared
                reason = unmet([field], form.conditions) or f"needs {field}, but {given[field.name]} is given"
                raise DataError(f"{kind}.conditions: {reason} by '{path}'")
        self._check_encoder(index)
        if not index.splits[self.split].samples:
            raise DataError(f"{path}: split '{self.split}' is empty")
        self._check_counts(url, index)
        names = {field.name for field in wanted}
        form = dataclasses.replace(
            form,
            shape=form.shape if self.has_images else None,
            conditions=tuple(field for field in form.conditions if field.name in names),
            caption=self._caption,
        )
        return Described(url, index, index.splits[self.split], form)

    @property
    def _caption(self) -> Caption | None:
        """The field of the captions, if they are read."""
        return next((field for field in self.fields if isinstance(field, Caption)), None)

    def _check_encoder(self, index: ShardIndex) -> None:
        """Makes sure that the set's text embeddings are those of the encoder that is bound."""
        if self.encoder is None:
            return
        kind, made_by = type(self).__name__, index.encoder.get("text", "")
        if not made_by:
            raise DataError(f"{kind}.encoder: the index of '{self.path}' does not say what made its text embeddings")
        if made_by != f"{self.encoder.name} {self.encoder.checksum}":
            name, _, checksum = made_by.rpartition(" ")
            raise DataError(
                f"{kind}.encoder = {self.encoder.name} ({self.encoder.checksum[:12]}), but the text embeddings of "
                f"'{self.path}' were made by {name} ({checksum[:12]})"
            )

    def _check_counts(self, url: str, index: ShardIndex) -> None:
        """So many samples that their order alone takes long are believed once the shards are as long as the index
        says."""
        split = index.splits[self.split]
        if 8 * split.samples <= budget.FREE:
            return
        fs, root = open_folder(url)
        with reaching(self.path, "listed"):
            held = {str(entry["name"]).rpartition("/")[2]: entry["size"] for entry in fs.ls(root, detail=True)}
        for shard in split.shards:
            if held.get(shard.file, shard.bytes) != shard.bytes:
                raise DataError(f"{self.path}/{shard.file} has {held[shard.file]} bytes, the index says {shard.bytes}")
            if shard.file not in held and "/" not in shard.file:
                raise DataError(f"{self.path}/{shard.file} is in the index but not there")
