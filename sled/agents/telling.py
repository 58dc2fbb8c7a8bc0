"""What an agent is told with a prompt: standing facts once, news when it happens."""

from __future__ import annotations


class Telling:
    """What one dialogue was told so far."""

    def __init__(self) -> None:
        self._context = ""
        #: What it could not be told yet.
        self._news: list[str] = []

    def parts(self, prompt: str, context: str, news: str) -> list[str]:
        """The texts that make up the message: facts that the agent does not know yet come before the prompt, apart.

        A prompt with a leading slash is one of the agent's commands, and must be alone to count as one; the rest waits.
        """
        self._news += [news] if news else []
        facts = [context] if context and context != self._context else []
        if prompt.startswith("/") or not (facts or self._news):
            return [prompt]
        told = "\n".join([*facts, *self._news])
        self._context, self._news = context, []
        return [f"<context>\n{told}\n</context>", prompt]
