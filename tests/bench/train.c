/* train: what training costs beside the vocabulary products it cannot do without, on a made store with the
 * shape of SmolLM2-135M: `train [REPEATS [SEQUENCES]]`.
 *
 * A tied head needs two products of all its tokens with the output weight: logits, and their gradient. What
 * they take is the less of two times: bare, by op_matmul and op_matmul_grad in the chunks that are fastest, and
 * with the softmax between them, by op_vocab_loss, which keeps logits in cache and so often beats them
 * (tests/bench/kernels puts it beside oneDNN's own rate). They take turns with whole steps of training (reading
 * and decoding, the teacher's values, forward, loss, backward, optimizer), so that a machine that becomes
 * slower does so for all. Medians. */
#include "tests/train_fixture.h"

#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/pool.h"
#include "tests/bench/median.h"
#include "train/step.h"

enum { REPEATS_MAX = 100, TRIALS = 16 };

static const struct train_fixture fixture = {
    .layers = 2,
    .hidden = 576,
    .intermediate = 1536,
    .vocab = 49152,
    .rows = 512,
    .train = 4,
    .held_out = 1,
    .taps = "1,1.mid,final",
    .codec = "lossless",
    .seed = 1,
};

struct bench {
    struct stores stores;
    struct backend *backend;
    struct queue *queue;
    struct batch *batch;
    struct workspace *workspace;
    struct feed *feed;
    struct buffer *logits, *states, *gradient;
    int64_t rows; /* M */
};

static int open_bench(struct bench *bench, const char *folder, int sequences, int steps, struct error *error)
{
    const struct tap taps[] = {{1, false}, {1, true}};
    const int64_t rows = (int64_t)sequences * fixture.rows;
    *bench = (struct bench){.rows = rows};
    if (train_fixture_create(&fixture, folder, error) < 0 ||
        stores_open(&folder, 1, &bench->stores, error) < 0 ||
        backend_open("cpu", &(struct backend_options){0}, &bench->backend, error) < 0 ||
        queue_create(bench->backend, &bench->queue, error) < 0 ||
        batch_create(&bench->stores, bench->backend, taps, 2, TEACH_U, rows, &bench->batch, error) < 0 ||
        workspace_create(bench->backend, sequences, fixture.rows, fixture.hidden, TRIALS, &bench->workspace,
                         error) < 0)
        return -1;
    struct feed_plan plan = {
        .split = SPLIT_TRAIN, .shuffled = true, .sequences = sequences, .end = (uint64_t)(sequences * steps)};
    batch_plan(bench->batch, TEACH_U, &plan);
    if (feed_open(&bench->stores, &plan, processor_count(), &bench->feed, error) < 0)
        return -1;
    const size_t row = (size_t)rows * sizeof(float), hidden = (size_t)fixture.hidden;
    if (buffer_create(bench->backend, 512 * sizeof(float) * (size_t)fixture.vocab, &bench->logits, error) < 0 ||
        buffer_create(bench->backend, row * hidden, &bench->states, error) < 0)
        return -1;
    return buffer_create(bench->backend, row * hidden, &bench->gradient, error);
}

static void close_bench(struct bench *bench)
{
    feed_close(bench->feed);
    buffer_destroy(bench->logits);
    buffer_destroy(bench->states);
    buffer_destroy(bench->gradient);
    workspace_destroy(bench->workspace);
    batch_destroy(bench->batch);
    queue_destroy(bench->queue);
    backend_close(bench->backend);
    stores_close(&bench->stores);
}

/* Seconds of the two products of all rows, `chunk` rows at a time. */
static double time_products(struct bench *bench, int64_t chunk, struct error *error)
{
    struct matrix states = matrix_f32(bench->states, bench->rows, fixture.hidden);
    struct matrix gradient = matrix_f32(bench->gradient, bench->rows, fixture.hidden);
    struct matrix logits = matrix_f32(bench->logits, chunk, fixture.vocab);
    const double started = clock_seconds();
    for (int64_t first = 0; first < bench->rows; first += chunk) {
        op_matmul(bench->queue, matrix_rows(states, first, chunk), bench->batch->output, logits, OP_STORE);
        op_matmul_grad(bench->queue, logits, bench->batch->output, matrix_rows(gradient, first, chunk),
                       OP_STORE);
    }
    return queue_wait(bench->queue, error) < 0 ? -1 : clock_seconds() - started;
}

/* Seconds of op_vocab_loss alone. */
static double time_vocab_loss(struct bench *bench, struct error *error)
{
    const struct vocab vocab = {.tied = bench->batch->output, .own = matrix_none()};
    const struct vocab_loss target = {.target = VOCAB_U,
                                      .labels = matrix_none(),
                                      .u = matrix_f32(bench->states, bench->rows, fixture.hidden),
                                      .teacher_state = matrix_none(),
                                      .scale = 1};
    const double started = clock_seconds();
    op_vocab_loss(bench->queue, target.u, &vocab, &target, matrix_f32(bench->logits, bench->rows, 1),
                  matrix_f32(bench->gradient, bench->rows, fixture.hidden), matrix_none());
    return queue_wait(bench->queue, error) < 0 ? -1 : clock_seconds() - started;
}

/* Seconds of one step of `count` trials. */
static double time_step(struct bench *bench, struct trial *const *trials, int count, struct error *error)
{
    const struct feed_batch *next;
    struct trial_result results[TRIALS_TOGETHER];
    const int most = bench->workspace->trials;
    int group = 0;
    unsigned teach = TEACH_NOTHING;
    const double started = clock_seconds();
    for (int i = 0; i < count; i++)
        teach |= trial_teaching(&trials[i]->config);
    if (feed_next(bench->feed, &next, error) < 0 || batch_load(bench->batch, next, teach, error) < 0)
        return -1;
    for (int first = 0; first < count; first += group) {
        group = count - first < most ? count - first : most;
        if (trials_step(trials + first, group, bench->workspace, bench->batch, 1000, results, error) < 0)
            return -1;
    }
    for (int i = 0; i < count; i++) {
        if (trials[i]->failed)
            return error_set(error, "%s", trials[i]->reason.text);
    }
    return clock_seconds() - started;
}

static int make_trial(struct bench *bench, const char *kind, bool mid, enum trial_loss loss,
                      struct trial **trial, struct error *error)
{
    const struct head_source source = stores_head_source(&bench->stores);
    const struct trial_config config = {
        .temperature = 1,
        .spec = {.kind = head_kind_find(kind, error), .output = OUTPUT_TIED, .tap = {1, mid}},
        .loss = loss,
        .rate = 1e-4,
        .clip = 1,
        .beta1 = 0.9,
        .beta2 = 0.95,
        .epsilon = 1e-5,
    };
    if (trial_create(&config, &bench->stores.config, bench->backend, trial, error) < 0)
        return -1;
    return head_initialise((*trial)->head, INIT_COPY, 1, &source, error);
}

enum { CASE_PRODUCTS, CASE_VOCAB, CASE_CROSS_ENTROPY, CASE_MLP, CASE_SWEEP, CASES };

/* One round of every case; the first one of all is not kept. */
static int run_round(struct bench *bench, struct trial *const *trials, int64_t chunk, double seconds[CASES],
                     struct error *error)
{
    seconds[CASE_PRODUCTS] = time_products(bench, chunk, error);
    seconds[CASE_VOCAB] = time_vocab_loss(bench, error);
    seconds[CASE_CROSS_ENTROPY] = time_step(bench, trials + TRIALS, 1, error);
    seconds[CASE_MLP] = time_step(bench, trials + TRIALS + 1, 1, error);
    seconds[CASE_SWEEP] = time_step(bench, trials, TRIALS, error);
    for (int i = 0; i < CASES; i++) {
        if (seconds[i] < 0)
            return -1;
    }
    return 0;
}

/* The chunk of rows whose products are fastest. */
static int64_t best_chunk(struct bench *bench, struct error *error)
{
    int64_t best = 0;
    double least = 0;
    for (int64_t chunk = 64; chunk <= 512; chunk *= 2) {
        time_products(bench, chunk, error);
        const double seconds = time_products(bench, chunk, error);
        if (best == 0 || seconds < least) {
            best = chunk;
            least = seconds;
        }
    }
    return best;
}

static int measure(struct bench *bench, int repeats, struct error *error)
{
    struct trial *trials[TRIALS + 2];
    double seconds[CASES][REPEATS_MAX], round[CASES], typical[CASES];
    for (int i = 0; i < TRIALS; i++) {
        if (make_trial(bench, "affine", false, LOSS_DISTILLATION, &trials[i], error) < 0)
            return -1;
    }
    if (make_trial(bench, "affine", false, LOSS_CROSS_ENTROPY, &trials[TRIALS], error) < 0 ||
        make_trial(bench, "mlp", true, LOSS_CROSS_ENTROPY, &trials[TRIALS + 1], error) < 0)
        return -1;
    const int64_t chunk = best_chunk(bench, error);
    for (int i = -1; i < repeats; i++) {
        if (run_round(bench, trials, chunk, round, error) < 0)
            return -1;
        for (int c = 0; i >= 0 && c < CASES; c++)
            seconds[c][i] = round[c];
    }
    for (int c = 0; c < CASES; c++)
        typical[c] = sort_to_median(seconds[c], repeats);
    const double bare = typical[CASE_PRODUCTS], fused = typical[CASE_VOCAB];
    const double pair = bare < fused ? bare : fused, tokens = (double)bench->rows;
    printf("train: %lld tokens a step, hidden 576, vocabulary 49152, %s, medians of %d\n",
           (long long)bench->rows, backend_identity(bench->backend), repeats);
    const double operations = 4e-9 * tokens * fixture.hidden * fixture.vocab;
    printf("  two vocabulary products, bare  %8.1f tokens/s  (%.0f GFLOP/s, %lld rows at a time)\n",
           tokens / bare, operations / bare, (long long)chunk);
    printf("  the same with their softmax    %8.1f tokens/s  (%.0f GFLOP/s)\n", tokens / fused,
           operations / fused);
    printf("  affine, cross-entropy          %8.1f tokens/s  %.3f times its two products (target 1.2)\n",
           tokens / typical[CASE_CROSS_ENTROPY], typical[CASE_CROSS_ENTROPY] / pair);
    printf("  mlp, cross-entropy             %8.1f tokens/s  %.3f times its two products\n",
           tokens / typical[CASE_MLP], typical[CASE_MLP] / pair);
    printf(
        "  %d affine, distillation        %8.1f tokens/s  %.3f times the two products of each (target 1.3)\n",
        TRIALS, tokens / typical[CASE_SWEEP], typical[CASE_SWEEP] / TRIALS / pair);
    printf("  waiting for the store          %8.3f s\n", feed_waiting(bench->feed));
    for (int i = 0; i < TRIALS + 2; i++)
        trial_destroy(trials[i]);
    return 0;
}

int main(int argc, char **argv)
{
    const char *top = getenv("TMPDIR");
    char folder[4096], command[4200];
    struct error error = {0};
    struct bench bench;
    int64_t repeats = 5, sequences = 2;
    if ((argc > 1 && parse_integer(argv[1], 1, REPEATS_MAX, &repeats, &error) < 0) ||
        (argc > 2 && parse_integer(argv[2], 1, 64, &sequences, &error) < 0)) {
        fprintf(stderr, "train: %s\n", error.text);
        return EXIT_WRONG_USAGE;
    }
    snprintf(folder, sizeof folder, "%s/offramp-bench-XXXXXX", top ? top : "/tmp");
    if (!mkdtemp(folder))
        return EXIT_FAILED;
    int result = open_bench(&bench, folder, (int)sequences, 3 * ((int)repeats + 1), &error);
    if (result == 0)
        result = measure(&bench, (int)repeats, &error);
    close_bench(&bench);
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    if (system(command) != 0 || result < 0)
        fprintf(stderr, "train: %s\n", error.text);
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}
