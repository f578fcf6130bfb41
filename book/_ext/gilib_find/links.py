"""Short texts for links to pages: "chapter 2" instead of its whole title, which a pointer that rests on it shows.

A page without a number is called by its title, up to a colon. A link that has a text of its own keeps it.
"""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import docname_join
from sphinx.util.nodes import make_refnode

BLOCKS = (nodes.paragraph, nodes.title, nodes.caption, nodes.term, nodes.entry, nodes.list_item)


def short(environment: BuildEnvironment, document: str) -> str:
    """What a sentence calls a page. A name in capitals keeps them."""
    number = environment.toc_secnumbers.get(document, {}).get("")
    if number:
        return f"chapter {number[0]}"
    title = environment.titles[document].astext().split(":")[0]
    return title[0].lower() + title[1:] if title[1:2].islower() else title


def begins_a_sentence(link: nodes.Node) -> bool:
    """Tell whether nothing of a sentence stands before ``link`` in its paragraph."""
    before, node = "", link
    while node.parent is not None and not isinstance(node, BLOCKS):
        siblings = node.parent.children[: node.parent.index(node)]
        before = "".join(one.astext() for one in siblings) + before
        node = node.parent
    before = before.rstrip(" \n\xa0(*“\"'")
    return not before or before.endswith((".", "?", "!"))


class ShortLinks(SphinxPostTransform):
    """Resolve ``{doc}`` without a text before Sphinx writes the title in."""

    default_priority = 5

    def run(self, **kwargs: object) -> None:
        for node in list(self.document.findall(addnodes.pending_xref)):
            target = docname_join(node.get("refdoc", self.env.docname), node.get("reftarget", ""))
            if node.get("reftype") != "doc" or node.get("refexplicit") or target not in self.env.titles:
                continue
            text = short(self.env, target)
            if begins_a_sentence(node):
                text = text[0].upper() + text[1:]
            title = self.env.titles[target].astext()
            inner = nodes.inline(text, text, classes=["doc"])
            shown = None if title == text else title
            node.replace_self(make_refnode(self.app.builder, self.env.docname, target, "", inner, shown))


def numbers_changed(app: Sphinx, environment: BuildEnvironment) -> list[str]:
    """All pages, if a chapter has another number than in the build before: any may name it."""
    numbers = {name: numbers.get("") for name, numbers in environment.toc_secnumbers.items()}
    before = getattr(environment, "gilib_numbers", numbers)
    environment.gilib_numbers = numbers  # type: ignore[attr-defined]
    return [] if numbers == before else sorted(environment.found_docs)
