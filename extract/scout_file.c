#include "extract/scout_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/head/ridge.h"
#include "common/model/safetensors.h"

#define VERSION "1"

enum { NAME_SIZE = 32 };

static void map_name(int layers, int map, char name[NAME_SIZE])
{
    const struct scout_map of = scout_map(layers, map);
    snprintf(name, NAME_SIZE, "%d-%d", of.tap, of.to);
}

json_t *scout_identity(const json_t *manifest, struct error *error)
{
    json_t *corpus = json_deep_copy(json_object_get(manifest, "corpus"));
    json_object_del(corpus, "paths");
    json_object_del(corpus, "held_out_tokens");
    json_t *identity = json_pack("{s:O, s:O, s:o, s:O}", "model", json_object_get(manifest, "model"),
                                 "tokenizer", json_object_get(manifest, "tokenizer"), "corpus", corpus, "rows",
                                 json_object_get(manifest, "rows"));
    if (!identity)
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return identity;
}

/* The key of the metadata that has the hash of a map's sums. */
static void hash_name(int layers, int map, char name[NAME_SIZE])
{
    const struct scout_map of = scout_map(layers, map);
    snprintf(name, NAME_SIZE, "%d-%d.hash", of.tap, of.to);
}

/* ---- writing ---- */

static int add_hashes(json_t *metadata, const struct scout_sums *sums, struct queue *queue,
                      const struct scout_about *about, struct error *error)
{
    const size_t bytes = (size_t)ridge_sums_values(about->hidden, about->hidden) * sizeof(double);
    for (int map = 0; map < scout_map_count(about->layers); map++) {
        char name[NAME_SIZE], hash[17];
        double *values;
        if (scout_sums_read(sums, queue, map, &values, error) < 0)
            return -1;
        hash_name(about->layers, map, name);
        hash_print(hash_bytes(values, bytes, 0), hash);
        free(values);
        if (json_object_set_new(metadata, name, json_string(hash)) < 0)
            return error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    }
    return 0;
}

static json_t *metadata_of(const struct scout_sums *sums, const struct scout_about *about, struct error *error)
{
    char shard[16], shards[16], tokens[32];
    char *of = json_text("the identity", about->identity, JSON_COMPACT, error);
    if (!of)
        return NULL;
    snprintf(shard, sizeof shard, "%d", about->shard);
    snprintf(shards, sizeof shards, "%d", about->shards);
    snprintf(tokens, sizeof tokens, "%" PRIu64, scout_sums_tokens(sums));
    json_t *metadata = json_pack("{s:s, s:s, s:s, s:s, s:s}", "version", VERSION, "of", of, "shard", shard,
                                 "shards", shards, "tokens", tokens);
    free(of);
    if (!metadata)
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return metadata;
}

static int write_maps(struct safetensors_writer *writer, const struct scout_sums *sums, struct queue *queue,
                      const struct scout_about *about, struct error *error)
{
    const size_t bytes = (size_t)ridge_sums_values(about->hidden, about->hidden) * sizeof(double);
    for (int map = 0; map < scout_map_count(about->layers); map++) {
        double *values;
        if (scout_sums_read(sums, queue, map, &values, error) < 0)
            return -1;
        const int result = safetensors_write(writer, values, bytes, error);
        free(values);
        if (result < 0)
            return -1;
    }
    return 0;
}

int scout_file_write(const char *path, const struct scout_sums *sums, struct queue *queue,
                     const struct scout_about *about, struct error *error)
{
    const int count = scout_map_count(about->layers);
    struct safetensors_writer *writer;
    struct tensor *tensors = NULL;
    char(*names)[NAME_SIZE] = NULL;
    int result = -1;
    json_t *metadata = metadata_of(sums, about, error);
    if (!metadata || add_hashes(metadata, sums, queue, about, error) < 0 ||
        array_alloc(&tensors, count, error) < 0 || array_alloc(&names, count, error) < 0)
        goto done;
    for (int map = 0; map < count; map++) {
        map_name(about->layers, map, names[map]);
        tensors[map] = (struct tensor){.name = names[map],
                                       .type = DTYPE_F64,
                                       .dims = 1,
                                       .shape = {ridge_sums_values(about->hidden, about->hidden)}};
    }
    if (safetensors_create(path, tensors, (size_t)count, metadata, &writer, error) < 0)
        goto done;
    result = write_maps(writer, sums, queue, about, error);
    if (result == 0)
        result = safetensors_finish(writer, error);
    else
        safetensors_abandon(writer);
done:
    json_decref(metadata);
    free(tensors);
    free(names);
    return result;
}

/* ---- reading ---- */

struct scout_files {
    int layers, hidden;
    size_t count;
    struct safetensors **file; /* [count], in the order of the shards */
    uint64_t tokens;
};

/* The first member that differs, of two objects of the same members. */
static const char *find_difference(const json_t *a, const json_t *b)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value) if (!json_equal(value, json_object_get(b, key))) return key;
    return "something";
}

static int check_identity(const char *path, const json_t *metadata, const json_t *wanted, struct error *error)
{
    const char *text;
    if (json_get_string(path, metadata, "of", &text, error) < 0)
        return -1;
    json_t *there = json_parse(path, text, strlen(text), error);
    if (!there)
        return -1;
    int result = 0;
    if (!json_equal(there, wanted)) {
        const char *key = find_difference(wanted, there);
        if (strcmp(key, "corpus") == 0)
            key = find_difference(json_object_get(wanted, key), json_object_get(there, key));
        result = error_set_kind(error, ERROR_USAGE,
                                "%s: these sums are of another model, text or --seq-len than this command's "
                                "(\"%s\" differs)",
                                path, key);
    }
    json_decref(there);
    return result;
}

static int check_tensors(const char *path, const struct safetensors *file, const struct scout_about *about,
                         struct error *error)
{
    for (int map = 0; map < scout_map_count(about->layers); map++) {
        char name[NAME_SIZE];
        map_name(about->layers, map, name);
        const struct tensor *tensor = safetensors_find(file, name);
        if (!tensor || tensor->type != DTYPE_F64 || tensor->dims != 1 ||
            tensor->shape[0] != ridge_sums_values(about->hidden, about->hidden))
            return error_set(error, "%s: the sums %s are missing, or have another size", path, name);
    }
    return 0;
}

/* Takes the file to its place among the shards. */
static int add_file(struct scout_files *files, const char *path, const struct scout_about *about,
                    struct error *error)
{
    struct safetensors *file;
    int64_t shard, shards, tokens;
    const char *version;
    if (safetensors_open(path, &file, error) < 0)
        return -1;
    const json_t *metadata = safetensors_metadata(file);
    if (!metadata || !json_object_get(metadata, "version") || !json_object_get(metadata, "of")) {
        error_set_kind(error, ERROR_USAGE, "%s: is not a file of sums, which --scout --out writes", path);
        goto fail;
    }
    if (json_get_string(path, metadata, "version", &version, error) < 0)
        goto fail;
    if (strcmp(version, VERSION) != 0) {
        error_set(error, "%s: was written by a later version of this program", path);
        goto fail;
    }
    if (json_get_written_integer(path, metadata, "shards", 1, INT32_MAX, &shards, error) < 0 ||
        json_get_written_integer(path, metadata, "shard", 0, shards - 1, &shard, error) < 0 ||
        json_get_written_integer(path, metadata, "tokens", 0, INT64_MAX / shards, &tokens, error) < 0 ||
        check_identity(path, metadata, about->identity, error) < 0 ||
        check_tensors(path, file, about, error) < 0)
        goto fail;
    if ((size_t)shards != files->count) {
        error_set_kind(error, ERROR_USAGE, "%s: is one of %" PRId64 " shards, but %zu files are given", path,
                       shards, files->count);
        goto fail;
    }
    if (files->file[shard]) {
        error_set_kind(error, ERROR_USAGE, "%s: is shard %" PRId64 ", and so is a file before it", path, shard);
        goto fail;
    }
    files->file[shard] = file;
    files->tokens += (uint64_t)tokens;
    return 0;
fail:
    safetensors_close(file);
    return -1;
}

int scout_files_open(char *const *paths, size_t count, const struct scout_about *about,
                     struct scout_files **result, struct error *error)
{
    struct scout_files *files;
    *result = NULL;
    if (array_alloc(&files, 1, error) < 0)
        return -1;
    *files = (struct scout_files){.layers = about->layers, .hidden = about->hidden, .count = count};
    int done = array_alloc(&files->file, count, error);
    for (size_t i = 0; i < count && done == 0; i++)
        done = add_file(files, paths[i], about, error);
    if (done < 0) {
        scout_files_close(files);
        return -1;
    }
    *result = files;
    return 0;
}

void scout_files_close(struct scout_files *files)
{
    if (!files)
        return;
    for (size_t i = 0; files->file && i < files->count; i++)
        safetensors_close(files->file[i]);
    free(files->file);
    free(files);
}

uint64_t scout_files_tokens(const struct scout_files *files)
{
    return files->tokens;
}

/* Adds the values of a tensor; false where one is not a number. */
static bool add_values(const struct tensor *tensor, int64_t count, double *sums)
{
    bool numbers = true;
    for (int64_t i = 0; i < count; i++) {
        double value;
        memcpy(&value, (const char *)tensor->data + (size_t)i * sizeof value, sizeof value);
        numbers = numbers && isfinite(value);
        sums[i] += value;
    }
    return numbers;
}

/* Whether the file has the bytes that were written; one without hashes, of an older program, is taken as it is. */
static bool is_whole(const struct scout_files *files, const struct safetensors *file, int map,
                     const struct tensor *tensor)
{
    char name[NAME_SIZE], hash[17];
    hash_name(files->layers, map, name);
    const json_t *written = json_object_get(safetensors_metadata(file), name);
    hash_print(hash_bytes(tensor->data, tensor->bytes, 0), hash);
    return !written || (json_is_string(written) && strcmp(json_string_value(written), hash) == 0);
}

int scout_files_sum(const struct scout_files *files, int map, double **values, struct error *error)
{
    const int64_t count = ridge_sums_values(files->hidden, files->hidden);
    char name[NAME_SIZE];
    map_name(files->layers, map, name);
    if (array_alloc(values, count, error) < 0)
        return -1;
    for (size_t f = 0; f < files->count; f++) {
        const struct tensor *tensor = safetensors_find(files->file[f], name);
        const bool whole = is_whole(files, files->file[f], map, tensor);
        const bool numbers = add_values(tensor, count, *values);
        tensor_release(tensor);
        if (!whole || !numbers) {
            free(*values);
            *values = NULL;
            return error_set_kind(error, ERROR_DAMAGED, "the sums %s of shard %zu %s; make its file again",
                                  name, f,
                                  whole ? "hold what is not a number" : "are damaged (their hash differs)");
        }
    }
    return 0;
}
