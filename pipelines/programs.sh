# programs.sh: where the programs are, for the pipelines, which source it:
#
#     . "$(dirname "$(readlink -f "$0")")/programs.sh"
#     extract=$(program extract)
#
# BUILD names their folder; else it is the one that goes with the script: build/ of a checkout, bin/ of a bundle or of an
# installation. `make install` calls them offramp-extract and so on.

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
