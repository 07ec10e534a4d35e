"""What is shown and measured of a method: grids of samples, and values of every role."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from loguru import logger
from torch import Tensor

from realuid import __version__
from realuid.data.buckets import Buckets, seed_of
from realuid.data.dataset import Dataset
from realuid.data.decoded import Decoded
from realuid.evaluation.evaluator import Evaluator
from realuid.evaluation.metric import OF_FEATURES, Metric, fields_of
from realuid.evaluation.parts import one_size_for
from realuid.evaluation.store import ValueStore
from realuid.models.decoders import Decoder
from realuid.networks.base import Network
from realuid.training.best import keep_best
from realuid.training.grids import Grids
from realuid.training.method import Generator, Method
from realuid.training.run_folder import RunFolder
from realuid.training.world import World
from realuid.utils.errors import DataError, tolerated

__all__ = ["Assessment"]

Kept = Callable[[Callable[[], Tensor]], Tensor]
"""Gives features that are kept somewhere, or those that it is told how to make."""


class Assessment:
    """Judges what a method can sample. Student and teacher see the same noise and conditions.

    Args:
        method: started.
        data: opened.
        evaluator: None for grids only.
        world: the processes; they share the images to generate, go through everything together, and the first writes.
        digests: of all that a role's samples depend on beside weights and data, by role; values of a role without one
            are measured anew whenever they are asked for.

    Raises:
        DataError, CheckpointError: if the evaluator cannot judge models on these data.
    """

    def __init__(
        self,
        method: Method,
        data: Dataset,
        evaluator: Evaluator | None,
        world: World,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        self.method, self.data, self.evaluator = method, data, evaluator
        self.world, self.digests = world, digests or {}
        self.grids = Grids(method, data, world)
        self._prepared = False
        if evaluator is not None:
            self.judged = self._judged(evaluator)
            self.pictures = _shown(self.judged, method.decoder)
            evaluator.check(self.pictures)
            if not self.answers(self.role) and fields_of(evaluator.ranking.reads):
                raise DataError(
                    f"{type(evaluator.ranking).__name__} reads what samples were told, and the {self.role} is told "
                    "nothing: bind another metric as the first of Evaluator.metrics"
                )

    def _judged(self, evaluator: Evaluator) -> tuple[Dataset, ...]:
        """The sets, of one size each, whose images samples are compared with: of several sizes all that can be."""
        parts = self.data.parts
        if len(parts) == 1:
            return parts
        keeps = self.method.coupling.keeps_source
        reason = one_size_for(evaluator.features, evaluator.metrics, pairs=keeps)
        if reason is None:
            logger.info("metrics see samples of all {} sizes, by the sets' numbers of images", len(parts))
            return parts
        logger.warning("metrics see samples of {} alone, the main of {} sizes: {}", parts[0].shape, len(parts), reason)
        return parts[:1]

    @property
    def role(self) -> str:
        """The role that the run is about."""
        return next(iter(self.method.networks()))

    def ready(self) -> Evaluator:
        """The evaluator, its network and reference prepared on first use."""
        assert self.evaluator is not None
        if not self._prepared:
            with self.world.main_first():  # who trains a classifier and keeps features
                self.evaluator.prepare(self.pictures, self.world.device, self.world.rank, self.world.size)
            self._prepared = True
        return self.evaluator

    def save_grid(self, folder: RunFolder, name: str, role: str | None = None) -> None:
        """samples/NAME.png: the grid of the first (or given) role's samples."""
        self.grids.save(folder, name, self.method.generators()[role or self.role])

    def answers(self, role: str) -> bool:
        """Whether a role's samples answer to their condition: a source image shows it, or the network is told."""
        if not self.data.conditions:
            return False
        if not self.method.coupling.gaussian_source:
            return True
        networks = [part for part in self.method.networks()[role].modules() if isinstance(part, Network)]
        return not networks or any(network.conditions for network in networks)  # a closed form states nothing

    def metrics(self, role: str, *, ranking: bool = False) -> list[Metric]:
        """What is measured of a role; `ranking`: the ranking metric and the cheap ones alone."""
        return self.ready().chosen(ranking=ranking, conditioned=self.answers(role))

    def measure(
        self, role: str, generator: Generator, *, quick: bool = False, ranking: bool = False, kept: Kept | None = None
    ) -> dict[str, float]:
        """What is measured of a role, `<role>_<name>`: the evaluator's metrics and, of pairs, its pair metrics.

        Args:
            role: whose samples `generator` makes.
            generator: of the samples.
            quick: of fewer images, as during training.
            ranking: see `metrics`.
            kept: gives the samples' features; not asked where images are read as well.
        """
        evaluator, metrics = self.ready(), self.metrics(role, ranking=ranking)
        pairs = self.method.coupling.keeps_source
        inputs = [self.grids.inputs(seed_of(evaluator.seed, k), one) for k, one in enumerate(self.judged)]

        def made() -> dict[str, Tensor]:
            return evaluator.generate(self.grids.pictures(generator), inputs, metrics, quick=quick, pairs=pairs)

        names = {name for metric in metrics for name in metric.reads}
        if kept is None or pairs or "images" in names or not names & OF_FEATURES:
            samples = made()
        else:
            features = kept(lambda: made()["features"])
            samples = {"features": features} | evaluator.told(inputs, fields_of(names), quick=quick)
        values = evaluator.measure(metrics, samples, quick=quick)
        if pairs:
            values |= evaluator.measure_pairs(samples["images"], quick=quick)
        return {f"{role}_{name}": value for name, value in values.items()}

    def quick(self, folder: RunFolder, step: int, images: int, config: str) -> dict[str, float]:
        """The first role's values during the run, of every average: `<role>_<name>` of the first and
        `<role>_<name>@<average>` of the others, with `_of_<count>` behind the name where fewer images are generated
        than at the end. The checkpoint of the best so far is kept, see `RunFolder.best`."""
        if self.evaluator is None:
            return {}
        evaluator, role = self.ready(), self.role
        suffix = "" if evaluator.quick_count == evaluator.count else f"_of_{evaluator.quick_count}"
        line: dict[str, float] = {}
        ranked: dict[str, float] = {}
        for number, average in enumerate(self.method.ema.names):
            values = self.measure(role, self.method.generators(average)[role], quick=True, ranking=True)
            ranked[average] = values[self._ranked(role)]
            line |= {f"{name}{suffix}{f'@{average}' if number else ''}": value for name, value in values.items()}
        self._keep_best(folder, ranked, {"step": step, "images": images, "config": config})
        return line

    def final(self, folder: RunFolder, step: int, images: int, config: str) -> dict[str, Any]:
        """All roles' grids and values, the student's for every average, baselines, and the provenances that belong to
        every value."""
        generators = self.method.generators()
        for role in generators:
            logger.info("a grid of samples of the {}", role)
            with tolerated("the grid of samples"):
                self.save_grid(folder, role, role)
        if self.evaluator is None:
            return {}
        logger.info("evaluating")
        evaluator, first = self.ready(), self.role
        result: dict[str, Any] = {}
        provenances: dict[str, Any] = {}
        for role, generator in generators.items():
            subject = self.subject(role)
            result |= self._measured_once(role, generator, subject)
            provenances |= evaluator.provenances(role, self.metrics(role), **subject)
        ranked = {self.method.ema.names[0]: result[self._ranked(first)]}
        if first == "student":  # one step an image: the other averages cost little
            for average in self.method.ema.names[1:]:
                values = self.measure(first, self.method.generators(average)[first], ranking=True)
                ranked[average] = values[self._ranked(first)]
            result[f"{self._ranked(first)}_by_ema"] = ranked
        if evaluator.quick_count == evaluator.count:
            self._keep_best(folder, ranked, {"step": step, "images": images, "config": config})
        if not self.method.coupling.gaussian_source:  # what the source images themselves are worth
            result |= self._measured_once("source", lambda x0, condition, noise: x0, self._model("source"))
        best = self.world.on_main(lambda: folder.read_json(folder.best))
        return result | evaluator.baselines() | ({"best": best} if best else {}) | {"provenance": provenances}

    def subject(self, role: str) -> dict[str, Any]:
        """What is measured of a role, for the provenance of its values: how it is sampled, and all it depends on."""
        return {**self.method.sampling(role), **self._model(role)}

    def _model(self, role: str) -> dict[str, Any]:
        return {"model": self.digests[role]} if role in self.digests else {}

    def _measured_once(self, role: str, generator: Generator, subject: Mapping[str, Any]) -> dict[str, float]:
        """The values of a role, as they were measured before, by this run or another, or measured now and kept."""
        evaluator, metrics = self.ready(), self.metrics(role)
        label = {
            "metrics": [evaluator.provenance(metric) | {"names": metric.names} for metric in metrics],
            "pairs": [m.settings() | {"name": m.name} for m in evaluator.pair_metrics]
            if self.method.coupling.keeps_source
            else [],
            "subject": {name: value for name, value in subject.items() if name != "ema"},  # its weights say enough
            "data": self.pictures.checksum,
            "sources": self.data.stated_checksum(),
            "realuid": __version__,
        }
        store, known = ValueStore(evaluator.folder), "model" in subject
        before = self.world.on_main(lambda: store.read(label)) if known else None
        if before is not None:
            logger.info("the {} was measured before: its values are read", role)
            return {f"{role}_{name}": value for name, value in before.items()}
        logger.info("evaluating the {}: {:,} images", role, evaluator.count)
        values = self.measure(role, generator)
        if known and self.world.main:
            store.keep(label, {name.removeprefix(f"{role}_"): value for name, value in values.items()})
        return values

    def _keep_best(self, folder: RunFolder, ranked: dict[str, float], state: dict[str, Any]) -> None:
        name, averages = self._ranked(self.role), self.method.ema.whole_state_dict
        keep_best(folder, self.world, self.ready(), name=name, ranked=ranked, state=state, averages=averages)

    def _ranked(self, role: str) -> str:
        """Name of the value that averages and checkpoints are ranked by."""
        return f"{role}_{self.ready().ranking.names[0]}"

    def curve(self, values: dict[str, Any]) -> dict[str, float]:
        """The last points of the curves that `quick` draws, out of what `final` gave: those of the role that trains."""
        if self.evaluator is None:
            return {}
        role = self.role  # the others' values do not change: they are no curves
        own = {name: x for name, x in values.items() if name.startswith(f"{role}_") and isinstance(x, float)}
        averages = values.get(f"{self._ranked(role)}_by_ema", {})
        return own | {f"{self._ranked(role)}@{name}": x for name, x in list(averages.items())[1:]}


def _shown(sets: Sequence[Dataset], decoder: Decoder | None) -> Dataset:
    """The images of sets as pictures."""
    first, *others = sets if decoder is None else [Decoded(one, decoder) for one in sets]
    return Buckets(sets=(first, *others)) if others else first
