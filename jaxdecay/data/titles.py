"""Words from which the simulator writes item titles: an opening that suits all, words of the category."""

import numpy as np

OPENINGS = (
    "Amber Bright Calm Deep Early Fresh Golden Hidden Iron Jolly Kind Little Modern Northern Open Pale "
    "Quiet Red Silver Tall Urban Velvet Wild Young"
)

WORDS: dict[str, str] = {
    "news": "election budget court market strike summit storm vote report league inquiry treaty",
    "videos": "trailer tutorial vlog sketch stream highlight review prank interview travelogue remix",
    "music": "ballad blues chorus drum dub groove melody nocturne rhythm sonata tune waltz",
    "food": "apple bread cheese coffee curry noodle olive pepper rice soup tea tomato",
    "books": "atlas biography chronicle diary essay fable memoir mystery novel poem saga thriller",
    "clothes": "boots coat denim dress hat jacket linen scarf shirt skirt socks sweater",
}
"""Words by category; a category that is not here uses its own name."""


def titles(rng: np.random.Generator, categories: list[str]) -> list[str]:
    """One title per item, such as "Quiet rhythm and waltz 17"; the number (from 1) keeps titles apart."""
    openings, written = OPENINGS.split(), []
    for number, category in enumerate(categories, start=1):
        words = WORDS.get(category, category).split()
        opening = openings[rng.integers(len(openings))]
        first, second = (words[k] for k in rng.integers(len(words), size=2))
        body = first if first == second else f"{first} and {second}"
        written.append(f"{opening} {body} {number}")
    return written
