"""The grammar of the known world, as one table that a reader can hold in the head.

    sentence := article [adjective] SUBJECT clause ("and" clause)* "."
    clause   := [adverb] VERB article [adjective] OBJECT

Two things are remembered. The **topic** is the scene that the last sentence was about: the next sentence
keeps it with probability 0.8. The **subject** is the noun that opened the sentence: it alone chooses the
verbs and the objects, however many adjectives, adverbs and "and"s stand between.

Every list below runs from the likeliest word to the least likely one, and its length names its probabilities
in `LADDER`. These few numbers are all the probabilities that there are.
"""

from __future__ import annotations

from typing import NamedTuple

LADDER = {
    2: (0.6, 0.4),
    3: (0.5, 0.25, 0.25),
    5: (0.4, 0.2, 0.2, 0.1, 0.1),
}
TOPIC_STAYS = 0.8  # the other topics share the rest evenly
HAS_ADJECTIVE = 0.5  # before a subject, and before an object
HAS_ADVERB = 0.4  # before a verb
GOES_ON = 0.4  # after an object: "and" with this probability, otherwise "."

END = "."
AND = "and"
ARTICLES = ("the", "a")
ADJECTIVES = ("quiet", "proud", "small", "lonely", "strange")
ADVERBS = ("often", "always", "never", "gladly", "secretly")
VERBS = ("loves", "seeks", "guards", "watches", "follows", "finds", "misses", "paints", "fears")
OBJECTS = (
    *("crown", "castle", "garden", "path", "bridge", "river", "field"),
    *("horse", "hill", "star", "moon", "boat", "harbour", "storm"),
)

# topic -> subject -> (its verbs, its objects)
TOPICS = {
    "court": {
        "king": ("guards loves seeks misses fears", "crown castle path garden bridge"),
        "queen": ("loves watches misses paints seeks", "garden castle moon crown path"),
        "knight": ("seeks guards finds loves misses", "bridge path castle crown river"),
    },
    "farm": {
        "farmer": ("watches paints loves misses guards", "field horse hill river garden"),
        "shepherd": ("follows finds watches guards paints", "hill star field path horse"),
        "miller": ("watches follows fears misses finds", "river bridge horse field star"),
    },
    "sea": {
        "captain": ("follows fears seeks watches misses", "star storm boat moon harbour"),
        "sailor": ("misses loves paints fears watches", "boat harbour moon storm path"),
        "pirate": ("finds seeks follows fears loves", "harbour boat river storm star"),
    },
}

VOCABULARY = (
    END,
    AND,
    *ARTICLES,
    *ADJECTIVES,
    *ADVERBS,
    *(subject for subjects in TOPICS.values() for subject in subjects),
    *VERBS,
    *OBJECTS,
)


class Transition(NamedTuple):
    """One way out of a state: the word said, its probability, and the state that it leads to."""

    word: str
    probability: float
    next_state: str


def _choose(words, next_state: str, share: float = 1.0) -> list[Transition]:
    """One word of the list, by the ladder, together worth `share` of the probability."""
    return [
        Transition(word, share * p, next_state) for word, p in zip(words, LADDER[len(words)], strict=True)
    ]


def _choose_subject(last_topic: str, share: float = 1.0) -> list[Transition]:
    """The noun that opens a sentence: first keep or change the topic, then take one of its three subjects."""
    moves = (1 - TOPIC_STAYS) / (len(TOPICS) - 1)
    ways = []
    for topic, subjects in TOPICS.items():
        of_topic = share * (TOPIC_STAYS if topic == last_topic else moves)
        for subject, p in zip(subjects, LADDER[len(subjects)], strict=True):
            ways.append(Transition(subject, of_topic * p, f"{subject}: adverb or verb"))
    return ways


def grammar_rules() -> dict[str, tuple[Transition, ...]]:
    """Write the grammar out as states. A state is named `what is remembered: what comes next`."""
    rules: dict[str, list[Transition]] = {}
    for topic in TOPICS:
        # Before the subject only the last topic is known; the new topic shows itself in the noun.
        rules[f"{topic}: article"] = _choose(ARTICLES, f"{topic}: adjective or subject")
        rules[f"{topic}: adjective or subject"] = [
            *_choose(ADJECTIVES, f"{topic}: subject", HAS_ADJECTIVE),
            *_choose_subject(topic, 1 - HAS_ADJECTIVE),
        ]
        rules[f"{topic}: subject"] = _choose_subject(topic)
    for topic, subjects in TOPICS.items():
        for who, (verbs, objects) in subjects.items():
            rules[f"{who}: adverb or verb"] = [
                *_choose(ADVERBS, f"{who}: verb", HAS_ADVERB),
                *_choose(verbs.split(), f"{who}: article", 1 - HAS_ADVERB),
            ]
            rules[f"{who}: verb"] = _choose(verbs.split(), f"{who}: article")
            rules[f"{who}: article"] = _choose(ARTICLES, f"{who}: adjective or object")
            rules[f"{who}: adjective or object"] = [
                *_choose(ADJECTIVES, f"{who}: object", HAS_ADJECTIVE),
                *_choose(objects.split(), f"{who}: and or stop", 1 - HAS_ADJECTIVE),
            ]
            rules[f"{who}: object"] = _choose(objects.split(), f"{who}: and or stop")
            rules[f"{who}: and or stop"] = [
                Transition(AND, GOES_ON, f"{who}: adverb or verb"),
                Transition(END, 1 - GOES_ON, f"{topic}: article"),
            ]
    return {state: tuple(ways) for state, ways in rules.items()}
