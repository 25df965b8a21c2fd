"""Pages of the site that are made of the code: every command's options, the recipes' READMEs, the exit codes.

In: the programs' signatures (as `-h` reads them), `egs/*/README.md` and `RESULTS.md`, `egrecho_inner/errors.py`. Out:
files that MkDocs takes as if they were in `docs/`. Nothing of it is in git.
"""

import importlib
import inspect
import posixpath
import re
from pathlib import Path
from typing import Any

import docstring_parser
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from egrecho_inner import errors
from egrecho_inner.cli import COMMANDS
from egrecho_inner.config_help import GENERAL, shown
from egrecho_inner.config_keys import REQUIRED, Key, legal_keys
from egrecho_inner.config_types import describe

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")
FAMILIES = ("mini", "fsdd", "aishell_vi", "distil", "pretrain", "slam", "personal", "new_language")
"""Order of the recipes; others come behind."""
TASKS = ("transcribe.md", "long_audio.md", "new_language.md", "personal.md", "large_models.md", "distillation.md",
         "pretraining.md", "speech_llm.md", "export.md")  # fmt: skip
"""Pages of tasks, those there are; pages that nothing here names come under Background."""


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    for entry in config.nav:
        if "Commands" in entry:
            entry["Commands"] = ["commands/index.md", *(f"commands/{name}.md" for name in sorted(COMMANDS))]
        if "Recipes" in entry:
            entry["Recipes"] = ["recipes.md", *(place for places in recipes().values() for place in places.values())]
    tasks = next(entry["Tasks"] for entry in config.nav if "Tasks" in entry)
    tasks[:] = [name for name in TASKS if (ROOT / "docs" / name).is_file()]
    named = {page for entry in config.nav for pages in entry.values() if isinstance(pages, list) for page in pages}
    config.nav[-1]["Background"] += sorted({path.name for path in ROOT.glob("docs/*.md")} - named)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    made = {f"commands/{name}.md": command_page(name) for name in COMMANDS}
    made["commands/index.md"] = commands_index()
    for places in recipes().values():
        made |= {place: (ROOT / source).read_text(encoding="utf-8") for source, place in places.items()}
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the exit codes; lead links to files of the repository to their pages, or show them as names."""
    source = next((s for places in recipes().values() for s, p in places.items() if p == page.file.src_uri), None)
    folder = posixpath.dirname(source or f"docs/{page.file.src_uri}")
    return LINK.sub(
        lambda found: led(found, folder, page.file.src_uri), markdown.replace("<!-- exit codes -->", codes())
    )


def led(found: re.Match[str], folder: str, here: str) -> str:
    """Return a link that works in the site."""
    text, target = found.groups()
    if re.match(r"[a-z]+:|#", target):
        return found[0]
    path, hash_, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(folder, path))
    pages = {s: p for places in recipes().values() for s, p in places.items()}
    place = pages.get(path) or pages.get(f"{path}/README.md") or (path[5:] if path.startswith("docs/") else None)
    if place is None:
        return text if text.startswith("`") else f"{text} (`{path}`)" if text != path else f"`{path}`"
    return f"[{text}]({posixpath.relpath(place, posixpath.dirname(here) or '.')}{hash_}{anchor})"


def recipes() -> dict[str, dict[str, str]]:
    """Return for each recipe its documents: file of the repository, page of the site."""
    folders = {path.parent.name for path in ROOT.glob("egs/*/README.md")}
    order = [name for name in FAMILIES if name in folders] + sorted(folders - {*FAMILIES})
    return {
        name: {
            f"egs/{name}/{file}": f"recipes/{name}{ending}.md"
            for file, ending in (("README.md", ""), ("RESULTS.md", "_results"))
            if (ROOT / "egs" / name / file).is_file()
        }
        for name in order
    }


def codes() -> str:
    """Return the table of exit codes."""
    found = {0: "done", 130: "ended by Ctrl-C"}
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.UserError):
            text = inspect.cleandoc(kind.__doc__ or "").splitlines()[0]
            found[kind.exit_code] = re.sub(r" \(exit.*", "", text).rstrip(".") if kind is not errors.UserError else (
                "a fault of ours; `--debug` shows where, please report it"
            )  # fmt: skip
    rows = "\n".join(f"| {code} | {text} |" for code, text in sorted(found.items()))
    return f"| exit code | meaning |\n|---|---|\n{rows}"


def commands_index() -> str:
    """Return the page that lists the commands."""
    rows = "\n".join(f"| [egrecho {name}]({name}.md) | {cell(text)} |" for name, (_, text) in COMMANDS.items())
    always = "\n".join(f"| `{name}` | {text} |" for name, text in GENERAL.items())
    return (
        "# Commands\n\nEvery command is a typed function: its signature is the command line, the `-h` and the keys of "
        "its YAML files. Later files win over earlier ones, the command line over all files.\n\n"
        f"| command | |\n|---|---|\n{rows}\n\n"
        "`egrecho launch --standalone --nproc_per_node 2 COMMAND ...` starts one in several processes, one per GPU; "
        f"its options are torchrun's.\n\n## What each takes\n\n| option | |\n|---|---|\n{always}\n"
    )


def command_page(name: str) -> str:
    """Return the page of a command, from its function."""
    module, function = COMMANDS[name][0].split(":")
    program = getattr(importlib.import_module(module), function)
    parsed, keys = docstring_parser.parse(program.__doc__ or ""), legal_keys(program)
    explained = {each.arg_name: each.description or "" for each in parsed.params}
    words = " ".join(word.upper() for word in getattr(program, "positional", []))
    lines = [f"# egrecho {name}", "", parsed.short_description or "", "", (parsed.long_description or ""), ""]
    lines += ["```", f"egrecho {name} {words + ' ' if words else ''}[-c FILE] [--OPTION VALUE] ...", "```", ""]
    for example in parsed.examples:
        lines += ["```bash", inspect.cleandoc(example.description or ""), "```", ""]
    plain = {key: each for key, each in keys.items() if "." not in key and each.kind == "value"}
    lines += table(plain, explained)
    for key, each in keys.items():
        if each.kind != "value":
            lines += group(key, each, keys, explained.get(key, ""))
    return "\n".join(lines)


def group(name: str, key: Key, keys: dict[str, Key], text: str) -> list[str]:
    """Return the section of a group of options."""
    kind = key.hint if key.kind == "group" else next(each for each in key.hint.__args__ if each is not type(None))
    documented = docstring_parser.parse_from_object(kind)
    explained = {f"{name}.{each.arg_name}": each.description or "" for each in documented.params}
    note = (
        "" if key.kind == "group" else " Off unless one of these is given." if key.default is None else " null is off."
    )
    inner = {k: v for k, v in keys.items() if k.rpartition(".")[0] == name and v.kind == "value"}
    return [f"## {name}", "", f"{text or documented.short_description or ''}{note}", "", *table(inner, explained)]


def table(keys: dict[str, Key], explained: dict[str, str]) -> list[str]:
    """Return a table of options."""
    if not keys:
        return []
    lines = ["| option | value | default | |", "|---|---|---|---|"]
    for name, key in keys.items():
        default = "needed" if key.default is REQUIRED else f"`{shown(key.default)}`"
        lines.append(f"| `--{name}` | {cell(describe(key.hint))} | {cell(default)} | {cell(explained.get(name, ''))} |")
    return [*lines, ""]


def cell(text: Any) -> str:
    """Return a text that stands in a cell."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")
