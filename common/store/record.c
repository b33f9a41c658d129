#include <inttypes.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/store/format.h"
#include "common/store/target.h"

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

static struct record_header header_of(const struct coder *coder, struct tap tap, struct sequence sequence,
                                      int64_t rows, size_t columns, size_t payload)
{
    struct record_header header = {
        .version = RECORD_VERSION,
        .codec = coder_codec(coder)->id,
        .parameters = coder_hash(coder),
        .type = (uint16_t)coder_codec(coder)->type,
        .mid = tap.mid,
        .split = (uint8_t)sequence.split,
        .layer = (uint32_t)tap.layer,
        .index = sequence.index,
        .rows = (uint32_t)rows,
        .cols = (uint32_t)coder_cols(coder),
        .payload = payload,
        .columns = columns,
    };
    memcpy(header.magic, record_magic, sizeof header.magic);
    return header;
}

static int put_front(const struct target_front *front, int64_t rows, unsigned char *bytes, struct error *error)
{
    if (front->values)
        return target_pack(front->columns, front->values, rows, bytes, error);
    memcpy(bytes, front->bytes, columns_bytes(front->columns, rows));
    return 0;
}

int record_encode_made(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                       struct sequence sequence, const struct target_front *front, const void *states,
                       bool transformed, int64_t rows, unsigned char **record, size_t *capacity, size_t *size,
                       double *loss, struct error *error)
{
    const size_t columns = front ? columns_bytes(front->columns, rows) : 0;
    size_t coded, bound = coder_bound(coder, rows);
    if (bound == 0)
        return error_set(error, "%s has no shape [%" PRId64 ", %" PRId64 "]", coder_codec(coder)->name, rows,
                         coder_cols(coder));
    if (array_grow(record, capacity, sizeof(struct record_header) + columns + bound, error) < 0)
        return -1;
    unsigned char *body = *record + sizeof(struct record_header), *payload = body + columns;
    if ((front && put_front(front, rows, body, error) < 0) ||
        (transformed
             ? coder_encode_transformed(coder, worker, states, rows, payload, bound, &coded, loss, error)
             : coder_encode(coder, worker, states, rows, payload, bound, &coded, loss, error)) < 0)
        return -1;

    struct record_header header = header_of(coder, tap, sequence, rows, columns, columns + coded);
    header.hash = record_hash(header, body);
    memcpy(*record, &header, sizeof header);
    *size = sizeof header + header.payload;
    return 0;
}

int record_encode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const float *states, int64_t rows, unsigned char **record,
                  size_t *capacity, size_t *size, double *loss, struct error *error)
{
    return record_encode_made(worker, coder, tap, sequence, NULL, states, false, rows, record, capacity, size,
                              loss, error);
}

int target_encode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const struct target_front *front, const float *u, int64_t rows,
                  unsigned char **record, size_t *capacity, size_t *size, double *loss, struct error *error)
{
    return record_encode_made(worker, coder, tap, sequence, front, u, false, rows, record, capacity, size, loss,
                              error);
}

int record_check_header(const struct coder *coder, struct tap tap, struct sequence sequence, size_t columns,
                        const void *record, size_t size, int64_t rows, struct record_header *header,
                        struct error *error)
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

    struct record_header expected = header_of(coder, tap, sequence, rows, columns, size - sizeof *header);
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
                              header->cols, coder_codec(coder)->id, rows, coder_cols(coder));
    }
    return 0;
}

/* The record's payload, when all of it is as expected and its hash fits; else NULL. */
static const unsigned char *check(const struct coder *coder, struct tap tap, struct sequence sequence,
                                  size_t columns, const void *record, size_t size, int64_t rows,
                                  struct error *error)
{
    struct record_header header;
    if (record_check_header(coder, tap, sequence, columns, record, size, rows, &header, error) < 0)
        return NULL;
    const unsigned char *payload = (const unsigned char *)record + sizeof header;
    if (record_hash(header, payload) == header.hash)
        return payload;
    error_set_kind(error, ERROR_DAMAGED, "the record is damaged: its bytes do not match their hash");
    return NULL;
}

/* As record_decode, of what is coded in a payload. */
static int decode(struct codec_worker *worker, const struct coder *coder, const unsigned char *coded,
                  size_t size, int64_t rows, float *states, struct states_view *view, struct error *error)
{
    if (view)
        return coder_view(coder, worker, coded, size, rows, states, view, error);
    if (states && coder_decode(coder, worker, coded, size, rows, states, error) < 0)
        return error_narrow(error, ERROR_DAMAGED);
    return 0;
}

int record_decode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const void *record, size_t size, int64_t rows, float *states,
                  struct states_view *view, struct error *error)
{
    const unsigned char *payload = check(coder, tap, sequence, 0, record, size, rows, error);
    if (!payload)
        return -1;
    return decode(worker, coder, payload, size - sizeof(struct record_header), rows, states, view, error);
}

int target_decode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const void *record, size_t size, int64_t rows, int64_t vocab,
                  const struct columns *of, struct target_row *values, const void **columns, float *u,
                  struct states_view *view, struct error *error)
{
    const size_t before = columns_bytes(of, rows);
    const unsigned char *payload = check(coder, tap, sequence, before, record, size, rows, error);
    if (!payload)
        return -1;
    const size_t left = size - sizeof(struct record_header);
    if (left < before)
        return error_set_kind(error, ERROR_DAMAGED,
                              "the record's payload has %zu bytes, fewer than its columns", left);
    if (columns)
        *columns = payload;
    if (target_unpack(of, payload, rows, vocab, values, error) < 0)
        return error_narrow(error, ERROR_DAMAGED);
    return decode(worker, coder, payload + before, left - before, rows, u, view, error);
}
