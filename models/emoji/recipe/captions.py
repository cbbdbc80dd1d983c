"""From an emoji's name to its caption: "a red apple", and "a red apple, flat" in Noto's style."""

from __future__ import annotations

# Names whose official wording is not what a person would type.
PHRASES = {
    "aubergine": "an eggplant",
    "automobile": "a red car",
    "black scissors": "scissors",
    "closed book": "a red book",
    "doughnut": "a donut",
    "electric light bulb": "a light bulb",
    "evergreen tree": "a pine tree",
    "heavy black heart": "a red heart",
    "honeybee": "a bee",
    "house building": "a house",
    "lady beetle": "a ladybug",
    "slice of pizza": "a slice of pizza",
    "soft ice cream": "a soft ice cream",
    "tangerine": "an orange",
    "wrapped present": "a gift box",
}
MASS_NOUNS = {"bread", "broccoli", "fire", "fog", "garlic", "popcorn", "spaghetti", "sushi"}
STYLES = {"3d": "", "flat": ", flat"}


def article(phrase: str) -> str:
    """ "a", "an", or nothing for what can't be counted. Spelling decides, not sound."""
    last = phrase.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "us"))
    if plural or phrase in MASS_NOUNS:
        return ""
    return "an " if phrase[0] in "aeio" else "a "


def caption(name: str, style: str) -> str:
    """The caption that is trained for the picture of `name` in `style`."""
    phrase = PHRASES.get(name)
    if phrase is None:
        phrase = article(name) + name
    return phrase + STYLES[style]


def without_article(text: str) -> str:
    """ "a red apple" -> "red apple": trained now and then, so that the article is optional."""
    for prefix in ("an ", "a "):
        if text.startswith(prefix):
            return text[len(prefix) :]
    return text
