"""What the made-up speakers say: templated English sentences, strings of digits and of words, each text in one split.

`draw(rng, split, digits, words)` gives one lower-case text without punctuation. Which split a text may appear in is a
pure function of the text (`split_of`), so train, val and test never share a text, whatever the seed, the size or the
voices, and no test sentence can slip into pretraining. Texts of one or two words are too few to divide: train only.
"""

import hashlib
import random
import re

DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SPLITS = ("train", "val", "test")

# Isolated digits are frequent: they are what a digit recogniser meets, and the shortest speech there is.
_STRING_LENGTHS, _LENGTH_WEIGHTS = (1, 2, 3, 4, 5, 6, 7), (50, 9, 10, 10, 8, 6, 7)

_WORDS = {
    "colour": "red blue green yellow black white brown grey pink purple orange golden silver dark bright pale",
    "animal": "cat dog horse cow sheep pig goat lion tiger bear wolf fox rabbit mouse monkey elephant camel snake frog "
    "duck goose chicken eagle owl parrot whale shark dolphin spider bee butterfly donkey turtle",
    "adjective": "small large old young quick slow quiet loud happy sad clever lazy strong weak clean dirty empty full "
    "heavy light warm cold new broken cheap expensive beautiful strange simple famous",
    "object": "table chair window door bottle cup plate knife spoon book letter paper pencil phone camera clock mirror "
    "lamp box bag key coat shirt hat shoe ring ball guitar piano drum picture map ticket candle blanket basket",
    "food": "bread butter cheese rice soup salad fish meat apples bananas grapes lemons potatoes tomatoes onions "
    "carrots beans eggs sugar salt pepper honey chocolate coffee tea milk juice water cake pasta",
    "place": "garden kitchen market station airport school hospital library museum theatre church bridge river lake "
    "mountain forest beach island village city harbour office factory farm bakery hotel restaurant castle park street",
    "region": "london paris berlin madrid rome vienna moscow cairo tokyo sydney boston chicago texas canada mexico "
    "brazil india china egypt norway scotland ireland",
    "person": "mother father sister brother uncle aunt cousin neighbour teacher doctor nurse farmer driver pilot "
    "captain baker painter singer writer soldier student lawyer manager stranger friend child",
    "past": "found lost bought sold cleaned carried opened closed dropped painted repaired borrowed forgot moved "
    "remembered watched followed touched stopped counted",
    "motion": "ran walked jumped swam climbed slept waited danced turned stayed",
    "order": "open close bring take move clean hide find show count paint carry hold drop push pull leave keep",
    "device": "lights radio television heater fan alarm music computer oven machine",
    "room": "bedroom bathroom cellar hall corridor garage attic living_room",
    "day": "monday tuesday wednesday thursday friday saturday sunday",
    "month": "january february march april may june july august september october november december",
    "when": "today tomorrow tonight now later soon again every_day this_morning",
    "weather": "rain snow wind sun fog thunder ice clouds",
    "ordinal": "first second third fourth fifth sixth seventh eighth ninth tenth",
    "unit": "minutes hours days weeks months years miles metres pounds dollars euros",
    "where": "in near behind beside above under across_from",
    "feel": "likes loves hates wants needs misses",
    "pronoun": "he she they we you",
    "plural": "they we you",
}

_TEMPLATES = """
the {colour} {animal} {motion} {where} the {place}
a {adjective} {animal} {motion} {where} the {adjective} {place}
i can see {number} {adjective} {animal}s {where} the {place}
please {order} the {object} {when}
{order} the {colour} {object} {where} the {object}
my {person} {past} a {adjective} {object} in {region}
the {person} {past} the {colour} {object} and the {object}
the {person} {feel} {food} and {food}
we need {food} {food} and {number} {object}s
turn on the {device} in the {room}
turn off the {device} in the {room} {when}
set the {device} to {number}
wake me at {hour} {minute} on {day}
it is {hour} {minute} in {region}
the train to {region} leaves at {hour} {minute}
we travel to {region} in {month}
on {day} my {person} goes to the {place}
in {month} there is {weather} and {weather} in {region}
the {ordinal} of {month} is a {day}
the {object} costs {number} dollars and {number} cents
it takes {number} {unit} to the {place}
{number} {unit} and {number} {unit}
{number} plus {number} is {number}
there are {number} {animal}s and {number} {animal}s in the {place}
do {plural} want {food} or {food}
why is the {object} so {adjective}
where is the {adjective} {person}
who {past} my {colour} {object}
the {person} and the {person} {motion} to the {place}
{pronoun} {past} the {ordinal} {object} {where} the {place}
call the {person} on {day} at {hour}
the number is {digits}
room {digits} is {where} the {room}
yes {pronoun} can {order} the {object}
no the {object} is {colour} and {adjective}
""".strip().splitlines()

_IRREGULAR = {
    "sheeps": "sheep",
    "mouses": "mice",
    "wolfs": "wolves",
    "foxs": "foxes",
    "gooses": "geese",
    "butterflys": "butterflies",
    "boxs": "boxes",
    "knifes": "knives",
}
_ALL_WORDS = sorted(
    {word for line in _WORDS.values() for word in line.replace("_", " ").split()} | {*DIGITS, *TEENS, *TENS}
)
_CHOICES = {slot: tuple(words.replace("_", " ") for words in line.split()) for slot, line in _WORDS.items()}


def draw(rng: random.Random, split: str, digits: float, words: float = 0.0) -> str:
    """Draw one text that belongs to the split.

    Args:
        rng: the source of chance; the same state gives the same text.
        split: train, val or test.
        digits: share of digit strings, 0 to 1.
        words: share of word strings; the rest are sentences.
    """
    kind = rng.random()
    make = digit_string if kind < digits else word_string if kind < digits + words else sentence
    while True:
        text = make(rng)
        if split_of(text) == split:
            return text


def split_of(text: str) -> str:
    """Return the only split a text may appear in: 1 in 10 goes to test, 1 in 20 to val, short texts to train."""
    if len(text.split()) < 3:
        return "train"
    place = hashlib.sha256(text.encode()).digest()[0]
    return "test" if place < 26 else "val" if place < 39 else "train"


def digit_string(rng: random.Random) -> str:
    """Draw one to seven digits, as words."""
    length = rng.choices(_STRING_LENGTHS, _LENGTH_WEIGHTS)[0]
    return " ".join(rng.choice(DIGITS) for _ in range(length))


def word_string(rng: random.Random) -> str:
    """Draw two to eight words in any order: only who listens in order can write them down, no grammar helps."""
    return " ".join(rng.choice(_ALL_WORDS) for _ in range(rng.randint(2, 8)))


def sentence(rng: random.Random) -> str:
    """Draw a template and fill its slots."""
    text = re.sub(r"\{(\w+)\}", lambda slot: _fill(slot[1], rng), rng.choice(_TEMPLATES))
    return re.sub("|".join(_IRREGULAR), lambda plural: _IRREGULAR[plural[0]], text)


def _fill(slot: str, rng: random.Random) -> str:
    if slot == "number":
        return _number(rng.randint(0, 99))
    if slot == "hour":
        return _number(rng.randint(1, 12))
    if slot == "minute":
        return rng.choice([_number(rng.randint(10, 59)), "fifteen", "thirty", "in the evening"])
    if slot == "digits":
        return " ".join(rng.choice(DIGITS) for _ in range(rng.randint(2, 4)))
    return rng.choice(_CHOICES[slot])


def _number(value: int) -> str:
    if value < 20:
        return (DIGITS + TEENS)[value]
    tens, ones = TENS[value // 10 - 2], value % 10
    return f"{tens} {DIGITS[ones]}" if ones else tens
