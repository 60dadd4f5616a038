"""The embedded analyst: rules, no network, the same answer every time.

What a change is, strongest evidence first:

1. a conventional-commit prefix of the title: ``feat:``, ``fix(api)!:``;
2. all its paths are documentation, tests or tooling;
3. the first words of the title, then telling words anywhere in it;
4. the name of the branch, for a merge.

A merge with a title that only says so is judged by the first line of its body.

AI-assisted is a change that says so itself, in one of these ways and no other:

1. its author or a co-author has an address that only a tool has (`TOOL_ADDRESSES`);
2. its author or a co-author has a name that only a tool has (`TOOL_NAMES`), such as "Claude Code" or "GitHub
   Copilot"; a first name alone, "Claude" or "Devin", is a person's;
3. its author's name ends in a tool in parentheses: "Ada (aider)";
4. a line of the body *begins* with "Generated with", "Assisted by" and the like and then names a known tool
   alone ("Claude Code", not "Claude Monet"; "Cursor", not "cursor pagination"), or it begins with a robot
   face and such words, or "written by", whatever the tool;
5. a trailer ``Assisted-by:``, ``Generated-by:`` or ``AI-assistant:`` names a known tool in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ..ports import Analysis, Change, ChangeKind, Insight, Person

__all__ = ["Rules", "ai_tool", "kind_of", "one_line"]

MAX_SUMMARY = 200

PREFIXES: dict[str, ChangeKind] = {
    "feat": "feature",
    "feature": "feature",
    "fix": "fix",
    "bugfix": "fix",
    "hotfix": "fix",
    "refactor": "refactor",
    "perf": "performance",
    "docs": "docs",
    "doc": "docs",
    "test": "test",
    "tests": "test",
    "build": "chore",
    "chore": "chore",
    "ci": "chore",
    "deps": "chore",
    "release": "chore",
    "revert": "chore",
    "style": "chore",
}

PREFIX = re.compile(r"^(?P<kind>[a-z]+)(?:\([^()]*\))?!?:\s*(?P<rest>.*)", re.I)

FIRST_WORDS: dict[ChangeKind, str] = {
    "fix": "fix(?:e[sd]|ing)?|correct(?:s|ed)?|resolve[sd]?|repair(?:s|ed)?|prevent(?:s|ed)?|avoid(?:s|ed)?",
    "test": r"tests?|cover|add (?:\w+ )?tests?\b",
    "docs": r"docs?|document(?:s|ed|ation)?|readme|changelog|add (?:\w+ )?(?:docs|documentation)\b",
    "performance": "speed(?:s|ed)? up|optimi[sz]e[sd]?|cache[sd]?",
    "refactor": "refactor(?:s|ed|ing)?|rename[sd]?|move[sd]?|simplif(?:y|ies|ied)|clean(?:s|ed)?(?: ?up)?"
    "|extract(?:s|ed)?|rework(?:s|ed)?|restructure[sd]?|split(?:s)?|inline[sd]?|remove[sd]?|drop(?:s|ped)?",
    "chore": "bump(?:s|ed)?|upgrade[sd]?|updated? (?:dependenc(?:y|ies)|requirements?|lock(?:file)?)"
    "|release[sd]?|pin(?:s|ned)?|revert(?:s|ed)?|prepare"
    "|merge (?:remote-tracking )?branch '?(?:origin/)?(?:main|master|develop)",
    "feature": "add(?:s|ed)?|implement(?:s|ed)?|introduce[sd]?|support(?:s|ed)?|allow(?:s|ed)?|enable[sd]?"
    "|create[sd]?|initial",
}
OPENINGS = {kind: re.compile(rf"(?:{words})(?!\w)", re.I) for kind, words in FIRST_WORDS.items()}

ANYWHERE: dict[ChangeKind, re.Pattern[str]] = {
    "fix": re.compile(r"\b(?:bug|bugfix|crash(?:es)?|regression|typo|broken|fix(?:es|ed)?)\b", re.I),
    "performance": re.compile(r"\b(?:faster|performance|speedup)\b", re.I),
    "refactor": re.compile(r"\b(?:refactor(?:ing)?|cleanup)\b", re.I),
}

PATHS: dict[ChangeKind, re.Pattern[str]] = {
    "test": re.compile(
        r"(?:^|/)(?:tests?|specs?|__tests__)/|(?:^|/)(?:test_[^/]+|conftest)\.py$|[._](?:test|spec)\.\w+$"
    ),
    "docs": re.compile(
        r"(?:^|/)docs?/|\.(?:md|rst|adoc)$|(?:^|/)(?:README|CHANGELOG|LICEN[CS]E|AUTHORS)[^/]*$", re.I
    ),
    "chore": re.compile(
        r"^\.(?:github|gitlab|circleci)/|(?:^|/)(?:\.git\w+|\.pre-commit-config\.ya?ml|Makefile|Dockerfile)$"
        r"|(?:^|/)[^/]*(?:\.lock|requirements[^/]*\.txt|package-lock\.json|\.mailmap)$"
    ),
}

MERGE = re.compile(
    r"^Merge (?:pull request #\d+ from|(?:remote-tracking )?branch) '?(?P<branch>[^\s']+)", re.I
)
BRANCH = re.compile(r"(?:^|/)(?P<kind>[a-z]+)[/_-]", re.I)

TOOL_ADDRESSES: dict[str, re.Pattern[str]] = {
    tool: re.compile(rf"^(?:{pattern})$")
    for tool, pattern in {
        "Claude": r"noreply@anthropic\.com|(?:\d+\+)?claude\[bot\]@users\.noreply\.github\.com"
        r"|81847\+claude@users\.noreply\.github\.com",
        "GitHub Copilot": r"copilot@github\.com|\d+\+copilot@users\.noreply\.github\.com"
        r"|(?:\d+\+)?(?:copilot|copilot-swe-agent|github-copilot)\[bot\]@users\.noreply\.github\.com",
        "Cursor": r"cursoragent@cursor\.com|(?:\d+\+)?cursor\[bot\]@users\.noreply\.github\.com",
        "Codex": r"codex@openai\.com|noreply@openai\.com"
        r"|(?:\d+\+)?chatgpt-codex-connector\[bot\]@users\.noreply\.github\.com",
        "Devin": r"(?:\d+\+)?devin-ai-integration\[bot\]@users\.noreply\.github\.com",
        "Aider": r"(?:aider|noreply)@aider\.chat",
        "Gemini": r"(?:\d+\+)?gemini-(?:cli|code-assist)(?:\[bot\])?@users\.noreply\.github\.com",
        "Jules": r"(?:\d+\+)?google-labs-jules\[bot\]@users\.noreply\.github\.com",
        "OpenCode": r"noreply@opencode\.ai",
        "Amp": r"amp@ampcode\.com",
    }.items()
}

# Only names that no person has: a model or a product behind a first name, or a product that is no first name.
TOOL_NAMES: dict[str, str] = {
    "Claude": r"claude[ -](?:code|opus|sonnet|haiku|\d)[\w .-]*",
    "GitHub Copilot": r"(?:github |microsoft )?copilot(?: agent| chat)?",
    "Cursor": r"cursor (?:agent|ai)",
    "Codex": r"(?:openai )?codex(?: cli)?|gpt-[\w. -]+|chatgpt",
    "Devin": r"devin ai(?: integration)?(?:\[bot\])?",
    "Aider": r"aider(?: \(.*\))?",
    "Gemini": r"(?:google )?gemini[ -](?:cli|code|pro|flash|\d)[\w .-]*",
    "Windsurf": r"windsurf(?: cascade)?",
    "OpenCode": r"opencode",
}
FULL_NAMES = {tool: re.compile(rf"^(?:{pattern})$", re.I) for tool, pattern in TOOL_NAMES.items()}
IN_PARENTHESES = re.compile(r"\((?P<tool>aider|claude(?:[ -]code)?|codex|copilot|cursor)\)$", re.I)

# What a tool is called where the sentence already says that one was at work.
MENTIONS = {
    "Claude": "claude",
    "GitHub Copilot": "copilot",
    "Cursor": "cursor",
    "Codex": r"codex|chatgpt|gpt-\d[\w.]*",
    "Devin": "devin",
    "Aider": "aider",
    "Gemini": "gemini",
    "Jules": "jules",
    "Windsurf": "windsurf",
    "OpenCode": "opencode",
}
# Behind the name: nothing, punctuation, a version, or a word of products. Not a surname, not a noun.
ALONE = (
    r"(?=$|[^\w\s-]|\s+[^\w\s]|[ -]\d"
    r"|[ -](?:code|cli|ai|agent|chat|opus|sonnet|haiku|pro|flash|assist|and|using|via)\b)"
)
MENTION = {
    tool: re.compile(rf"^\W*(?:(?:github|openai|google|anthropic) )?(?:{words}){ALONE}", re.I)
    for tool, words in MENTIONS.items()
}

LED_BY = r"\s+(?:with|by|using)\s+(?:the\s+help\s+of\s+)?(?P<what>.+)$"
MADE_WITH = re.compile(
    rf"^[\s>*_-]*(?:(?:co-)?generated|assisted|ai[- ](?:generated|assisted)){LED_BY}", re.I | re.M
)
ROBOT = re.compile(
    rf"^[\s>*_-]*\N{{ROBOT FACE}}\s*(?:(?:co-)?(?:generated|written|authored|created|made)|assisted){LED_BY}",
    re.I | re.M,
)
SAID_BY_TRAILER = re.compile(
    r"^(?:(?:ai-)?assisted-by|(?:ai-)?generated-by|ai-assistant|ai-tool):\s*(?P<what>.+)$", re.I | re.M
)
TRAILER = re.compile(r"^[A-Z][\w-]*-by: |^#? ?Conflicts:", re.I)

# "[ABC-12] ", "ABC-12: ", "#12 ", "module: " before what a title says.
TAGS = re.compile(r"^(?:(?:\[[^\]]*\]|[A-Z]+-\d+|#\d+)[:\s-]*|[\w./-]+(?: [\w./-]+)?: +)+")


class Rules:
    """The default `Analyst`. It needs nothing, so it never raises."""

    def analyse(self, changes: Sequence[Change]) -> list[Analysis]:
        return [_analysis(change) for change in changes]

    def summarise(self, insights: Sequence[Insight]) -> str:
        """What needs attention first, then the rest, at most four sentences' worth."""
        ranked = sorted(insights, key=lambda insight: insight.level != "warning")
        return " ".join(insight.body for insight in ranked[:4])


def _analysis(change: Change) -> Analysis:
    tool = ai_tool(change)
    return Analysis(change.sha, kind_of(change), tool is not None, tool or "", one_line(change))


def one_line(change: Change) -> str:
    """The title without its prefix, at most 200 characters; never empty."""
    title = _headline(change)
    found = PREFIX.match(title)
    text = found["rest"] if found and found["kind"].lower() in PREFIXES else title
    text = text.strip() or "No description"
    text = text[0].upper() + text[1:]
    return text if len(text) <= MAX_SUMMARY else text[: MAX_SUMMARY - 1].rstrip() + "…"


def _headline(change: Change) -> str:
    """The title, or what a merge button put under it."""
    first = change.body.split("\n", 1)[0].strip()
    if MERGE.match(change.title) and first and not TRAILER.match(first):
        return first
    return change.title


def kind_of(change: Change) -> ChangeKind:
    title = _headline(change)
    return _by_prefix(title) or _by_paths(change) or _by_words(title) or _by_branch(change.title) or "other"


def _by_prefix(title: str) -> ChangeKind | None:
    found = PREFIX.match(title)
    return PREFIXES.get(found["kind"].lower()) if found else None


def _by_paths(change: Change) -> ChangeKind | None:
    if not change.knows_every_path:
        return None
    for kind, pattern in PATHS.items():
        if all(pattern.search(path) for path in change.paths):
            return kind
    return None


def _by_words(title: str) -> ChangeKind | None:
    said = TAGS.sub("", title)
    for kind, opening in OPENINGS.items():
        if opening.match(said):
            return kind
    return next((kind for kind, words in ANYWHERE.items() if words.search(title)), None)


def _by_branch(title: str) -> ChangeKind | None:
    merge = MERGE.match(title)
    kinds = BRANCH.finditer(merge["branch"]) if merge else ()
    return next((PREFIXES[k] for found in kinds if (k := found["kind"].lower()) in PREFIXES), None)


def ai_tool(change: Change) -> str | None:
    """The tool that helped; empty when the change does not say which; None when it says nothing at all."""
    return next(_signs(change), None)


def _signs(change: Change) -> Iterator[str]:
    for person in (change.author, *change.co_authors):
        yield from _tool_behind(person)
    for found in SAID_BY_TRAILER.finditer(change.body):
        yield from _tool_in_trailer(found["what"])
    for found in MADE_WITH.finditer(change.body):
        yield from _mentioned(found["what"])
    for found in ROBOT.finditer(change.body):
        yield next(_mentioned(found["what"]), "")


def _tool_behind(person: Person) -> Iterator[str]:
    yield from (tool for tool, address in TOOL_ADDRESSES.items() if address.match(person.email))
    yield from (tool for tool, name in FULL_NAMES.items() if name.match(person.name))
    if found := IN_PARENTHESES.search(person.name):
        yield from _mentioned(found["tool"])


def _tool_in_trailer(text: str) -> Iterator[str]:
    """Whoever has an address is judged by it, as a co-author is."""
    name, bracket, email = text.partition("<")
    if bracket:
        yield from _tool_behind(Person(name.strip(), email.rstrip("> ").lower()))
    else:
        yield from _mentioned(text)


def _mentioned(text: str) -> Iterator[str]:
    yield from (tool for tool, name in MENTION.items() if name.match(text.strip()))
