/* cache repair: computes again, from the model and the tokens that are stored, the records that are damaged. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/commands.h"
#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/base/option.h"
#include "common/base/progress.h"
#include "common/head/teacher.h"
#include "common/model/pass.h"
#include "common/store/repair.h"
#include "common/store/verify.h"

#define CALL_ROWS      512 /* at least, where sequences are shorter */
#define RESIDUAL_BYTES ((size_t)256 << 20) /* of a super-batch */
#define COMMIT_BYTES   ((size_t)64 << 20)
#define NOTE           "numerics" /* the other identity, where --allow-numerics let one in */

struct repair_command {
    const char *path, *model, *device;
    int threads;
    bool allow_numerics;
};

struct damaged_record {
    struct sequence sequence;
    int tap;
};

struct repair {
    const struct repair_command *command;
    struct damaged_record *damaged; /* [count], by sequence and tap once they are sorted */
    size_t count, capacity;
    uint64_t others; /* problems that are no records */
    bool structure;
    struct error error; /* of a callback that returns nothing */
    bool failed;

    struct store *store;
    struct model *model;
    struct backend *backend;
    struct pass *pass;
    struct pass_shape shape;
    bool foreign; /* the numerics are not the store's */
    bool open; /* a transaction */
    struct codec_worker *worker;
    int32_t *ids; /* [batch * rows + 1] */
    float *states; /* [rows, hidden] */
    struct teacher *teacher; /* when a target is damaged, and: */
    struct target_row *values; /* [rows] */
    unsigned char *record;
    size_t record_capacity;
    size_t next; /* in `damaged` */
    size_t *calls; /* [group + 1] the first record of each call, and of the one behind the last */
    struct progress progress;
    uint64_t done;
};

enum { OPTION_MODEL = 256, OPTION_DEVICE, OPTION_THREADS, OPTION_ALLOW_NUMERICS };

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct repair_command *command = state->input;
    switch (key) {
    case OPTION_MODEL: command->model = text; return 0;
    case OPTION_DEVICE:
        command->device = device_names()[option_word(state, "device", text, device_names())];
        return 0;
    case OPTION_THREADS: command->threads = (int)option_integer(state, "threads", text, 1, 1024); return 0;
    case OPTION_ALLOW_NUMERICS: command->allow_numerics = true; return 0;
    case ARGP_KEY_ARG: cache_take_store(&command->path, text, state); return 0;
    case ARGP_KEY_NO_ARGS: argp_error(state, "a store is missing"); return EINVAL;
    case ARGP_KEY_END:
        if (!command->model)
            argp_error(state, "--model is missing: the model that the store was made from");
        return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

/* ---- what is damaged ---- */

static void take_problem(void *context, const struct verify_problem *problem)
{
    struct repair *repair = context;
    if (problem->kind == VERIFY_RECORD) {
        if (!repair->failed &&
            array_grow(&repair->damaged, &repair->capacity, repair->count + 1, &repair->error) == 0)
            repair->damaged[repair->count++] = (struct damaged_record){problem->sequence, problem->tap};
        else
            repair->failed = true;
        return;
    }
    repair->structure = repair->structure || problem->kind == VERIFY_STRUCTURE;
    repair->others++;
    printf("%s%s\n", problem->text,
           problem->kind == VERIFY_TOKENS ? ": only the corpus has them: extract into another store" : "");
}

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

static int find_damage(struct repair *repair, struct error *error)
{
    const struct verify_options options = {.report = take_problem, .context = repair};
    struct verify_result result;
    if (store_verify(repair->command->path, &options, &result, error) < 0)
        return -1;
    if (repair->failed) {
        *error = repair->error;
        return -1;
    }
    if (repair->structure)
        return error_set(error,
                         "%s: the structure is damaged, not only records: nothing was changed; extract again "
                         "into another store",
                         repair->command->path);
    if (repair->count > 0)
        qsort(repair->damaged, repair->count, sizeof *repair->damaged, compare_damaged);
    return 0;
}

/* ---- the model that made the store ---- */

static int check_model(const struct repair *repair, struct error *error)
{
    const json_t *stored = json_object_get(store_manifest(repair->store), "model");
    const char *wanted = json_string_value(json_object_get(stored, "fingerprint"));
    char fingerprint[17];
    if (model_fingerprint(repair->model, fingerprint, error) < 0)
        return -1;
    if (wanted && strcmp(wanted, fingerprint) == 0)
        return 0;
    return error_set(error, "--model: %s has the fingerprint %s; the store was made from a model with %s",
                     repair->command->model, fingerprint, wanted ? wanted : "none");
}

/* The word of a numerics identity ("cpu avx512 f32 onednn-2.6.3") that is in the list; -1: none is. */
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

static int check_numerics(struct repair *repair, const char *wanted, struct error *error)
{
    const char *here = backend_identity(repair->backend);
    if (strcmp(wanted, here) == 0)
        return 0;
    if (!repair->command->allow_numerics)
        return error_set(error,
                         "%s: was made with the numerics %s; here they are %s, which gives other bytes: repair "
                         "it where it was made, or accept that with --allow-numerics",
                         repair->command->path, wanted, here);
    repair->foreign = true;
    fprintf(stderr, "cache repair: warning: records of the numerics %s among those of %s\n", here, wanted);
    return 0;
}

/* Device and math mode are the store's own. */
static int open_backend(struct repair *repair, struct error *error)
{
    const char *numerics = json_string_value(json_object_get(store_manifest(repair->store), "numerics"));
    if (!numerics)
        return error_set(error, "%s: its manifest does not say with which numerics it was made",
                         repair->command->path);
    const int device = find_word(numerics, device_names()), math = find_word(numerics, math_names());
    const struct backend_options options = {.threads = repair->command->threads,
                                            .math = math < 0 ? MATH_DEFAULT : MATH_F32 + math};
    const char *name = repair->command->device ? repair->command->device
                       : device < 0            ? "auto"
                                               : device_names()[device];
    if (backend_open(name, &options, &repair->backend, error) < 0)
        return -1;
    return check_numerics(repair, numerics, error);
}

/* No layer stays in memory: each is loaded once for a super-batch, which holds all that is damaged, mostly. */
static int open_pass(struct repair *repair, struct error *error)
{
    const struct store_info *info = store_info(repair->store);
    const int batch = info->rows < CALL_ROWS ? CALL_ROWS / info->rows : 1;
    const size_t call_bytes = (size_t)batch * (size_t)info->rows * (size_t)info->hidden * sizeof(float);
    const size_t most = RESIDUAL_BYTES / call_bytes, wanted = repair->count / (size_t)batch + 1;
    const size_t group = most < 1 ? 1 : most < wanted ? most : wanted;
    int last = 0;
    for (size_t i = 0; i < repair->count; i++)
        last = repair->damaged[i].tap > last ? repair->damaged[i].tap : last;
    const bool target = last == store_find_target(info);
    repair->shape = (struct pass_shape){.rows = info->rows,
                                        .batch = batch,
                                        .group = (int)group,
                                        .layers = target ? info->layers : info->tap[last].layer,
                                        .half = info->tap[last].mid};
    if (array_alloc(&repair->calls, group + 1, error) < 0 ||
        array_alloc(&repair->ids, (size_t)batch * (size_t)info->rows + 1, error) < 0 ||
        array_alloc(&repair->states, (size_t)info->rows * (size_t)info->hidden, error) < 0 ||
        codec_worker_create(&repair->worker, error) < 0)
        return -1;
    if (target &&
        (array_alloc(&repair->values, info->rows, error) < 0 ||
         teacher_open(repair->model, repair->backend, info->rows, false, &repair->teacher, error) < 0))
        return -1;
    return pass_open(repair->model, repair->backend, &repair->shape, &repair->pass, error);
}

/* ---- computing ---- */

/* Behind the last record of the sequence that record number `first` belongs to. */
static size_t sequence_end(const struct repair *repair, size_t first)
{
    size_t end = first + 1;
    while (end < repair->count && same_sequence(&repair->damaged[first], &repair->damaged[end]))
        end++;
    return end;
}

static void print_damaged(const struct repair *repair, const struct damaged_record *wanted)
{
    const struct store_info *info = store_info(repair->store);
    char name[TAP_NAME_SIZE];
    tap_name(info->tap[wanted->tap], info->layers, name);
    printf("tap %s, %s sequence %" PRIu64, name, split_name(wanted->sequence.split), wanted->sequence.index);
}

/* Records whose tokens are damaged, too, are left out, and said to be. */
static int drop_without_tokens(struct repair *repair, struct error *error)
{
    struct reader *reader;
    struct error damage;
    size_t kept = 0;
    if (reader_open(repair->store, &reader, error) < 0)
        return -1;
    for (size_t first = 0, end; first < repair->count; first = end) {
        end = sequence_end(repair, first);
        const bool there = reader_tokens(reader, repair->damaged[first].sequence, repair->ids, &damage) == 0;
        for (size_t i = first; i < end; i++) {
            if (there)
                repair->damaged[kept++] = repair->damaged[i];
            else {
                print_damaged(repair, &repair->damaged[i]);
                printf(": cannot be computed without its tokens\n");
                repair->others++;
            }
        }
    }
    repair->count = kept;
    reader_close(reader);
    return 0;
}

/* Adds calls to the pass until it is full or no record is left, and returns how many. */
static int add_calls(struct repair *repair, struct error *error)
{
    const struct pass_shape *shape = &repair->shape;
    struct reader *reader; /* not kept: a map cannot grow under one */
    int calls = 0, result = reader_open(repair->store, &reader, error);
    if (result < 0)
        return -1;
    for (; result == 0 && calls < shape->group && repair->next < repair->count; calls++) {
        int sequences = 0;
        repair->calls[calls] = repair->next;
        for (; result == 0 && sequences < shape->batch && repair->next < repair->count; sequences++) {
            int32_t *ids = repair->ids + (size_t)sequences * (size_t)shape->rows; /* the label is overwritten */
            result = reader_tokens(reader, repair->damaged[repair->next].sequence, ids, error);
            repair->next = sequence_end(repair, repair->next);
        }
        pass_add(repair->pass, repair->ids, sequences);
    }
    repair->calls[calls] = repair->next;
    reader_close(reader);
    return result < 0 ? -1 : calls;
}

static int commit(struct repair *repair, struct error *error)
{
    const char *numerics = backend_identity(repair->backend);
    repair->open = false;
    if (repair->foreign && store_put_note(repair->store, NOTE, numerics, strlen(numerics), error) < 0)
        return -1;
    return store_commit(repair->store, error);
}

/* Codes what was computed of a record: states, and of a target its values. */
static int encode(struct repair *repair, const struct damaged_record *wanted, size_t *size, struct error *error)
{
    const struct store_info *info = store_info(repair->store);
    const struct tap tap = info->tap[wanted->tap];
    const struct coder *coder;
    if (store_coder(repair->store, wanted->tap, &coder, error) < 0)
        return -1;
    if (wanted->tap == store_find_target(info))
        return target_encode(repair->worker, coder, tap, wanted->sequence, repair->values, repair->states,
                             info->rows, &repair->record, &repair->record_capacity, size, NULL, error);
    return record_encode(repair->worker, coder, tap, wanted->sequence, repair->states, info->rows,
                         &repair->record, &repair->record_capacity, size, NULL, error);
}

static int put_record(struct repair *repair, const struct damaged_record *wanted, struct error *error)
{
    size_t size;
    if (encode(repair, wanted, &size, error) < 0 || (!repair->open && repair_begin(repair->store, error) < 0))
        return -1;
    repair->open = true;
    if (repair_put_record(repair->store, wanted->tap, wanted->sequence, repair->record, size, error) < 0)
        return -1;
    progress_update(&repair->progress, ++repair->done);
    return store_pending(repair->store) >= COMMIT_BYTES ? commit(repair, error) : 0;
}

/* What the full model makes of a sequence's last states. */
static int ask_teacher(struct repair *repair, struct sequence sequence, struct queue *queue,
                       struct matrix states, struct matrix *u, struct error *error)
{
    struct reader *reader;
    if (reader_open(repair->store, &reader, error) < 0)
        return -1;
    int result = reader_tokens(reader, sequence, repair->ids, error);
    reader_close(reader);
    if (result < 0)
        return -1;
    return teacher_ask(repair->teacher, queue, states, repair->ids + 1, repair->values, u, error);
}

/* Whether a tap's record is made of the states that a visit sees. */
static bool is_made_here(const struct store_info *info, int tap, int layer, bool mid)
{
    if (tap == store_find_target(info))
        return layer == info->layers && !mid;
    return tap_compare(info->tap[tap], (struct tap){layer, mid}) == 0;
}

static int visit(void *context, int call, int layer, bool mid, struct queue *queue, struct matrix states,
                 struct error *error)
{
    struct repair *repair = context;
    const struct store_info *info = store_info(repair->store);
    int64_t row = 0;
    if (cli_interrupted())
        return error_set(error, "interrupted; what was repaired is kept");
    for (size_t i = repair->calls[call]; i < repair->calls[call + 1]; i++) {
        const struct damaged_record *wanted = &repair->damaged[i];
        if (i > repair->calls[call] && !same_sequence(wanted - 1, wanted))
            row += info->rows;
        if (!is_made_here(info, wanted->tap, layer, mid))
            continue;
        struct matrix made = matrix_rows(states, row, info->rows);
        if (wanted->tap == store_find_target(info) &&
            ask_teacher(repair, wanted->sequence, queue, made, &made, error) < 0)
            return -1;
        op_read(queue, made, repair->states);
        if (queue_wait(queue, error) < 0 || put_record(repair, wanted, error) < 0)
            return -1;
    }
    return 0;
}

/* Everything that was put reads well now. */
static int check_repaired(struct repair *repair, struct error *error)
{
    struct reader *reader;
    if (reader_open(repair->store, &reader, error) < 0)
        return -1;
    int result = 0;
    for (size_t i = 0; i < repair->count && result == 0; i++)
        result =
            reader_states(reader, repair->damaged[i].tap, repair->damaged[i].sequence, repair->states, error);
    reader_close(reader);
    return result;
}

static int run_calls(struct repair *repair, struct error *error)
{
    int result = pass_run(repair->pass, false, visit, repair, error);
    if (repair->teacher)
        teacher_rest(repair->teacher);
    return result;
}

static int compute(struct repair *repair, struct error *error)
{
    struct error uncommitted;
    int result = 0, calls;
    progress_start(&repair->progress, "repair", "records", repair->count);
    while (result == 0 && (calls = add_calls(repair, error)) != 0)
        result = calls < 0 ? -1 : run_calls(repair, error);
    progress_finish(&repair->progress);
    if (repair->open && commit(repair, result == 0 ? error : &uncommitted) < 0)
        result = -1;
    return result;
}

/* ---- life ---- */

static int open_all(struct repair *repair, struct error *error)
{
    const struct repair_command *command = repair->command;
    if (store_open(command->path, STORE_WRITE, &repair->store, error) < 0)
        return -1;
    if (model_open(command->model, &repair->model, error) < 0)
        return error_prefix(error, "--model");
    if (check_model(repair, error) < 0 || open_backend(repair, error) < 0)
        return -1;
    return open_pass(repair, error) < 0 ? -1 : drop_without_tokens(repair, error);
}

static void close_all(struct repair *repair)
{
    pass_close(repair->pass);
    teacher_close(repair->teacher);
    backend_close(repair->backend);
    model_close(repair->model);
    store_close(repair->store);
    codec_worker_destroy(repair->worker);
    free(repair->damaged);
    free(repair->calls);
    free(repair->ids);
    free(repair->states);
    free(repair->values);
    free(repair->record);
}

/* *left: problems that are still there. */
static int run(const struct repair_command *command, uint64_t *left, struct error *error)
{
    struct repair repair = {.command = command};
    int result = find_damage(&repair, error);
    if (result == 0 && repair.count > 0) {
        result = open_all(&repair, error);
        if (result == 0)
            result = compute(&repair, error);
        if (result == 0)
            result = repair_finish(repair.store, error);
        if (result == 0)
            result = check_repaired(&repair, error);
    }
    if (result == 0)
        printf("%s: %" PRIu64 " records were computed again, %" PRIu64 " problems are left\n", command->path,
               repair.done, repair.others);
    *left = repair.others;
    close_all(&repair);
    return result;
}

int cache_repair(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"model", OPTION_MODEL, "PATH", 0, "The model that the store was made from", 0},
        {"device", OPTION_DEVICE, "NAME", 0, "auto, cpu, cuda or ref (the one that made the store)", 0},
        {"threads", OPTION_THREADS, "N", 0, "Threads that compute (one per processor)", 0},
        {"allow-numerics", OPTION_ALLOW_NUMERICS, NULL, 0,
         "Accept records computed by another device or library, whose bytes differ; the store says so", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "STORE",
        .doc =
            "Compute damaged records of a store again."
            "\vEverything is verified first. Records of any tap and sequence are made again from the model and "
            "the stored tokens, to the bytes they had; tokens, tensors, parameters of codecs and LMDB's own "
            "pages are not. Stop "
            "programs that read the store before. The exit code is 1 when problems are left.",
    };
    struct repair_command command = {0};
    struct error error;
    uint64_t left = 0;
    argp_parse(&argp, argc, argv, 0, NULL, &command);
    int code = cache_finish(argv[0], run(&command, &left, &error), &error);
    return code == EXIT_DONE && left > 0 ? EXIT_FAILED : code;
}
