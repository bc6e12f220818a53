"""The verb completion: scripts for bash, zsh and fish, with all words in them, so that a Tab starts no Python."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from ctt.cli.completion_words import FILES, READERS, RECORDED, SECOND, CompletionWords

POSIX = r"""
__ctt_words() {  # WORD COMMAND FIRST: a line for each candidate
  [ -n "$ZSH_VERSION" ] && setopt localoptions nullglob
  local path key="${1%%=*}"
  case "$1" in
    *=*) __ctt_values "$key" | while read -r path; do printf '%s=%s\n' "$key" "$path"; done; return ;;
    -*) __ctt_options "$2" "$3"; return ;;
  esac
  case "$2" in
    @FILES@)
      printf '%s\n' @SWEEPS@
      for path in *.yaml sweeps/*.yaml; do [ -f "$path" ] && printf '%s\n' "$path"; done ;;
    @RECORDED@)
      for path in "${CTT_STORE:-store}"/sweeps/*/; do path="${path%/}"; [ -d "$path" ] && printf '%s\n' "${path##*/}"; done ;;
  esac
  __ctt_keys "$2" "$3"
}
__ctt_values() {
  case "$1" in
@VALUES@
  esac
}
__ctt_options() {
  case "$1 $2" in
@OPTIONS@
  esac
}
__ctt_keys() {
  case "$1" in
@FEW@
    settings) printf '%s\n' @KEYS@ ;;
    *) printf '%s=\n' @KEYS@ ;;
  esac
}
__ctt_candidates() {  # WORD POSITION COMMAND FIRST
  if [ "$2" = 1 ]; then
    case "$1" in *=*|-*) __ctt_words "$1" "" "" ;; *) printf '%s\n' @VERBS@ -m --help --version ;; esac
  else
    case "$3 $2" in
@SECOND@
      *) __ctt_words "$1" "$3" "$4" ;;
    esac
  fi
}
"""
BASH = r"""# Completion of ctt for bash. In ~/.bashrc: source <(ctt completion bash)
@POSIX@
_ctt() {
  local line="${COMP_LINE:0:COMP_POINT}" word kept="" candidate
  local -a before
  read -r -a before <<< "$line"
  case "$line" in *[[:space:]]) before+=("") ;; esac
  word="${before[${#before[@]} - 1]}"
  case "$COMP_WORDBREAKS" in *=*) case "$word" in *=*) kept="${word%%=*}=" ;; esac ;; esac
  COMPREPLY=()
  while IFS= read -r candidate; do
    case "$candidate" in "$word"*) COMPREPLY+=("${candidate#"$kept"}") ;; esac
  done < <(__ctt_candidates "$word" "$((${#before[@]} - 1))" "${before[1]}" "${before[2]}")
  case "${COMPREPLY[0]}" in *=) compopt -o nospace 2> /dev/null ;; esac
  return 0
}
complete -o bashdefault -o default -F _ctt ctt
"""
ZSH = r"""#compdef ctt
# Completion of ctt for zsh. In ~/.zshrc, after compinit: source <(ctt completion zsh)
@POSIX@
_ctt() {
  local -a found settings
  found=("${(@f)$(__ctt_candidates "${words[CURRENT]}" "$((CURRENT - 1))" "${words[2]}" "${words[3]}")}")
  settings=("${(@M)found:#*=}")
  found=("${(@)found:#*=}")
  compadd -S '' -a settings
  compadd -a found
  (( ${#found} + ${#settings} )) || _files
}
compdef _ctt ctt
"""
FISH = r"""# Completion of ctt for fish: ctt completion fish > ~/.config/fish/completions/ctt.fish
function __ctt_words
    set -l before (commandline -opc)
    set -l word (commandline -ct)
    if string match -q -- '*=*' $word
        set -l key (string split -m 1 = -- $word)[1]
        switch $key
@VALUES@
        end
        return
    end
    if string match -q -- '-*' $word
        switch "$before[2] $before[3]"
@OPTIONS@
        end
        return
    end
    if test (count $before) -eq 1
        printf '%s\n' @VERBS@ -m
        return
    end
    if test (count $before) -eq 2; and contains -- $before[2] @FIRST@
        switch $before[2]
@SECOND@
        end
        return
    end
    switch $before[2]
        case @FILES@
            printf '%s\n' @SWEEPS@
            for file in *.yaml sweeps/*.yaml
                echo $file
            end
        case @RECORDED@
            set -l store store
            test -n "$CTT_STORE"; and set store $CTT_STORE
            for folder in $store/sweeps/*/
                basename $folder
            end
    end
    switch $before[2]
@FEW@
        case settings
            printf '%s\n' @KEYS@
        case '*'
            printf '%s=\n' @KEYS@
    end
end
complete -c ctt -f -a '(__ctt_words)'
"""


def script(shell: str, words: CompletionWords) -> str:
    """The completion script of a shell: bash, zsh or fish."""
    case = "        case {}\n            printf '%s\\n' {}" if shell == "fish" else "    {}) printf '%s\\n' {} ;;"
    either = " " if shell == "fish" else "|"

    def cases(table: Mapping[str, Sequence[str]]) -> str:
        return "\n".join(case.format(shlex.quote(name), _quoted(found)) for name, found in table.items() if found)

    second = {f"{name} 2" if shell != "fish" else name: found for name, found in SECOND.items()}
    values = {key: [f"{key}={one}" if shell == "fish" else one for one in found] for key, found in words.values.items()}
    options = {_with_first(name, shell): found for name, found in words.options.items()}
    text = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell].replace("@POSIX@", POSIX.strip())
    filled = {
        "VALUES": cases(values),
        "OPTIONS": "\n".join(case.format(name, _quoted(found)) for name, found in options.items()),
        "FEW": cases({name: keys.split() for name, keys in READERS.items()}),
        "SECOND": cases(second),
        "FILES": either.join(FILES),
        "RECORDED": either.join(RECORDED),
        "SWEEPS": _quoted(words.sweeps),
        "KEYS": _quoted(words.keys),
        "FIRST": _quoted(list(SECOND)),
        "VERBS": _quoted(list(words.verbs)),
    }
    for name, content in filled.items():
        text = text.replace(f"@{name}@", content)
    return text


def _with_first(name: str, shell: str) -> str:
    """The pattern of a verb and its first argument, which matters for `data` alone."""
    if " " in name:
        return shlex.quote(name)
    return f"'{name} *'" if shell == "fish" else f'"{name} "*'


def _quoted(words: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, words))
