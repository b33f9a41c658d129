#include "cache/recompute.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/progress.h"
#include "common/device/device.h"
#include "common/head/teacher.h"
#include "common/model/forward.h"
#include "common/store/codecs.h"
#include "common/store/record.h"
#include "common/transform/transform.h"

#define CALL_ROWS      512 /* at least, where sequences are shorter */
#define RESIDUAL_BYTES ((size_t)256 << 20) /* of a super-batch */
#define NOTE           "numerics" /* the other identity, which --allow-numerics accepted */

struct recomputing {
    const struct recompute *job;
    uint64_t done; /* records that were put */
    struct store *store;
    struct model *model;
    struct damaged_record *damaged; /* [count], by sequence and tap */
    size_t count;
    struct backend *backend;
    struct forward *forward;
    struct forward_shape shape;
    char numerics[NUMERICS_SIZE]; /* here */
    bool foreign; /* they are not the store's */
    bool open; /* a transaction */
    struct codec_worker *worker;
    int32_t *ids; /* [batch * rows + 1] */
    const struct coder **coder; /* [taps] of what is damaged, NULL elsewhere */
    struct transforms *transforms; /* on a device with memory of its own */
    float *states; /* [rows, hidden] */
    bool transformed; /* they are, as in struct job of extract */
    struct teacher *teacher; /* when a target is damaged, and: */
    struct target_row *values; /* [rows] */
    struct record record;
    size_t next; /* in `damaged` */
    size_t *calls; /* [group + 1] the first record of each call, and of the one behind the last */
    struct progress progress;
};

static int compare_damaged(const void *a, const void *b)
{
    const struct damaged_record *x = a, *y = b;
    if (x->sequence.split != y->sequence.split)
        return x->sequence.split < y->sequence.split ? -1 : 1;
    if (x->sequence.index != y->sequence.index)
        return x->sequence.index < y->sequence.index ? -1 : 1;
    return x->tap - y->tap;
}

static bool same_sequence(const struct damaged_record *a, const struct damaged_record *b)
{
    return a->sequence.split == b->sequence.split && a->sequence.index == b->sequence.index;
}

/* ---- the numerics that made the store ---- */

/* The index of the word in the list that a numerics identity ("cpu avx512 f32 onednn-2.6.3") has, or -1. */
static int find_word(const char *identity, const char *const *words)
{
    for (const char *at = identity; *at; at += *at == ' ') {
        const size_t length = strcspn(at, " ");
        for (int i = 0; words[i]; i++)
            if (strlen(words[i]) == length && strncmp(words[i], at, length) == 0)
                return i;
        at += length;
    }
    return -1;
}

static int check_numerics(struct recomputing *recomputing, const char *wanted, struct error *error)
{
    const struct store_info *info = store_info(recomputing->store);
    char *here = recomputing->numerics;
    codecs_numerics(backend_identity(recomputing->backend), info->codec, info->taps, here);
    if (strcmp(wanted, here) == 0)
        return 0;
    if (!recomputing->job->allow_numerics)
        return error_set_kind(
            error, ERROR_USAGE,
            "%s: the store was made with the numerics %s. Here they are %s, which gives other bytes: repair "
            "it where it was made, or accept other bytes with --allow-numerics",
            store_path(recomputing->store), wanted, here);
    recomputing->foreign = true;
    cli_say("warning: records with the numerics %s will be among those with %s", here, wanted);
    return 0;
}

/* Device and math mode are the store's own. */
static int open_backend(struct recomputing *recomputing, struct error *error)
{
    const char *numerics = json_string_value(json_object_get(store_manifest(recomputing->store), "numerics"));
    if (!numerics)
        return error_set(error, "%s: its manifest does not say with which numerics it was made",
                         store_path(recomputing->store));
    const int device = find_word(numerics, device_names()), math = find_word(numerics, math_names());
    const struct device_options options = {
        .name = recomputing->job->device ? recomputing->job->device
                : device < 0             ? "auto"
                                         : device_names()[device],
        .backend = {.threads = recomputing->job->threads, .math = math < 0 ? MATH_DEFAULT : MATH_F32 + math}};
    if (device_open(&options, &recomputing->backend, error) < 0)
        return -1;
    return check_numerics(recomputing, numerics, error);
}

/* Where extract has the device do a part of the coding, so does this: the bytes are the same. */
static int open_coders(struct recomputing *recomputing, struct error *error)
{
    const struct store_info *info = store_info(recomputing->store);
    int result = array_alloc(&recomputing->coder, info->taps, error);
    for (size_t i = 0; i < recomputing->count && result == 0; i++) {
        const int tap = recomputing->damaged[i].tap;
        result = store_coder(recomputing->store, tap, &recomputing->coder[tap], error);
    }
    if (result < 0 || backend_memory(recomputing->backend) == 0)
        return result;
    return transforms_open(recomputing->backend, recomputing->coder, info->taps, info->rows, info->hidden,
                           &recomputing->transforms, error);
}

/* No layer stays in memory. Each is loaded once for a super-batch, which mostly holds all that is damaged. */
static int open_pass(struct recomputing *recomputing, struct error *error)
{
    const struct store_info *info = store_info(recomputing->store);
    const int batch = info->rows < CALL_ROWS ? CALL_ROWS / info->rows : 1;
    const size_t call_bytes = (size_t)batch * (size_t)info->rows * (size_t)info->hidden * sizeof(float);
    const size_t most = RESIDUAL_BYTES / call_bytes, wanted = recomputing->count / (size_t)batch + 1;
    const size_t group = most < 1 ? 1 : most < wanted ? most : wanted;
    int last = 0;
    for (size_t i = 0; i < recomputing->count; i++)
        last = recomputing->damaged[i].tap > last ? recomputing->damaged[i].tap : last;
    const bool target = last == store_find_target(info);
    recomputing->shape = (struct forward_shape){.rows = info->rows,
                                                .batch = batch,
                                                .group = (int)group,
                                                .layers = target ? info->layers : info->tap[last].layer,
                                                .half = info->tap[last].mid};
    if (array_alloc(&recomputing->calls, group + 1, error) < 0 ||
        array_alloc(&recomputing->ids, (size_t)batch * (size_t)info->rows + 1, error) < 0 ||
        array_alloc(&recomputing->states, (size_t)info->rows * (size_t)info->hidden, error) < 0 ||
        codec_worker_create(&recomputing->worker, error) < 0)
        return -1;
    if (target && (array_alloc(&recomputing->values, info->rows, error) < 0 ||
                   teacher_open(recomputing->model, recomputing->backend, info->rows, false,
                                &recomputing->teacher, error) < 0))
        return -1;
    return forward_open(recomputing->model, recomputing->backend, &recomputing->shape, &recomputing->forward,
                        error);
}

/* ---- computing ---- */

/* The end of the records of one sequence, which begin at `first`. */
static size_t sequence_end(const struct recomputing *recomputing, size_t first)
{
    size_t end = first + 1;
    while (end < recomputing->count && same_sequence(&recomputing->damaged[first], &recomputing->damaged[end]))
        end++;
    return end;
}

static void print_damaged(const struct recomputing *recomputing, const struct damaged_record *wanted)
{
    const struct store_info *info = store_info(recomputing->store);
    char name[TAP_NAME_SIZE];
    tap_name(info->tap[wanted->tap], info->layers, name);
    printf("tap %s, %s sequence %" PRIu64, name, split_name(wanted->sequence.split), wanted->sequence.index);
}

/* Leaves out records whose tokens are damaged, too, and says so. */
static int drop_without_tokens(struct recomputing *recomputing, struct error *error)
{
    struct reader *reader;
    struct error damage;
    size_t kept = 0;
    if (reader_open(recomputing->store, &reader, error) < 0)
        return -1;
    for (size_t first = 0, end; first < recomputing->count; first = end) {
        end = sequence_end(recomputing, first);
        const bool there =
            reader_tokens(reader, recomputing->damaged[first].sequence, recomputing->ids, &damage) == 0;
        for (size_t i = first; i < end; i++) {
            if (there)
                recomputing->damaged[kept++] = recomputing->damaged[i];
            else {
                print_damaged(recomputing, &recomputing->damaged[i]);
                printf(": cannot be computed without its tokens\n");
            }
        }
    }
    recomputing->count = kept;
    reader_close(reader);
    return 0;
}

/* Adds calls to the forward pass until it is full or no record is left, and returns how many. */
static int add_calls(struct recomputing *recomputing, struct error *error)
{
    const struct forward_shape *shape = &recomputing->shape;
    struct reader *reader; /* closed soon: the map cannot grow under it */
    int calls = 0, result = reader_open(recomputing->store, &reader, error);
    if (result < 0)
        return -1;
    for (; result == 0 && calls < shape->group && recomputing->next < recomputing->count; calls++) {
        int sequences = 0;
        recomputing->calls[calls] = recomputing->next;
        for (; result == 0 && sequences < shape->batch && recomputing->next < recomputing->count; sequences++) {
            int32_t *ids =
                recomputing->ids + (size_t)sequences * (size_t)shape->rows; /* the label is overwritten */
            result = reader_tokens(reader, recomputing->damaged[recomputing->next].sequence, ids, error);
            recomputing->next = sequence_end(recomputing, recomputing->next);
        }
        forward_add(recomputing->forward, recomputing->ids, sequences);
    }
    recomputing->calls[calls] = recomputing->next;
    reader_close(reader);
    return result < 0 ? -1 : calls;
}

static int commit(struct recomputing *recomputing, struct error *error)
{
    const char *numerics = recomputing->numerics;
    recomputing->open = false;
    if (recomputing->foreign && store_put_note(recomputing->store, NOTE, numerics, strlen(numerics), error) < 0)
        return -1;
    return store_commit(recomputing->store, error);
}

/* Makes the record from what was computed: states, and the values of a target. */
static int encode(struct recomputing *recomputing, const struct damaged_record *wanted, struct error *error)
{
    const struct record_key key = record_key(store_info(recomputing->store), recomputing->coder[wanted->tap],
                                             wanted->tap, wanted->sequence);
    const struct record_states states = {
        .states = recomputing->states, .transformed = recomputing->transformed, .values = recomputing->values};
    return record_encode(recomputing->worker, &key, &states, &recomputing->record, error);
}

static int put_record(struct recomputing *recomputing, const struct damaged_record *wanted, struct error *error)
{
    const struct record *record = &recomputing->record;
    if (encode(recomputing, wanted, error) < 0 ||
        (!recomputing->open && repair_begin(recomputing->store, error) < 0))
        return -1;
    recomputing->open = true;
    if (store_put_record(recomputing->store, wanted->tap, wanted->sequence, record->bytes, record->size,
                         error) < 0)
        return -1;
    progress_update(&recomputing->progress, ++recomputing->done);
    return store_commit_due(recomputing->store) ? commit(recomputing, error) : 0;
}

/* What the full model makes of a sequence's last states. */
static int ask_teacher(struct recomputing *recomputing, struct sequence sequence, struct queue *queue,
                       struct matrix states, struct matrix *u, struct error *error)
{
    struct reader *reader;
    if (reader_open(recomputing->store, &reader, error) < 0)
        return -1;
    int result = reader_tokens(reader, sequence, recomputing->ids, error);
    reader_close(reader);
    if (result < 0)
        return -1;
    return teacher_ask(recomputing->teacher, queue, states, recomputing->ids + 1, recomputing->values, u,
                       error);
}

/* Whether a tap's record is made of the states that this visit sees. */
static bool is_made_here(const struct store_info *info, int tap, int layer, bool mid)
{
    if (tap == store_find_target(info))
        return layer == info->layers && !mid;
    return tap_compare(info->tap[tap], (struct tap){layer, mid}) == 0;
}

static int visit(void *context, int call, int layer, bool mid, struct queue *queue, struct matrix states,
                 struct error *error)
{
    struct recomputing *recomputing = context;
    const struct store_info *info = store_info(recomputing->store);
    int64_t row = 0;
    if (cli_interrupted())
        return error_set_kind(error, ERROR_INTERRUPTED, "interrupted; what was repaired is kept");
    for (size_t i = recomputing->calls[call]; i < recomputing->calls[call + 1]; i++) {
        const struct damaged_record *wanted = &recomputing->damaged[i];
        if (i > recomputing->calls[call] && !same_sequence(wanted - 1, wanted))
            row += info->rows;
        if (!is_made_here(info, wanted->tap, layer, mid))
            continue;
        struct matrix made = matrix_rows(states, row, info->rows);
        if (wanted->tap == store_find_target(info) &&
            ask_teacher(recomputing, wanted->sequence, queue, made, &made, error) < 0)
            return -1;
        const struct matrix transformed =
            recomputing->transforms ? transforms_put(recomputing->transforms, queue, wanted->tap, made)
                                    : matrix_none();
        recomputing->transformed = !matrix_is_none(transformed);
        op_read(queue, recomputing->transformed ? transformed : made, recomputing->states);
        if (queue_wait(queue, error) < 0 || put_record(recomputing, wanted, error) < 0)
            return -1;
    }
    return 0;
}

/* All that was put can be read now. */
static int check_repaired(struct recomputing *recomputing, struct error *error)
{
    struct reader *reader;
    if (reader_open(recomputing->store, &reader, error) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; i < recomputing->count && result == 0; i++)
        result = reader_states(reader, recomputing->damaged[i].tap, recomputing->damaged[i].sequence,
                               recomputing->states, error);
    reader_close(reader);
    return result;
}

static int run_calls(struct recomputing *recomputing, struct error *error)
{
    int result = forward_run(recomputing->forward, false, visit, recomputing, error);
    if (recomputing->teacher)
        teacher_rest(recomputing->teacher);
    return result;
}

static int compute(struct recomputing *recomputing, struct error *error)
{
    struct error uncommitted;
    int result = 0, calls;
    progress_start(&recomputing->progress, "repair", "records", recomputing->count);
    while (result == 0 && (calls = add_calls(recomputing, error)) != 0)
        result = calls < 0 ? -1 : run_calls(recomputing, error);
    progress_finish(&recomputing->progress);
    if (recomputing->open && commit(recomputing, result == 0 ? error : &uncommitted) < 0)
        result = -1;
    return result;
}

/* ---- life ---- */

static void close_all(struct recomputing *recomputing)
{
    forward_close(recomputing->forward);
    teacher_close(recomputing->teacher);
    transforms_close(recomputing->transforms);
    backend_close(recomputing->backend);
    codec_worker_destroy(recomputing->worker);
    free(recomputing->coder);
    free(recomputing->calls);
    free(recomputing->ids);
    free(recomputing->states);
    free(recomputing->values);
    free(recomputing->record.bytes);
}

int recompute_records(const struct recompute *job, struct damaged_record *damaged, size_t count, uint64_t *done,
                      struct error *error)
{
    struct recomputing recomputing = {
        .job = job, .store = job->store, .model = job->model, .damaged = damaged, .count = count};
    *done = 0;
    if (count == 0)
        return 0;
    qsort(damaged, count, sizeof *damaged, compare_damaged);
    int result = -1;
    if (open_backend(&recomputing, error) == 0 && open_coders(&recomputing, error) == 0 &&
        open_pass(&recomputing, error) == 0 && drop_without_tokens(&recomputing, error) == 0 &&
        compute(&recomputing, error) == 0 && repair_finish(recomputing.store, error) == 0)
        result = check_repaired(&recomputing, error);
    *done = recomputing.done;
    close_all(&recomputing);
    return result;
}
