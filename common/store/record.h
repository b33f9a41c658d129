/* record.h: the states of one sequence at one tap as bytes, and back.
 *
 *     struct record_header | columns, of a target only (columns.h) | what the codec made of the states
 *
 * Nothing of a record is used before everything in it is as expected: its header names the tap, the sequence,
 * the codec and its parameters, and its hash covers all of it.
 *
 *     const struct record_key key = record_key(info, coder, tap, sequence);
 *     struct record record = {0};
 *     record_encode(worker, &key, &(struct record_states){.states = states}, &record, error);
 *     store_put_record(store, tap, sequence, record.bytes, record.size, error);
 *     record_decode(worker, &key, record.bytes, record.size, &(struct record_parts){.states = states}, error);
 *     free(record.bytes);
 */
#ifndef OFFRAMP_STORE_RECORD_H
#define OFFRAMP_STORE_RECORD_H

#include "common/store/target.h"

/* Little-endian, 64 bytes, at the start of every record. */
struct record_header {
    char magic[4]; /* "OFRR" */
    uint16_t version; /* 2 */
    uint16_t codec; /* struct codec.id */
    uint64_t parameters; /* XXH3-64 of the codec's parameters, 0: none */
    uint16_t type; /* enum dtype of the kept values */
    uint8_t mid, split; /* tap and sequence, so that a record cannot stand in for another */
    uint32_t layer;
    uint64_t index;
    uint32_t rows, cols;
    uint64_t payload; /* bytes that follow the header */
    uint64_t columns; /* of the payload, bytes before the coded states: a target's columns (target.h), else 0 */
    uint64_t hash; /* XXH3-64 of the header with this field 0, then the payload */
};

/* Which record it is. */
struct record_key {
    const struct coder *coder;
    struct tap tap;
    struct sequence sequence;
    int64_t rows;
    const struct columns *columns; /* of a target; NULL: this is a tap's */
    int64_t vocab; /* of a target: its tokens are below */
};

/* Of a store's tap (by index); coder: the tap's. The key borrows from both. */
struct record_key record_key(const struct store_info *info, const struct coder *coder, int tap,
                             struct sequence sequence);

/* ---- making ---- */

/* What a record is made of. */
struct record_states {
    const void *states; /* f32 [rows, the coder's cols]; of a target u */
    bool transformed; /* a device has: they are rows as coder_encode_transformed takes them */
    /* Of a target: */
    const struct target_row *values; /* [rows], or NULL: */
    const void *columns; /* the columns as another record has them */
};

/* A record in memory that is grown with realloc as needed and used again; zeroed at first. free(bytes). */
struct record {
    unsigned char *bytes;
    size_t size, capacity;
    double loss; /* as struct codec_payload's */
};

int record_encode(struct codec_worker *worker, const struct record_key *key, const struct record_states *states,
                  struct record *record, struct error *error);

/* ---- reading ---- */

/* What is wanted of a record: each may be NULL. */
struct record_parts {
    float *states; /* [rows, cols]; of a target u */
    struct states_view *view; /* of them as coder_view gives it; `states` is room then */
    /* Of a target: */
    struct target_row *values; /* [rows] */
    const void **columns; /* where the columns are in the record */
};

/* Checks everything in a record against its key and its hash; of a target the values, too, as target_unpack
 * does. Then it gives the parts. Errors say what is wrong with the record, not which it is: the caller
 * knows. */
int record_decode(struct codec_worker *worker, const struct record_key *key, const void *record, size_t size,
                  const struct record_parts *parts, struct error *error);

/* The checks of record_decode but the hash; *header receives the header. */
int record_check_header(const struct record_key *key, const void *record, size_t size,
                        struct record_header *header, struct error *error);

/* Whether a record of whatever tap and sequence is at `record`, where `room` bytes can be read, and its hash
 * fits. */
bool record_is_whole(const void *record, size_t room, struct record_header *header);

#endif
