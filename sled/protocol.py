"""The wire's frames: what a gateway and a sled say to each other, version 1.

Both directions are JSON objects in WebSocket text messages over the project's Unix socket, at `GET /sled`, tagged by
`type`. The sled dials and authenticates with `Authorization: Bearer <project token>`; then::

    sled      -> Hello      who I am, which runs I hold, how far each got
    gateway   -> Welcome    from which event it wants each run replayed
    gateway   -> Warm, Cool, Run, Steer, Decision, Stop, Ack, Call
    sled      -> Event (numbered from 1 within its run), Said, Answer, Command
    gateway   -> Told

A run is journaled by the sled before its agent starts, so `Hello` tells a gateway that lost its memory, or a frame,
what became of each run: listed - take its events; unlisted by the same journal - it never arrived, send it again;
another journal - the sled lost its state, the run is interrupted. `Ack` lets the sled forget a finished run.

`Warm` says that a run is likely soon, so that its agent is started while people still write; `Cool`, that none comes.
Both go to sleds only whose `Hello` names the feature, as one of an older image does not know them.

A `Question` holds up the agent until its `Decision`; the gateway keeps the deadline, the sled only waits. Decisions are
sent again after each hello, and repeats are taken as one. Files travel beside the frames, over HTTP on the same socket:
`GET /files/<id>` for those that a `Run` names, `PUT /files?run=<run>&name=<name>` for those that become a `File`.

A `Command` is what an agent asks the gateway to do, as a person would by a message. The sled sends it again after each
hello until its `Told` has come; the gateway carries it out once. Only a gateway whose `Welcome` names the feature
takes them.

Every frame from a sled is untrusted: `MAX_FRAME` bounds it, the types below bound its parts, and a run id of another
project is ignored.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

#: A gateway speaks this version and the one before. What the one before does not know goes only to a sled whose hello
#: names the version, or the feature.
VERSION = 1
#: Bytes of one frame; longer ones close the connection.
MAX_FRAME = 4 * 2**20
#: Characters of one answer that are sent; the rest stays in the agent's transcript, and the answer says so.
MAX_TEXT = 2**20
#: How an answer ends that was longer.
CUT = "\n\n[The answer was cut here: it is too long to send.]"

Id = Annotated[str, Meta(min_length=1, max_length=80)]
Short = Annotated[str, Meta(max_length=2000)]
Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Seq = Annotated[int, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0, le=2**53)]

#: Bytes of one file, in either direction, and how many files one turn may send.
MAX_FILE = 50 * 2**20
MAX_FILES = 20

#: The feature of a sled that knows `Warm` and `Cool`.
WARM = "warm"
#: The feature of a gateway that takes a `Command`.
DOOR = "door"
#: Characters of a command.
MAX_COMMAND = 100_000
#: Servers of tools that an operator may choose, and characters of what each is started with.
MAX_SERVERS = 20
MAX_SERVER = 10_000

#: The jobs that a sled does, see `sled.jobs`.
Job = Literal["init", "clone", "record", "run", "diff", "undo"]
#: How a run ended. `interrupted`: cut off by a stop or a crash.
Ending = Literal["answered", "failed", "interrupted"]
#: Why, where a person can do something about it. `dialogue`: the model's API takes no more of this dialogue.
Reason = Literal["", "stopped", "crashed", "model_key", "limit", "no_agent", "dialogue"]


class Frame(Struct, frozen=True, kw_only=True, tag_field="type"):
    """Base of all frames."""


# --- what happens in a run -------------------------------------------------------------------------------------------


class Started(Frame, frozen=True, tag="started"):
    """The agent took the prompt. `agent_session` resumes this dialogue in a later run.

    `words`: what the agent understands after a slash, where it says so.
    """

    agent_session: Id
    words: Annotated[list[Annotated[str, Meta(max_length=100)]], Meta(max_length=500)] = []


class TextDelta(Frame, frozen=True, tag="text"):
    """More of the answer. Live only: `Finished` has the whole."""

    delta: Text


class Tool(Frame, frozen=True, tag="tool"):
    """The agent began to use a tool. `detail` is what a person wants to know about that (a file, a command)."""

    id: Id
    name: Short
    detail: Short = ""


class ToolDone(Frame, frozen=True, tag="tool_done"):
    """That tool is done; the run waits for the model again."""

    id: Id
    failed: bool = False


class Note(Frame, frozen=True, tag="note"):
    """Something a person should see while it happens: a retry of the model's API, a lost context."""

    text: Short


class Option(Struct, frozen=True, kw_only=True):
    """One of the answers that an agent offers."""

    label: Short
    description: Short = ""


class Query(Struct, frozen=True, kw_only=True):
    """One thing that an agent wants to know. `several`: more than one option may be chosen. No options: free text."""

    text: Short
    header: Short = ""
    options: Annotated[list[Option], Meta(max_length=20)] = []
    several: bool = False


class Question(Frame, frozen=True, tag="question"):
    """The agent waits for a person.

    kind `permission`: whether it may use `tool` with `arguments` (JSON, complete or refused before it got here);
    `rule` is what "for this session" would allow from then on, in words for people; the same rule is not asked again.
    kind `query`: the answers to `queries`.
    """

    id: Id
    kind: Literal["permission", "query"]
    tool: Short = ""
    arguments: Text = ""
    rule: Short = ""
    queries: Annotated[list[Query], Meta(max_length=10)] = []


class Withdrawn(Frame, frozen=True, tag="withdrawn"):
    """The agent no longer waits for the answer to that question."""

    question: Id


class File(Frame, frozen=True, tag="file"):
    """The agent sent people a file; the gateway already holds it, as `id`."""

    id: Id
    name: Short
    caption: Short = ""


class Steered(Frame, frozen=True, tag="steered"):
    """The agent took message `message` into this run."""

    message: Count


class Finished(Frame, frozen=True, tag="finished"):
    """The run is over and its processes are gone, except for `survivors` (process ids).

    `input_tokens` are those that no cache held; `tools` counts the uses of each. Reason `limit`: the provider serves
    this account again at `resets_at` (seconds since the epoch; 0: it did not say). `notes`: what people must know about
    the run besides its answer, such as a lost context.
    """

    ending: Ending
    text: Text = ""
    reason: Reason = ""
    error: Short = ""
    agent_session: str = ""
    model: Short = ""
    cost_usd: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    tools: Annotated[dict[Short, Count], Meta(max_length=200)] = {}
    resets_at: Annotated[float, Meta(ge=0)] = 0.0
    notes: Annotated[list[Short], Meta(max_length=20)] = []
    survivors: Annotated[list[int], Meta(max_length=1000)] = []


Body = Started | TextDelta | Tool | ToolDone | Note | Question | Withdrawn | File | Steered | Finished

# --- sled -> gateway -------------------------------------------------------------------------------------------------


class RunState(Struct, frozen=True, kw_only=True):
    """A run that the sled holds: `last` is the number of its newest event."""

    run: Id
    last: Seq
    finished: bool


class Hello(Frame, frozen=True, tag="hello"):
    """First frame of each connection. `journal` changes only when the sled lost its journal."""

    version: int
    journal: Id
    runs: Annotated[list[RunState], Meta(max_length=1000)]
    agents: Annotated[list[Id], Meta(max_length=20)] = []
    features: Annotated[list[Id], Meta(max_length=20)] = []


class Event(Frame, frozen=True, tag="event"):
    """Event number `seq` of a run."""

    run: Id
    seq: Seq
    body: Body


class Answer(Frame, frozen=True, tag="answer"):
    """What became of a `Call`."""

    call: Id
    ok: bool
    text: Text = ""


class Command(Frame, frozen=True, tag="command"):
    """An agent, or what it started, asks for `text` to be done: call number `call` of the sled's, for its run `run`.

    No run: whoever asks descends from none that is under way.
    """

    call: Id
    run: Annotated[str, Meta(max_length=80)]
    text: Annotated[str, Meta(max_length=MAX_COMMAND)]


class Said(Frame, frozen=True, tag="said"):
    """How far a `Call` has got, in a line for a person; it does no harm if one of these is lost."""

    call: Id
    text: Short


FromSled = Hello | Event | Said | Answer | Command

# --- gateway -> sled -------------------------------------------------------------------------------------------------


class Welcome(Frame, frozen=True, tag="welcome"):
    """Replay each run after the event given here; runs that are missing here, from the start.

    `git_hosts`: hosts that the gateway has a token for; git reaches them through the relay. `agent`: the one that the
    project's runs name, so that a runner can load it before anybody writes. `features`: what this gateway takes that
    not every one does.
    """

    seen: dict[str, int] = {}
    git_hosts: list[str] = []
    agent: str = ""
    features: list[str] = []


class Attached(Struct, frozen=True, kw_only=True):
    """A file that came with a message; fetched as `id`, put into the inbox folder as `name`."""

    id: Id
    name: Short


class McpServer(Struct, frozen=True, kw_only=True):
    """A server of tools (Model Context Protocol) that an operator chose. The agent runs `command` with `env`; where
    there is none, it reaches the server at `/mcp/<name>` of the relay."""

    name: Id
    command: list[str] = []
    env: dict[str, str] = {}


class Run(Frame, frozen=True, tag="run"):
    """Run the agent over `prompt`. A run id that the sled already holds is ignored.

    `session` names the dialogue within the project: runs of one session share a warm runner. `resume` is the
    `agent_session` to continue. `warm_s`: seconds that the runner outlives this run. `context`: standing facts for
    the agent (who writes, from where), apart from the prompt. `news`: what happened since its last turn, told once.
    `files` are fetched before the agent starts. `door`: what the agent is told about the commands that it may use;
    empty if it has none. `mcp`: the servers of tools that it gets besides its own.
    """

    run: Id
    session: Id
    prompt: str
    agent: Id
    resume: str = ""
    permissions: Literal["auto", "ask", "allow"] = "auto"
    isolated: bool = False
    model: str = ""
    context: str = ""
    news: str = ""
    files: list[Attached] = []
    warm_s: float = 0.0
    door: str = ""
    mcp: list[McpServer] = []


class Warm(Frame, frozen=True, tag="warm"):
    """A run of this session is likely soon: start its runner and its agent now, unless they are warm.

    The fields are those of the `Run` to come. What was started ahead is ended by `Cool`, or after `for_s` seconds
    without a run; what that has started counts as the run's.
    """

    session: Id
    agent: Id
    resume: str = ""
    permissions: Literal["auto", "ask", "allow"] = "auto"
    isolated: bool = False
    model: str = ""
    for_s: float = 60.0
    door: str = ""
    mcp: list[McpServer] = []


class Cool(Frame, frozen=True, tag="cool"):
    """No run of this session comes: end what was started ahead for it."""

    session: Id


class Steer(Frame, frozen=True, tag="steer"):
    """Hand `text` into a run; `Steered` confirms it. An agent that cannot, or an ended run, stays silent."""

    run: Id
    message: int
    text: str


class Decision(Frame, frozen=True, tag="decision"):
    """The answer to a question: a permission given or denied (`text`: why, for the agent), or for each query a list of
    the chosen labels, or of one free text. `allow` is False for a query that nobody answered."""

    run: Id
    question: Id
    allow: bool
    text: str = ""
    answers: list[list[str]] = []


class Stop(Frame, frozen=True, tag="stop"):
    """End a run: interrupt, wait `grace_s` seconds, kill what it started, verify; `Finished` reports it."""

    run: Id
    grace_s: float = 1.0


class Forget(Frame, frozen=True, tag="forget"):
    """End the warm runner of a session, if there is one (`reset`)."""

    session: Id


class Ack(Frame, frozen=True, tag="ack"):
    """The end of `run` is committed: drop it from the journal."""

    run: Id


class Call(Frame, frozen=True, tag="call"):
    """A small job in the project, see `sled.jobs` for each one's arguments."""

    call: Id
    job: Job
    arguments: dict[str, str] = {}


class Told(Frame, frozen=True, tag="told"):
    """What came of a `Command`. done: it was carried out; refused: it was not, and `text` says why; failed: it may have
    been, in part."""

    call: str
    outcome: Literal["done", "refused", "failed"]
    text: str


FromGateway = Welcome | Warm | Cool | Run | Steer | Decision | Stop | Forget | Ack | Call | Told

T = TypeVar("T")

#: NUL as JSON has it, and not a backslash before `u0000`.
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_NUL_BYTES = re.compile(_NUL.pattern.encode())
_encoder = msgspec.json.Encoder()
_from_sled: msgspec.json.Decoder[FromSled] = msgspec.json.Decoder(FromSled)
_from_gateway: msgspec.json.Decoder[FromGateway] = msgspec.json.Decoder(FromGateway)
_body: msgspec.json.Decoder[Body] = msgspec.json.Decoder(Body)


class BadFrame(Exception):
    """The other side sent something that is not a frame of this version."""


def encode(frame: Frame) -> str:
    """One frame as the text of a WebSocket message."""
    return _encoder.encode(frame).decode()


def decode_from_sled(data: str | bytes) -> FromSled:
    """Read a sled's frame, its text without NUL, which no database of text takes. Raises BadFrame."""
    return _decode(_from_sled, _without_nul(data))


def cut(answer: str) -> str:
    """An answer of at most MAX_TEXT bytes, so that no frame grows too large; it says so when it was cut."""
    raw = answer.encode(errors="replace")
    if len(raw) <= MAX_TEXT:
        return raw.decode()
    return raw[: MAX_TEXT - len(CUT)].decode(errors="ignore") + CUT


class _AnyHello(Struct):
    type: Literal["hello"]
    version: int


def version_of(data: str | bytes) -> int:
    """The version of a hello, whatever else that version's has in it; 0 for what is no hello."""
    try:
        return msgspec.json.decode(data, type=_AnyHello).version
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return 0


def decode_from_gateway(data: str | bytes) -> FromGateway:
    """Read a gateway's frame. Raises BadFrame."""
    return _decode(_from_gateway, data)


def decode_body(data: str | bytes) -> Body:
    """Read one journaled event, its text without NUL. Raises BadFrame."""
    return _decode(_body, _without_nul(data))


def _without_nul(data: str | bytes) -> str | bytes:
    """JSON in which each NUL is what stands for a character that cannot be shown."""
    if isinstance(data, str):
        return _NUL.sub(r"\1\\ufffd", data) if r"\u0000" in data else data
    return _NUL_BYTES.sub(rb"\1\\ufffd", data) if rb"\u0000" in data else data


def _decode(decoder: msgspec.json.Decoder[T], data: str | bytes) -> T:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(str(error)) from error
