#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/store/format.h"
#include "common/store/target.h"

#define RECORD_VERSION 1
static const char record_magic[4] = {'O', 'F', 'R', 'R'};

_Static_assert(sizeof(struct record_header) == 64, "the header is 64 bytes on every machine");
_Static_assert(sizeof(struct target_row) == 16, "a row's values are 16 bytes on every machine");
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
                                      int64_t rows, size_t payload)
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
    };
    memcpy(header.magic, record_magic, sizeof header.magic);
    return header;
}

/* front: bytes that stand before the coded states. transformed: instead of states, which are NULL then. */
static int encode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const void *front, size_t front_size, const float *states,
                  const void *transformed, int64_t rows, unsigned char **record, size_t *capacity, size_t *size,
                  double *loss, struct error *error)
{
    size_t coded, bound = coder_bound(coder, rows);
    if (bound == 0)
        return error_set(error, "%s has no shape [%" PRId64 ", %" PRId64 "]", coder_codec(coder)->name, rows,
                         coder_cols(coder));
    if (array_grow(record, capacity, sizeof(struct record_header) + front_size + bound, error) < 0)
        return -1;
    unsigned char *body = *record + sizeof(struct record_header);
    unsigned char *payload = body + front_size;
    if (states ? coder_encode(coder, worker, states, rows, payload, bound, &coded, loss, error) < 0
               : coder_encode_transformed(coder, worker, transformed, rows, payload, bound, &coded, loss,
                                          error) < 0)
        return -1;
    if (front_size > 0)
        memcpy(body, front, front_size);

    struct record_header header = header_of(coder, tap, sequence, rows, front_size + coded);
    header.hash = record_hash(header, body);
    memcpy(*record, &header, sizeof header);
    *size = sizeof header + header.payload;
    return 0;
}

int record_encode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const float *states, int64_t rows, unsigned char **record,
                  size_t *capacity, size_t *size, double *loss, struct error *error)
{
    return encode(worker, coder, tap, sequence, NULL, 0, states, NULL, rows, record, capacity, size, loss,
                  error);
}

int record_check_header(const struct coder *coder, struct tap tap, struct sequence sequence, const void *record,
                        size_t size, int64_t rows, struct record_header *header, struct error *error)
{
    if (size < sizeof *header)
        return error_set(error, "the record has %zu bytes, fewer than its header", size);
    memcpy(header, record, sizeof *header);
    if (memcmp(header->magic, record_magic, sizeof record_magic) != 0)
        return error_set(error, "this is not a record");
    if (header->version > RECORD_VERSION)
        return error_set(error, "the record has format version %u; this program reads %d: use a newer one",
                         header->version, RECORD_VERSION);
    if (header->payload != size - sizeof *header)
        return error_set(error, "the record's payload should have %" PRIu64 " bytes and has %zu",
                         header->payload, size - sizeof *header);

    struct record_header expected = header_of(coder, tap, sequence, rows, size - sizeof *header);
    expected.hash = header->hash;
    if (header->codec == expected.codec && header->parameters != expected.parameters)
        return error_set(error, "the record was coded with other parameters than the store has for its tap");
    if (memcmp(&expected, header, sizeof expected) != 0) {
        char name[TAP_NAME_SIZE];
        tap_name((struct tap){(int)header->layer, header->mid}, -1, name);
        return error_set(error,
                         "the record is another one: tap %s, %s sequence %" PRIu64 ", codec %u, [%" PRIu32
                         ", %" PRIu32 "]; codec %u, [%" PRId64 ", %" PRId64 "] was expected",
                         name, split_name(header->split), header->index, header->codec, header->rows,
                         header->cols, coder_codec(coder)->id, rows, coder_cols(coder));
    }
    return 0;
}

/* The record's payload, when all of it is as expected and its hash fits; else NULL. */
static const unsigned char *check(const struct coder *coder, struct tap tap, struct sequence sequence,
                                  const void *record, size_t size, int64_t rows, struct error *error)
{
    struct record_header header;
    if (record_check_header(coder, tap, sequence, record, size, rows, &header, error) < 0)
        return NULL;
    const unsigned char *payload = (const unsigned char *)record + sizeof header;
    if (record_hash(header, payload) == header.hash)
        return payload;
    error_set(error, "the record is damaged: its bytes do not match their hash");
    return NULL;
}

/* As record_decode, of what is coded in a payload. */
static int decode(struct codec_worker *worker, const struct coder *coder, const unsigned char *coded,
                  size_t size, int64_t rows, float *states, struct states_view *view, struct error *error)
{
    if (view)
        return coder_view(coder, worker, coded, size, rows, states, view, error);
    return states ? coder_decode(coder, worker, coded, size, rows, states, error) : 0;
}

int record_decode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const void *record, size_t size, int64_t rows, float *states,
                  struct states_view *view, struct error *error)
{
    const unsigned char *payload = check(coder, tap, sequence, record, size, rows, error);
    if (!payload)
        return -1;
    return decode(worker, coder, payload, size - sizeof(struct record_header), rows, states, view, error);
}

/* ---- targets ---- */

int target_encode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const struct target_row *values, const float *u, int64_t rows,
                  unsigned char **record, size_t *capacity, size_t *size, double *loss, struct error *error)
{
    return encode(worker, coder, tap, sequence, values, (size_t)rows * sizeof *values, u, NULL, rows, record,
                  capacity, size, loss, error);
}

int record_encode_made(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                       struct sequence sequence, const struct target_row *values, const void *states,
                       bool transformed, int64_t rows, unsigned char **record, size_t *capacity, size_t *size,
                       double *loss, struct error *error)
{
    return encode(worker, coder, tap, sequence, values, values ? (size_t)rows * sizeof *values : 0,
                  transformed ? NULL : states, transformed ? states : NULL, rows, record, capacity, size, loss,
                  error);
}

static int check_values(const struct target_row *values, int64_t rows, int64_t vocab, struct error *error)
{
    for (int64_t r = 0; r < rows; r++) {
        const struct target_row *row = &values[r];
        if (row->top < 0 || row->top >= vocab)
            return error_set(error, "row %" PRId64 ": token %" PRId32 " is outside the vocabulary of %" PRId64,
                             r, row->top, vocab);
        if (!(row->probability >= 0 && row->probability <= 1) || !isfinite(row->entropy) ||
            !isfinite(row->loss))
            return error_set(error, "row %" PRId64 ": a probability of %g, an entropy of %g, a loss of %g", r,
                             (double)row->probability, (double)row->entropy, (double)row->loss);
    }
    return 0;
}

int target_decode(struct codec_worker *worker, const struct coder *coder, struct tap tap,
                  struct sequence sequence, const void *record, size_t size, int64_t rows, int64_t vocab,
                  struct target_row *values, float *u, struct states_view *view, struct error *error)
{
    const size_t before = (size_t)rows * sizeof *values;
    const unsigned char *payload = check(coder, tap, sequence, record, size, rows, error);
    if (!payload)
        return -1;
    const size_t left = size - sizeof(struct record_header);
    if (left < before)
        return error_set(error, "the record's payload has %zu bytes, fewer than its rows' values", left);
    memcpy(values, payload, before);
    if (check_values(values, rows, vocab, error) < 0)
        return -1;
    return decode(worker, coder, payload + before, left - before, rows, u, view, error);
}
