#include "extract/tokenize.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/progress.h"
#include "extract/portions.h"

#define NOTE           "corpus"
#define COMMIT_SECONDS 2.0

/* What corpus_compare has seen. */
struct comparison {
    struct reader *reader;
    int32_t *ids; /* [rows + 1] */
    uint64_t *same, *packed; /* [SPLIT_COUNT] */
};

struct tokenize {
    const struct tokenize_job *job;
    struct portions portions;
    bool again; /* packs from the beginning: what is stored already is left out */
    struct comparison *comparison; /* NULL: sequences are stored */
    double committed; /* clock_seconds */
    struct progress progress;
};

/* ---- the note ---- */

static int save_note(struct tokenize *state, struct error *error)
{
    struct corpus_position position = corpus_tell(state->portions.corpus);
    json_t *packing = packing_save(state->portions.packing, error);
    if (!packing)
        return -1;
    json_t *note =
        json_pack("{s:b, s:b, s:I, s:I, s:I, s:I, s:I, s:b, s:i, s:o}", "complete",
                  (int)state->portions.complete, "again", (int)state->again, "file", (json_int_t)position.file,
                  "offset", (json_int_t)position.offset, "line", (json_int_t)position.line, "document",
                  (json_int_t)position.document, "empty", (json_int_t)position.empty, "inside",
                  (int)position.inside, "split", (int)position.split, "packing", packing);
    char *text = json_text("the note of the corpus position", note, JSON_COMPACT, error);
    int result = text ? store_put_note(state->job->store, NOTE, text, strlen(text), error) : -1;
    free(text);
    json_decref(note);
    return result;
}

static int read_position(const json_t *note, struct corpus_position *position, struct error *error)
{
    static const char *const keys[] = {"file", "offset", "line", "document", "empty", "split"};
    int64_t values[6];
    for (int i = 0; i < 6; i++)
        if (json_get_integer("the note of the corpus position", note, keys[i], 0,
                             i == 5 ? SPLIT_COUNT - 1 : INT64_MAX, &values[i], error) < 0)
            return -1;
    *position = (struct corpus_position){.file = (uint64_t)values[0],
                                         .offset = (uint64_t)values[1],
                                         .line = (uint64_t)values[2],
                                         .document = (uint64_t)values[3],
                                         .empty = (uint64_t)values[4],
                                         .inside = json_is_true(json_object_get(note, "inside")),
                                         .split = (enum split)values[5]};
    return 0;
}

/* Opens the corpus where the note says, or at its beginning when there is none. */
static int restore(struct tokenize *state, struct error *error)
{
    const struct tokenize_job *job = state->job;
    void *text = NULL;
    size_t size;
    struct corpus_position position;
    if (store_get_note(job->store, NOTE, &text, &size, error) < 0)
        return -1;
    if (!text)
        return portions_open(&state->portions, job->list, NULL, error);
    json_t *note = json_parse("the note of the corpus position", text, size, error);
    free(text);
    if (!note)
        return -1;
    int result = read_position(note, &position, error);
    if (result == 0)
        result = packing_restore(state->portions.packing, json_object_get(note, "packing"), error);
    if (result == 0)
        result = portions_open(&state->portions, job->list, &position, error);
    state->portions.complete = json_is_true(json_object_get(note, "complete"));
    state->again = json_is_true(json_object_get(note, "again"));
    json_decref(note);
    for (int split = 0; split < SPLIT_COUNT && result == 0; split++) {
        const uint64_t packed =
            store_share(store_info(job->store), packing_sequences(state->portions.packing, (enum split)split));
        const uint64_t stored = store_sequences(job->store, (enum split)split);
        if (state->again ? packed > stored : packed != stored)
            result = error_set(error, "%s: the position in the corpus does not belong to the tokens stored",
                               store_path(job->store));
    }
    return result;
}

/* ---- packing ---- */

/* A start that is not the stored one shows in the ids: an end of text comes before it. */
static int compare_sequence(const struct tokenize *state, struct sequence sequence, uint64_t index,
                            const int32_t *ids, struct error *error)
{
    const struct comparison *comparison = state->comparison;
    const size_t size = ((size_t)store_info(state->job->store)->rows + 1) * sizeof *ids;
    if (index >= store_sequences(state->job->store, sequence.split))
        return 0;
    if (reader_tokens(comparison->reader, sequence, comparison->ids, error) < 0)
        return -1;
    comparison->packed[sequence.split]++;
    if (comparison->same[sequence.split] == index && memcmp(ids, comparison->ids, size) == 0)
        comparison->same[sequence.split]++;
    return 0;
}

/* Every shard packs the whole corpus, which numbers the sequences, and keeps its own. */
static int put_sequence(void *context, enum split split, const int32_t *ids, const int32_t *starts, int count,
                        struct error *error)
{
    struct tokenize *state = context;
    const struct store_info *info = store_info(state->job->store);
    const uint64_t number = packing_sequences(state->portions.packing, split);
    const uint64_t index = number / (uint64_t)info->shards;
    if (number % (uint64_t)info->shards != (uint64_t)info->shard)
        return 0;
    if (state->comparison)
        return compare_sequence(state, (struct sequence){split, number}, index, ids, error);
    if (state->again && index < store_sequences(state->job->store, split))
        return 0;
    return store_put_tokens(state->job->store, split, ids, starts, count, error);
}

/* ---- the stage ---- */

static int commit(struct tokenize *state, struct error *error)
{
    state->committed = clock_seconds();
    return save_note(state, error) < 0 || store_commit(state->job->store, error) < 0 ? -1 : 0;
}

static int run_stage(struct tokenize *state, struct error *error)
{
    struct store *store = state->job->store;
    progress_start(&state->progress, "tokenize", "bytes", state->job->list->bytes);
    state->progress.first = corpus_bytes_read(state->portions.corpus);
    if (store_begin(store, error) < 0)
        return -1;
    while (!state->portions.complete) {
        if (portions_advance(&state->portions, error) < 0)
            return -1;
        bool stop = cli_interrupted() && !state->portions.complete;
        bool due = store_commit_due(store) || clock_seconds() - state->committed >= COMMIT_SECONDS;
        if ((due || stop || state->portions.complete) && commit(state, error) < 0)
            return -1;
        if (stop)
            return error_set_kind(error, ERROR_INTERRUPTED,
                                  "interrupted while the corpus was tokenized; what was done is kept: the same "
                                  "command goes on from there");
        if (due && !state->portions.complete && store_begin(store, error) < 0)
            return -1;
        progress_update(&state->progress, corpus_bytes_read(state->portions.corpus));
    }
    return 0;
}

/* ---- life ---- */

/* The corpus is opened by the caller. */
static int open_stage(struct tokenize *state, const struct tokenize_job *job, struct error *error)
{
    const struct packing_rules rules = {.rows = store_info(job->store)->rows,
                                        .end = job->rules.end,
                                        .most = {job->most[SPLIT_TRAIN], job->most[SPLIT_HELD_OUT]},
                                        .runs = job->runs,
                                        .put = put_sequence,
                                        .context = state};
    *state = (struct tokenize){.job = job, .committed = clock_seconds()};
    return portions_create(&rules, &job->rules, job->threads, &state->portions, error);
}

static void close_stage(struct tokenize *state)
{
    progress_finish(&state->progress);
    portions_close(&state->portions);
}

int corpus_tokenize(const struct tokenize_job *job, struct tokenize_result *result, struct error *error)
{
    struct tokenize state;
    int status = open_stage(&state, job, error);
    const double started = state.committed;
    if (status == 0)
        status = restore(&state, error);
    if (status == 0 && !state.portions.complete)
        status = run_stage(&state, error);
    if (status == 0) {
        *result = (struct tokenize_result){.empty = corpus_tell(state.portions.corpus).empty,
                                           .seconds = clock_seconds() - started};
        for (int split = 0; split < SPLIT_COUNT; split++) {
            result->sequences[split] = packing_sequences(state.portions.packing, (enum split)split);
            result->documents[split] = packing_documents(state.portions.packing, (enum split)split);
        }
    }
    close_stage(&state);
    return status;
}

int corpus_restart(const struct tokenize_job *job, struct error *error)
{
    struct tokenize state;
    int status = open_stage(&state, job, error);
    if (status == 0)
        status = portions_open(&state.portions, job->list, NULL, error);
    state.again = true;
    if (status == 0)
        status = save_note(&state, error);
    close_stage(&state);
    return status;
}

/* What the store has of some split has not come yet. */
static bool is_missing(const struct tokenize *state)
{
    const struct store *store = state->job->store;
    for (enum split split = 0; split < SPLIT_COUNT; split++)
        if (state->comparison->packed[split] < store_sequences(store, split))
            return true;
    return false;
}

int corpus_compare(const struct tokenize_job *job, uint64_t same[SPLIT_COUNT], uint64_t packed[SPLIT_COUNT],
                   struct error *error)
{
    struct comparison comparison = {.same = same, .packed = packed};
    struct tokenize state;
    memset(same, 0, SPLIT_COUNT * sizeof *same);
    memset(packed, 0, SPLIT_COUNT * sizeof *packed);
    int status = open_stage(&state, job, error);
    state.comparison = &comparison;
    if (status == 0)
        status = portions_open(&state.portions, job->list, NULL, error);
    if (status == 0)
        status = reader_open(job->store, &comparison.reader, error);
    if (status == 0)
        status = array_alloc(&comparison.ids, store_info(job->store)->rows + 1, error);
    if (status == 0)
        progress_start(&state.progress, "compare", "bytes", job->list->bytes);
    while (status == 0 && !state.portions.complete && is_missing(&state)) {
        status = cli_interrupted()
                     ? error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was changed")
                     : portions_advance(&state.portions, error);
        progress_update(&state.progress, corpus_bytes_read(state.portions.corpus));
    }
    reader_close(comparison.reader);
    free(comparison.ids);
    close_stage(&state);
    return status;
}
