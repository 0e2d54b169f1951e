"""The catalogue: one TOML file a paper."""

import functools
import tomllib
from dataclasses import dataclass, fields
from importlib import resources

__all__ = ["Paper", "papers"]


@dataclass(frozen=True)
class Paper:
    """A paper of the catalogue.

    Attributes
    ----------
    slug : str
        Short name; its module is ``skpapers.<room>._<slug>``.
    title : str
        Title of the paper.
    authors : tuple of str
        Its authors, first name first.
    year : int
        Year of publication.
    arxiv : str
        Identifier on arXiv, or an empty string.
    room : str
        Sub-package that holds it.
    symbols : tuple of str
        Dotted names of what it adds to the public interface.
    claim : str
        What the paper says that no other method does, in one sentence.
    evidence : tuple of str
        Identifiers of the tests that show the claim.
    peers : tuple of str
        What the benchmark compares it with.
    venue : str
        Where it was published.
    """

    slug: str
    title: str
    authors: tuple
    year: int
    arxiv: str
    room: str
    symbols: tuple
    claim: str
    evidence: tuple
    peers: tuple = ()
    venue: str = ""

    @property
    def url(self):
        """Address of the paper's page on arXiv, or an empty string."""
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""


def papers(words=""):
    """List the papers of the catalogue, sorted by room and slug.

    Parameters
    ----------
    words : str, default=""
        Keep only the papers in which every word occurs (any field, any case).

    Returns
    -------
    list of Paper
        The papers found.

    Examples
    --------
    >>> import skpapers
    >>> [paper.year for paper in skpapers.papers("svcca")]
    [2017]
    """
    wanted = words.lower().split()
    return [paper for paper in _catalogue() if all(word in _text(paper) for word in wanted)]


def _text(paper):
    values = (getattr(paper, field.name) for field in fields(paper))
    return " ".join(str(value) for value in values).lower()


@functools.cache
def _catalogue():
    folder = resources.files("skpapers") / "catalogue"
    files = (file for file in folder.iterdir() if file.name.endswith(".toml"))
    return tuple(sorted(map(_read, files), key=lambda paper: (paper.room, paper.slug)))


def _read(file):
    """Read one entry; the slug is the name of the file."""
    entry = tomllib.loads(file.read_text(encoding="utf-8"))
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in entry.items()}
    try:
        return Paper(slug=file.name.removesuffix(".toml"), **values)
    except TypeError as error:
        raise TypeError(f"{file.name}: {error}") from error
