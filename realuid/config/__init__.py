"""Gin files in, an assembled program out: the project's only meeting with gin.

    config = load(["gin/smoke.gin"], ["RealUID.alpha = 0.94"])
    print(tree(config))
    trainer = build(config)

Components are plain classes; `register_components` tells gin their names. Everything a user can get wrong raises
`ConfigError`, one line that names the place and the nearest valid name.
"""

from realuid.config.code import CodeRefused
from realuid.config.configuration import Config, code_in, differences, load, load_part
from realuid.config.construction import build
from realuid.config.errors import ConfigError
from realuid.config.outlines import alone, part, tree, value
from realuid.config.registry import register_components

__all__ = [
    "CodeRefused",
    "Config",
    "ConfigError",
    "alone",
    "build",
    "code_in",
    "differences",
    "load",
    "load_part",
    "part",
    "register_components",
    "tree",
    "value",
]
