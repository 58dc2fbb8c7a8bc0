"""What a source wants to add to its container: read, bounded, and shown whole before it counts."""

from __future__ import annotations

import pytest

from gateway.errors import UserError
from stacks.own import MOST, OWN_FRAGMENT, Own, difference, read_fragment, read_own
from stacks.tree import MemoryTree


def fragment(text: str) -> str:
    return read_fragment(MemoryTree({OWN_FRAGMENT: text}))


def test_a_layer_is_taken_as_it_stands() -> None:
    text = "# tools\r\nARG V=1\nRUN apt-get update \\\n # why\n && apt-get install -y jq\nenv A=b\n\n"
    assert fragment(text) == text.replace("\r\n", "\n").strip() + "\n"
    assert fragment(" \n") == ""
    assert read_fragment(MemoryTree({})) == ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("RUN true\nCOPY . /x\n", "line 2: COPY cannot be used: a build gets no files of the source"),
        ("ADD https://example.org/x /x\n", "line 1: ADD cannot be used"),
        ("from debian\n", "line 1: FROM cannot be used: the layer is already on top of the project's stacks"),
        ("RUN a \\\n && b\nUSER root\n", "line 3: USER cannot be used"),
        ("RUN a\\\n\n# c\nCOPY x\n", "cannot be used"),
        ("HEALTHCHECK NONE\n", "line 1: HEALTHCHECK cannot be used: a layer takes ARG, ENV, LABEL, RUN, SHELL"),
        ("ONBUILD RUN x\n", "ONBUILD cannot be used"),
        ("RUN echo \u202ehidden\n", "line 1: U+202E may not be what it looks like"),
        ("RUN curl ехample.org\n", "line 1: U+0435 may not be what it looks like"),
        ("RUN true \\\\\nFROM evil\n", "line 1: a backslash before the last one"),
        ("RUN cat <<E\nFROM evil\nE\n", "line 1: a backslash before the last one, `<<`"),
        ("RUN --mount=type=secret x\n", "options of RUN"),
        ("RUN a\n\x1b[2K\n", "line 2: U+001B may not be what it looks like"),
    ],
)
def test_what_a_layer_cannot_have_is_refused_with_its_line(text: str, told: str) -> None:
    if text.startswith("RUN a\\\n\n"):
        # An empty line and a comment do not end an instruction: this is one RUN, which ends with "COPY x".
        assert fragment(text)
        return
    with pytest.raises(UserError, match=told.replace("+", r"\+").replace("(", r"\(")):
        fragment(text)


def test_nothing_offered_is_nothing() -> None:
    assert read_own(MemoryTree({"README.md": "x"})) == Own()
    assert read_own(MemoryTree({})).files == ()


def test_all_that_is_offered_is_shown() -> None:
    own = read_own(
        MemoryTree(
            {
                OWN_FRAGMENT: "RUN apt-get install -y jq\n",
                ".devcontainer/devcontainer.json": """
                // comments and a trailing comma are allowed
                { "image": "example.org/dev:1", "remoteEnv": {"COLOUR": "blue"}, "postCreateCommand": "make deps", }
                """,
            }
        )
    )
    assert own.files == (OWN_FRAGMENT, ".devcontainer/devcontainer.json")
    assert difference(Own(), own).splitlines() == [
        "+base image: example.org/dev:1",
        "+last layer, built as root:",
        "+    RUN apt-get install -y jq",
        "+variable: COLOUR=blue",
        "+run once, in the container: make deps",
    ]
    assert difference(own, own) == ""
    assert "-    RUN apt-get install -y jq" in difference(own, Own(image=own.image))


def test_what_cannot_be_shown_whole_cannot_be_confirmed() -> None:
    long = Own(fragment="".join(f"RUN step {number}\n" for number in range(MOST // 10)), files=(OWN_FRAGMENT,))
    with pytest.raises(UserError, match=f"The changes in {OWN_FRAGMENT} have [0-9]+ characters"):
        difference(Own(), long)


def test_where_it_stands_does_not_make_it_another() -> None:
    assert Own(image="a", files=("x",), notes=("n",)) == Own(image="a")


def test_nothing_that_is_added_looks_like_a_removal() -> None:
    own = Own(commands=("make deps\n-run once, in the container: harmless",), fragment="RUN a\n-RUN b\n")
    assert all(line.startswith("+") for line in difference(Own(), own).splitlines())


def test_a_comment_may_be_in_any_language() -> None:
    assert fragment("# für jq\nRUN true\n")
