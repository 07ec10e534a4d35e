"""The components that a gin file may name, and what is known of their arguments."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any, Protocol

from realuid.config._gin import gin
from realuid.config.errors import Wrong, nearest

COMPONENT_MODULES = (
    "realuid.paths.interpolants",
    "realuid.paths.targets",
    "realuid.paths.couplings",
    "realuid.paths.time_samplers",
    "realuid.paths.weights",
    "realuid.paths.preconditioning",
    "realuid.models.matching",
    "realuid.models.guidance",
    "realuid.models.reexpression",
    "realuid.models.exact",
    "realuid.samplers",
    "realuid.losses",
    "realuid.losses.adversarial",
    "realuid.losses.ramp",
    "realuid.models.decoders",
    "realuid.pretrained.pipelines.network",
    "realuid.pretrained.pipelines.encoder",
    "realuid.pretrained.pipelines.decoder",
    "realuid.pretrained.pipelines.autoencoder",
    "realuid.pretrained.pipelines.grids",
    "realuid.pretrained.pipelines.guidance",
    "realuid.distillation.teachers",
    "realuid.distillation.students",
    "realuid.conditions.fields",
    "realuid.conditions.text",
    "realuid.conditions.caption",
    "realuid.networks.unet",
    "realuid.networks.edm_unet",
    "realuid.networks.edm2_unet",
    "realuid.networks.dit",
    "realuid.networks.adapter",
    "realuid.networks.mlp",
    "realuid.networks.lora",
    "realuid.data.memory",
    "realuid.data.streaming",
    "realuid.data.prefetched",
    "realuid.data.augment",
    "realuid.data.degradations",
    "realuid.data.pairs",
    "realuid.data.corrupted",
    "realuid.data.mixed",
    "realuid.data.buckets",
    "realuid.data.latents",
    "realuid.data.encoded_latents",
    "realuid.data.encoded",
    "realuid.evaluation.small_classifier",
    "realuid.evaluation.pretrained_features",
    "realuid.evaluation.clip",
    "realuid.evaluation.open_clip",
    "realuid.evaluation.frechet",
    "realuid.evaluation.classwise",
    "realuid.evaluation.kernel",
    "realuid.evaluation.inception_score",
    "realuid.evaluation.class_share",
    "realuid.evaluation.label_accuracy",
    "realuid.evaluation.prompts",
    "realuid.evaluation.neighbours",
    "realuid.evaluation.paired",
    "realuid.evaluation.evaluator",
    "realuid.training.loggers",
    "realuid.training.checkpointing",
    "realuid.training.compute",
    "realuid.training.parallelism",
    "realuid.training.ema",
    "realuid.training.optimizers",
    "realuid.training.adam8bit",
    "realuid.distillation.teacher_training",
    "realuid.distillation.warm_start",
    "realuid.distillation.distillation",
    "realuid.training.trainer",
)

GINS_OWN = "gin."
"""How the selectors of what gin itself registers begin."""
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameter:
    """An argument of a component; `free` if a run may be resumed with another value of it, `code` if its value names
    a class or function to call."""

    hint: Any
    default: Any
    free: bool
    code: bool


@dataclass(frozen=True)
class Kind:
    """A registered component: its shortest unambiguous name, gin's full selector, and the class or function itself."""

    name: str
    selector: str
    target: Any

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        return _parameters(self.target)

    @property
    def produces(self) -> Any:
        """The type of what `@Name()` gives."""
        return self.target if inspect.isclass(self.target) else _hints(self.target).get("return", Any)


def register_components() -> None:
    """Registers every component of the project with gin, under the names `realuid.<part>.<Class>`.

    Registration leaves the classes as they are. Raises ValueError for two components of one name and TypeError for a
    component that takes **kwargs, which would swallow misspelt bindings.
    """
    for name in COMPONENT_MODULES:
        _register_core(name)


@cache
def _register_core(name: str) -> None:
    group = ".".join(name.split(".")[:2])
    for component in _unregistered(name):
        if namesakes := gin.config._REGISTRY.matching_selectors(component.__name__):
            raise ValueError(f"{name}.{component.__name__} has the name of {namesakes[0]}; names must be unique")
        gin.register(component, module=group)


def is_registered(name: str) -> bool:
    """Whether gin knows a component of this name by now."""
    return bool(name) and bool(gin.config._REGISTRY.matching_selectors(name))


def register_plugin(name: str) -> None:
    """Imports a user's module; what its `__all__` lists and it has not registered itself is registered like our own.

    Raises ImportError, and TypeError for a component that takes **kwargs.
    """
    for component in _unregistered(name):
        gin.register(component, module=component.__module__)


def _unregistered(module_name: str) -> list[type]:
    module = importlib.import_module(module_name)
    listed = [getattr(module, name) for name in vars(module).get("__all__", ())]
    components = [thing for thing in listed if _is_component(thing) and thing not in gin.config._INVERSE_REGISTRY]
    for component in components:
        _parameters(component)
    return components


def _is_component(thing: Any) -> bool:
    return (
        inspect.isclass(thing)
        and not inspect.isabstract(thing)
        and not issubclass(thing, (Enum, BaseException))
        and not is_protocol(thing)
    )


def is_protocol(thing: type) -> bool:
    """Whether a class is itself a protocol, not one that keeps to it."""
    return Protocol in thing.__bases__


@cache
def _parameters(target: Any) -> Mapping[str, Parameter]:
    signature = inspect.signature(target).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in signature):
        raise TypeError(f"{target.__module__}.{target.__qualname__} takes **kwargs; give it named arguments")
    hints = _hints(target)
    free, code = (_stated(target, name) for name in ("free_on_resume", "names_code"))
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        parameter.name: Parameter(
            hints.get(parameter.name, Any), parameter.default, parameter.name in free, parameter.name in code
        )
        for parameter in signature
        if parameter.kind in named
    }


def _stated(target: Any, name: str) -> frozenset[str]:
    """Names of arguments that a component lists in a class attribute, which plain classes need not have."""
    return getattr(target, name, frozenset())


def _is_dataclass_itself(target: Any) -> bool:
    """Whether its arguments are its fields; a class below a dataclass may have arguments of its own."""
    return dataclasses.is_dataclass(target) and "__dataclass_fields__" in vars(target)


def _hints(target: Any) -> dict[str, Any]:
    if inspect.isclass(target) and not _is_dataclass_itself(target):
        return typing.get_type_hints(target.__init__)
    # A dataclass may inherit fields from another module; only its own annotations know where each one was written.
    return typing.get_type_hints(target)


def find(name: str) -> Kind:
    """The component called `name`. Raises Wrong if there is none, or more than one."""
    matching = gin.config._REGISTRY.matching_selectors(name)
    selectors = [selector for selector in matching if not selector.startswith(GINS_OWN)]
    if len(selectors) > 1:
        raise Wrong(f"{name!r} is the name of several components: {' and '.join(sorted(selectors))}")
    if not selectors:
        raise Wrong(f"there is no component {name!r}{nearest(name, (kind.name for kind in kinds()))}")
    return _kind(selectors[0])


def kinds() -> list[Kind]:
    """Every registered component."""
    return [_kind(selector) for selector in _selectors()]


def _selectors() -> list[str]:
    return [selector for selector, _ in gin.config._REGISTRY.items() if not selector.startswith(GINS_OWN)]


def _kind(selector: str) -> Kind:
    registry = gin.config._REGISTRY
    return Kind(registry.minimal_selector(selector), selector, registry[selector].wrapped)
