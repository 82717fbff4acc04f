"""How AI agents sign what they write: the frozen table, changed by a release and never fetched.

A hit proves that an agent took part; no hit proves nothing, because hooks and rebases strip what stands here. Every
text is compared after `folding.folded`. The numbers of app accounts, which stand before the `+` of a noreply address,
outlive names. `origin.py` is the only reader.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signature:
    """The marks of one agent, or of any."""

    agent: str
    """The word that evidence and records use."""
    marks: tuple[str, ...] = ()
    """Addresses, logins and phrases: a hit anywhere in anything."""
    accounts: tuple[int, ...] = ()
    """Account numbers in noreply addresses: a hit anywhere in anything."""
    names: tuple[str, ...] = ()
    """A whole name of an author, committer, co-author or opener; with a `*` at the end, how it begins."""
    trailers: tuple[str, ...] = ()
    """What stands before the colon of a line."""
    branches: tuple[str, ...] = ()
    """How a branch's name begins, or a part of it after a slash."""
    labels: tuple[str, ...] = ()
    """A whole label of a pull request."""


ANY = "ai"  # signed as AI, without a name

SIGNATURES: tuple[Signature, ...] = (
    Signature(
        "claude-code",
        marks=(
            "noreply@anthropic.com",
            "Generated with Claude Code",
            "claude.com/claude-code",
            "claude[bot]",
        ),
        accounts=(209825114, 208546643),
        names=("claude", "claude code", "claude opus*", "claude sonnet*", "claude haiku*"),
        trailers=("claude-session",),
        branches=("claude/",),
    ),
    Signature(
        "github-copilot",
        marks=("copilot-swe-agent[bot]", "copilot@github.com", "+copilot@users.noreply.github.com"),
        accounts=(198982749, 223556219, 175728472, 167198135),
        names=("copilot", "github copilot*", "copilot-swe-agent"),
        trailers=("copilot-session",),
        branches=("copilot/",),
        labels=("copilot",),
    ),
    Signature(
        "cursor",
        marks=("cursoragent@cursor.com", "agent@cursor.com", "cursor[bot]"),
        accounts=(206951365,),
        names=("cursor", "cursor agent"),
        branches=("cursor/",),
    ),
    Signature(
        "openai-codex",
        marks=("noreply@openai.com", "codex@openai.com", "chatgpt-codex-connector[bot]"),
        accounts=(199175422, 215057067),
        names=("codex", "openai codex*"),
        branches=("codex/",),
        labels=("codex",),
    ),
    Signature(
        "amazon-q",
        marks=("no-reply@amazon.com", "amazon-q-developer[bot]"),
        accounts=(208079219,),
        names=("amazon q*",),
    ),
    Signature(
        "kiro",
        marks=("noreply@kiro.dev", "kiro@amazon.com", "kiro-agent[bot]"),
        accounts=(244629292,),
        names=("kiro", "kiro agent"),
        branches=("kiro/",),
    ),
    Signature(
        "devin",
        marks=("devin-ai-integration[bot]", "Generated with Devin"),
        accounts=(158243242,),
        names=("devin ai",),
        branches=("devin/",),
    ),
    Signature(
        "gemini",
        marks=("gemini-code-assist[bot]", "gemini-cli@google.com"),
        accounts=(176961590,),
        names=("gemini", "gemini cli", "gemini code assist"),
    ),
    Signature(
        "jules",
        marks=("google-labs-jules[bot]",),
        accounts=(161369871,),
        names=("google jules", "google-labs-jules"),
        labels=("jules",),
    ),
    Signature("aider", marks=("noreply@aider.chat",), names=("aider",), trailers=("aider",)),
    Signature(
        "replit", marks=("agent@replit.com",), names=("replit agent",), trailers=("replit-commit-author",)
    ),
    Signature("opencode", marks=("noreply@opencode.ai",), names=("opencode",)),
    Signature("amp", marks=("amp@ampcode.com",), trailers=("amp-thread-id",)),
    Signature("windsurf", marks=("windsurf@codeium.com", "noreply@windsurf.com", "noreply@codeium.com")),
    Signature(
        "openhands", marks=("openhands@all-hands.dev",), names=("openhands",), branches=("openhands/",)
    ),
    Signature("droid", marks=("factory-droid[bot]",)),
    Signature(
        ANY,
        accounts=(205137888, 230936708, 201248094, 220155983, 136622811),
        trailers=("assisted-by", "generated-by", "ai-assisted-by", "ai-generated-by"),
        labels=("ai", "ai-assisted", "ai-generated", "ai-authored", "generated-by-ai"),
    ),
)
