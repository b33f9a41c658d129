/* Steps on subsets of the vocabulary: what a batch holds of them, the loss by hand, trials together and alone, in
 * pieces, and reading from the middle. */
#include "tests/trial_bench.h"

#include <math.h>

enum {
    VOCAB = 1200,
    HIDDEN = 24,
    ROWS = 24,
    ALL_ROWS = SEQUENCES * ROWS,
    SECTION = 2 * ROWS, /* rows of a section */
    SIZE = 300, /* of a subset */
    STEPS = 10
};

static const unsigned taught = TEACH_U | TEACH_STATES | TEACH_SUBSET;

static int open_on(struct bench *bench, const char *device, struct error *error)
{
    struct train_fixture fixture = small_fixture;
    fixture.vocab = VOCAB;
    fixture.rows = ROWS;
    fixture.train = 16;
    fixture.held_out = 1;
    if (bench_open_on(bench, device, MATH_F32, &fixture, TEACH_ALL | TEACH_SUBSET, error) < 0)
        return -1;
    bench->batch->drawn->draw->least = SIZE;
    bench->batch->drawn->rows = SECTION;
    return 0;
}

static int load(struct bench *bench, struct error *error)
{
    const struct feed_batch *next;
    return feed_next(bench->feed, &next, error) < 0 ? -1 : batch_load(bench->batch, next, taught, error);
}

static struct trial_config subset_config(int kind, enum trial_loss loss)
{
    struct trial_config config = make_config(kind, OUTPUT_TIED, loss);
    config.vocabulary = VOCABULARY_SUBSET;
    return config;
}

/* A matrix of f32 on the host; the test's own until it ends. */
static float *read_matrix(struct bench *bench, struct matrix matrix)
{
    float *values;
    struct error error;
    if (array_alloc(&values, matrix.rows * matrix.cols, &error) < 0)
        return NULL;
    op_read(bench->batch->queue, matrix, values);
    return queue_wait(bench->batch->queue, &error) < 0 ? NULL : values;
}

/* The rows of a section's subset, likewise. */
static float *read_rows(struct bench *bench, const struct section *section)
{
    const struct batch *batch = bench->batch;
    struct error error;
    struct buffer *numbers = NULL, *rows = NULL;
    int32_t number[SIZE];
    float *values = NULL;
    for (int32_t i = 0; i < SIZE; i++)
        number[i] = i;
    if (buffer_create(batch->backend, sizeof number, &numbers, &error) == 0 &&
        buffer_create(batch->backend, sizeof number * HIDDEN, &rows, &error) == 0) {
        const struct matrix ids = matrix_i32(numbers, SIZE, 1), matrix = matrix_f32(rows, SIZE, HIDDEN);
        op_write(batch->queue, ids, number);
        op_embed(batch->queue, section->output, ids, matrix);
        values = read_matrix(bench, matrix);
    }
    buffer_destroy(numbers);
    buffer_destroy(rows);
    return values;
}

static int32_t label[ALL_ROWS], member[ALL_ROWS];

/* A section's rows are those of the output weight that its rows' labels are members of. */
static void check_section(struct bench *bench, const struct section *section, const float *output)
{
    float *rows = read_rows(bench, section), *shift = read_matrix(bench, section->shift);
    REQUIRE(rows && shift && section->shift.cols == SIZE && section->size == SIZE);
    for (int64_t r = section->piece.first; r < section->piece.first + section->piece.rows; r++) {
        REQUIRE(member[r] >= 0 && member[r] < SIZE);
        CHECK(!memcmp(rows + member[r] * HIDDEN, output + label[r] * HIDDEN, HIDDEN * sizeof *rows));
        CHECK(shift[member[r]] == 0);
    }
    free(rows);
    free(shift);
}

TEST(subset_step_batch_has_the_rows_of_its_tokens)
{
    for (int d = 0; d < 2; d++) {
        struct error error = {0};
        struct bench bench;
        struct train_fixture fixture = small_fixture;
        fixture.vocab = VOCAB;
        float *output = train_fixture_output(&fixture, &error);
        REQUIRE(output);
        REQUIRE_OK(open_on(&bench, d ? "cpu" : "ref", &error));
        for (int step = 0; step < 3; step++) {
            REQUIRE_OK(load(&bench, &error));
            const struct batch *batch = bench.batch;
            const struct subsets *subsets = batch->subsets;
            REQUIRE(subsets && subsets->count == 2);
            op_read(batch->queue, batch->labels, label);
            op_read(batch->queue, subsets->labels, member);
            REQUIRE_OK(queue_wait(batch->queue, &error));
            for (int i = 0; i < 2; i++) {
                CHECK(subsets->section[i].piece.first == i * SECTION &&
                      subsets->section[i].piece.rows == SECTION);
                check_section(&bench, &subsets->section[i], output);
            }
            /* `draw` has the last section's. */
            float *rows = read_rows(&bench, &subsets->section[1]);
            REQUIRE(rows && subsets->draw->size == SIZE);
            for (int i = 0; i < SIZE; i++)
                CHECK(!memcmp(rows + i * HIDDEN, output + subsets->draw->token[i] * HIDDEN,
                              HIDDEN * sizeof *rows));
            free(rows);
        }
        free(output);
        bench_close(&bench);
    }
}

static double dot(const float *a, const float *b)
{
    double sum = 0;
    for (int c = 0; c < HIDDEN; c++)
        sum += (double)a[c] * (double)b[c];
    return sum;
}

/* The loss of a row x (ops.h, struct vocab_loss) over a section's rows w; own: its label's member, u and the teacher's
 * normed state. */
static double row_by_hand(const struct trial_config *config, const float *x, const float *w, const float *shift,
                          int32_t own, const float *u, const float *teacher)
{
    const double t = config->temperature;
    const double share = config->loss == LOSS_CROSS_ENTROPY ? 1 : config->loss == LOSS_MIX ? config->share : 0;
    double plain = 0, warm = 0, likely = 0, cross = 0, largest = -INFINITY;
    for (int i = 0; i < SIZE; i++) {
        const double z = dot(x, w + i * HIDDEN), q = exp(dot(teacher, w + i * HIDDEN) / t + (double)shift[i]);
        plain += exp(z + (double)shift[i]);
        warm += exp(z / t + (double)shift[i]);
        likely += q;
        cross += q * z / t;
        largest = fmax(largest, z);
    }
    cross = t == 1 ? dot(x, u) : cross / likely;
    const double loss =
        share * (log(plain) - dot(x, w + own * HIDDEN)) + (1 - share) * t * t * (log(warm) - cross);
    return loss * (config->weighting == WEIGHTING_CONFIDENCE ? exp(largest) / plain : 1);
}

/* The loss of the loaded batch from what the head makes of it. */
static double loss_by_hand(struct bench *bench, struct trial *trial, struct error *error)
{
    const struct batch *batch = bench->batch;
    struct stack stack;
    double sum = 0;
    if (trials_forward(&trial, 1, bench->workspace, batch, (struct piece){0, ALL_ROWS}, &stack, error) < 0 ||
        queue_wait(bench->workspace->queue, error) < 0)
        return NAN;
    float *x = read_matrix(bench, stack.h), *u = read_matrix(bench, batch->u),
          *teacher = read_matrix(bench, batch->teacher), *w[2], *shift[2];
    for (int i = 0; i < 2; i++) {
        w[i] = read_rows(bench, &batch->subsets->section[i]);
        shift[i] = read_matrix(bench, batch->subsets->section[i].shift);
    }
    op_read(batch->queue, batch->subsets->labels, member);
    if (!x || !u || !teacher || queue_wait(batch->queue, error) < 0)
        return NAN;
    for (int r = 0; r < ALL_ROWS; r++) {
        const int section = r / SECTION;
        sum += row_by_hand(&trial->config, x + r * HIDDEN, w[section], shift[section], member[r],
                           u + r * HIDDEN, teacher + r * HIDDEN);
    }
    for (int i = 0; i < 2; i++) {
        free(w[i]);
        free(shift[i]);
    }
    free(x);
    free(u);
    free(teacher);
    return sum / ALL_ROWS;
}

TEST(subset_step_loss_by_hand)
{
    static const struct {
        enum trial_loss loss;
        double temperature;
        enum trial_weighting weighting;
    } cases[] = {{LOSS_CROSS_ENTROPY, 1, WEIGHTING_NONE},      {LOSS_DISTILLATION, 1, WEIGHTING_NONE},
                 {LOSS_MIX, 1, WEIGHTING_CONFIDENCE},          {LOSS_DISTILLATION, 2, WEIGHTING_NONE},
                 {LOSS_DISTILLATION, 2, WEIGHTING_CONFIDENCE}, {LOSS_MIX, 2, WEIGHTING_CONFIDENCE}};
    for (int d = 0; d < 2; d++) {
        struct error error = {0};
        struct bench bench;
        REQUIRE_OK(open_on(&bench, d ? "cpu" : "ref", &error));
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            for (int kind = 0; kind < KINDS; kind++) {
                struct trial_config config = subset_config(kind, cases[i].loss);
                struct trial *trial;
                struct trial_result result;
                config.share = 0.3;
                config.temperature = cases[i].temperature;
                config.weighting = cases[i].weighting;
                REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trial, &error));
                REQUIRE_OK(load(&bench, &error));
                const double wanted = loss_by_hand(&bench, trial, &error);
                REQUIRE_OK(take_step(&bench, trial, STEPS, &result, &error));
                CHECK(fabs(result.loss - wanted) < 1e-5 * fabs(wanted));
                trial_destroy(trial);
            }
        }
        bench_close(&bench);
    }
}

/* Trials of both vocabularies on the same batches end as each does alone. */
TEST(subset_step_together_as_alone)
{
    enum { TRIALS = 4, TAKEN = 4 };
    static float together[TRIALS][HIDDEN], alone[HIDDEN];
    const struct trial_config config[TRIALS] = {
        subset_config(0, LOSS_DISTILLATION), subset_config(1, LOSS_DISTILLATION),
        make_config(0, OUTPUT_TIED, LOSS_DISTILLATION), subset_config(0, LOSS_CROSS_ENTROPY)};
    struct error error = {0};
    struct trial *trials[TRIALS];
    struct trial_result results[TRIALS];
    struct bench bench;
    REQUIRE_OK(open_on(&bench, "cpu", &error));
    for (int i = 0; i < TRIALS; i++)
        REQUIRE_OK(bench_trial(&bench, &config[i], INIT_COPY, &trials[i], &error));
    CHECK(trial_joins(trials[0], trials[1]) && !trial_joins(trials[0], trials[2]) &&
          !trial_joins(trials[0], trials[3]));
    for (int step = 0; step < TAKEN; step++) {
        REQUIRE_OK(load(&bench, &error));
        REQUIRE_OK(trials_step(trials, 2, bench.workspace, bench.batch, STEPS, results, &error));
        REQUIRE_OK(trials_step(trials + 2, 1, bench.workspace, bench.batch, STEPS, results, &error));
        REQUIRE_OK(trials_step(trials + 3, 1, bench.workspace, bench.batch, STEPS, results, &error));
    }
    for (int i = 0; i < TRIALS; i++) {
        const int last = head_parameter_count(trials[i]->head) - 1;
        const struct matrix norm = head_parameter(trials[i]->head, last)->value;
        REQUIRE(norm.rows * norm.cols == HIDDEN);
        op_read(trials[i]->queue, norm, together[i]);
        REQUIRE_OK(queue_wait(trials[i]->queue, &error));
        trial_destroy(trials[i]);
    }
    bench_close(&bench);
    CHECK(memcmp(together[0], together[2], sizeof alone) != 0);
    for (int i = 0; i < TRIALS; i++) {
        struct trial *trial;
        REQUIRE_OK(open_on(&bench, "cpu", &error));
        REQUIRE_OK(bench_trial(&bench, &config[i], INIT_COPY, &trial, &error));
        for (int step = 0; step < TAKEN; step++) {
            REQUIRE_OK(load(&bench, &error));
            REQUIRE_OK(take_step(&bench, trial, STEPS, results, &error));
        }
        op_read(trial->queue, head_parameter(trial->head, head_parameter_count(trial->head) - 1)->value, alone);
        REQUIRE_OK(queue_wait(trial->queue, &error));
        CHECK(!memcmp(alone, together[i], sizeof alone));
        trial_destroy(trial);
        bench_close(&bench);
    }
}

/* Sections draw each for itself: what both have is what chance and likely tokens bring about. */
TEST(subset_step_sections_draw_alone)
{
    struct error error = {0};
    struct bench bench;
    int both = 0;
    REQUIRE_OK(open_on(&bench, "ref", &error));
    REQUIRE_OK(load(&bench, &error));
    struct subset *draw = bench.batch->drawn->draw;
    const struct subset_tokens tokens = {.rows = ALL_ROWS, .labels = label};
    static bool first[VOCAB];
    for (int r = 0; r < ALL_ROWS; r++)
        label[r] = 7; /* so that all but one of the members are drawn */
    struct feed_batch next = {.sequences = SEQUENCES, .rows = ALL_ROWS, .labels = label};
    subset_draw(draw, &tokens, (struct piece){0, SECTION}, 3, 0);
    for (int i = 0; i < SIZE; i++)
        first[draw->token[i]] = true;
    REQUIRE_OK(subsets_load(bench.batch->drawn, bench.batch->queue, &next, 3, &error));
    REQUIRE_OK(queue_wait(bench.batch->queue, &error)); /* `draw` has the last section's now */
    for (int i = 0; i < SIZE; i++)
        both += first[draw->token[i]];
    CHECK(both < SIZE / 2); /* a quarter by chance */
    bench_close(&bench);
}

/* Where memory is short a section goes in pieces, whose gradients add up to nearly the same. */
TEST(subset_step_in_pieces)
{
    struct error error = {0}, reason = {.kind = ERROR_NO_MEMORY};
    struct trial_result whole, pieces;
    struct bench bench;
    struct trial *trials[2];
    const struct trial_config config = subset_config(1, LOSS_DISTILLATION);
    REQUIRE_OK(open_on(&bench, "cpu", &error));
    REQUIRE_OK(load(&bench, &error));
    for (int t = 0; t < 2; t++)
        REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trials[t], &error));
    REQUIRE_OK(take_step(&bench, trials[0], STEPS, &whole, &error));
    while (bench.workspace->rows > PIECE_ROWS)
        REQUIRE(workspace_recover(bench.workspace, true, &reason));
    REQUIRE_OK(take_step(&bench, trials[1], STEPS, &pieces, &error));
    CHECK(fabs(pieces.loss - whole.loss) < 1e-5 * whole.loss &&
          fabs(pieces.norm - whole.norm) < 1e-5 * whole.norm);
    for (int t = 0; t < 2; t++)
        trial_destroy(trials[t]);
    bench_close(&bench);
}

/* Sections are whole sequences, of enough rows, and not too many. */
TEST(subset_step_sections)
{
    static const struct {
        int64_t rows, length, section;
    } cases[] = {
        {2048, 512, 512}, {2048, 1024, 1024}, {64, 16, 512}, {512 * 20, 512, 512 * 3}, {96 * 7, 96, 96 * 6}};
    struct error error = {0};
    struct bench bench;
    REQUIRE_OK(open_on(&bench, "ref", &error));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct subsets *subsets;
        REQUIRE_OK(subsets_create(bench.backend, bench.batch->output, VOCAB, cases[i].rows, cases[i].length,
                                  &subsets, &error));
        CHECK(subsets->rows == cases[i].section);
        CHECK((cases[i].rows + subsets->rows - 1) / subsets->rows <= SECTIONS_MOST);
        subsets_destroy(subsets);
    }
    bench_close(&bench);
}

/* A feed that is opened at a later step gives that step's subset; another seed another one. */
TEST(subset_step_goes_on_in_the_middle)
{
    struct error error = {0};
    struct bench bench;
    static int32_t third[VOCAB];
    REQUIRE_OK(open_on(&bench, "ref", &error));
    for (int step = 0; step < 3; step++)
        REQUIRE_OK(load(&bench, &error));
    const struct subset *subset = bench.batch->drawn->draw;
    const int64_t size = subset->size;
    memcpy(third, subset->token, (size_t)size * sizeof *third);
    for (uint64_t seed = 0; seed < 2; seed++) {
        struct feed_plan plan = {.split = SPLIT_TRAIN,
                                 .shuffled = true,
                                 .sequences = SEQUENCES,
                                 .first = 2 * SEQUENCES,
                                 .end = UINT64_MAX};
        feed_close(bench.feed);
        batch_plan(bench.batch, taught, &plan);
        REQUIRE_OK(feed_open(&bench.stores, &plan, 2, &bench.feed, &error));
        bench.batch->seed = seed;
        REQUIRE_OK(load(&bench, &error));
        CHECK(subset->size == size &&
              (memcmp(third, subset->token, (size_t)size * sizeof *third) == 0) == (seed == 0));
    }
    bench_close(&bench);
}

/* A batch that is loaded for an evaluation has no subset, and a trial takes the whole vocabulary there. */
TEST(subset_step_without_a_subset_takes_all)
{
    struct error error = {0};
    struct bench bench;
    struct trial *trials[2];
    struct trial_result results[2];
    struct trial_config config = subset_config(0, LOSS_DISTILLATION);
    const struct feed_batch *next;
    REQUIRE_OK(open_on(&bench, "ref", &error));
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trials[0], &error));
    config.vocabulary = VOCABULARY_ALL;
    REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trials[1], &error));
    REQUIRE_OK(load(&bench, &error));
    CHECK(bench.batch->subsets);
    for (int t = 0; t < 2; t++)
        REQUIRE_OK(take_step(&bench, trials[t], STEPS, &results[t], &error));
    CHECK(results[0].loss != results[1].loss);
    REQUIRE_OK(feed_next(bench.feed, &next, &error));
    REQUIRE_OK(batch_load(bench.batch, next, TEACH_U, &error));
    CHECK(!bench.batch->subsets);
    for (int t = 0; t < 2; t++) {
        trial_destroy(trials[t]);
        config.vocabulary = t ? VOCABULARY_ALL : VOCABULARY_SUBSET;
        REQUIRE_OK(bench_trial(&bench, &config, INIT_COPY, &trials[t], &error));
        REQUIRE_OK(take_step(&bench, trials[t], STEPS, &results[t], &error));
        trial_destroy(trials[t]);
    }
    CHECK(results[0].loss == results[1].loss);
    bench_close(&bench);
}

TEST_MAIN
