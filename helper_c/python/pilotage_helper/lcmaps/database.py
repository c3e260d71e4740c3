"""`lcmaps.db` as a value: modules with their options, and policies of rules (LCMAPS's policy description language).

path = DIRECTORY
name = "module.mod" "-option value" "-option" ...
policy:
a -> b            b when a succeeds, else the policy fails
a -> b | c        b when a succeeds, else c
~a -> b           b when a fails, else the policy ends well
"""

import re
from collections.abc import Iterator, Mapping

import msgspec

SIZE_MAX = 256 * 1024
RULES_MAX = 500
TOKEN = re.compile(
    r"""(?P<blank>[ \t\r\n]+|\#[^\n]*)
      | "(?P<string>[^"\n]*)"
      | (?P<mark>->|[=:|~])
      | (?P<word>[A-Za-z0-9_./]+(?:-(?!>)[A-Za-z0-9_./]*)*)""",
    re.VERBOSE,
)
NAME = re.compile(r"[A-Za-z0-9_./]+")


class Problem(msgspec.Struct, frozen=True, order=True):
    """What cannot be read or translated, and on which line; 0 is the whole file."""

    line: int
    text: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


class Problems(Exception):
    """The database cannot be read or translated; every problem that was found is there."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class Module(msgspec.Struct, frozen=True):
    """One plug-in: the file's name without its folder, and its options, as words."""

    name: str
    file: str
    options: tuple[str, ...]
    line: int


class Rule(msgspec.Struct, frozen=True):
    """What follows a plug-in; empty: the policy ends, well after success and badly after failure."""

    name: str
    line: int
    success: str = ""
    failure: str = ""


class Policy(msgspec.Struct, frozen=True):
    """A label and its rules; the first one's plug-in is asked first."""

    name: str
    line: int
    rules: tuple[Rule, ...]


class Database(msgspec.Struct, frozen=True):
    """A whole `lcmaps.db`, sound: each plug-in of a rule is defined, and no rule follows from itself."""

    modules: Mapping[str, Module]
    policies: tuple[Policy, ...]


class Token(msgspec.Struct, frozen=True):
    """A piece of the text: `kind` is string, mark or word."""

    kind: str
    text: str
    line: int


def read_database(text: str) -> Database:
    """Parse the text; raise Problems."""
    if len(text) > SIZE_MAX:
        raise Problems(Problem(0, f"the file has more than {SIZE_MAX} characters"))
    reader = Reader(list(_tokens(text)))
    reader.read()
    problems = [*_undefined(reader), *(p for policy in reader.policies for p in _unsound(policy))]
    if not reader.policies:
        problems.append(Problem(0, "there is no policy"))
    if problems:
        raise Problems(*sorted(problems))
    return Database(reader.modules, tuple(reader.policies))


def _tokens(text: str) -> Iterator[Token]:
    at, line = 0, 1
    while at < len(text):
        match = TOKEN.match(text, at)
        if match is None:
            raise Problems(Problem(line, f"{text[at]!r} cannot stand here"))
        if match.lastgroup != "blank":
            assert match.lastgroup is not None
            yield Token(match.lastgroup, match.group(match.lastgroup), line)
        line += match.group().count("\n")
        at = match.end()


class Reader:
    """The tokens, one after the other."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.at = 0
        self.modules: dict[str, Module] = {}
        self.policies: list[Policy] = []

    def read(self) -> None:
        """Read definitions and policies until the end."""
        while self.at < len(self.tokens):
            first = self.tokens[self.at]
            after = self._peek(1)
            if first.kind == "word" and after == "=":
                self.at += 2
                self._define(first)
            elif first.kind == "word" and after == ":":
                self.at += 2
                self._policy(first)
            else:
                raise Problems(Problem(first.line, f"{first.text!r} begins neither a definition nor a policy"))

    def _peek(self, ahead: int = 0) -> str:
        at = self.at + ahead
        return self.tokens[at].text if at < len(self.tokens) and self.tokens[at].kind == "mark" else ""

    def _name(self, line: int) -> Token:
        if self.at < len(self.tokens) and self.tokens[self.at].kind == "word":
            self.at += 1
            token = self.tokens[self.at - 1]
            if NAME.fullmatch(token.text):
                return token
        raise Problems(Problem(line, "a plug-in's name is missing, or has a character that names never have"))

    def _define(self, name: Token) -> None:
        parts = []
        if name.text == "path" and self.at < len(self.tokens) and self.tokens[self.at].kind == "word":
            parts.append(self.tokens[self.at].text)
            self.at += 1
        while self.at < len(self.tokens) and self.tokens[self.at].kind == "string":
            parts.append(self.tokens[self.at].text)
            self.at += 1
        words = " ".join(parts).split()
        if not words:
            raise Problems(Problem(name.line, f"{name.text} is defined as nothing"))
        if not NAME.fullmatch(name.text):
            raise Problems(Problem(name.line, f"{name.text} has a character that names never have"))
        if name.text in self.modules:
            raise Problems(Problem(name.line, f"{name.text} is defined twice"))
        file = words[0].rpartition("/")[2].removesuffix(".mod")
        self.modules[name.text] = Module(name.text, file, tuple(words[1:]), name.line)

    def _policy(self, name: Token) -> None:
        rules: list[Rule] = []
        while self._peek() == "~" or self._peek(1) == "->":
            rules.append(self._rule())
        if not rules:
            raise Problems(Problem(name.line, f"policy {name.text} has no rule"))
        if len(rules) > RULES_MAX:
            raise Problems(Problem(name.line, f"policy {name.text} has more than {RULES_MAX} rules"))
        if any(policy.name == name.text for policy in self.policies):
            raise Problems(Problem(name.line, f"policy {name.text} is there twice"))
        self.policies.append(Policy(name.text, name.line, tuple(rules)))

    def _rule(self) -> Rule:
        line = self.tokens[self.at].line
        inverted = self._peek() == "~"
        self.at += inverted
        name = self._name(line)
        if self._peek() != "->":
            raise Problems(Problem(line, f"-> is missing after {name.text}"))
        self.at += 1
        then = self._name(line).text
        if inverted:
            return Rule(name.text, line, failure=then)
        if self._peek() != "|":
            return Rule(name.text, line, success=then)
        self.at += 1
        return Rule(name.text, line, then, self._name(line).text)


def _undefined(reader: Reader) -> Iterator[Problem]:
    for policy in reader.policies:
        for rule in policy.rules:
            for name in (rule.name, rule.success, rule.failure):
                if name and (name not in reader.modules or name == "path"):
                    yield Problem(rule.line, f"{name} is not defined")


def _unsound(policy: Policy) -> Iterator[Problem]:
    rules: dict[str, Rule] = {}
    for rule in policy.rules:
        if rule.name in rules:
            yield Problem(rule.line, f"{rule.name} has a rule on line {rules[rule.name].line} already")
            return
        rules[rule.name] = rule
    # Depth first, with a list: a policy may be longer than the stack is deep.
    done: set[str] = set()
    above: set[str] = set()
    rest = [(policy.rules[0].name, False)]
    while rest:
        name, left = rest.pop()
        if left:
            above.discard(name)
            done.add(name)
        elif name in above:
            yield Problem(policy.line, f"policy {policy.name} comes back to {name}")
            return
        elif name not in done:
            above.add(name)
            rest.append((name, True))
            found = rules.get(name)
            rest.extend((then, False) for then in (found.success, found.failure) if then) if found else None
    for rule in policy.rules:
        if rule.name not in done:
            yield Problem(rule.line, f"nothing leads to {rule.name}")
