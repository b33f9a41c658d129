/* store_fixture.h: small stores for tests, whose every token and state follows from its tap and sequence. */
#ifndef OFFRAMP_TESTS_STORE_FIXTURE_H
#define OFFRAMP_TESTS_STORE_FIXTURE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/store/record.h"

enum { FIXTURE_ROWS = 8, FIXTURE_HIDDEN = 640, FIXTURE_TAPS = 4, FIXTURE_VOCAB = 1000 };

static inline json_t *fixture_manifest(int shard, int shards)
{
    return json_pack("{s:{s:i, s:i, s:i, s:s}, s:i, s:[{s:s, s:s, s:o}, {s:s, s:s}, {s:s, s:s}, {s:s, s:s}], "
                     "s:{s:i, s:i}, s:s}",
                     "model", "layers", 4, "hidden", FIXTURE_HIDDEN, "vocab", FIXTURE_VOCAB, "fingerprint",
                     "0123456789abcdef", "rows", FIXTURE_ROWS, "taps", "name", "target", "codec", "lossless",
                     "columns", columns_to_json(target_columns()), "name", "2", "codec", "lossless", "name",
                     "2.mid", "codec", "raw", "name", "final", "codec", "raw:f32", "shard", "index", shard,
                     "count", shards, "command", "extract --taps 2,2.mid,final");
}

static inline void fixture_tokens(struct sequence sequence, int32_t ids[FIXTURE_ROWS + 1])
{
    for (int i = 0; i <= FIXTURE_ROWS; i++)
        ids[i] = (int32_t)((sequence.index * 131 + (uint64_t)i * 17 + (uint64_t)sequence.split * 500) % 1000);
}

/* Values that bf16 keeps, so that every codec gives them back; of the target u. */
static inline void fixture_states(int tap, struct sequence sequence,
                                  float states[FIXTURE_ROWS * FIXTURE_HIDDEN])
{
    for (int i = 0; i < FIXTURE_ROWS * FIXTURE_HIDDEN; i++) {
        uint64_t n =
            sequence.index * 7919 + (uint64_t)i * 31 + (uint64_t)tap * 977 + (uint64_t)sequence.split * 37;
        states[i] = bf16_to_f32((uint16_t)(0x3e00 + n % 512 + (n % 3 == 0 ? 0x8000 : 0)));
    }
}

/* Best tokens that go with the row's top one. */
static inline void fixture_best(struct target_row *row, int vocab)
{
    const float least = (1 - row->probability) / TARGET_BEST;
    for (int k = 0; k < TARGET_BEST; k++) {
        const float probability = k == 0 || row->probability < least ? row->probability : least;
        row->best[k] = (row->top + k * 7) % vocab;
        row->best_probability[k] = f16_to_f32(f32_to_f16(probability));
    }
}

static inline void fixture_values(struct sequence sequence, struct target_row values[FIXTURE_ROWS])
{
    for (int i = 0; i < FIXTURE_ROWS; i++) {
        const uint64_t n = sequence.index * 271 + (uint64_t)i * 13 + (uint64_t)sequence.split * 97;
        values[i] = (struct target_row){.top = (int32_t)(n % FIXTURE_VOCAB),
                                        .probability = (float)(n % 101) / 101,
                                        .entropy = (float)(n % 37) / 8,
                                        .loss = (float)(n % 53) / 16};
        fixture_best(&values[i], FIXTURE_VOCAB);
    }
}

static inline int fixture_put_tokens(struct store *store, struct sequence sequence, struct error *error)
{
    const int32_t starts[2] = {0, 5};
    int32_t ids[FIXTURE_ROWS + 1];
    fixture_tokens(sequence, ids);
    return store_put_tokens(store, sequence.split, ids, starts, (int)(sequence.index % 3), error);
}

static inline int fixture_put_record(struct store *store, struct codec_worker *worker, int tap,
                                     struct sequence sequence, struct error *error)
{
    const struct store_info *info = store_info(store);
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN];
    struct target_row values[FIXTURE_ROWS];
    struct record record = {0};
    const struct coder *coder;
    if (store_coder(store, tap, &coder, error) < 0)
        return -1;
    fixture_states(tap, sequence, states);
    fixture_values(sequence, values);
    const struct record_key key = record_key(info, coder, tap, sequence);
    const struct record_states made = {.states = states, .values = values};
    int result = record_encode(worker, &key, &made, &record, error);
    if (result == 0)
        result = store_put_record(store, tap, sequence, record.bytes, record.size, error);
    free(record.bytes);
    return result;
}

/* `count` sequences more of a split, at all taps, with their progress, in one commit. */
static inline int fixture_fill(struct store *store, enum split split, uint64_t count, struct error *error)
{
    const struct store_info *info = store_info(store);
    struct codec_worker *worker;
    if (codec_worker_create(&worker, error) < 0)
        return -1;
    int result = store_begin(store, error);
    uint64_t first = store_sequences(store, split);
    for (uint64_t i = first; i < first + count && result == 0; i++) {
        struct sequence sequence = {split, i * (uint64_t)info->shards + (uint64_t)info->shard};
        result = fixture_put_tokens(store, sequence, error);
        for (int tap = 0; tap < info->taps && result == 0; tap++)
            result = fixture_put_record(store, worker, tap, sequence, error);
    }
    for (int tap = 0; tap < info->taps && result == 0; tap++)
        result = store_set_progress(store, tap, split, first + count, error);
    codec_worker_destroy(worker);
    return result == 0 ? store_commit(store, error) : -1;
}

/* One record and its tokens are what they should be. */
static inline int fixture_check(struct reader *reader, int tap, struct sequence sequence, struct error *error)
{
    int32_t ids[FIXTURE_ROWS + 1], expected_ids[FIXTURE_ROWS + 1];
    float states[FIXTURE_ROWS * FIXTURE_HIDDEN], expected[FIXTURE_ROWS * FIXTURE_HIDDEN];
    fixture_tokens(sequence, expected_ids);
    fixture_states(tap, sequence, expected);
    if (reader_tokens(reader, sequence, ids, error) < 0 ||
        reader_states(reader, tap, sequence, states, error) < 0)
        return -1;
    if (memcmp(ids, expected_ids, sizeof ids) != 0 || memcmp(states, expected, sizeof states) != 0)
        return error_set(error, "read something else than was written");
    if (tap == FIXTURE_TAPS - 1) {
        struct target_row values[FIXTURE_ROWS], expected_values[FIXTURE_ROWS];
        fixture_values(sequence, expected_values);
        if (reader_target(reader, sequence, values, states, error) < 0)
            return -1;
        if (memcmp(values, expected_values, sizeof values) != 0 || memcmp(states, expected, sizeof states) != 0)
            return error_set(error, "read another target than was written");
    }
    return 0;
}

/* Everything the progress marks count is there and right. */
static inline int fixture_check_all(struct store *store, struct error *error)
{
    const struct store_info *info = store_info(store);
    struct reader *reader;
    int result = reader_open(store, &reader, error);
    for (int tap = 0; tap < info->taps && result == 0; tap++)
        for (enum split split = 0; split < SPLIT_COUNT && result == 0; split++)
            for (uint64_t i = 0; i < store_progress(store, tap, split) && result == 0; i++)
                result = fixture_check(reader, tap, store_sequence(info, split, i), error);
    reader_close(reader);
    return result;
}

#endif
