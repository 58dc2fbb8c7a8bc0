"""How people say what is urgent, and what answers: whole messages, less marks, capitals and courtesy.

Each list is all there is: what is not on it is a prompt. "stop using tabs" is not on it.
"""

from __future__ import annotations

import re

#: Characters; a longer message says more than any of these.
_MAX = 80

#: The natural forms of `stop`, understood whatever else is going on.
STOP = frozenset(
    """
    stop|stopp|stop it|stop that|stop this|stop here|stop there|stop everything|stop all|stop the run|stop the agent
    stop the turn|stop working|stop running|stop right there|stop immediately|stop at once|stop right away
    stop right now|stop now|stop what you are doing|stop what you're doing|stop whatever you are doing
    stop whatever you're doing|stop claude|no stop|no no stop|wait stop|stop wait|wait no stop|oh no stop|i said stop
    can you stop|could you stop|you can stop|you can stop now|make it stop|let it stop|just stop|just stop it
    halt|abort|abort it|abort that|abort this|abort the run|abort mission
    cancel|cancel it|cancel that|cancel this|cancel the run|cancel everything|cancel all
    """.strip()
    .replace("\n    ", "|")
    .split("|")
)
#: One of these is in each.
STOPS = ("stop", "halt", "abort", "cancel")
#: What allows once, if exactly one question is open: less than an agreed word, more than nothing.
SOFT_YES = frozenset(
    """
    yep|yup|yeah|yea|ya|sure|sure thing|of course|go ahead|go for it|do it|fine|alright|all right|sounds good
    absolutely|definitely|yes do it|yes go ahead|ok do it|ok go ahead|👍|👌|✅
    """.strip()
    .replace("\n    ", "|")
    .split("|")
)
#: Words of courtesy, which may stand before and after any of these.
_COURTESY = (
    *("please", "pls", "plz", "thanks", "thank you", "thx", "ty", "hey", "hi", "hello", "now", "asap", "kindly"),
    *("immediately", "guys", "everybody", "everyone", "buddy", "mate", "bot", "claude"),
)
_ENDS = "|".join(sorted(_COURTESY, key=len, reverse=True))
_BEFORE, _AFTER = re.compile(rf"^(?:(?:{_ENDS}) )+"), re.compile(rf"(?: (?:{_ENDS}))+$")
#: A thumb in any colour, and what asks for the picture rather than the letter.
_TONES = re.compile("[\U0001f3fb-\U0001f3ff\ufe0f]")
_PICTURES = "👍👌✅"
#: A letter that somebody held down: stoooop.
STRETCHED = re.compile(r"([a-z])\1{2,}")
_MARKS = re.compile(rf"[^\w\s'{_PICTURES}-]+|(?<!\w)-+|-+(?!\w)")


def plainly(text: str) -> str:
    """A short message in lower case, without marks, repetition and courtesy; empty for one that is longer."""
    if len(text) > _MAX:
        return ""
    text = _MARKS.sub(" ", _TONES.sub("", text).casefold().replace("’", "'").replace("_", " "))
    text = STRETCHED.sub(r"\1", text)
    words: list[str] = []
    for word in re.sub(rf"([{_PICTURES}])\1*", r" \1 ", text).split():
        if not words or words[-1] != word:
            words.append(word)
    said = " ".join(words)
    kept = _AFTER.sub("", _BEFORE.sub("", said))
    return kept if kept not in _COURTESY else said


#: English words that are one slip away from a command, and more likely meant as they are.
COMMON = frozenset(
    {
        *("add", "agents", "allot", "alloy", "allows", "ally", "any", "atop", "build", "builder", "builds", "built"),
        *("chop", "compacts", "cup", "dawn", "delta", "dent", "deploy", "dew", "differ", "dog", "dogs", "done"),
        *("down", "downs", "drop", "entry", "few", "gents", "gown", "heap", "held", "hell", "hello", "helps", "hep"),
        *("impact", "ip", "knew", "legs", "lend", "lets", "log", "logo", "loss", "lots", "mode", "models", "modes"),
        *("net", "news", "next", "now", "op", "own", "preset", "presets", "projected"),
        *("prompts", "pup", "rebuilds", "rest", "restarts", "retried", "retro", "revoked", "sage"),
        *("sew", "shh", "shop", "slop", "smells", "stack", "stacked", "start", "started", "starts"),
        *("state", "stated", "states", "statue", "statues", "stay", "step", "steps", "stitch", "stock", "stocks"),
        *("stomp", "stoop", "stops", "store", "sup", "swatch", "switches", "tack", "tacks", "task", "tasks", "test"),
        *("tests", "then", "top", "town", "tup", "under", "undid", "undone", "unto", "ups", "us", "usages", "use"),
        *("using", "versions", "witch", "yelp"),
    }
)
