/* generate MODEL [POLICY] (OFFRAMP_TEST_DEVICE, else the cpu): tokens per second of one-row decoding beside
 * what memory gives, and of leaving early beside the full model; and what a call of several rows costs beside
 * one row, of several sequences or of one whose draft is rejected. Each figure is the median of rounds in which
 * all of them take turns. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/base/pool.h"
#include "generate/generator.h"
#include "tests/bench/median.h"

enum { ROUNDS = 7, TOKENS = 16, PROMPT = 64, READ_BYTES = 512 << 20, CASES_MAX = 34 };
enum { POSITIONS = PROMPT + CASES_MAX * (TOKENS + 2) };

struct sample {
    char name[48];
    double value[ROUNDS]; /* seconds a token, or bytes a second */
};

/* Calls of rows behind the same prompt. */
static const struct rows_case {
    int sequences, rows; /* of each */
} rows_cases[] = {{1, 1}, {2, 1}, {4, 1}, {8, 1}, {1, 2}, {1, 4}, {1, 8}};
enum { ROWS_CASES = sizeof rows_cases / sizeof *rows_cases };

struct bench {
    struct model *model;
    struct backend *backend;
    struct engine *engine;
    struct engine_sequence *sequence;
    struct sampler sampler;
    struct pool *pool;
    uint64_t *memory; /* READ_BYTES */
    uint64_t sum; /* keeps the reads */
    int samples;
    struct sample sample[CASES_MAX];
    struct sample rows[ROWS_CASES]; /* seconds a call through all layers */
};

static double median(const struct sample *sample)
{
    double sorted[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        sorted[i] = sample->value[i];
    return sort_to_median(sorted, ROUNDS);
}

/* ---- what memory gives: every thread reads its part, several sums at a time ---- */

static void read_task(void *context, int task, int worker)
{
    struct bench *bench = context;
    const size_t words = READ_BYTES / sizeof(uint64_t) / (size_t)pool_threads(bench->pool);
    const uint64_t *at = bench->memory + words * (size_t)task;
    uint64_t sum[8] = {0};
    (void)worker;
    for (size_t i = 0; i + 8 <= words; i += 8) {
        for (int s = 0; s < 8; s++)
            sum[s] += at[i + (size_t)s];
    }
    for (int s = 0; s < 8; s++)
        __atomic_fetch_add(&bench->sum, sum[s], __ATOMIC_RELAXED);
}

static double read_rate(struct bench *bench)
{
    const double started = clock_seconds();
    pool_run(bench->pool, pool_threads(bench->pool), read_task, bench);
    return READ_BYTES / (clock_seconds() - started);
}

/* Bytes of the weights that one token reads, in the file's own formats; of the embedding one row. */
static double token_bytes(const struct model *model)
{
    double bytes = 0;
    for (int l = 0; l < model_config(model)->layers; l++) {
        for (int role = ROLE_ATTENTION_NORM; role < ROLE_COUNT; role++) {
            const struct tensor *tensor = model_tensor(model, l, (enum tensor_role)role);
            bytes += tensor ? (double)tensor->bytes : 0;
        }
    }
    return bytes + (double)model_tensor(model, 0, ROLE_OUTPUT)->bytes;
}

/* ---- decoding ---- */

static void run_to_top(struct bench *bench)
{
    const struct engine_row last = {bench->sequence, sequence_rows(bench->sequence) - 1,
                                    sequence_halves(bench->sequence), false};
    engine_run(bench->engine, &last, 1);
}

/* Seconds a token, states that still wait for their upper layers caught up and counted. */
static int decode(struct bench *bench, const struct exits *exits, double *seconds, struct error *error)
{
    const int32_t begin = 1;
    struct generator *generator;
    struct generated generated;
    if (generator_create(bench->engine, bench->sequence, exits, &bench->sampler, model_config(bench->model),
                         &generator, error) < 0)
        return -1;
    int result = generator_prompt(generator, &begin, 1, error);
    if (result == 0)
        result = generator_next(generator, &generated, error);
    const double started = clock_seconds();
    for (int i = 0; i < TOKENS && result == 0; i++)
        result = generator_next(generator, &generated, error);
    run_to_top(bench);
    if (result == 0)
        result = queue_wait(engine_queue(bench->engine), error);
    *seconds = (clock_seconds() - started) / TOKENS;
    generator_destroy(generator);
    return result;
}

/* A new sequence every round, so that no round has a longer past to read than another. */
static int open_sequence(struct bench *bench, struct error *error)
{
    int32_t prompt[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        prompt[i] = 100 + i;
    sequence_destroy(bench->sequence);
    if (engine_sequence_create(bench->engine, POSITIONS, &bench->sequence, error) < 0 ||
        sequence_append(bench->sequence, prompt, PROMPT, error) < 0)
        return -1;
    run_to_top(bench);
    return queue_wait(engine_queue(bench->engine), error);
}

/* One call of a case: the rows are appended, go up, and are forgotten, as those of a draft. */
static int call_rows(struct bench *bench, const struct rows_case *one, struct engine_sequence **sequences,
                     struct error *error)
{
    static const int32_t ids[MATMUL_FEW_ROWS] = {200, 201, 202, 203, 204, 205, 206, 207};
    struct engine_row rows[MATMUL_FEW_ROWS];
    for (int s = 0; s < one->sequences; s++) {
        if (sequence_append(sequences[s], ids, one->rows, error) < 0)
            return -1;
        rows[s] = (struct engine_row){sequences[s], sequence_rows(sequences[s]) - 1,
                                      sequence_halves(sequences[s]), true};
    }
    engine_run(bench->engine, rows, one->sequences);
    for (int s = 0; s < one->sequences; s++) {
        if (sequence_truncate(sequences[s], sequence_rows(sequences[s]) - one->rows, error) < 0)
            return -1;
    }
    return queue_wait(engine_queue(bench->engine), error);
}

static int run_rows(struct bench *bench, const struct rows_case *one, double *seconds, struct error *error)
{
    struct engine_sequence *sequences[MATMUL_FEW_ROWS] = {NULL};
    int result = 0;
    for (int s = 0; s < one->sequences && result == 0; s++)
        result = sequence_fork(bench->sequence, PROMPT + MATMUL_FEW_ROWS, &sequences[s], error);
    if (result == 0)
        result = queue_wait(engine_queue(bench->engine), error);
    const double started = clock_seconds();
    for (int i = 0; i < TOKENS && result == 0; i++)
        result = call_rows(bench, one, sequences, error);
    *seconds = (clock_seconds() - started) / TOKENS;
    for (int s = 0; s < one->sequences; s++)
        sequence_destroy(sequences[s]);
    return result;
}

/* Full model, every check without leaving, and everything leaving at each exit in turn. */
static int run_round(struct bench *bench, int round, const struct exits *all, struct error *error)
{
    const struct exits none = {0};
    int sample = 0;
    if (open_sequence(bench, error) < 0)
        return -1;
    for (int c = 0; c < ROWS_CASES; c++) {
        if (run_rows(bench, &rows_cases[c], &bench->rows[c].value[round], error) < 0)
            return -1;
    }
    bench->sample[sample++].value[round] = read_rate(bench);
    if (decode(bench, &none, &bench->sample[sample++].value[round], error) < 0)
        return -1;
    if (all->count == 0)
        return 0;
    for (int e = 0; e < all->count; e++)
        all->exit[e].rule.threshold = 2;
    if (decode(bench, all, &bench->sample[sample++].value[round], error) < 0)
        return -1;
    for (int e = 0; e < all->count; e++) {
        const struct exits one = {1, &all->exit[e]};
        all->exit[e].rule.threshold = 0;
        if (decode(bench, &one, &bench->sample[sample++].value[round], error) < 0)
            return -1;
    }
    return 0;
}

static void name_samples(struct bench *bench, const struct exits *all)
{
    const int layers = model_config(bench->model)->layers;
    snprintf(bench->sample[bench->samples++].name, 48, "memory, read by all threads");
    snprintf(bench->sample[bench->samples++].name, 48, "full model");
    if (all->count > 0)
        snprintf(bench->sample[bench->samples++].name, 48, "full model, %d checks a token", all->count);
    for (int e = 0; e < all->count; e++) {
        char tap[TAP_NAME_SIZE];
        tap_name(all->exit[e].tap, layers, tap);
        snprintf(bench->sample[bench->samples++].name, 48, "all leave at %s, then catch up", tap);
    }
}

static void print_samples(const struct bench *bench)
{
    const double memory = median(&bench->sample[0]), full = median(&bench->sample[1]);
    const double bytes = token_bytes(bench->model);
    printf("generate: %s, %s, median of %d interleaved rounds of %d tokens\n", model_path(bench->model),
           backend_identity(bench->backend), ROUNDS, TOKENS);
    printf("  %-36s %8.2f GB/s\n", bench->sample[0].name, memory / 1e9);
    for (int s = 1; s < bench->samples; s++) {
        const double seconds = median(&bench->sample[s]);
        printf("  %-36s %8.1f tokens/s  %5.2f of the full model's time\n", bench->sample[s].name, 1 / seconds,
               seconds / full);
    }
    for (int c = 0; c < ROWS_CASES; c++) {
        const struct rows_case *one = &rows_cases[c];
        const double seconds = median(&bench->rows[c]);
        printf("  layers alone, %d row%s of %d sequence%s %12.2f ms a call  %5.2f of one row's time\n",
               one->rows, one->rows > 1 ? "s" : " ", one->sequences, one->sequences > 1 ? "s" : " ",
               1e3 * seconds, seconds / median(&bench->rows[0]));
    }
    printf("  a token reads %.1f MB of weights: %.2f GB/s, %.2f of memory's rate\n", bytes / 1e6,
           bytes / full / 1e9, bytes / full / memory);
}

static int load_policy(struct bench *bench, const char *path, struct exits *exits, struct error *error)
{
    struct policy policy;
    char fingerprint[17];
    if (policy_read(path, &policy, error) < 0)
        return -1;
    int result = model_fingerprint(bench->model, fingerprint, error);
    if (result == 0)
        result =
            exits_load(&policy, fingerprint, model_config(bench->model), bench->backend, NAN, exits, error);
    if (result == 0 && exits->count > CASES_MAX - 3)
        result = error_set(error, "%s: more exits than this benchmark has room for", path);
    policy_free(&policy);
    return result;
}

static int run_bench(struct bench *bench, const char *path, const char *policy, struct exits *exits,
                     struct error *error)
{
    const size_t words = READ_BYTES / sizeof(uint64_t);
    const char *device = getenv("OFFRAMP_TEST_DEVICE");
    if (model_open(path, &bench->model, error) < 0 ||
        backend_open(device && *device ? device : "cpu", &(struct backend_options){0}, &bench->backend, error) <
            0 ||
        pool_create(0, &bench->pool, error) < 0 || array_alloc(&bench->memory, words, error) < 0 ||
        (policy && load_policy(bench, policy, exits, error) < 0) ||
        engine_open(bench->model, bench->backend, POSITIONS, &bench->engine, error) < 0 ||
        exits_attach(exits, bench->engine, error) < 0 ||
        sampler_create(&bench->sampler, 0, 0, 1, 0, model_config(bench->model)->vocab, error) < 0)
        return -1;
    for (size_t i = 0; i < words; i++)
        bench->memory[i] = i;
    name_samples(bench, exits);
    for (int round = 0; round < ROUNDS; round++) {
        if (run_round(bench, round, exits, error) < 0)
            return -1;
    }
    print_samples(bench);
    return 0;
}

int main(int argc, char **argv)
{
    struct bench bench = {0};
    struct exits exits = {0};
    struct error error;
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: generate MODEL [POLICY]\n");
        return EXIT_WRONG_USAGE;
    }
    const int result = run_bench(&bench, argv[1], argc > 2 ? argv[2] : NULL, &exits, &error);
    if (result < 0)
        fprintf(stderr, "generate: %s\n", error.text);
    exits_free(&exits);
    sampler_free(&bench.sampler);
    sequence_destroy(bench.sequence);
    engine_close(bench.engine);
    pool_destroy(bench.pool);
    backend_close(bench.backend);
    model_close(bench.model);
    free(bench.memory);
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}
