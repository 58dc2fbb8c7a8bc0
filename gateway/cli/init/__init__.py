"""`huskies init`: a walk through the configuration, in a terminal, in which every answer is checked at once.

Nothing is written before the end. `platforms` has what to click and what to paste, `walk` the order of questions,
`one_platform` those of a platform; `asking` is the terminal, `checking` looks at answers, `draft` is the file.
"""

from gateway.cli.init.walk import run

__all__ = ["run"]
