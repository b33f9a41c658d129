#!/usr/bin/env bash
# man.sh: makes the manual page of a program or a pipeline from its --help, so that the two cannot differ.
#
#   docs/man.sh PATH NAME        prints the page of PATH under the name it is installed as, such as offramp-extract
set -euo pipefail
path=$1 name=$2
version=$(sed -nE 's/^#define OFFRAMP_VERSION "(.*)"/\1/p' "$(dirname "$0")/../common/base/cli.h")
help() { # help [COMMAND]: one line a paragraph and an option, under the installed name
    (ARGP_HELP_FMT=rmargin=9000,opt-doc-col=60 exec -a "$name" "$path" "$@" --help) |
        sed -e "s|[^ ]*$path|$name|g" -e 's|build/\([a-z]*\) |offramp-\1 |g'
}
heading() { printf '.SH %s\n' "$1"; }
# roff's own characters are taken as text.
escape() { sed -e 's/\\/\\e/g' -e 's/-/\\-/g' -e "s/^\\([.']\\)/\\\\\\&\\1/"; }

# body TITLE-MACRO: a help text as roff: usage, then what comes before the options, the options in their groups, the rest.
body() {
    escape | awk -v title="$1" '
        function start(name) { print title " " name }
        function verbatim(on) { if (on != literal) print on ? ".nf" : ".fi"; literal = on }
        /^Usage: |^  or: +/ { if (!usage++) start("SYNOPSIS"); else print ".br"; sub(/^(Usage: |  or: +)/, ""); print; next }
        usage && !described { start("DESCRIPTION"); described = 1 }
        /^ +(\\-.|\\-\\-)[^ ]*/ && !/^ +\\-\\- / { # an option; its text is behind two blanks or in the next line
            if (!options++) start("OPTIONS")
            verbatim(0)
            sub(/^ +/, "")
            at = match($0, /   */)
            print ".TP"
            print at ? substr($0, 1, at - 1) : $0
            if (at) print substr($0, at + RLENGTH)
            last = "option"
            next
        }
        last == "option" && /^ {20,}/ { sub(/^ +/, ""); print; next }
        last == "option" && /^$/ { blank = 1; next }
        blank && /^ [^ ].*:$/ { sub(/^ /, ""); print ".PP"; print ".B " $0; blank = 0; next } # a group
        blank { if (last == "option" && !after++) start("NOTES"); blank = 0; last = "" }
        /^$/ { verbatim(0); print ".PP"; next }
        { verbatim(/^ /); print }
        END { verbatim(0) }'
}

# Kept in a variable, because a program fails when its help is not read to the end.
text=$(help)
script=$(head -c 2 "$path" | grep -a '^#!' || true)
if [ -n "$script" ]; then # a pipeline's help is laid out already
    what=$(sed -nE '1s/^[^:]*: (.*[^.])\.?$/\1/p' <<<"$text")
else
    what=$(awk '/^Usage|^  or/ { next } { sub(/[.:] .*/, ""); sub(/\.$/, ""); print; exit }' <<<"$text")
fi
printf '.TH %s 1 "" "offramp %s" "offramp"\n' "${name^^}" "$version"
heading NAME
printf '%s \\- %s\n' "$(escape <<<"$name")" "$(escape <<<"${what,}")"
if [ -n "$script" ]; then
    heading DESCRIPTION
    printf '.nf\n'
    escape <<<"$text"
    printf '.fi\n'
else
    body .SH <<<"$text"
    commands=$(sed -nE '/^ +-/q; s/^  ([a-z]+)  .*/\1/p' <<<"$text")
    for command in $commands; do
        heading "\"$(escape <<<"$name $command")\""
        help "$command" | body .SS
    done
    heading "EXIT STATUS"
    printf '0: done. 1: failed, or interrupted; standard error says why. 2: the command line or the sweep file is wrong, by itself or\nfor what it names.\n'
    heading ENVIRONMENT
    printf '.TP\nOFFRAMP_CUDA_LIBRARY\nPath of the cuda backend, when it is neither beside the programs nor in ../lib/offramp.\n'
fi
heading "SEE ALSO"
for other in cache extract generate slurm train tune; do
    [ "offramp-$other" = "$name" ] || printf '.BR offramp\\-%s (1)\n' $other
done
