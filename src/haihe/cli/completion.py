"""Completion scripts, generated from the parser: verbs, their options and choices."""

import argparse


def _tree(top: argparse.ArgumentParser, path: str = "") -> dict[str, list[str]]:
    words: list[str] = []
    tree: dict[str, list[str]] = {}
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            words += list(action.choices)
            for name, sub in action.choices.items():
                tree |= _tree(sub, f"{path} {name}".strip())
        elif action.option_strings:
            words += [option for option in action.option_strings if option.startswith("--")]
        elif action.choices:
            words += [str(choice) for choice in action.choices]
    return {path: words} | tree


def script(top: argparse.ArgumentParser, shell: str) -> str:
    """The script for bash or zsh; file names complete where no word fits."""
    cases = "\n".join(
        f'    "{path}") words="{" ".join(words)}" ;;' for path, words in _tree(top).items()
    )
    groups = "|".join(sorted({p.split()[0] for p in _tree(top) if " " in p}))
    bash = f"""_haihe() {{
  local words="" path="${{COMP_WORDS[1]}}" current="${{COMP_WORDS[COMP_CWORD]}}"
  [ "$COMP_CWORD" -eq 1 ] && path=""
  case "$path" in
    {groups}) [ "$COMP_CWORD" -gt 2 ] && path="$path ${{COMP_WORDS[2]}}" ;;
  esac
  case "$path" in
{cases}
  esac
  COMPREPLY=( $(compgen -W "$words" -- "$current") )
}}
complete -o default -F _haihe haihe"""
    return bash if shell == "bash" else f"autoload -U +X bashcompinit && bashcompinit\n{bash}"
