#include "common/store/record.h"

#include <inttypes.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"

#define RECORD_VERSION 2
static const char record_magic[4] = {'O', 'F', 'R', 'R'};

_Static_assert(sizeof(struct record_header) == 64, "the header is 64 bytes on every machine");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "headers are written as they lie in memory");

static uint64_t record_hash(struct record_header header, const void *payload)
{
    header.hash = 0;
    return hash_bytes(payload, header.payload, hash_bytes(&header, sizeof header, 0));
}

bool record_is_whole(const void *record, size_t room, struct record_header *header)
{
    if (room < sizeof *header)
        return false;
    memcpy(header, record, sizeof *header);
    return memcmp(header->magic, record_magic, sizeof record_magic) == 0 && header->version == RECORD_VERSION &&
           header->payload <= room - sizeof *header &&
           record_hash(*header, (const unsigned char *)record + sizeof *header) == header->hash;
}

struct record_key record_key(const struct store_info *info, const struct coder *coder, int tap,
                             struct sequence sequence)
{
    return (struct record_key){.coder = coder,
                               .tap = info->tap[tap],
                               .sequence = sequence,
                               .rows = info->rows,
                               .columns = tap == store_find_target(info) ? &info->columns : NULL,
                               .vocab = info->vocab};
}

static size_t columns_of(const struct record_key *key)
{
    return key->columns ? columns_bytes(key->columns, key->rows) : 0;
}

static struct record_header header_of(const struct record_key *key, size_t payload)
{
    const struct coder *coder = key->coder;
    struct record_header header = {
        .version = RECORD_VERSION,
        .codec = coder_codec(coder)->id,
        .parameters = coder_hash(coder),
        .type = (uint16_t)coder_codec(coder)->type,
        .mid = key->tap.mid,
        .split = (uint8_t)key->sequence.split,
        .layer = (uint32_t)key->tap.layer,
        .index = key->sequence.index,
        .rows = (uint32_t)key->rows,
        .cols = (uint32_t)coder_cols(coder),
        .payload = payload,
        .columns = columns_of(key),
    };
    memcpy(header.magic, record_magic, sizeof header.magic);
    return header;
}

/* ---- making ---- */

static int put_columns(const struct record_key *key, const struct record_states *states, unsigned char *bytes,
                       struct error *error)
{
    if (!key->columns)
        return 0;
    if (states->values)
        return target_pack(key->columns, states->values, key->rows, bytes, error);
    memcpy(bytes, states->columns, columns_of(key));
    return 0;
}

int record_encode(struct codec_worker *worker, const struct record_key *key, const struct record_states *states,
                  struct record *record, struct error *error)
{
    const size_t columns = columns_of(key), bound = coder_bound(key->coder, key->rows);
    if (bound == 0)
        return error_set(error, "%s has no shape [%" PRId64 ", %" PRId64 "]", coder_codec(key->coder)->name,
                         key->rows, coder_cols(key->coder));
    if (array_grow(&record->bytes, &record->capacity, sizeof(struct record_header) + columns + bound, error) <
        0)
        return -1;
    unsigned char *body = record->bytes + sizeof(struct record_header);
    struct codec_payload coded = {.bytes = body + columns, .capacity = bound};
    if (put_columns(key, states, body, error) < 0 ||
        (states->transformed
             ? coder_encode_transformed(key->coder, worker, states->states, key->rows, &coded, error)
             : coder_encode(key->coder, worker, states->states, key->rows, &coded, error)) < 0)
        return -1;

    struct record_header header = header_of(key, columns + coded.size);
    header.hash = record_hash(header, body);
    memcpy(record->bytes, &header, sizeof header);
    record->size = sizeof header + header.payload;
    record->loss = coded.loss;
    return 0;
}

/* ---- reading ---- */

int record_check_header(const struct record_key *key, const void *record, size_t size,
                        struct record_header *header, struct error *error)
{
    if (size < sizeof *header)
        return error_set_kind(error, ERROR_DAMAGED, "the record has %zu bytes, fewer than its header", size);
    memcpy(header, record, sizeof *header);
    if (memcmp(header->magic, record_magic, sizeof record_magic) != 0)
        return error_set_kind(error, ERROR_DAMAGED, "this is not a record");
    if (header->version != RECORD_VERSION)
        return error_set(error, "the record has format version %u; this program reads %d%s", header->version,
                         RECORD_VERSION, header->version > RECORD_VERSION ? ": use a newer one" : "");
    if (header->payload != size - sizeof *header)
        return error_set_kind(error, ERROR_DAMAGED,
                              "the record's payload should have %" PRIu64 " bytes and has %zu", header->payload,
                              size - sizeof *header);

    const struct coder *coder = key->coder;
    struct record_header expected = header_of(key, size - sizeof *header);
    expected.hash = header->hash;
    if (header->codec == expected.codec && header->parameters != expected.parameters)
        return error_set_kind(error, ERROR_DAMAGED,
                              "the record was coded with other parameters than the store has for its tap");
    if (memcmp(&expected, header, sizeof expected) != 0) {
        char name[TAP_NAME_SIZE];
        tap_name((struct tap){(int)header->layer, header->mid}, -1, name);
        return error_set_kind(error, ERROR_DAMAGED,
                              "the record is another one: tap %s, %s sequence %" PRIu64 ", codec %u, [%" PRIu32
                              ", %" PRIu32 "]; codec %u, [%" PRId64 ", %" PRId64 "] was expected",
                              name, split_name(header->split), header->index, header->codec, header->rows,
                              header->cols, coder_codec(coder)->id, key->rows, coder_cols(coder));
    }
    return 0;
}

/* The record's payload, when all of it is as expected and its hash fits; else NULL. */
static const unsigned char *check(const struct record_key *key, const void *record, size_t size,
                                  struct error *error)
{
    struct record_header header;
    if (record_check_header(key, record, size, &header, error) < 0)
        return NULL;
    const unsigned char *payload = (const unsigned char *)record + sizeof header;
    if (record_hash(header, payload) == header.hash)
        return payload;
    error_set_kind(error, ERROR_DAMAGED, "the record is damaged: its bytes do not match their hash");
    return NULL;
}

static int read_columns(const struct record_key *key, const unsigned char *payload, size_t size,
                        const struct record_parts *parts, struct error *error)
{
    if (!key->columns)
        return 0;
    if (size < columns_of(key))
        return error_set_kind(error, ERROR_DAMAGED,
                              "the record's payload has %zu bytes, fewer than its columns", size);
    if (parts->columns)
        *parts->columns = payload;
    if (target_unpack(key->columns, payload, key->rows, key->vocab, parts->values, error) < 0)
        return error_narrow(error, ERROR_DAMAGED);
    return 0;
}

int record_decode(struct codec_worker *worker, const struct record_key *key, const void *record, size_t size,
                  const struct record_parts *parts, struct error *error)
{
    const unsigned char *payload = check(key, record, size, error);
    size_t left = size - sizeof(struct record_header);
    if (!payload || read_columns(key, payload, left, parts, error) < 0)
        return -1;
    payload += columns_of(key);
    left -= columns_of(key);
    if (parts->view)
        return coder_view(key->coder, worker, payload, left, key->rows, parts->states, parts->view, error);
    if (parts->states && coder_decode(key->coder, worker, payload, left, key->rows, parts->states, error) < 0)
        return error_narrow(error, ERROR_DAMAGED);
    return 0;
}
