#!/usr/bin/env bash
# layers.sh: fails on an include that points upward, or sideways between programs: what docs/design.md's table of
# folders does not allow. It fails, too, on an entry of the table that no include uses, and on a folder that the table and
# the picture above it do not both have. Then it runs names.sh.
#
# An entry is a header, or a folder with all that is in it. Every folder may include itself, and tests may include everything.
set -euo pipefail
cd "$(dirname "$0")/.."

table=$(sed -n '/<!-- layers:/,/<!-- end of layers/p' docs/design.md | sed -nE 's/^\| ([a-z]+[a-z/]*) \| ?(.*) ?\|$/\1 \2/p' | grep -v '^folder ' | tr -d ',')
[ -n "$table" ] || { echo "docs/design.md: the table of folders is not there"; exit 1; }

folders=$(awk '{print $1}' <<<"$table" | sort)
picture=$(sed -n '/^## 3/,/<!-- layers:/p' docs/design.md | grep '^    ' | grep -oE '\b(common|kernels)/[a-z]+|\b(extract|train|generate|cache|kernels)/' | sed 's,/$,,' | sort -u)
comm -3 <(printf '%s\n' "$folders") <(printf '%s\n' "$picture") |
    sed -E '/^\t/ s,^\t,docs/design.md: the table lacks ,; t; s,^,docs/design.md: the picture lacks ,' | { ! grep .; } || bad=1
for folder in $(git ls-files 'common/*' 'kernels/*' | sed -nE 's,^((common|kernels)/[a-z_]+)/.*,\1,p' | sort -u); do
    grep -qx "$folder" <<<"$folders" || { echo "docs/design.md: the table lacks $folder"; bad=1; }
done

git ls-files '*.c' '*.h' '*.cu' '*.cuh' | grep -v '^tests/' | xargs awk -v table="$table" '
    # The row of a folder, or of the nearest one above it: kernels/cpu/loops follows kernels/cpu.
    function row_of(folder) {
        while (!(folder in allowed) && folder ~ /\//)
            sub(/\/[^\/]*$/, "", folder)
        return folder
    }
    function covers(entry, header) { return header == entry || index(header, entry "/") == 1 }
    # kernels has its headers; kernels/cpu has its own row.
    function within(entry, header) { return covers(entry, header) && (entry != "kernels" || header ~ /^kernels\/[^\/]*$/) }
    BEGIN {
        rows = split(table, line, "\n")
        for (i = 1; i <= rows; i++) {
            count = split(line[i], word, " ")
            allowed[word[1]] = ""
            for (j = 2; j <= count; j++)
                allowed[word[1]] = allowed[word[1]] " " word[j]
        }
    }
    /^ *# *include "/ {
        header = $0
        sub(/^[^"]*"/, "", header)
        sub(/".*/, "", header)
        folder = FILENAME
        sub(/\/[^\/]*$/, "", folder)
        row = row_of(folder)
        good = within(row, header)
        count = split(allowed[row], word, " ")
        for (j = 1; j <= count; j++)
            if (within(word[j], header)) {
                good = 1
                used[row " " word[j]] = 1
            }
        if (!good) {
            print FILENAME ": includes \"" header "\", which its layer may not see"
            bad = 1
        }
    }
    END {
        for (row in allowed) {
            count = split(allowed[row], word, " ")
            for (j = 1; j <= count; j++)
                if (!((row " " word[j]) in used)) {
                    print "docs/design.md: " row " includes nothing of " word[j]
                    bad = 1
                }
        }
        exit bad
    }' || bad=1
tests/names.sh || bad=1
exit "${bad:-0}"
