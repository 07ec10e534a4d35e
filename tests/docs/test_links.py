"""Links of the pages lead somewhere: to a page, to a heading of it, to a file. Addresses outside are not asked."""

import re
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, name_of, pages

TEXTS = {page: re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL) for page in pages()}
LINKS = [(page, link) for page, text in TEXTS.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)]
INSIDE = [(page, link) for page, link in LINKS if "://" not in link and "/reference/" not in f"/{link}"]


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in a link, on GitHub as on the site."""
    headings = re.findall(r"^#+ (.+)$", TEXTS[page], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "link"), INSIDE, ids=[f"{name_of(page)}-{link}" for page, link in INSIDE])
def test_a_link_leads_somewhere(page, link):
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    assert target.exists()
    assert not anchor or anchor in anchors(target)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_files_that_a_page_names_exist(page):
    """Recipes, modules and tests in backticks."""
    for name in re.findall(r"`((?:gin|realuid|tools|tests|studies|docs)/[\w/.]+\.(?:gin|py|toml|md))`", TEXTS[page]):
        assert (ROOT / name).is_file(), f"{name_of(page)} names {name}"


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_page_has_no_tags(page):
    """What looks like a tag, <f, c> for instance, is one for the site, and vanishes."""
    code = re.sub(r"`[^`\n]*`", "", TEXTS[page])
    assert not re.findall(r"<(?!!--)[A-Za-z/][^>\n]*>", code)


def test_no_link_is_left_out():
    assert len(INSIDE) > 60
