"""The code blocks of the tree's Markdown files, and what a comment before a block says of it:

    <!-- not run: REASON -->       a synopsis, or what needs a GPU, a real model, another machine
    <!-- given: NAME ... -->       files of test/readme/given with what the block takes for granted
"""

import re
from dataclasses import dataclass
from pathlib import Path

FENCE = re.compile(r"(?:^<!-- (?P<comment>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
# A block without a language is output or a drawing, unless its commands stand behind a prompt.
RUN = ("sh", "python", "c", "cmake", "transcript")


@dataclass
class Block:
    document: str
    line: int  # of the fence
    language: str
    text: str
    not_run: str = ""
    given: tuple = ()

    def __str__(self):
        return f"{self.document}:{self.line} ({self.language})"


def read(root, document):
    """Blocks of a document in order; ValueError where a comment or a language is not known."""
    content = Path(root, document).read_text()
    found = []
    for match in FENCE.finditer(content):
        block = Block(document, content.count("\n", 0, match.start("language")) + 1,
                      match["language"], match["text"])
        if not block.language:
            commands = [line[2:] for line in block.text.splitlines() if line.startswith("$ ")]
            if not commands:
                continue
            block.language, block.text = "transcript", "\n".join(commands) + "\n"
        key, _, value = (match["comment"] or "").partition(": ")
        if key == "not run" and value:
            block.not_run = value
        elif key == "given" and value:
            block.given = tuple(value.split())
        elif match["comment"] is not None:
            raise ValueError(f"{block}: the comment before it is neither 'not run: REASON' nor 'given: NAME'")
        if block.language not in RUN and not block.not_run:
            raise ValueError(f"{block}: nothing here runs this language; say why in '<!-- not run: REASON -->'")
        found.append(block)
    if content.count("```") != 2 * len(FENCE.findall(content)):
        raise ValueError(f"{document}: fences that do not pair, or do not begin their line")
    return found
