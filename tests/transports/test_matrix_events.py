"""Matrix events as the nouns of chat, without a homeserver."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.chat import Conversation, Message, Withdrawal
from transports.matrix.events import NO_FILES, NO_KEY, NO_SUCH_KIND, NO_VERIFICATION, Me, Place, incoming
from transports.matrix.rooms import Members, arrival

ME = Me("@husky:hs.test", ("huskies", "Husky Bot (v2)"))
PLACE = Place("!r:hs.test", direct=False, sender_name="Ana")


def event(content: Any, kind: str = "m.room.message", **more: Any) -> dict[str, Any]:
    """An event of Ana's."""
    return {"event_id": "$e", "sender": "@ana:hs.test", "type": kind, "content": content, **more}


def heard(content: Any, kind: str = "m.room.message", **more: Any) -> Any:
    """What the gateway gets for it."""
    return incoming(event(content, kind, **more), PLACE, ME, lambda event_id: event_id == "$ours")


def text(body: str, **more: Any) -> dict[str, Any]:
    """A text's content."""
    return {"msgtype": "m.text", "body": body, **more}


@pytest.mark.parametrize(
    ("body", "rest"),
    [
        ("huskies: status", "status"),
        ("Huskies, status", "status"),
        ("huskies status", "status"),
        ("@huskies status", "status"),
        ("husky: status", "status"),
        ("@husky:hs.test: status", "status"),
        ("@husky:hs.test status", "status"),
        ("Husky Bot (v2): status", "status"),
        ("  huskies:\n two\nlines", "two\nlines"),
        ("huskies", ""),
    ],
)
def test_a_leading_address_is_taken_off(body: str, rest: str) -> None:
    message = heard(text(body))
    assert (message.text, message.addressed) == (rest, True)


PILL = "https://matrix.to/#/@husky:hs.test"


@pytest.mark.parametrize(
    ("body", "formatted", "rest"),
    [
        # Element X, iOS and Android: Markdown in the body.
        (f"[@husky]({PILL}) status", f'<a href="{PILL}">@husky</a> status', "status"),
        (f"[@Husky Bot (v2)]({PILL}): status", "", "status"),
        (f"[@husky]({PILL})", "", ""),
        (f"[husky](<{PILL}>) status", "", "status"),
        ("[@husky](https://matrix.to/#/%40husky%3Ahs.test) status", "", "status"),
        ("[@husky](matrix:u/husky:hs.test) status", "", "status"),
        (f"status [@husky]({PILL})", "", "status"),
        (f"status, [@husky]({PILL})!", "", "status!"),
        (f"please [@husky]({PILL}) have a look", "", "please @husky have a look"),
        # Element, SchildiChat, Cinny, FluffyChat: HTML beside a name.
        ("Hansi: status", f'<a href="{PILL}">Hansi</a>: status', "status"),
        ("Hansi: the dog: status", f"<p><a href='{PILL}'>Hansi: the dog</a>: status</p>", "status"),
        ("status Hansi", f'status <a href="{PILL}">Hansi</a>', "status"),
        ("a & b: status", '<a data-x="y" href="https://matrix.to/#/%40husky%3ahs.test">a &amp; b</a>: x', "status"),
        # Old Android.
        ("huskies (@husky:hs.test): status", "", "status"),
        ("@husky:hs.test: status", f'<a href="{PILL}">huskies</a>: status', "status"),
        # Several, and at both ends.
        ("@huskies huskies: status @huskies", "", "status"),
        ("stop @husky:hs.test", "", "stop"),
    ],
)
def test_each_clients_mention_is_one(body: str, formatted: str, rest: str) -> None:
    more = {"format": "org.matrix.custom.html", "formatted_body": formatted} if formatted else {}
    message = heard(text(body, **more))
    assert (message.text, message.addressed) == (rest, True)


def test_a_mention_of_somebody_else_is_none() -> None:
    other = "https://matrix.to/#/@bob:hs.test"
    message = heard(text(f"[@bob]({other}) status", formatted_body=f'<a href="{other}">@bob</a> status'))
    assert (message.text, message.addressed) == (f"[@bob]({other}) status", False)
    message = heard(text("I love huskies"))
    assert (message.text, message.addressed) == ("I love huskies", False), "at its end a name may be a word"
    message = heard(text("I love huskies", **{"m.mentions": {"user_ids": ["@husky:hs.test"]}}))
    assert (message.text, message.addressed) == ("I love", True)


@pytest.mark.parametrize(
    "body",
    [
        "huskiesque",
        "huskies/run",
        "the huskies: x",
        "huskies.py fails",
        "husky-x",
        "@husky:other.test hi",
        "",
    ],
)
def test_what_only_looks_like_an_address_stays(body: str) -> None:
    message = heard(text(body))
    assert (message.text, message.addressed) == (body, False)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("m.sticker", {"body": "a dog", "url": "mxc://x/y"}),
        ("org.matrix.msc3381.poll.start", {"org.matrix.msc3381.poll.start": {}}),
        ("m.room.message", {"msgtype": "org.example.dance", "body": "dances"}),
    ],
)
def test_what_cannot_be_read_is_answered(kind: str, content: dict[str, Any]) -> None:
    assert heard(content, kind).problem == NO_SUCH_KIND


def test_a_request_to_be_verified_is_declined_and_one_to_somebody_else_is_nothing() -> None:
    asked = {"msgtype": "m.key.verification.request", "body": "verify", "to": "@husky:hs.test"}
    assert heard(asked).problem == NO_VERIFICATION
    assert heard(asked | {"to": "@ana:hs.test"}) is None
    assert heard({"msgtype": "m.key.verification.done"}) is None


def test_ids_can_be_stored_whatever_an_encrypted_event_says() -> None:
    relates = {"rel_type": "m.thread", "event_id": "$\ud800"}
    assert heard(text("x", **{"m.relates_to": relates})).conversation.thread.encode() == b"$?"
    edit = {"rel_type": "m.replace", "event_id": "$\ud800"}
    assert heard(text("x", **{"m.relates_to": edit, "m.new_content": text("y")})).edits.encode() == b"$?"


def test_mentions_replies_and_threads() -> None:
    assert heard(text("x", **{"m.mentions": {"user_ids": ["@husky:hs.test"]}})).addressed
    assert not heard(text("x", **{"m.mentions": {"user_ids": ["@bob:hs.test"], "room": True}})).addressed
    reply = {"m.in_reply_to": {"event_id": "$ours"}}
    assert heard(text("x", **{"m.relates_to": reply})).addressed
    thread = {"rel_type": "m.thread", "event_id": "$root", "is_falling_back": True, **reply}
    message = heard(text("x", **{"m.relates_to": thread}))
    assert not message.addressed
    assert message.conversation == Conversation("matrix", "!r:hs.test", "$root")
    assert heard(text("x", **{"m.relates_to": thread | {"is_falling_back": False}})).addressed


def test_only_a_quote_that_a_client_added_is_taken_off() -> None:
    reply = {"m.relates_to": {"m.in_reply_to": {"event_id": "$other"}}}
    assert heard(text("> <@bob:hs.test> long\n> talk\n\nyes\n> mine", **reply)).text == "yes\n> mine"
    assert heard(text("> * <@bob:hs.test> waves\n\nyes", **reply)).text == "yes"
    assert heard(text("> <@bob:hs.test> a\n\nb")).text == "> <@bob:hs.test> a\n\nb"
    assert heard(text("> my quote\n\nb", **reply)).text == "> my quote\n\nb"


def test_edits_and_withdrawals() -> None:
    relation = {"rel_type": "m.replace", "event_id": "$first"}
    edit = heard(text("* huskies: b", **{"m.new_content": text("huskies: b"), "m.relates_to": relation}))
    assert (edit.edits, edit.text, edit.addressed, edit.external_id) == ("$first", "b", True, "$e")
    assert heard(text("* b", **{"m.relates_to": relation})) is None
    expected = Withdrawal(Conversation("matrix", "!r:hs.test"), "$gone", "matrix:@ana:hs.test")
    assert heard({}, "m.room.redaction", redacts="$gone") == expected
    assert heard({"redacts": "$gone"}, "m.room.redaction") == expected
    assert heard({}, "m.room.redaction") is None


def test_what_cannot_be_taken_is_said_so() -> None:
    for kind in ("m.image", "m.file", "m.audio", "m.video"):
        assert heard({"msgtype": kind, "body": "cat"}).problem == NO_FILES
    assert heard({"algorithm": "new", "ciphertext": "x"}, "m.room.encrypted").problem == NO_KEY


@pytest.mark.parametrize(
    "content",
    [
        {"msgtype": "m.notice", "body": "bot"},
        {"msgtype": "m.text"},
        {"msgtype": "m.text", "body": 5},
        {"msgtype": "m.key.verification.request", "body": "verify"},
        {"msgtype": ["m.text"], "body": "x"},
        {},
        [],
        None,
    ],
)
def test_what_is_none_of_our_business(content: Any) -> None:
    assert heard(content) is None


def test_own_events_state_and_redacted_ones_are_ignored() -> None:
    assert heard(text("x"), sender="@husky:hs.test") is None
    assert heard(text("x"), state_key="") is None
    assert heard({}, unsigned={"redacted_because": {}}) is None
    assert heard({"m.relates_to": {}}, "m.reaction") is None


@pytest.mark.parametrize(
    "relates", [5, [], {"rel_type": []}, {"m.in_reply_to": 5}, {"m.in_reply_to": {"event_id": {}}}]
)
def test_odd_relations_do_no_harm(relates: Any) -> None:
    message = heard(text("\0 \ud83d\ude00\u202e ", **{"m.relates_to": relates, "m.mentions": relates}))
    assert isinstance(message, Message)
    assert message.text == "\0 \ud83d\ude00\u202e "


def member(user: str, membership: str, before: str = "", **content: Any) -> dict[str, Any]:
    """A membership event."""
    unsigned = {"prev_content": {"membership": before}} if before else {}
    return event({"membership": membership, **content}, "m.room.member", state_key=user, sender=user, unsigned=unsigned)


def test_a_chat_is_direct_while_two_are_there() -> None:
    members = Members()
    for user in ("@ana:hs.test", "@husky:hs.test"):
        members.apply("!r", member(user, "join", displayname=user[1:4]))
    assert members.place("!r", "@ana:hs.test") == Place("!r", direct=True, sender_name="ana")
    members.apply("!r", member("@bob:hs.test", "invite", displayname=5))
    assert not members.place("!r", "@ana:hs.test").direct
    assert members.place("!r", "@bob:hs.test").sender_name == "@bob:hs.test"
    members.apply("!r", member("@bob:hs.test", "leave"))
    assert members.place("!r", "@ana:hs.test").direct


class Raw:
    """An event of the SDK's."""

    def __init__(self, source: dict[str, Any]) -> None:
        self.source = source


def test_where_the_bot_came_in() -> None:
    me = ME.user_id
    profile = member(me, "join", before="join")
    assert arrival([Raw(event({})), Raw(profile)], me) == (None, None)
    assert arrival([Raw(event({})), Raw(member(me, "join", before="leave"))], me) == (None, 1)
    stay = [member(me, "invite"), event({}), member(me, "join", before="invite"), profile, event({})]
    assert arrival([Raw(e) for e in stay], me) == (0, 2)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["m.text", "m.replace", "m.thread", "$e"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "msgtype",
                    "body",
                    "m.relates_to",
                    "m.new_content",
                    "rel_type",
                    "event_id",
                    "m.in_reply_to",
                    "m.mentions",
                    "user_ids",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(
    kind=st.sampled_from(["m.room.message", "m.room.redaction", "m.room.encrypted", "m.reaction"]),
    content=JSON,
    extra=JSON,
)
def test_nothing_that_people_send_breaks_the_reading(kind: str, content: Any, extra: Any) -> None:
    found = heard(content, kind, unsigned=extra, redacts=extra)
    assert found is None or isinstance(found, Message | Withdrawal)
    Members().apply("!r", event(content, "m.room.member", state_key="@x:y"))
    arrival([Raw(event(content, "m.room.member", state_key=ME.user_id, unsigned=extra))], ME.user_id)
