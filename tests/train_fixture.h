/* train_fixture.h: small stores to train on, made without a model.
 *
 * Tokens follow a rule nine times out of ten (the next one is 5 v + 1 mod V). The final state points at
 * the output row of the token the rule gives, with noise; a tap's state is a fixed linear map of the
 * final one, with more noise the earlier the tap. So heads have something to learn, and a ridge
 * regression from a tap to the final state finds most of it.
 */
#ifndef OFFRAMP_TESTS_TRAIN_FIXTURE_H
#define OFFRAMP_TESTS_TRAIN_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/model/config.h"
#include "common/store/record.h"

struct train_fixture {
    int layers, hidden, intermediate, vocab, rows;
    int train, held_out; /* sequences */
    const char *taps; /* "1,2.mid,final,target" */
    const char *codec;
    uint64_t seed;
    int shard, shards; /* 0 of 0: not sharded */
    bool tied; /* the output weight is the embedding */
    const char *broken; /* a tap where training sequence 7 holds a NaN, or NULL */
};

static const struct train_fixture small_fixture = {
    .layers = 4,
    .hidden = 24,
    .intermediate = 40,
    .vocab = 61,
    .rows = 16,
    .train = 40,
    .held_out = 6,
    .taps = "1,2,2.mid,3,final,target",
    .codec = "lossless",
    .seed = 3,
};

static inline json_t *train_fixture_manifest(const struct train_fixture *fixture, struct error *error)
{
    const struct model_config config = {
        .family = "llama",
        .layers = fixture->layers,
        .hidden = fixture->hidden,
        .attention_heads = 2,
        .kv_heads = 1,
        .head_size = fixture->hidden / 2,
        .intermediate = fixture->intermediate,
        .vocab = fixture->vocab,
        .context = fixture->rows,
        .norm_epsilon = 1e-5f,
        .rope_theta = 10000,
        .rope_factor = 1,
        .tied = fixture->tied,
        .eos = -1,
    };
    json_t *model = config_to_json(&config, error), *taps = json_array();
    char list[256], *rest = NULL;
    if (!model || !taps)
        return NULL;
    json_object_set_new(model, "fingerprint", json_sprintf("%016llx", (unsigned long long)fixture->seed));
    snprintf(list, sizeof list, "%s", fixture->taps);
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest))
        json_array_append_new(taps,
                              json_pack("{ss ss so*}", "name", name, "codec", fixture->codec, "columns",
                                        strcmp(name, "target") ? NULL : columns_to_json(target_columns())));
    json_t *manifest = json_pack("{so si so}", "model", model, "rows", fixture->rows, "taps", taps);
    if (manifest && fixture->shards > 0)
        json_object_set_new(manifest, "shard",
                            json_pack("{si si}", "index", fixture->shard, "count", fixture->shards));
    return manifest;
}

/* [rows, cols] of normal numbers; the same for the same seed and name. */
static inline float *train_fixture_matrix(const struct train_fixture *fixture, uint64_t name, int rows,
                                          int cols, float mean, float deviation, struct error *error)
{
    struct random random = {fixture->seed * 1000 + name};
    float *values;
    if (array_alloc(&values, (size_t)rows * (size_t)cols, error) < 0)
        return NULL;
    for (int i = 0; i < rows * cols; i++)
        values[i] = mean + deviation * (float)random_normal(&random);
    return values;
}

static inline float *train_fixture_output(const struct train_fixture *fixture, struct error *error)
{
    return train_fixture_matrix(fixture, 1, fixture->vocab, fixture->hidden, 0, 0.5f, error);
}

static inline int train_fixture_put(struct store *store, const char *name, float *values, int rows, int cols,
                                    struct error *error)
{
    int result =
        values ? store_put_source(store, name, (struct source_shape){DTYPE_F32, rows, cols}, values, error)
               : -1;
    free(values);
    return result;
}

static inline int train_fixture_sources(const struct train_fixture *fixture, struct store *store,
                                        struct error *error)
{
    const int hidden = fixture->hidden, width = fixture->intermediate;
    int result =
        train_fixture_put(store, "output", train_fixture_output(fixture, error), fixture->vocab, hidden, error);
    if (result == 0) /* which is not tied to it */
        result = train_fixture_put(store, "embedding",
                                   train_fixture_matrix(fixture, 3, fixture->vocab, hidden, 0, 0.5f, error),
                                   fixture->vocab, hidden, error);
    if (result == 0)
        result = train_fixture_put(
            store, "final_norm", train_fixture_matrix(fixture, 2, 1, hidden, 1, 0.1f, error), 1, hidden, error);
    for (int layer = 1; layer <= fixture->layers && result == 0; layer++) {
        const struct {
            const char *name;
            int rows, cols;
        } tensors[] = {{"mlp_norm", 1, hidden},     {"mlp_gate", width, hidden},   {"mlp_up", width, hidden},
                       {"mlp_down", hidden, width}, {"attention_norm", 1, hidden}, {"q", hidden, hidden},
                       {"k", hidden / 2, hidden},   {"v", hidden / 2, hidden},     {"o", hidden, hidden}};
        const int count = layer > fixture->layers - 2 ? 9 : 4; /* as extract keeps them */
        for (int i = 0; i < count && result == 0; i++) {
            char name[64];
            snprintf(name, sizeof name, "%d/%s", layer, tensors[i].name);
            result = train_fixture_put(store, name,
                                       train_fixture_matrix(fixture, (uint64_t)(10 * layer + i),
                                                            tensors[i].rows, tensors[i].cols,
                                                            tensors[i].rows == 1 ? 1 : 0, 0.1f, error),
                                       tensors[i].rows, tensors[i].cols, error);
        }
    }
    return result;
}

struct train_fixture_writer {
    const struct train_fixture *fixture;
    struct store *store;
    struct codec_worker *worker;
    float *output; /* [V, H] */
    float *norm; /* [H] the final one's scale */
    float **map; /* [taps][H, H], NULL for the final tap and the target */
    float *final, *states; /* [T, H] */
    struct target_row *values; /* [T] */
    double *logits; /* [V] */
    int32_t *ids; /* [T + 1] */
    struct record record;
};

static inline void train_fixture_final(const struct train_fixture_writer *writer, struct random *random)
{
    const struct train_fixture *fixture = writer->fixture;
    writer->ids[0] = (int32_t)(random_next(random) % (uint64_t)fixture->vocab);
    for (int r = 0; r < fixture->rows; r++) {
        const int32_t next = (int32_t)((5 * (int64_t)writer->ids[r] + 1) % fixture->vocab);
        const float *row = writer->output + (int64_t)next * fixture->hidden;
        writer->ids[r + 1] =
            random_uniform(random) < 0.9 ? next : (int32_t)(random_next(random) % (uint64_t)fixture->vocab);
        for (int c = 0; c < fixture->hidden; c++)
            writer->final[r * fixture->hidden + c] = row[c] + 0.2f * (float)random_normal(random);
    }
}

static inline void train_fixture_states(const struct train_fixture_writer *writer, int tap,
                                        struct random *random)
{
    const struct train_fixture *fixture = writer->fixture;
    const struct tap at = store_info(writer->store)->tap[tap];
    const int hidden = fixture->hidden;
    const float noise = 0.4f * (float)(fixture->layers - at.layer) / (float)fixture->layers;
    for (int r = 0; r < fixture->rows; r++) {
        const float *from = writer->final + r * hidden;
        float *to = writer->states + r * hidden;
        for (int c = 0; c < hidden; c++)
            to[c] = 0.5f * from[c] + noise * (float)random_normal(random);
        for (int k = 0; k < hidden; k++) {
            const float *row = writer->map[tap] + k * hidden;
            for (int c = 0; c < hidden; c++)
                to[c] += from[k] * row[c];
        }
    }
}

/* The best tokens of a row, from its logits and log sum exp. */
static inline void train_fixture_best(const double *logits, int vocab, double lse, struct target_row *row)
{
    for (int k = 0; k < TARGET_BEST; k++) {
        int best = -1;
        for (int v = 0; v < vocab; v++) {
            bool taken = false;
            for (int other = 0; other < k; other++)
                taken |= row->best[other] == v;
            if (!taken && (best < 0 || logits[v] > logits[best]))
                best = v;
        }
        row->best[k] = best;
        row->best_probability[k] = f16_to_f32(f32_to_f16((float)exp(logits[best] - lse)));
    }
}

/* What the full model makes of row r of the final states: its values, and u in `states`. */
static inline void train_fixture_target(const struct train_fixture_writer *writer, int r)
{
    const int hidden = writer->fixture->hidden, vocab = writer->fixture->vocab;
    const float *x = writer->final + r * hidden;
    struct target_row *values = &writer->values[r];
    double squares = 0, sum = 0, expected = 0;
    *values = (struct target_row){0};
    for (int c = 0; c < hidden; c++)
        squares += (double)x[c] * x[c];
    for (int v = 0; v < vocab; v++) {
        writer->logits[v] = 0;
        for (int c = 0; c < hidden; c++)
            writer->logits[v] += x[c] / sqrt(squares / hidden + 1e-5) * writer->norm[c] *
                                 writer->output[(int64_t)v * hidden + c];
        if (writer->logits[v] > writer->logits[values->top])
            values->top = v;
    }
    const double most = writer->logits[values->top];
    for (int v = 0; v < vocab; v++)
        sum += exp(writer->logits[v] - most);
    memset(writer->states + r * hidden, 0, (size_t)hidden * sizeof(float));
    for (int v = 0; v < vocab; v++) {
        const double q = exp(writer->logits[v] - most) / sum;
        expected += q * writer->logits[v];
        for (int c = 0; c < hidden; c++)
            writer->states[r * hidden + c] += (float)(q * writer->output[(int64_t)v * hidden + c]);
    }
    values->probability = (float)(1 / sum);
    values->entropy = (float)(most + log(sum) - expected);
    values->loss = (float)(most + log(sum) - writer->logits[writer->ids[r + 1]]);
    train_fixture_best(writer->logits, vocab, most + log(sum), values);
    values->best_probability[0] = f16_to_f32(f32_to_f16(values->probability));
}

/* Codes what belongs to a tap (by index) to writer->record. */
static inline int train_fixture_encode(struct train_fixture_writer *writer, int tap, struct sequence sequence,
                                       struct error *error)
{
    const struct store_info *info = store_info(writer->store);
    const struct coder *coder;
    if (store_coder(writer->store, tap, &coder, error) < 0)
        return -1;
    const struct record_key key = record_key(info, coder, tap, sequence);
    for (int r = 0; r < info->rows && key.columns; r++)
        train_fixture_target(writer, r);
    const struct record_states states = {
        .states = key.columns || writer->map[tap] ? writer->states : writer->final, .values = writer->values};
    return record_encode(writer->worker, &key, &states, &writer->record, error);
}

static inline int train_fixture_sequence(struct train_fixture_writer *writer, struct sequence sequence,
                                         struct error *error)
{
    const struct store_info *info = store_info(writer->store);
    struct random random = {writer->fixture->seed + 77 * sequence.index + 7 * (uint64_t)sequence.split + 1};
    const struct record *record = &writer->record;
    char name[TAP_NAME_SIZE];
    random_next(&random);
    train_fixture_final(writer, &random);
    if (store_put_tokens(writer->store, sequence.split, writer->ids, NULL, 0, error) < 0)
        return -1;
    for (int t = 0; t < info->taps; t++) {
        if (writer->map[t])
            train_fixture_states(writer, t, &random);
        tap_name(info->tap[t], info->layers, name);
        if (writer->fixture->broken && !strcmp(writer->fixture->broken, name) && sequence.index == 7 &&
            sequence.split == SPLIT_TRAIN)
            writer->states[5] = NAN;
        if (train_fixture_encode(writer, t, sequence, error) < 0 ||
            store_put_record(writer->store, t, sequence, record->bytes, record->size, error) < 0)
            return -1;
    }
    return 0;
}

static inline int train_fixture_split(struct train_fixture_writer *writer, enum split split,
                                      struct error *error)
{
    const struct store_info *info = store_info(writer->store);
    const int count = split == SPLIT_TRAIN ? writer->fixture->train : writer->fixture->held_out;
    uint64_t put = 0;
    for (int i = info->shard; i < count; i += info->shards, put++) {
        if (train_fixture_sequence(writer, (struct sequence){split, (uint64_t)i}, error) < 0)
            return -1;
    }
    for (int t = 0; t < info->taps; t++) {
        if (store_set_progress(writer->store, t, split, put, error) < 0)
            return -1;
    }
    return 0;
}

static inline int train_fixture_maps(struct train_fixture_writer *writer, struct error *error)
{
    const struct store_info *info = store_info(writer->store);
    if (array_alloc(&writer->map, info->taps, error) < 0)
        return -1;
    for (int t = 0; t < info->taps; t++) {
        const struct tap tap = info->tap[t];
        if (tap.layer >= info->layers && !tap.mid)
            continue;
        writer->map[t] = train_fixture_matrix(writer->fixture, (uint64_t)(1000 + 2 * tap.layer + tap.mid),
                                              info->hidden, info->hidden, 0, 0.7f / (float)info->hidden, error);
        if (!writer->map[t])
            return -1;
    }
    return 0;
}

static inline int train_fixture_fill(struct train_fixture_writer *writer, struct error *error)
{
    const struct train_fixture *fixture = writer->fixture;
    const size_t values = (size_t)fixture->rows * (size_t)fixture->hidden;
    writer->output = train_fixture_output(fixture, error);
    if (!writer->output || codec_worker_create(&writer->worker, error) < 0 ||
        !(writer->norm = train_fixture_matrix(fixture, 2, 1, fixture->hidden, 1, 0.1f, error)) ||
        array_alloc(&writer->values, fixture->rows, error) < 0 ||
        array_alloc(&writer->logits, fixture->vocab, error) < 0 ||
        array_alloc(&writer->final, values, error) < 0 || array_alloc(&writer->states, values, error) < 0 ||
        array_alloc(&writer->ids, fixture->rows + 1, error) < 0 || train_fixture_maps(writer, error) < 0 ||
        store_begin(writer->store, error) < 0 || train_fixture_sources(fixture, writer->store, error) < 0 ||
        train_fixture_split(writer, SPLIT_TRAIN, error) < 0 ||
        train_fixture_split(writer, SPLIT_HELD_OUT, error) < 0 || store_commit(writer->store, error) < 0)
        return -1;
    return store_seal(writer->store, error);
}

/* A finished store at `path`. */
static inline int train_fixture_create(const struct train_fixture *fixture, const char *path,
                                       struct error *error)
{
    struct train_fixture_writer writer = {.fixture = fixture};
    json_t *manifest = train_fixture_manifest(fixture, error);
    int result = manifest ? store_create(path, manifest, &writer.store, error) : -1;
    json_decref(manifest);
    if (result == 0)
        result = train_fixture_fill(&writer, error);
    for (int t = 0; writer.map && t < store_info(writer.store)->taps; t++)
        free(writer.map[t]);
    free(writer.map);
    free(writer.output);
    free(writer.norm);
    free(writer.values);
    free(writer.logits);
    free(writer.final);
    free(writer.states);
    free(writer.ids);
    free(writer.record.bytes);
    codec_worker_destroy(writer.worker);
    store_close(writer.store);
    return result;
}

#endif
