/* Frozen tensors of the model, in parts. A part is a value under "NAME#0", "NAME#1", ...: the header
 * below, then up to PART_SIZE bytes of the tensor. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/store/environment.h"
#include "common/store/format.h"
#include "common/store/internal.h"

#define SOURCE_VERSION 1

/* Little-endian. */
struct source_header {
    char magic[4]; /* "OFRS" */
    uint16_t version, type;
    uint32_t part, parts;
    int64_t rows, cols;
    uint64_t bytes; /* of the tensor in this part */
    uint64_t hash; /* XXH3-64 of the name, the header with this field 0, the bytes */
};

/* With its headers a full part fills whole pages of LMDB: 16 MB in all. */
#define PART_SIZE (((size_t)16 << 20) - PAGES_VALUE_HEADER - sizeof(struct source_header))

static const char source_magic[4] = {'O', 'F', 'R', 'S'};

_Static_assert(sizeof(struct source_header) == 48, "the header is 48 bytes on every machine");

static uint64_t source_hash(const char *name, struct source_header header, const void *bytes)
{
    header.hash = 0;
    uint64_t hash = hash_bytes(name, strlen(name), 0);
    return hash_bytes(bytes, header.bytes, hash_bytes(&header, sizeof header, hash));
}

/* Bytes of the whole tensor; false when the shape is out of range. */
static bool source_bytes(struct source_shape shape, size_t *bytes)
{
    size_t row;
    return (unsigned)shape.type < DTYPE_COUNT && shape.rows > 0 && shape.cols > 0 &&
           dtype_row_bytes(shape.type, shape.cols, &row) && size_multiply(row, (size_t)shape.rows, bytes) &&
           *bytes / PART_SIZE < UINT32_MAX;
}

static struct source_shape shape_of(const struct source_header *header)
{
    return (struct source_shape){(enum dtype)header->type, header->rows, header->cols};
}

static size_t source_key(const char *name, uint32_t part, char key[SOURCE_NAME_SIZE + 16])
{
    return (size_t)snprintf(key, SOURCE_NAME_SIZE + 16, "%s#%" PRIu32, name, part);
}

static int put_part(struct store *store, const char *name, struct source_header header, const void *bytes,
                    struct error *error)
{
    char key[SOURCE_NAME_SIZE + 16];
    size_t key_size = source_key(name, header.part, key);
    header.hash = source_hash(name, header, bytes);
    const MDB_val part[2] = {bytes_val(&header, sizeof header), bytes_val(bytes, header.bytes)};
    if (store_put_parts(store, store->source, bytes_val(key, key_size), part, error) < 0)
        return -1;
    return store_commit_often(store, error);
}

int store_put_source(struct store *store, const char *name, struct source_shape shape, const void *data,
                     struct error *error)
{
    size_t total;
    if (!*name || strlen(name) >= SOURCE_NAME_SIZE || strchr(name, '#'))
        return error_set(error, "%s: \"%s\" cannot name a tensor", store->path, name);
    if (!source_bytes(shape, &total))
        return error_set(error, "%s: %s has no shape [%" PRId64 ", %" PRId64 "]", store->path, name, shape.rows,
                         shape.cols);
    struct source_header header = {
        .version = SOURCE_VERSION,
        .type = (uint16_t)shape.type,
        .parts = (uint32_t)((total + PART_SIZE - 1) / PART_SIZE),
        .rows = shape.rows,
        .cols = shape.cols,
    };
    memcpy(header.magic, source_magic, sizeof header.magic);
    for (size_t done = 0; done < total; done += header.bytes, header.part++) {
        header.bytes = total - done < PART_SIZE ? total - done : PART_SIZE;
        if (put_part(store, name, header, (const unsigned char *)data + done, error) < 0)
            return -1;
    }
    return 0;
}

static int check_part(const char *name, const void *value, size_t size, struct source_header *header,
                      struct error *error)
{
    size_t total;
    if (size < sizeof *header)
        return error_set_kind(error, ERROR_DAMAGED, "the part is cut short");
    memcpy(header, value, sizeof *header);
    if (memcmp(header->magic, source_magic, sizeof source_magic) != 0)
        return error_set_kind(error, ERROR_DAMAGED, "this is not a part of a tensor");
    if (header->version != SOURCE_VERSION)
        return error_set(error, "the part has format version %u; this program reads %d: use a newer one",
                         header->version, SOURCE_VERSION);
    if (header->bytes != size - sizeof *header ||
        source_hash(name, *header, (const unsigned char *)value + sizeof *header) != header->hash)
        return error_set_kind(error, ERROR_DAMAGED, "the part is damaged: its bytes do not match their hash");
    if (!source_bytes(shape_of(header), &total) || header->parts != (total + PART_SIZE - 1) / PART_SIZE ||
        header->part >= header->parts ||
        header->bytes != (header->part + 1 < header->parts ? PART_SIZE : total - header->part * PART_SIZE))
        return error_set_kind(error, ERROR_DAMAGED, "the part does not fit its tensor");
    return 0;
}

int source_verify(const void *key, size_t key_size, const void *value, size_t size, struct source_part *part,
                  struct error *error)
{
    char expected[SOURCE_NAME_SIZE + 16];
    struct source_header header;
    const char *mark = memchr(key, '#', key_size);
    size_t length = mark ? (size_t)(mark - (const char *)key) : key_size;
    *part = (struct source_part){0};
    if (length >= SOURCE_NAME_SIZE)
        return error_set(error, "a tensor's name is %zu bytes long", length);
    memcpy(part->name, key, length);
    if (check_part(part->name, value, size, &header, error) < 0)
        return error_prefix(error, "%s", part->name);
    part->parts = header.parts;
    if (source_key(part->name, header.part, expected) != key_size || memcmp(expected, key, key_size) != 0)
        return error_set_kind(error, ERROR_DAMAGED, "%s: part %" PRIu32 " is filed under another name",
                              part->name, header.part);
    return 0;
}

static int get_part(const struct store *store, MDB_txn *snapshot, const char *name, uint32_t part,
                    struct source_header *header, const void **bytes, struct error *error)
{
    char key_text[SOURCE_NAME_SIZE + 16];
    MDB_val key = {source_key(name, part, key_text), key_text}, value;
    int code = mdb_get(snapshot, store->source, &key, &value);
    if (code == MDB_NOTFOUND)
        return error_set(error, "%s: the store has no %s%s", store->path, part ? "whole " : "", name);
    if (code)
        return environment_error(error, code, "%s: %s", store->path, name);
    if (check_part(name, value.mv_data, value.mv_size, header, error) < 0)
        return error_prefix(error, "%s: %s, part %" PRIu32, store->path, name, part);
    *bytes = (const unsigned char *)value.mv_data + sizeof *header;
    return 0;
}

/* Appends "NAME, " for each tensor. */
static int list_names(const struct store *store, MDB_txn *snapshot, struct string *names, struct error *error)
{
    MDB_cursor *cursor;
    MDB_val key;
    int code = mdb_cursor_open(snapshot, store->source, &cursor);
    if (code)
        return environment_error(error, code, "%s", store->path);
    for (code = mdb_cursor_get(cursor, &key, NULL, MDB_FIRST); code == 0;
         code = mdb_cursor_get(cursor, &key, NULL, MDB_NEXT)) {
        const char *name = key.mv_data;
        if (key.mv_size > 2 && memcmp(name + key.mv_size - 2, "#0", 2) == 0)
            string_print(names, "%s%.*s", names->length > 0 ? ", " : "", (int)(key.mv_size - 2), name);
    }
    mdb_cursor_close(cursor);
    return string_failed(names, error) ? -1 : 0;
}

/* The first part, whose header speaks for all. */
static int find_first(const struct store *store, MDB_txn *snapshot, const char *name,
                      struct source_header *first, struct error *error)
{
    char key_text[SOURCE_NAME_SIZE + 16];
    MDB_val key = {0, key_text}, value;
    struct string names = {0};
    const void *bytes;
    if (strlen(name) < SOURCE_NAME_SIZE) {
        key.mv_size = source_key(name, 0, key_text);
        if (mdb_get(snapshot, store->source, &key, &value) != MDB_NOTFOUND)
            return get_part(store, snapshot, name, 0, first, &bytes, error);
    }
    if (list_names(store, snapshot, &names, error) == 0)
        error_set_kind(error, ERROR_USAGE, "%s: the store has no %s of the model; it has %s", store->path, name,
                       names.length > 0 ? names.data : "none of its tensors");
    string_free(&names);
    return -1;
}

static int visit_parts(const struct store *store, MDB_txn *snapshot, const char *name,
                       const struct source_header *first, source_visitor *visit, void *context,
                       struct error *error)
{
    const void *bytes;
    struct source_header header;
    for (uint32_t part = 0; part < first->parts; part++) {
        if (get_part(store, snapshot, name, part, &header, &bytes, error) < 0)
            return -1;
        if (header.part != part || header.type != first->type || header.rows != first->rows ||
            header.cols != first->cols)
            return error_set_kind(error, ERROR_DAMAGED, "%s: %s, part %" PRIu32 " is of another tensor",
                                  store->path, name, part);
        if (visit(context, bytes, header.bytes, error) < 0)
            return -1;
    }
    return 0;
}

int store_find_source(struct store *store, const char *name, struct source_shape *shape, struct error *error)
{
    struct source_header first = {0};
    MDB_txn *snapshot;
    if (store_snapshot(store, &snapshot, error) < 0)
        return -1;
    const int result = find_first(store, snapshot, name, &first, error);
    store_end_snapshot(store, snapshot);
    *shape = shape_of(&first);
    return result;
}

int store_visit_source(struct store *store, const char *name, source_visitor *visit, void *context,
                       struct error *error)
{
    struct source_header first;
    MDB_txn *snapshot;
    if (store_snapshot(store, &snapshot, error) < 0)
        return -1;
    int result = find_first(store, snapshot, name, &first, error);
    if (result == 0)
        result = visit_parts(store, snapshot, name, &first, visit, context, error);
    store_end_snapshot(store, snapshot);
    return result;
}

static int append_bytes(void *context, const void *bytes, size_t size, struct error *error)
{
    unsigned char **end = context;
    (void)error;
    memcpy(*end, bytes, size);
    *end += size;
    return 0;
}

int store_get_source(struct store *store, const char *name, struct source_shape *shape, void **data,
                     struct error *error)
{
    struct source_header first = {0};
    unsigned char *bytes = NULL, *end;
    MDB_txn *snapshot;
    size_t total;
    *data = NULL;
    if (store_snapshot(store, &snapshot, error) < 0)
        return -1;
    int result = find_first(store, snapshot, name, &first, error);
    if (result == 0) {
        source_bytes(shape_of(&first), &total);
        if ((result = array_alloc(&bytes, total, error)) < 0)
            error_prefix(error, "%s: %s", store->path, name);
        end = bytes;
    }
    if (result == 0)
        result = visit_parts(store, snapshot, name, &first, append_bytes, &end, error);
    store_end_snapshot(store, snapshot);
    if (result < 0) {
        free(bytes);
        return -1;
    }
    *shape = shape_of(&first);
    *data = bytes;
    return 0;
}
