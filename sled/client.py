"""The command `huskies` in a project: hands its words to the gateway through the sled's door, and prints the answer.

It starts within milliseconds: it needs the standard library alone, is run without `site`, and imports nothing of the
sled. Exit codes: 0 done, 1 refused, 2 it may have been done in part, 69 there is no sled.
"""

import json
import os
import socket
import sys

CODES = {"done": 0, "refused": 1, "failed": 2}
#: As `sysexits.h` has it: the service is not there.
UNAVAILABLE = 69


def call(path: str, text: str) -> tuple[str, str]:
    """Hand in a command; its outcome and what is told. Raises OSError when nobody listens, or the sled went away."""
    folder, name = os.path.split(path)
    here = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    try:
        with socket.socket(socket.AF_UNIX) as door:
            # By the folder's descriptor: the kernel takes no socket's name of more than 107 bytes.
            door.connect(f"/proc/self/fd/{here}/{name}")
            door.sendall(json.dumps({"text": text}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                more = door.recv(65536)
                if not more:
                    raise ConnectionError("the sled ended before it had an answer")
                answer += more
    finally:
        os.close(here)
    told = json.loads(answer)
    return str(told["outcome"]), str(told["text"])


def main(arguments: list[str]) -> int:
    """Call, print, and say by the exit code what came of it."""
    if arguments in ([], ["-h"], ["--help"]):
        arguments = ["help"]
    path = os.environ.get("HUSKIES_DOOR") or f"{os.environ['HOME']}/.huskies/door"
    # The last word may be a text, which goes on to its end; a word before it is quoted as it was.
    text = " ".join([*(f'"{word}"' if " " in word else word for word in arguments[:-1]), arguments[-1]])
    try:
        outcome, told = call(path, text)
    except (OSError, ValueError, KeyError) as error:  # KeyError: what answered is no sled
        sys.stderr.write(f"huskies: the gateway cannot be asked now: {error}\n")
        return UNAVAILABLE
    out = sys.stdout if outcome == "done" else sys.stderr
    out.write(told if told.endswith("\n") else f"{told}\n")
    return CODES.get(outcome, 2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
