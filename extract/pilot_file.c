#include "extract/pilot_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/memory.h"

#define VERSION 1
static const char magic[8] = {'O', 'F', 'R', 'P', 'I', 'L', 'O', 'T'};

struct pilot_file {
    char *path, *text;
    size_t size; /* the hash not counted */
    size_t body; /* where the parameters begin */
    json_t *header;
};

static const char *fingerprint_of(const struct store *store)
{
    const json_t *model = json_object_get(store_manifest(store), "model");
    const char *text = json_string_value(json_object_get(model, "fingerprint"));
    return text ? text : "";
}

static void name_of(const struct store *store, int tap, char name[TAP_NAME_SIZE])
{
    tap_name(store_info(store)->tap[tap], store_info(store)->layers, name);
}

/* ---- writing ---- */

static int append_taps(struct store *store, json_t *taps, struct string *body, struct error *error)
{
    for (int tap = 0; tap < store_info(store)->taps; tap++) {
        char name[TAP_NAME_SIZE];
        void *bytes;
        size_t size;
        if (store_get_parameters(store, tap, &bytes, &size, error) < 0)
            return -1;
        if (!bytes)
            continue;
        name_of(store, tap, name);
        json_array_append_new(taps, json_pack("{s:s, s:s, s:I}", "name", name, "codec",
                                              store_info(store)->codec[tap].name, "bytes", (json_int_t)size));
        string_append(body, bytes, size);
        free(bytes);
    }
    return string_failed(body, error) ? -1 : 0;
}

int pilot_file_write(const char *path, struct store *store, struct error *error)
{
    struct string body = {0}, file = {0};
    json_t *taps = json_array();
    json_t *header =
        json_pack("{s:i, s:s, s:o}", "version", VERSION, "model", fingerprint_of(store), "taps", taps);
    char *text = NULL;
    int result = -1;
    if (!header || append_taps(store, taps, &body, error) < 0)
        goto done;
    text = json_dumps(header, JSON_COMPACT);
    if (!text)
        goto done;
    const uint32_t length = (uint32_t)strlen(text);
    string_append(&file, magic, sizeof magic);
    string_append(&file, (const char *)&length, sizeof length);
    string_append(&file, text, length);
    string_append(&file, body.data, body.length);
    const uint64_t hash = file.failed ? 0 : hash_bytes(file.data, file.length, 0);
    string_append(&file, (const char *)&hash, sizeof hash);
    if (!string_failed(&file, error))
        result = file_write(path, file.data, file.length, error);
done:
    if (!header || (result < 0 && !text))
        error_set_kind(error, ERROR_NO_MEMORY, "%s: the parameters could not be gathered: memory is out", path);
    free(text);
    json_decref(header);
    string_free(&body);
    string_free(&file);
    return result;
}

/* ---- reading ---- */

static int parse(struct pilot_file *file, struct error *error)
{
    uint32_t length;
    uint64_t hash;
    int64_t version;
    if (file->size < sizeof magic + sizeof length + sizeof hash || memcmp(file->text, magic, sizeof magic) != 0)
        return error_set(error, "is not a file that --pilot-out has written");
    file->size -= sizeof hash;
    memcpy(&hash, file->text + file->size, sizeof hash);
    memcpy(&length, file->text + sizeof magic, sizeof length);
    if (hash_bytes(file->text, file->size, 0) != hash)
        return error_set_kind(error, ERROR_DAMAGED, "is damaged: its bytes do not match their hash");
    file->body = sizeof magic + sizeof length;
    if (length > file->size - file->body)
        return error_set_kind(error, ERROR_DAMAGED, "is cut short");
    file->header = json_parse(file->path, file->text + file->body, length, error);
    file->body += length;
    if (!file->header || json_get_integer("header", file->header, "version", 1, INT64_MAX, &version, error) < 0)
        return -1;
    return version == VERSION
               ? 0
               : error_set(error, "has version %" PRId64 "; this program reads %d: use a newer one", version,
                           VERSION);
}

int pilot_file_open(const char *path, const struct store *store, struct pilot_file **result,
                    struct error *error)
{
    struct pilot_file *file = memory_alloc(1, sizeof *file, error);
    const char *model;
    *result = NULL;
    if (!file)
        return -1;
    file->path = string_copy(path, error);
    if (!file->path || file_read(path, &file->text, &file->size, error) < 0)
        goto fail;
    if (parse(file, error) < 0 || json_get_string("header", file->header, "model", &model, error) < 0) {
        error_prefix(error, "%s", path);
        goto fail;
    }
    if (strcmp(model, fingerprint_of(store)) != 0) {
        error_set_kind(error, ERROR_USAGE, "%s: was made with another model (%s, not %s)", path, model,
                       fingerprint_of(store));
        goto fail;
    }
    *result = file;
    return 0;
fail:
    pilot_file_close(file);
    return -1;
}

void pilot_file_close(struct pilot_file *file)
{
    if (!file)
        return;
    json_decref(file->header);
    free(file->path);
    free(file->text);
    free(file);
}

int pilot_file_find(const struct pilot_file *file, const struct store *store, int tap, const void **bytes,
                    size_t *size, struct error *error)
{
    const json_t *taps = json_object_get(file->header, "taps");
    const char *wanted = store_info(store)->codec[tap].name, *name, *codec;
    char own[TAP_NAME_SIZE];
    size_t at = file->body;
    name_of(store, tap, own);
    for (size_t i = 0; i < json_array_size(taps); i++) {
        const json_t *entry = json_array_get(taps, i);
        int64_t length;
        if (json_get_string(file->path, entry, "name", &name, error) < 0 ||
            json_get_string(file->path, entry, "codec", &codec, error) < 0 ||
            json_get_integer(file->path, entry, "bytes", 0, (int64_t)(file->size - at), &length, error) < 0)
            return -1;
        if (strcmp(name, own) == 0) {
            *bytes = file->text + at;
            *size = (size_t)length;
            return strcmp(codec, wanted) == 0
                       ? 0
                       : error_set_kind(error, ERROR_USAGE, "%s: was made for tap %s with %s, not %s",
                                        file->path, own, codec, wanted);
        }
        at += (size_t)length;
    }
    return error_set_kind(error, ERROR_USAGE, "%s: has no parameters for tap %s", file->path, own);
}
