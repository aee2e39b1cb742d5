"""What the model can draw, and the prompts it learns it from.

`data/vocabulary.tsv` was written by hand while looking at the clips: one row per object with its
code point, name, synonyms and what it does in its clip.
"""

import random
import zlib
from dataclasses import dataclass

from .config import COLORS, HERE

UNNAMED = "white"  # the background where a prompt names none
# A text stands for an object if its cosine to one of its phrases is at least the first, and at most
# the second below the cosine to the nearest of the others. Tuned on `data/unseen_synonyms.tsv`.
KNOWN = {"cosine": 0.4, "margin": 0.05}
HELD_OUT_PAIRS = 0.08  # share of object x colour pairs never trained, to measure composition


@dataclass(frozen=True)
class Object:
    code: str
    name: str
    synonyms: tuple[str, ...]
    motions: tuple[str, ...]


def _load() -> dict[str, Object]:
    rows = (HERE / "data/vocabulary.tsv").read_text().splitlines()[1:]
    cells = [row.split("\t") for row in rows]
    split = lambda text: tuple(part.strip() for part in text.split(","))  # noqa: E731
    return {code: Object(code, name, split(syn), split(mot)) for code, name, syn, mot in cells}


OBJECTS = _load()


def held_out(code: str, color: str) -> bool:
    """Whether the pair is kept out of training. Depends on nothing but the two words."""
    return zlib.crc32(f"{code}/{color}".encode()) % 1000 < 1000 * HELD_OUT_PAIRS


def article(noun: str) -> str:
    silent = noun.lower().startswith(("hour", "umbrella"))
    return ("an " if silent or noun[0].lower() in "aeio" else "a ") + noun


def prompt(code: str, color: str, rng: random.Random | None = None) -> str:
    """A training prompt; without `rng` the canonical one: name, first motion, background."""
    thing = OBJECTS[code]
    if rng is None:
        return f"{article(thing.name)} {thing.motions[0]} on a {color} background"
    # The name half of the time, so that it stays the strongest handle.
    noun = thing.name if rng.random() < 0.5 else rng.choice((thing.name, *thing.synonyms))
    subject = noun if rng.random() < 0.1 else article(noun)
    motion = f" {rng.choice(thing.motions)}" if rng.random() < 0.75 else ""
    place = rng.choices(
        (f" on a {color} background", f", {color} background", f" in front of a {color} wall", ""),
        (8, 1, 1, 10 if color == UNNAMED else 0),
    )[0]
    return subject + motion + place


def plain_prompt(name: str, color: str) -> str:
    """A prompt for a clip outside the vocabulary, whose motion nobody wrote down."""
    return f"{article(name.lower())} on a {color} background"


def clashes(name: str) -> bool:
    """Whether the name of a clip outside the vocabulary is a word that belongs to an object of it,
    be it trained or kept for evaluation: the same words would stand for two pictures."""
    known = {word for o in OBJECTS.values() for word in (o.name, *o.synonyms)}
    unseen = {word for _, word in unseen_synonyms()}
    return name.lower() in known or bool(unseen & set(name.lower().split()))


def unseen_synonyms() -> list[tuple[str, str]]:
    """(code, word) pairs for evaluation only; no training prompt contains the word."""
    rows = (HERE / "data/unseen_synonyms.tsv").read_text().splitlines()[1:]
    return [tuple(row.split("\t")) for row in rows]


def places() -> dict[str, list[str]]:
    """Backgrounds by the places that have about their colour."""
    rows = (HERE / "data/places.tsv").read_text().splitlines()[1:]
    return {color: names.split(", ") for color, names in (row.split("\t") for row in rows)}


def others() -> list[str]:
    """Things people ask for that the model cannot draw: what is nearer to one of them than to any
    object is not known. The pictographs of Unicode outside the vocabulary, and everyday nouns."""
    return (HERE / "data/others.txt").read_text().splitlines()


def emoji(code: str) -> str:
    return "".join(chr(int(point, 16)) for point in code.split("-"))


def vocabulary() -> dict:
    """The content of `vocabulary.json` in the exported model."""
    also = {code: [word for c, word in unseen_synonyms() if c == code] for code in OBJECTS}
    return {
        "template": "a {object} {motion} on a {color} background",
        "colors": list(COLORS),
        "places": places(),
        "objects": [
            {
                "name": o.name,
                "synonyms": list(o.synonyms),
                "also": also[code],  # for readers of prompts; no caption has them
                "emoji": emoji(code),
                "motions": list(o.motions),
            }
            for code, o in OBJECTS.items()
        ],
        "others": others(),
        "known": KNOWN,
    }


def phrases(content: dict) -> list[str]:
    """What the rows of `vocabulary.safetensors` stand for, in their order: the names of each object,
    the motions of each, then the others. Nouns have an article, which tells them from verbs."""
    names = [article(n) for o in content["objects"] for n in (o["name"], *o["synonyms"])]
    motions = [motion for o in content["objects"] for motion in o["motions"]]
    return names + motions + [article(other) for other in content["others"]]
