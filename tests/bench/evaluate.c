/* evaluate: what evaluating trials together saves, on a made store with the shape of
 * SmolLM2-135M: `evaluate [REPEATS]`.
 *
 * The same trials are evaluated one by one and in groups, by turns, with one sequence of 128 tokens a batch (groups
 * of sixteen) and with four (groups of eight). Medians of the ratios. */
#include "tests/train_fixture.h"

#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/pool.h"
#include "tests/bench/median.h"
#include "train/evaluate.h"

enum { REPEATS_MAX = 100, TRIALS = 16 };

static const struct train_fixture fixture = {
    .layers = 2,
    .hidden = 576,
    .intermediate = 1536,
    .vocab = 49152,
    .rows = 128,
    .train = 1,
    .held_out = 4,
    .taps = "1,final,target",
    .codec = "lossless",
    .seed = 1,
};

struct bench {
    struct stores stores;
    struct backend *backend;
    struct batch *batch;
    struct workspace *workspace;
    struct trial *trial[TRIALS];
};

static int make_trial(struct bench *bench, struct trial **trial, struct error *error)
{
    const struct head_source source = stores_head_source(&bench->stores);
    const struct trial_config config = {
        .temperature = 1,
        .spec = {.kind = head_kind_find("affine", error), .output = OUTPUT_TIED, .tap = {1, false}},
        .rate = 1e-4,
        .epsilon = 1e-5};
    if (trial_create(&config, &bench->stores.config, bench->backend, trial, error) < 0)
        return -1;
    return head_initialise((*trial)->head, INIT_COPY, 1, &source, error);
}

static int open_bench(struct bench *bench, const char *folder, int sequences, struct error *error)
{
    const struct tap tap = {1, false};
    const int64_t rows = (int64_t)sequences * fixture.rows;
    *bench = (struct bench){0};
    if (stores_open(&folder, 1, &bench->stores, error) < 0 ||
        backend_open("cpu", &(struct backend_options){0}, &bench->backend, error) < 0 ||
        batch_create(&bench->stores, bench->backend, &tap, 1, TEACH_U | TEACH_OUTCOME, rows, &bench->batch,
                     error) < 0 ||
        workspace_create(bench->backend, sequences, fixture.rows, fixture.hidden, TRIALS, &bench->workspace,
                         error) < 0)
        return -1;
    for (int i = 0; i < TRIALS; i++) {
        if (make_trial(bench, &bench->trial[i], error) < 0)
            return -1;
    }
    return 0;
}

static void close_bench(struct bench *bench)
{
    for (int i = 0; i < TRIALS; i++)
        trial_destroy(bench->trial[i]);
    workspace_destroy(bench->workspace);
    batch_destroy(bench->batch);
    backend_close(bench->backend);
    stores_close(&bench->stores);
}

/* Seconds of an evaluation of the first `count` trials on `places` sequences, at most `together` at a time. */
static double time_evaluation(struct bench *bench, int sequences, int count, int together, uint64_t places,
                              struct error *error)
{
    const struct evaluation_setting setting = {
        &bench->stores, bench->batch, bench->workspace, sequences, processor_count(), 1, 0};
    struct evaluation sums[TRIALS][4], *list[TRIALS], full[4];
    const struct evaluation_sums what = {.end = places, .trial = list, .full = full};
    const int most = bench->workspace->trials;
    bool complete;
    for (int i = 0; i < TRIALS; i++)
        list[i] = sums[i];
    bench->workspace->trials = together < most ? together : most;
    const double started = clock_seconds();
    const int result = evaluate_places(&setting, bench->trial, count, &what, &complete, error);
    bench->workspace->trials = most;
    return result < 0 ? -1 : clock_seconds() - started;
}

static int measure(const char *folder, int sequences, int repeats, struct error *error)
{
    static const int counts[] = {6, TRIALS};
    struct bench bench;
    double ratios[REPEATS_MAX];
    int result = open_bench(&bench, folder, sequences, error);
    for (int c = 0; c < 2 && result == 0; c++) {
        for (int i = -1; i < repeats && result == 0; i++) {
            /* First together, so that the workspace has the room of the larger group. */
            const double together = time_evaluation(&bench, sequences, counts[c], TRIALS, 4, error);
            const double alone = time_evaluation(&bench, sequences, counts[c], 1, 4, error);
            if (alone < 0 || together < 0)
                result = -1;
            else if (i >= 0) /* the first round is not kept */
                ratios[i] = together / alone;
        }
        if (result == 0)
            printf("  %2d trials, %d sequences a batch (groups of %d)  %.3f times the time of one by one\n",
                   counts[c], sequences, bench.workspace->trials, sort_to_median(ratios, repeats));
    }
    close_bench(&bench);
    return result;
}

int main(int argc, char **argv)
{
    const char *top = getenv("TMPDIR");
    char folder[4096], command[4200];
    struct error error = {0};
    int64_t repeats = 5;
    if (argc > 1 && parse_integer(argv[1], 1, REPEATS_MAX, &repeats, &error) < 0) {
        fprintf(stderr, "evaluate: %s\n", error.text);
        return EXIT_WRONG_USAGE;
    }
    snprintf(folder, sizeof folder, "%s/offramp-bench-XXXXXX", top ? top : "/tmp");
    if (!mkdtemp(folder))
        return EXIT_FAILED;
    printf("evaluate: affine heads, hidden 576, vocabulary 49152, medians of %d\n", (int)repeats);
    int result = train_fixture_create(&fixture, folder, &error);
    for (int sequences = 1; sequences <= 4 && result == 0; sequences += 3)
        result = measure(folder, sequences, (int)repeats, &error);
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    if (system(command) != 0 || result < 0)
        fprintf(stderr, "evaluate: %s\n", error.text);
    return result < 0 ? EXIT_FAILED : EXIT_DONE;
}
