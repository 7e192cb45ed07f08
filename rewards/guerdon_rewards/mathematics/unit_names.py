"""The names of units and how much they are, and words that are none or change what a number means."""

from guerdon_rewards.mathematics import lexicon

TABLE = """
length 1: m metre meter
length 10**-10: angstrom
length 0.0254: in inch inche ins
length 0.3048: ft foot feet
length 0.9144: yd yds yard
length 1609.344: mi mile
length 1852: nmi
length 9460730472580800: lightyear
length 201.168: furlong
length^2 4046.8564224: acre
length^2 10000: ha hectare
length^3 0.001: l L litre liter ltr
length^3 0.000001: cc
length^3 0.003785411784: gal gals gallon
length^3 0.000946352946: qt qts quart
length^3 0.000473176473: pt pts pint
length^3 0.0002365882365: cup
length^3 0.0000295735295625: floz
length^3 0.00001478676478125: tbsp tablespoon
length^3 0.00000492892159375: tsp teaspoon
mass 1: g gm gms gram gramme
mass 453.59237: lb lbs pound
mass 28.349523125: oz ounce
mass 1000000: tonne Mg
mass 907184.74: ton
mass 6350.29318: stone
time 1: s sec second
time 60: min minute
time 3600: h hr hrs hour
time 86400: day
time 604800: wk wks week
time 1209600: fortnight
month 1: mo month
month 12: yr yrs year
month 120: decade
month 1200: century centurie
degree 1: ° deg degree
degree 1/60: arcminute arcmin
degree 1/3600: arcsecond arcsec
degree 360: rev revolution rotation turn
radian 1: rad radian
celsius 1: celsius °C centigrade
fahrenheit 1: fahrenheit °F
kelvin 1: K kelvin
amount 1: mol mole
current 1: A amp ampere
voltage 1: V volt
resistance 1: Ω ohm
field 1: T tesla
capacitance 1: F farad
charge 1: coulomb
inductance 1: H henry
electronvolt 1: eV electronvolt
calorie 1: cal calorie
atmosphere 1: atm atmosphere
bit 1: bit
bit 8: byte
kilobit 1: kb Kb kilobit
megabit 1: Mb megabit
gigabit 1: Gb gigabit
kilobyte 1: KB kB kilobyte
megabyte 1: MB megabyte
gigabyte 1: GB gigabyte
unit 1: unit
pair 1: pair
$dollar 1: $ US$ USD dollar buck
$dollar 0.01: ¢ cent penny
$euro 1: € EUR euro
$sterling 1: £ GBP quid
$sterling 0.01: pence
$rupee 1: ₹ Rs INR rupee
$rupee 0.01: paise paisa
$yen 1: ¥ JPY yen
$yuan 1: CNY RMB yuan
$franc 1: CHF franc
"""
COMPOUND = {
    "mph": "mile per hour", "kph": "km per hour", "kmph": "km per hour", "kmh": "km per hour", "kmhr": "km per hour",
    "mps": "m per s", "fps": "ft per s", "mpg": "mile per gallon", "rpm": "rev per min", "knot": "nmi per hour",
    "sqft": "ft^2", "sqm": "m^2", "sqcm": "cm^2",
}  # fmt: skip
DERIVED = {"hertz": ("Hz", "per s"), "newton": ("N", "kg m per s^2"), "joule": ("J", "kg m^2 per s^2"),
            "watt": ("W", "kg m^2 per s^3"), "pascal": ("Pa", "kg per m s^2")}  # fmt: skip
PREFIXES = {"kilo": ("k", 3), "hecto": ("h", 2), "deci": ("d", -1), "centi": ("c", -2), "milli": ("m", -3),
             "micro": ("μ", -6), "nano": ("n", -9), "pico": ("p", -12), "mega": ("M", 6), "giga": ("G", 9),
             "tera": ("T", 12), "peta": ("P", 15)}  # fmt: skip
PREFIXED = {"metre": "m", "meter": "m", "gram": "g", "gramme": "g", "litre": "lL", "liter": "lL", "second": "s",
             "amp": "A", "ampere": "A", "volt": "V", "ohm": "Ω", "tesla": "T", "farad": "F",
             "electronvolt": ["eV"], "calorie": ["cal"]}  # fmt: skip
ALIASES = {"kms": "km", "cms": "cm", "mms": "mm", "kgs": "kg", "mls": "ml", "kilo": "kg", "msec": "ms", "um": "μm"}
ALSO = {"pound": "£", "degree": "celsius fahrenheit", "deg": "celsius fahrenheit", "°": "celsius fahrenheit",
         "ounce": "floz", "oz": "floz", "ton": "tonne", "¥": "yuan"}  # fmt: skip
"""Words of two meanings, and the second."""
SCALES = {"hundred": 100, "thousand": 1000, "lakh": 10**5, "million": 10**6, "crore": 10**7, "billion": 10**9,
           "trillion": 10**12, "dozen": 12}  # fmt: skip
FILLERS = frozenset((
    "of", "the", "in", "on", "at", "total", "altogether", "long", "tall", "high", "wide", "deep", "thick", "old",
    "away", "each", "about", "approximately", "apart", "left", "there", "are", "is", "such", "these", "whole",
    "full", "entire", "any", "all", "for", "his", "her", "its", "their", "us", "american",
))  # fmt: skip
TURNS = frozenset((
    "below", "under", "minus", "negative", "less", "fewer", "not", "no", "non", "never", "without", "loss", "lost",
    "short", "behind", "decrease", "decreas", "increas", "owed", "owe", "debt", "half", "third", "quarter", "fourth",
    "fifth", "tenth", "squared", "cubed", "doubl", "twic", "tripl", "least", "most", "befor", "after", "ago", "earlier",
    "later", "bc", "younger", "than", "except", "up", "down", "right", "north", "south", "east", "west", "forward",
    "backward", "clockwis", "counterclockwis",
))  # fmt: skip
NEVER = frozenset((
    "and", "or", "to", "over", "out", "remainder", "plus", "factorial", "choose", "root", "from", "by", "between",
    "through", "if", "when", "percent", "pct", "point", "am", "pm", "sinx", "cosx", "tanx", "lnx", "logx",
)) | {
    name.lower() for name in (*lexicon.FUNCTIONS, *lexicon.GREEK, *lexicon.CONSTANTS) if len(name) > 1
} - {"min", "sec"}  # fmt: skip
"""Words that make of a number something else than a quantity."""
SHORT_NOUNS = frozenset((
    "men", "man", "boy", "dog", "cat", "egg", "box", "bag", "car", "pie", "toy", "pen", "hat", "can", "kid", "cow",
    "pig", "hen", "bus", "fan", "key", "jar", "row", "set", "way", "bar", "pot", "tie", "run", "hit", "ant", "bee",
    "fox", "jug", "map", "net", "nut", "pan", "pin", "rod", "rug", "tub", "van", "job", "lap", "bit", "red", "big",
    "won", "cds", "tvs", "elk", "ape", "gum", "cap", "ice", "tea", "oil", "end", "act", "top", "cot", "tip", "bat",
    "ram", "rat",
))  # fmt: skip
"""Short words that are no products of letters; others are nouns only beside a longer one: `zoo animals`."""
IRREGULAR = {"men": "man", "women": "woman", "children": "child", "people": "person", "mice": "mouse",
              "geese": "goose", "teeth": "tooth", "dice": "die", "feet": "feet", "loaves": "loaf"}  # fmt: skip
