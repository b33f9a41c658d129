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

static int read_facts(struct run_folder *run, struct error *error)
{
    const char *const nothing[] = {NULL};
    char *path = run_folder_path(run, error, "run.json"), other[DIRECTORY_NAME_SIZE];
    int result = -1;
    if (!path)
        return -1;
    if (file_exists(path)) {
        run->facts = json_read(path, error);
        result = !run->facts
                     ? error_prefix(error, "this run cannot go on; name another folder, or remove this one")
                     : (json_is_object(run->facts) ? 0 : error_set(error, "%s: is not an object", path));
    } else if (directory_holds_other(run->path, nothing, other)) {
        error_set(error, "%s: holds other files (%s is one); name an empty folder or a new one", run->path,
                  other);
    } else {
        run->facts = json_object();
        result = run->facts ? 0 : error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    }
    free(path);
    return result;
}

int run_folder_open(const char *path, struct run_folder *run, struct error *error)
{
    *run = (struct run_folder){.lock = -1};
    if (!(run->path = string_copy(path, error)) || directory_create(path, error) < 0 ||
        take_lock(run, error) < 0 || read_facts(run, error) < 0) {
        run_folder_close(run);
        return -1;
    }
    remove_leftovers(path);
    return 0;
}

void run_folder_close(struct run_folder *run)
{
    if (run->path && run->lock >= 0)
        close(run->lock);
    json_decref(run->facts);
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

int run_folder_note(struct run_folder *run, const char *name, json_t *value, struct error *error)
{
    if (!value || json_object_set_new(run->facts, name, value) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", run->path);
    return 0;
}

int run_folder_fix(struct run_folder *run, const char *name, json_t *value, struct error *error)
{
    const json_t *before = json_object_get(run->facts, name);
    if (!before || !value || json_equal(before, value))
        return run_folder_note(run, name, value, error);
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
    return json_number_value(json_object_get(run->facts, name));
}

int run_folder_save(const struct run_folder *run, struct error *error)
{
    char *path = run_folder_path(run, error, "run.json");
    int result = path ? json_write(path, run->facts, error) : -1;
    free(path);
    return result;
}

static void remove_folder(const char *path, const char *name)
{
    struct error ignored; /* what is left takes room only */
    char *folder = path_join(path, name, &ignored);
    if (folder && path_is_directory(folder))
        directory_delete(folder, &ignored);
    free(folder);
}

void remove_leftovers(const char *path)
{
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        const char *mark = strstr(entry->d_name, ".tmp");
        if (mark && mark[4] && !mark[4 + strspn(mark + 4, "0123456789")] &&
            unlinkat(dirfd(folder), entry->d_name, 0) < 0)
            remove_folder(path, entry->d_name);
    }
    if (folder)
        closedir(folder);
}
