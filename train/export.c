#include "train/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/string.h"
#include "common/model/safetensors.h"
#include "train/export_format.h"
#include "train/metrics.h"

static const struct export_format *const export_formats[] = {&export_torch, &export_ee_llm, &export_eagle3};
enum { FORMATS = sizeof export_formats / sizeof export_formats[0] };

static int find_format(const char *name, const struct export_format **format, struct error *error)
{
    const char *names[FORMATS + 1] = {NULL};
    int index;
    for (int i = 0; i < FORMATS; i++)
        names[i] = export_formats[i]->name;
    if (parse_word(name, names, &index, error) < 0) {
        error_prefix(error, "--format");
        return error_narrow(error, ERROR_USAGE);
    }
    *format = export_formats[index];
    return 0;
}

/* ---- the trial ---- */

/* Its kept head is what it will ever be. */
static int check_ended(const char *trial, struct error *error)
{
    struct metrics metrics = {0};
    char *path = path_join(trial, "metrics.jsonl", error);
    int result = -1;
    if (!path)
        return -1;
    if (!file_exists(path))
        error_set(error, "%s: is not a trial's folder, such as RUN/trials/ID: it holds no metrics.jsonl",
                  trial);
    else if (metrics_read(path, &metrics, error) == 0) {
        if (metrics.failed[0])
            error_set(error, "%s: the trial has failed, and has no head: %s", trial, metrics.failed);
        else if (!metrics.ended && !metrics.stopped[0])
            error_set(error, "%s: the trial has not ended; let its run finish first", trial);
        else
            result = 0;
        metrics_free(&metrics);
    }
    free(path);
    return result;
}

static int read_id(const char *trial, json_t **config, const char **id, struct error *error)
{
    char *path = path_join(trial, EXPORT_CONFIG, error);
    int result = -1;
    if (path && (*config = json_read(path, error)))
        result = json_get_string(path, *config, "id", id, error);
    free(path);
    return result;
}

/* ---- the folder ---- */

/* Whether the file is of an export. */
static bool is_exported(const char *path)
{
    struct safetensors *file = NULL;
    struct error ignored;
    const bool is = safetensors_open(path, &file, &ignored) == 0 && safetensors_metadata(file) &&
                    json_object_get(safetensors_metadata(file), "offramp");
    safetensors_close(file);
    return is;
}

/* An export that is replaced is called OUT.old for a moment (directory_replace). */
static int check_old(const char *out, struct error *error)
{
    char *old;
    if (asprintf(&old, "%s%s", out, DIRECTORY_OLD) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", out);
    const int result =
        file_exists(old)
            ? error_set(error, "%s: is in the way of replacing the export in %s; rename it", old, out)
            : 0;
    free(old);
    return result;
}

/* A folder is put in the place of OUT: whoever stands in it would stand in one that is gone. */
static int check_not_current(const char *name, const char *out, struct error *error)
{
    const size_t length = strlen(out);
    char *current;
    if (!*name)
        return error_set(error, "--out is empty; name a folder");
    if (!(current = path_resolve(".", error)))
        return -1;
    const bool inside = !strncmp(current, out, length) && (!current[length] || current[length] == '/');
    free(current);
    return inside ? error_set(error, "%s: the current folder is in it, and would be replaced; name another one",
                              name)
                  : 0;
}

/* Nothing is there, or an empty folder, or an export of the same format. */
static int check_out(const char *out, const struct export_format *format, struct error *error)
{
    const char *const nothing[] = {NULL}, *const names[] = {EXPORT_CONFIG, format->tensors, NULL};
    char other[DIRECTORY_NAME_SIZE];
    if (directory_check(out, error) < 0)
        return -1;
    if (!directory_holds_other(out, nothing, other))
        return 0;
    char *path = path_join(out, format->tensors, error);
    if (!path)
        return -1;
    const bool good = !directory_holds_other(out, names, other) && is_exported(path);
    free(path);
    return good ? check_old(out, error)
                : error_set(error, "%s: holds other files (%s is one); name an empty folder or a new one", out,
                            other);
}

static int put(const char *made, const char *out, struct error *error)
{
    return file_exists(out) ? directory_replace(made, out, error) : file_rename(made, out, error);
}

/* Writes into a folder beside `out`, which then takes its name. */
static int write_folder(const struct export_subject *subject, const struct export_format *format,
                        const char *out, struct error *error)
{
    struct error ignored;
    char *made;
    if (asprintf(&made, "%s.tmp%ld", out, (long)getpid()) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory", out);
    int result = directory_create(made, error);
    if (result == 0)
        result = format->write(subject, made, error);
    if (result == 0 && cli_interrupted())
        result = error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was written");
    if (result == 0)
        result = put(made, out, error);
    if (result < 0)
        directory_delete(made, &ignored);
    free(made);
    return result;
}

/* ---- */

static int export_head(struct export_subject *subject, const struct export_format *format, const char *head,
                       const char *out, struct error *error)
{
    static const struct backend_options on_host = {0};
    struct backend *backend = NULL;
    struct head *loaded = NULL;
    int result = -1;
    if (backend_open("cpu", &on_host, &backend, error) < 0)
        return -1;
    if (head_load(head, &subject->stores->config, subject->stores->fingerprint, backend, &loaded, error) == 0 &&
        queue_create(backend, &subject->queue, error) == 0) {
        subject->head = loaded;
        result = format->check(subject, error) < 0
                     ? error_prefix(error, "--format %s: %s", format->name, subject->id)
                     : write_folder(subject, format, out, error);
    }
    queue_destroy(subject->queue);
    head_destroy(loaded);
    backend_close(backend);
    return result;
}

int export_trial(const struct export_options *options, struct error *error)
{
    const struct export_format *format = NULL;
    struct stores stores = {0};
    struct export_subject subject = {.stores = &stores, .model = options->model};
    json_t *config = NULL;
    char *head = NULL, *out = NULL;
    int result = -1;
    if (find_format(options->format, &format, error) < 0)
        return -1;
    if (check_ended(options->trial, error) < 0 || read_id(options->trial, &config, &subject.id, error) < 0 ||
        !(head = path_join(options->trial, "head.safetensors", error)) ||
        !(out = path_resolve(options->out, error)) || check_not_current(options->out, out, error) < 0 ||
        check_out(out, format, error) < 0 || stores_open(options->store, options->stores, &stores, error) < 0)
        goto done;
    result = export_head(&subject, format, head, out, error);
    if (result == 0)
        printf("%s: %s and %s of %s, as %s has them\n", options->out, format->tensors, EXPORT_CONFIG,
               subject.id, format->name);
done:
    stores_close(&stores);
    json_decref(config);
    free(head);
    free(out);
    return result;
}
