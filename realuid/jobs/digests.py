"""A short digest of everything in a configuration that the samples of a role depend on."""

from __future__ import annotations

import hashlib
from functools import reduce

from realuid import config as configuration
from realuid.config import Config
from realuid.config.assembly import Component
from realuid.config.outlines import plan
from realuid.training.method import Method

__all__ = ["role_digests"]


def role_digests(config: Config, method: Method) -> dict[str, str]:
    """For each role a digest of the components that make its samples, with all their arguments.

    These are model, sampler, guidance, decoder, and the data set that gives sources and conditions. Weights and their
    place are not part of it.

    The same components in two assemblies have the same digest, as those of a teacher in its own run and in a
    distillation.

    Args:
        config: that `method` was built from.
        method: names the components of each role, see `Method.components`.
    """
    root = plan(config)
    paths = {role: [("method", *path.split(".")) for path in found] for role, found in method.components.items()}
    digests = {}
    for role, own in {**paths, "source": []}.items():
        lines = []
        for path in (*own, ("data",)):
            if _there(root, path):
                lines += configuration.part(config, *path)
        digests[role] = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    return digests


def _there(root: Component, path: tuple[str, ...]) -> bool:
    """Whether there is a component, and not None, at the end of a path of arguments."""
    found = reduce(
        lambda place, name: place.arguments[name].value if isinstance(place, Component) else None, path, root
    )
    return isinstance(found, Component)
