"""The one door to gin-config: the rest of the project never imports it."""

import importlib.util  # noqa: F401  gin reads it as an attribute of importlib without importing it

import gin

if "configurable" not in vars(gin):
    # Without gin-config, Python takes the recipe folder for a namespace package of the same name.
    raise ImportError("the folder ./gin was imported instead of gin-config; pip install gin-config")

__all__ = ["gin"]
