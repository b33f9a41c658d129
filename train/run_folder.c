#include "train/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"

static int take_lock(struct run_folder *run, struct error *error)
{
    run->lock = open(run->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (run->lock < 0)
        return error_system(error, "%s", run->path);
    if (flock(run->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno == EWOULDBLOCK)
        return error_set(error,
                         "%s: another train is at work there; wait until it has ended, or name another folder",
                         run->path);
    return errno == ENOLCK || errno == EOPNOTSUPP ? 0 : error_system(error, "%s: cannot be locked", run->path);
}

/* ---- opening ---- */

static void remove_folder(const char *path, const char *name)
{
    struct error ignored; /* what is left takes room only */
    char *folder = path_join(path, name, &ignored);
    if (folder && path_is_directory(folder))
        directory_delete(folder, &ignored);
    free(folder);
}

/* Half-written files, and folders of them, whose names begin with `name`. */
static void remove_leftovers_of(const char *path, const char *name)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        const char *mark = strstr(entry->d_name, ".tmp");
        if (mark && !strncmp(entry->d_name, name, strlen(name)) && mark[4] &&
            !mark[4 + strspn(mark + 4, "0123456789")] && unlinkat(dirfd(folder), entry->d_name, 0) < 0)
            remove_folder(path, entry->d_name);
    }
    if (folder)
        closedir(folder);
}

void remove_leftovers(const char *path)
{
    remove_leftovers_of(path, "");
}

/* Whether other parts are about to begin the run, too: RUN/parts is what they make first. */
static bool is_beginning(const struct run_folder *run)
{
    struct error ignored;
    char *path = run_is_part(run) ? run_folder_path(run, &ignored, "parts") : NULL;
    const bool there = path && path_is_directory(path);
    free(path);
    return there;
}

static int read_facts(struct run_folder *run, struct error *error)
{
    const char *const nothing[] = {NULL};
    char *path = run_folder_path(run, error, "run.json"), other[DIRECTORY_NAME_SIZE];
    int result = -1;
    if (!path)
        return -1;
    json_decref(run->facts);
    run->facts = NULL;
    run->begun = file_exists(path);
    if (!run->begun && !run_is_part(run)) /* of a process that was killed while it made the file */
        remove_leftovers_of(run->path, "run.json.");
    if (run->begun) {
        run->facts = json_read(path, error);
        result = !run->facts
                     ? error_prefix(error, "this run cannot go on; name another folder, or remove this one")
                     : (json_is_object(run->facts) ? 0 : error_set(error, "%s: is not an object", path));
    } else if (run->share.collect) {
        error_set(error, "%s: holds no run whose parts could be collected", run->path);
    } else if (directory_holds_other(run->path, nothing, other) && !is_beginning(run)) {
        error_set(error, "%s: holds other files (%s is one); name an empty folder or a new one", run->path,
                  other);
    } else {
        run->facts = json_object();
        result = run->facts ? 0 : error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    }
    free(path);
    return result;
}

/* Whether the run that is there is one of parts, or not, as this process takes it. A run that has ended is whole, and
 * so is then what is worked on. */
static int check_share(struct run_folder *run, struct error *error)
{
    const json_int_t parts = json_integer_value(json_object_get(run->facts, "parts"));
    struct run_share *share = &run->share;
    if (!run->begun)
        return share->part.count > 0 ? run_folder_fix(run, "parts", json_integer(share->part.count), error) : 0;
    if (parts > 0 && run_is_whole(run))
        return error_set_kind(
            error, ERROR_USAGE,
            "%s: this run is trained in %d parts. Give --part I/%d to go on with part I, or --collect "
            "when all parts have ended",
            run->path, (int)parts, (int)parts);
    if (parts == 0 && !run_is_whole(run)) {
        if (!json_object_get(run->facts, "result"))
            return error_set_kind(
                error, ERROR_USAGE,
                "%s: this run is not trained in parts: the same command without --%s goes on with it",
                run->path, share->collect ? "collect" : "part");
        *share = (struct run_share){0};
    } else if (share->part.count > 0 && parts != share->part.count) {
        return error_set_kind(
            error, ERROR_USAGE,
            "%s: this run is trained in %d parts, not %d. Give --part I/%d, or name another folder", run->path,
            (int)parts, share->part.count, (int)parts);
    }
    if (share->collect)
        share->part.count = (int)parts;
    return 0;
}

/* Of a whole run, whose process is alone: what killed processes have left. */
static void clean(const struct run_folder *run)
{
    remove_leftovers(run->path);
    if (run->begun) /* by one that had collected the parts */
        remove_folder(run->path, "parts");
}

int run_folder_open(const char *path, struct run_folder *run, struct error *error)
{
    *run = (struct run_folder){.lock = -1};
    if (!(run->path = string_copy(path, error)) || directory_create(path, error) < 0 ||
        take_lock(run, error) < 0 || read_facts(run, error) < 0 || check_share(run, error) < 0) {
        run_folder_close(run);
        return -1;
    }
    clean(run);
    return 0;
}

static int take_claim(struct run_folder *run, struct error *error)
{
    char *folder = run_folder_path(run, error, "parts"), *base = NULL, what[64];
    if (run->share.collect)
        base = run_folder_path(run, error, "parts/collect.claim");
    else
        base = run_folder_part_path(run, run->share.part.index, "claim", error);
    snprintf(what, sizeof what, run->share.collect ? "collecting %d parts" : "part %d of %d",
             run->share.collect ? run->share.part.count : run->share.part.index, run->share.part.count);
    int result = folder && base && directory_create(folder, error) == 0
                     ? claim_take(base, what, &run->claim, error)
                     : -1;
    free(folder);
    free(base);
    return result;
}

/* Of a part. */
static int read_learned(struct run_folder *run, struct error *error)
{
    char *path = run_folder_part_path(run, run->share.part.index, "json", error);
    int result = path ? 0 : -1;
    if (path && !(run->learned = file_exists(path) ? json_read(path, error) : json_object()))
        result = error_prefix(error, "part %d of %d: remove the file to go on without it",
                              run->share.part.index, run->share.part.count);
    free(path);
    return result;
}

int run_folder_open_share(const char *path, const struct run_share *share, struct run_folder *run,
                          struct error *error)
{
    if (share->part.count == 0 && !share->collect)
        return run_folder_open(path, run, error);
    *run = (struct run_folder){.lock = -1, .share = *share};
    if (!(run->path = string_copy(path, error)) || (!share->collect && directory_create(path, error) < 0) ||
        read_facts(run, error) < 0 || check_share(run, error) < 0)
        goto failed;
    if (run_is_whole(run)) { /* a part, of which there may be many, will only see that nothing is left to do */
        if (share->collect && take_lock(run, error) < 0)
            goto failed;
        if (share->collect)
            clean(run);
        return 0;
    }
    if (take_claim(run, error) < 0 || (!run->share.collect && read_learned(run, error) < 0))
        goto failed;
    if (run->share.collect)
        remove_leftovers(path);
    return 0;
failed:
    run_folder_close(run);
    return -1;
}

void run_folder_close(struct run_folder *run)
{
    if (run->path && run->lock >= 0)
        close(run->lock);
    claim_release(&run->claim);
    json_decref(run->facts);
    json_decref(run->learned);
    free(run->path);
    *run = (struct run_folder){.lock = -1};
}

char *run_folder_path(const struct run_folder *run, struct error *error, const char *format, ...)
{
    char *name, *path;
    va_list list;
    va_start(list, format);
    const int length = vasprintf(&name, format, list);
    va_end(list);
    if (length < 0) {
        error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", run->path);
        return NULL;
    }
    path = path_join(run->path, name, error);
    free(name);
    return path;
}

char *run_folder_trial_path(const struct run_folder *run, const char *id, const char *name, struct error *error)
{
    return name ? run_folder_path(run, error, "trials/%s/%s", id, name)
                : run_folder_path(run, error, "trials/%s", id);
}

char *run_folder_part_path(const struct run_folder *run, int part, const char *what, struct error *error)
{
    return run_folder_path(run, error, "parts/%d-of-%d.%s", part, run->share.part.count, what);
}

/* ---- facts ---- */

bool run_is_whole(const struct run_folder *run)
{
    return run->share.part.count == 0 && !run->share.collect;
}

bool run_is_part(const struct run_folder *run)
{
    return run->share.part.count > 0 && !run->share.collect;
}

static int set_fact(const struct run_folder *run, json_t *facts, const char *name, json_t *value,
                    struct error *error)
{
    if (!value || json_object_set_new(facts, name, value) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", run->path);
    return 0;
}

int run_folder_note(struct run_folder *run, const char *name, json_t *value, struct error *error)
{
    return set_fact(run, run_is_part(run) ? run->learned : run->facts, name, value, error);
}

json_t *run_folder_noted(const struct run_folder *run, const char *name)
{
    return json_object_get(run_is_part(run) ? run->learned : run->facts, name);
}

int run_folder_fix(struct run_folder *run, const char *name, json_t *value, struct error *error)
{
    const json_t *before = json_object_get(run->facts, name);
    if (!before || !value || json_equal(before, value))
        return set_fact(run, run->facts, name, value, error);
    char *was = json_dumps(before, JSON_ENCODE_ANY | JSON_COMPACT),
         *is = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    error_set_kind(
        error, ERROR_USAGE,
        "%s: this run was begun with %s %s, not %s. Give the first value to go on with it, or name another "
        "folder to begin a new run",
        run->path, name, was ? was : "?", is ? is : "?");
    free(was);
    free(is);
    json_decref(value);
    return -1;
}

double run_folder_number(const struct run_folder *run, const char *name)
{
    const json_t *noted = run_folder_noted(run, name);
    return json_number_value(noted ? noted : json_object_get(run->facts, name));
}

/* Whoever came first has written run.json: it is compared with what this process would have written. */
static int compare_facts(struct run_folder *run, struct error *error)
{
    json_t *own = run->facts, *value;
    const bool whole = run_is_whole(run);
    const char *name;
    run->facts = NULL;
    int result = read_facts(run, error) < 0 || check_share(run, error) < 0 ? -1 : 0;
    if (result == 0 && run_is_whole(run) != whole)
        result = error_set(error, "%s: this run has ended meanwhile; the same command shows it", run->path);
    json_object_foreach(own, name, value)
    {
        if (result == 0)
            result = run_folder_fix(run, name, json_incref(value), error);
    }
    json_decref(own);
    return result;
}

static int write_first_facts(struct run_folder *run, bool *first, struct error *error)
{
    char *path = run_folder_path(run, error, "run.json");
    char *text = path ? json_text(path, run->facts, JSON_INDENT(2) | JSON_REAL_PRECISION(9), error) : NULL;
    int result = text ? file_write_first(path, text, strlen(text), first, error) : -1;
    free(text);
    free(path);
    return result;
}

int run_folder_begin(struct run_folder *run, struct error *error)
{
    bool first = false;
    if (!run->begun) {
        int result = write_first_facts(run, &first, error);
        if (result < 0 && !run_is_whole(run))
            return -1;
        if (result == 0 && !first && compare_facts(run, error) < 0)
            return -1;
        run->begun = true; /* alone, a process needs no hard links */
    }
    return run_folder_save(run, error);
}

/* The first line in which two texts differ. */
static int differing_line(const char *text, const char *other)
{
    int line = 1;
    for (; *text && *text == *other; text++, other++)
        line += *text == '\n';
    return line;
}

static int compare_sweep(const char *path, const char *text, size_t size, struct error *error)
{
    char *kept;
    size_t kept_size;
    int result = file_read(path, &kept, &kept_size, error);
    if (result < 0)
        return -1;
    if (kept_size != size || memcmp(kept, text, size) != 0)
        result = error_set_kind(
            error, ERROR_USAGE,
            "%s: this run was begun with another sweep, which differs from line %d on. Give --sweep %s, or "
            "name another folder",
            path, differing_line(kept, text), path);
    free(kept);
    return result;
}

int run_folder_keep_sweep(const struct run_folder *run, const char *text, size_t size, struct error *error)
{
    char *path = run_folder_path(run, error, "sweep.yaml");
    int result = path ? 0 : -1;
    bool first = false;
    if (path && run_is_whole(run))
        result = file_write(path, text, size, error);
    else if (path && !file_exists(path))
        result = file_write_first(path, text, size, &first, error);
    if (result == 0 && !run_is_whole(run) && !first)
        result = compare_sweep(path, text, size, error);
    free(path);
    return result;
}

int run_folder_check_claim(const struct run_folder *run, struct error *error)
{
    const struct sweep_part part = run->share.part;
    if (!run->claim.base || !claim_is_lost(&run->claim))
        return 0;
    if (run->share.collect)
        return error_set(error, "%s: another train collects the parts now, or the claim was removed",
                         run->path);
    return error_set(error, "%s: another train has taken over part %d of %d, or its claim was removed",
                     run->path, part.index, part.count);
}

int run_folder_save(const struct run_folder *run, struct error *error)
{
    if (run_folder_check_claim(run, error) < 0)
        return -1;
    char *path = run_is_part(run) ? run_folder_part_path(run, run->share.part.index, "json", error)
                                  : run_folder_path(run, error, "run.json");
    int result = path ? json_write(path, run_is_part(run) ? run->learned : run->facts, error) : -1;
    free(path);
    return result;
}
