# programs.sh: finds the programs. The pipelines source it:
#
#     . "$(dirname "$(readlink -f "$0")")/programs.sh"
#     extract=$(program extract)
#
# They are in the folder that BUILD names. Without BUILD they are in build/ of the checkout, or in bin/ of the bundle or installation, that
# the script is in. `make install` calls them offramp-extract and so on.

# program NAME: its path
program() {
    local path here places=("${BUILD:-}/offramp-$1" "${BUILD:-}/$1")
    if [ -z "${BUILD:-}" ]; then
        here=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
        places=("$here/../build/$1" "$here/../bin/$1" "$here/../../../bin/offramp-$1")
    fi
    for path in "${places[@]}"; do
        if [ -f "$path" ] && [ -x "$path" ]; then
            realpath "$path"
            return
        fi
    done
    echo "$(basename "$0"): the program $1 is not there (${places[*]}): run make, or name its folder with BUILD=FOLDER" >&2
    return 1
}
