#include "common/store/format.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/hash.h"

#define TOKENS_VERSION 1

_Static_assert(sizeof(struct tokens_header) == 32, "the header is 32 bytes on every machine");

const char *split_name(enum split split)
{
    static const char *const names[SPLIT_COUNT] = {"train", "held-out"};
    return (unsigned)split < SPLIT_COUNT ? names[split] : "unknown";
}

void sequence_key(struct sequence sequence, unsigned char key[SEQUENCE_KEY_SIZE])
{
    uint64_t number = (uint64_t)sequence.split << 63 | sequence.index;
    for (int i = 0; i < SEQUENCE_KEY_SIZE; i++)
        key[i] = (unsigned char)(number >> (56 - 8 * i));
}

struct sequence sequence_of_key(const unsigned char key[SEQUENCE_KEY_SIZE])
{
    uint64_t number = 0;
    for (int i = 0; i < SEQUENCE_KEY_SIZE; i++)
        number = number << 8 | key[i];
    return (struct sequence){(enum split)(number >> 63), number & INT64_MAX};
}

/* ---- tokens ---- */

static uint64_t tokens_hash(struct tokens_header header, const void *body, size_t size)
{
    header.hash = 0;
    return hash_bytes(body, size, hash_bytes(&header, sizeof header, 0));
}

static int check_tokens(const struct store_info *info, const int32_t *ids, const int32_t *starts, int count,
                        struct error *error)
{
    for (int i = 0; i <= info->rows; i++)
        if (ids[i] < 0 || ids[i] >= info->vocab)
            return error_set(error, "token %d is %" PRId32 ", outside the vocabulary of %d", i, ids[i],
                             info->vocab);
    if (count < 0 || count > info->rows + 1)
        return error_set(error, "%d document starts in %d tokens", count, info->rows + 1);
    for (int i = 0; i < count; i++)
        if (starts[i] < 0 || starts[i] > info->rows || (i > 0 && starts[i] <= starts[i - 1]))
            return error_set(error, "document start %d is at row %" PRId32 ": starts ascend in 0 .. %d", i,
                             starts[i], info->rows);
    return 0;
}

int tokens_encode(const struct store_info *info, struct sequence sequence, const int32_t *ids,
                  const int32_t *starts, int count, struct string *value, struct error *error)
{
    if (check_tokens(info, ids, starts, count, error) < 0)
        return error_prefix(error, "%s sequence %" PRIu64, split_name(sequence.split), sequence.index);
    struct tokens_header header = {
        .version = TOKENS_VERSION,
        .split = (uint8_t)sequence.split,
        .index = sequence.index,
        .rows = (uint32_t)info->rows,
        .starts = (uint32_t)count,
    };
    memcpy(header.magic, TOKENS_MAGIC, sizeof header.magic);
    size_t first = value->length;
    string_append(value, (const char *)&header, sizeof header);
    string_append(value, (const char *)ids, ((size_t)info->rows + 1) * sizeof *ids);
    if (count > 0)
        string_append(value, (const char *)starts, (size_t)count * sizeof *starts);
    if (string_failed(value, error))
        return -1;
    char *body = value->data + first + sizeof header;
    header.hash = tokens_hash(header, body, value->length - first - sizeof header);
    memcpy(value->data + first, &header, sizeof header);
    return 0;
}

static int decode_tokens(const struct store_info *info, struct sequence sequence, const void *value,
                         size_t size, int32_t *ids, struct error *error)
{
    struct tokens_header header;
    size_t id_bytes = ((size_t)info->rows + 1) * sizeof *ids;
    if (size < sizeof header + id_bytes)
        return error_set_kind(error, ERROR_DAMAGED, "%zu bytes are too few for %d tokens", size,
                              info->rows + 1);
    memcpy(&header, value, sizeof header);
    const unsigned char *body = (const unsigned char *)value + sizeof header;
    if (memcmp(header.magic, TOKENS_MAGIC, sizeof header.magic) != 0)
        return error_set_kind(error, ERROR_DAMAGED, "this is not a token list");
    if (header.version > TOKENS_VERSION || header.flags != 0)
        return error_set(error,
                         "the token list has format version %u.%u; this program reads %d.0: use a newer one",
                         header.version, header.flags, TOKENS_VERSION);
    if (size - sizeof header - id_bytes != header.starts * sizeof(int32_t) ||
        tokens_hash(header, body, size - sizeof header) != header.hash)
        return error_set_kind(error, ERROR_DAMAGED,
                              "the tokens are damaged: their bytes do not match their hash");
    if (header.split != sequence.split || header.index != sequence.index)
        return error_set_kind(error, ERROR_DAMAGED, "these are the tokens of %s sequence %" PRIu64,
                              split_name(header.split), header.index);
    if (header.version != TOKENS_VERSION || header.rows != (uint32_t)info->rows)
        return error_set_kind(error, ERROR_DAMAGED, "%" PRIu32 " tokens where %d were expected", header.rows,
                              info->rows);
    if (ids)
        memcpy(ids, body, id_bytes);
    return 0;
}

int tokens_decode(const struct store_info *info, struct sequence sequence, const void *value, size_t size,
                  int32_t *ids, struct error *error)
{
    if (decode_tokens(info, sequence, value, size, ids, error) < 0)
        return error_prefix(error, "tokens of %s sequence %" PRIu64, split_name(sequence.split),
                            sequence.index);
    return 0;
}

int tokens_starts(const struct store_info *info, const void *value, int32_t *starts, int *count,
                  struct error *error)
{
    struct tokens_header header;
    memcpy(&header, value, sizeof header);
    if (header.starts > header.rows + 1)
        return error_set_kind(error, ERROR_DAMAGED, "%" PRIu32 " document starts in %d tokens", header.starts,
                              info->rows + 1);
    const size_t ids = ((size_t)info->rows + 1) * sizeof(int32_t);
    memcpy(starts, (const unsigned char *)value + sizeof header + ids, header.starts * sizeof *starts);
    *count = (int)header.starts;
    return 0;
}

/* ---- meta ---- */

static uint64_t meta_hash(const char *key, const void *value, size_t size)
{
    return hash_bytes(value, size, hash_bytes(key, strlen(key), 0));
}

void meta_frame(const char *key, const void *value, size_t size, struct string *framed)
{
    uint64_t hash = meta_hash(key, value, size);
    string_append(framed, (const char *)&hash, sizeof hash);
    string_append(framed, value, size);
}

int meta_unframe(const char *key, const void *framed, size_t framed_size, const void **value, size_t *size,
                 struct error *error)
{
    uint64_t hash;
    if (framed_size < sizeof hash)
        return error_set_kind(error, ERROR_DAMAGED, "the value of \"%s\" is cut short", key);
    memcpy(&hash, framed, sizeof hash);
    *value = (const unsigned char *)framed + sizeof hash;
    *size = framed_size - sizeof hash;
    if (meta_hash(key, *value, *size) != hash)
        return error_set_kind(error, ERROR_DAMAGED,
                              "the value of \"%s\" is damaged: its bytes do not match their hash", key);
    return 0;
}

/* Format 1 stored its version without a hash: "\1\0\0\0". */
static bool is_first_version(const void *bytes, size_t size)
{
    const uint32_t first = 1;
    return size == sizeof first && memcmp(bytes, &first, sizeof first) == 0;
}

int version_check(const void *framed, size_t framed_size, bool *damaged, struct error *error)
{
    const void *value;
    size_t size;
    uint32_t version = 1;
    *damaged = false;
    if (!is_first_version(framed, framed_size)) {
        *damaged = meta_unframe(KEY_VERSION, framed, framed_size, &value, &size, error) < 0 ||
                   (size < sizeof version &&
                    error_set_kind(error, ERROR_DAMAGED, "the format version is cut short") < 0);
        if (*damaged)
            return -1;
        memcpy(&version, value, sizeof version);
    }
    if (version == STORE_VERSION)
        return 0;
    if (version < STORE_VERSION)
        return error_set(error,
                         "the store was made by an older offramp (format %" PRIu32
                         ", this program reads %d): extract it again: name another folder, or remove this one",
                         version, STORE_VERSION);
    return error_set(error,
                     "the store was made by a newer offramp (format %" PRIu32
                     ", this program reads %d): use a newer program",
                     version, STORE_VERSION);
}
