#!/usr/bin/env bash
# names.sh: fails where a page or a comment names a file, a folder or a heading that is not there.
#
# In pages (*.md): links, and names of files and folders. In the walks of docs/design.md, the sections called
# "### PROGRAM: ...", a bare name such as `run.c` must be a file of that program's folder, or of a folder that the same
# line names. Elsewhere a name must be the end of some file's path. In comments: names of files, and numbered sections of the
# design page. It fails, too, where a walk does not name a .c file of its program.
set -euo pipefail
cd "$(dirname "$0")/.."

files=$(git ls-files)
# Files of other projects.
others='llm.c llama.cpp mdb.c lmdb.h stdio.h jansson.h docs/gguf.md'

git ls-files '*.md' '*.c' '*.h' '*.cu' '*.cuh' '*.sh' '*.py' '*.mk' | grep -v '^CHANGELOG.md$' | xargs awk -v files="$files" -v others="$others" '
    function complain(text) {
        print FILENAME ":" FNR ": " text | "cat >&2"
        bad = 1
    }
    # What GitHub makes of a heading, for links.
    function anchor_of(heading) {
        sub(/^#+ /, "", heading)
        heading = tolower(heading)
        gsub(/[^a-z0-9_ -]/, "", heading)
        gsub(/ /, "-", heading)
        return heading
    }
    function folder_of(path) { return path ~ /\// ? substr(path, 1, match(path, /\/[^\/]*$/) - 1) : "" }
    function read_anchors(page,    line) {
        if (page in anchors_read)
            return
        anchors_read[page] = 1
        while ((getline line < page) > 0) {
            if (line ~ /^#+ /)
                anchors[page "#" anchor_of(line)] = 1
            if (line ~ /^## [0-9]+\./)
                sections[page " " (substr(line, 4) + 0)] = 1
        }
        close(page)
    }
    function check_link(target,    path, anchor) {
        if (target ~ /^[a-z]+:/)
            return
        path = target
        sub(/#.*/, "", path)
        anchor = index(target, "#") ? substr(target, index(target, "#") + 1) : ""
        if (path == "")
            path = FILENAME
        else if (folder_of(FILENAME) != "")
            path = folder_of(FILENAME) "/" path
        while (path ~ /[^\/]+\/\.\.\//)
            sub(/[^\/]+\/\.\.\//, "", path)
        sub(/\/$/, "", path)
        if (!(path in file) && !(path in folder)) {
            complain("the link " target " leads to a file that is not there")
            return
        }
        read_anchors(path)
        if (anchor != "" && !((path "#" anchor) in anchors))
            complain("the link " target " leads to a heading that is not there")
    }
    # Names of files in a text: those that end some path, or in a walk those of its folder and of the folders in `line`.
    function check_files(text, line,    name, count, part, i, found) {
        while (match(text, /[A-Za-z0-9_.\/-]*[A-Za-z0-9_]\.(cuh|cu|cpp|c|h|sh|py|md|mk)($|[^A-Za-z0-9_])/)) {
            name = substr(text, RSTART, RLENGTH)
            before = RSTART > 1 ? substr(text, RSTART - 1, 1) : ""
            text = substr(text, RSTART + RLENGTH)
            sub(/[^A-Za-z0-9_]$/, "", name)
            sub(/^(\.\.?\/)+/, "", name)
            if ((name in foreign) || before ~ /[$*}]/ || name ~ /^\/|NAME/ || name ~ /^build\//)
                continue
            found = (name in tail) || (name in file)
            if (walk != "")
                walked[name ~ /\// ? name : walk "/" name] = 1
            if (walk != "" && name !~ /\//) {
                found = (walk "/" name) in file
                count = split(line, part, /[^A-Za-z0-9_.\/-]+/)
                for (i = 1; i <= count && !found; i++)
                    found = ((part[i] "/" name) in file) || ((folder_of(part[i]) "/" name) in file)
            }
            if (!found)
                complain((walk != "" && name !~ /\// ? walk "/" name : name) " is not there; was it renamed? Change the name here in the same commit")
        }
    }
    function check_folders(text,    name) {
        while (match(text, /`(common|docs|extract|generate|kernels|pipelines|tests|train)\/[A-Za-z0-9_\/-]*/)) {
            name = substr(text, RSTART + 1, RLENGTH - 1)
            after = substr(text, RSTART + RLENGTH, 1)
            text = substr(text, RSTART + RLENGTH)
            sub(/\/$/, "", name)
            if (after == "`" && !(name in folder) && !(name in file) )
                complain("the folder " name " is not there; was it renamed? Change the name here in the same commit")
        }
    }
    function check_sections(text) {
        while (match(tolower(text), /design(\.md)?( page)?,? section [0-9]+/)) {
            number = substr(text, RSTART, RLENGTH)
            text = substr(text, RSTART + RLENGTH)
            sub(/.* /, "", number)
            read_anchors("docs/design.md")
            if (!(("docs/design.md " number) in sections))
                complain("cites section " number " of docs/design.md, which does not have one")
        }
    }
    BEGIN {
        count = split(files, path, "\n")
        for (i = 1; i <= count; i++) {
            file[path[i]] = 1
            for (name = path[i]; sub(/^[^\/]*\//, "", name);)
                tail[name] = 1
            for (name = folder_of(path[i]); name != ""; name = folder_of(name))
                folder[name] = 1
        }
        count = split(others, path, " ")
        for (i = 1; i <= count; i++)
            foreign[path[i]] = 1
    }
    FNR == 1 {
        walk = ""
        comment = 0
    }
    FILENAME ~ /\.md$/ {
        if (/^#+ /) {
            walk = FILENAME == "docs/design.md" && /^### [a-z]+:/ ? substr($2, 1, length($2) - 1) : ""
            if (walk != "")
                walks[walk] = FNR
        }
        check_files($0, $0)
        check_folders($0)
        check_sections($0)
        for (text = $0; match(text, /\]\([^()]*\)/);) {
            target = substr(text, RSTART + 2, RLENGTH - 3)
            text = substr(text, RSTART + RLENGTH)
            check_link(target)
        }
        next
    }
    FILENAME ~ /\.(sh|py|mk)$/ {
        if (/^ *#/ && !/^ *# *include /) {
            check_files($0, "")
            check_sections($0)
        }
        next
    }
    # C: the comments of a line, without what stands in quotes outside of them.
    {
        text = $0
        said = ""
        if (!comment)
            gsub(/"([^"\\]|\\.)*"/, "", text)
        while (text != "") {
            if (comment) {
                end = index(text, "*/")
                said = said " " (end ? substr(text, 1, end - 1) : text)
                text = end ? substr(text, end + 2) : ""
                comment = !end
            } else if (match(text, /\/[*\/]/)) {
                comment = substr(text, RSTART, 2) == "/*"
                text = substr(text, RSTART + 2)
                if (!comment) {
                    said = said " " text
                    text = ""
                }
            } else
                text = ""
        }
        if (said ~ /[.]|design/) {
            check_files(said, "")
            check_sections(said)
        }
    }
    END {
        for (name in file) {
            if (name ~ /\.c$/ && folder_of(name) in walks && !(name in walked)) {
                FILENAME = "docs/design.md"
                FNR = walks[folder_of(name)]
                complain("the walk of " folder_of(name) " does not name " name)
            }
        }
        exit bad
    }'
