"""Write the tables and pages that come from the catalogue.

``python doc/generate.py`` brings README.md up to date; ``--check`` only says whether it is. The
pages of the docs (paper index, a page a paper, tables of the rooms, API) are written when Sphinx
starts.
"""

import inspect
import re
import sys
from itertools import groupby
from pathlib import Path

import skpapers
from skpapers.utils.discovery import public_symbols, rooms

ROOT = Path(__file__).parents[1]
DOC = ROOT / "doc"
TABLE = re.compile(r"(<!-- papers -->\n).*?(<!-- /papers -->)", re.DOTALL)


def main(arguments):
    readme = ROOT / "README.md"
    text = readme.read_text()
    current = TABLE.sub(lambda m: m[1] + readme_table() + m[2], text)
    if "--check" in arguments:
        sys.exit("README.md is out of date: python doc/generate.py" if current != text else 0)
    readme.write_text(current)


def readme_table():
    """The table of papers in README.md: room, paper, what to import."""
    lines = ["| room | paper | use it as |", "| --- | --- | --- |"]
    for paper in skpapers.papers():
        link = f"[{paper.title}]({paper.url})" if paper.url else paper.title
        names = ", ".join(f"`{short(symbol)}`" for symbol in paper.symbols)
        lines.append(f"| `{paper.room}` | {link} ({paper.year}) | {names} |")
    return "\n".join(lines) + "\n"


def short(symbol):
    return symbol.rpartition(".")[2]


def write_pages():
    """Write every generated page below doc/generated."""
    folder = DOC / "generated"
    for paper in skpapers.papers():
        _write(folder / "papers" / f"{paper.slug}.rst", paper_page(paper))
    _write(folder / "papers.rst", paper_index())
    _write(folder / "api.rst", api_page())
    for room in rooms():
        _write(folder / "rooms" / f"{room}.inc", room_table(room))


def _write(path, text):
    """Write unless unchanged, so that Sphinx rebuilds only what it must."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def title(text, underline="="):
    return f"{text}\n{underline * len(text)}\n\n"


def role(symbol):
    kind = "class" if inspect.isclass(public_symbols().get(symbol)) else "func"
    return f":{kind}:`~{symbol}`"


def picture(paper, width=""):
    """The committed picture of the paper's example, where there is one."""
    if not (DOC / "pictures" / f"{paper.slug}.png").exists():
        return ""
    width = f"   :width: {width}\n" if width else ""
    return f".. image:: /pictures/{paper.slug}.png\n   :alt: {paper.title}\n{width}\n"


def paper_page(paper):
    """One paper: claim, picture, what to import, evidence."""
    link = f"`arXiv:{paper.arxiv} <{paper.url}>`__" if paper.url else ""
    where = ", ".join(filter(None, [paper.venue, str(paper.year), link]))
    example = f"/auto_examples/{paper.room}/plot_{paper.slug}"
    evidence = "".join(f"- ``{test}``\n" for test in paper.evidence)
    return "".join(
        [
            f".. _paper_{paper.slug}:\n\n",
            title(paper.title),
            f"{', '.join(paper.authors)}. {where}.\n\n",
            f"**Claim.** {paper.claim}\n\n",
            picture(paper),
            "**Use it as** ",
            ", ".join(role(symbol) for symbol in paper.symbols),
            f".\n\n**See** :doc:`the example <{example}>`",
            f" and the room :doc:`/rooms/{paper.room}`.\n\n",
            f"**Evidence.** The claim and its oracles are shown by\n\n{evidence}",
            f"\n**Compared with** {', '.join(paper.peers)}.\n" if paper.peers else "",
        ]
    )


def paper_index():
    """All papers by room, with claim and picture."""
    text = title("Papers")
    for room, papers in groupby(skpapers.papers(), key=lambda paper: paper.room):
        text += title(room.replace("_", " ").capitalize(), "-")
        for paper in papers:
            text += f":ref:`paper_{paper.slug}` ({paper.year})\n   {paper.claim}\n\n"
    slugs = "".join(f"   papers/{paper.slug}\n" for paper in skpapers.papers())
    return text + f".. toctree::\n   :hidden:\n\n{slugs}"


def room_table(room):
    """The papers of a room, for its page of the user guide."""
    text = ""
    for paper in (p for p in skpapers.papers() if p.room == room):
        symbols = ", ".join(role(symbol) for symbol in paper.symbols)
        text += title(paper.title, "-")
        text += f"{paper.claim} (:ref:`{paper.year} <paper_{paper.slug}>`)\n\n{symbols}\n\n"
        text += picture(paper, "70%")
    return text or "No paper has moved in yet.\n"


def api_page():
    """Every public name, by module."""
    text = title("API")
    modules = groupby(public_symbols(), key=lambda name: name.rpartition(".")[0])
    top = ["skpapers.compare", "skpapers.papers", "skpapers.Paper"]
    for module, names in [("skpapers", top), *modules]:
        entries = "".join(f"   {name}\n" for name in names)
        text += title(module, "-")
        text += f".. autosummary::\n   :toctree: api/\n   :nosignatures:\n\n{entries}\n"
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
