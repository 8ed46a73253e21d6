"""Text as a terminal may get it: names of files come from anywhere."""

from __future__ import annotations

import unicodedata

LONGEST = 2000  # characters of a line; a path has up to 4096, most often far fewer


def printable(text: str) -> str:
    """The text as one line in which nothing controls the terminal.

    Line ends, terminal escapes, changes of the writing direction, and bytes of names that are no UTF-8 become
    backslash escapes; the middle of a very long text is left out.
    """
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} ... {text[-LONGEST // 2 :]}"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or unicodedata.category(char) == "Zs" else char.encode("unicode_escape").decode()
        for char in text
    )
