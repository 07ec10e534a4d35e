"""What mkdocs does beside its configuration: pages made from the repository, and formulas."""

from __future__ import annotations

import re

import reference
from mathematics import Mathematics
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Files beside docs/ that are pages of the site, too."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.markdown_extensions.append(Mathematics())  # type: ignore[arg-type]
    rooms = [{room: [reference.page_of(module) for module in modules]} for room, modules in reference.rooms().items()]
    assert config.nav is not None
    config.nav.append({"Reference": ["reference/index.md", "reference/commands.md", *rooms]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = {name: _linked((reference.ROOT / source).read_text()) for source, name in OUTSIDE.items()}
    pages |= {"reference/index.md": reference.components_page(), "reference/commands.md": reference.commands_page()}
    for name, text in (pages | reference.module_pages()).items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    for source, name in OUTSIDE.items():
        markdown = markdown.replace(f"](../{source}", f"]({name}")
    # What else lies outside docs/ is a file of the repository, and no page.
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", markdown)


def _linked(text: str) -> str:
    """The links of a file beside docs/ as they are from inside."""
    for source, name in OUTSIDE.items():
        text = text.replace(f"]({source}", f"]({name}")
    return re.sub(r"\]\(docs/", "](", text)
