/* engine.c: rows of several sequences in one engine. What every row is at every half is recorded once, from a
 * sequence that is alone and goes to the top at once. However rows wait, share calls, fork and are truncated,
 * they must be the same: to the last bit, but for cuda, where ops.h does not promise it. That record is
 * compared with whole sequences through the layers, without a cache. Two heads with attention ride along, and what they
 * make of a row is held to the same. */
#include <math.h>
#include <stdlib.h>

#include "generate/engine.h"
#include "tests/make_model.h"
#include "tests/mode.h"
#include "tests/model_source.h"
#include "tests/test.h"

enum {
    LAYERS = 4,
    H = 32,
    HEADS = 4,
    KV_HEADS = 2,
    D = 8,
    I = 48,
    V = 97,
    CONTEXT = 1024,
    HALVES = 2 * LAYERS
};
static const struct made_model made = {LAYERS, H, HEADS, KV_HEADS, D, I, V, CONTEXT, 5, true};

/* Heads with attention: at a half, and the tap that a bridge leads to. */
enum { ATTACHED = 3 };
static const struct {
    const char *kind;
    int half, to;
} attached_table[ATTACHED] = {{"block", 4, 0}, {"bridge", 2, 2}, {"block", 0, 0}};

/* ---- an engine ---- */

struct bench {
    struct model *model;
    struct backend *backend;
    struct engine *engine;
    struct head *head[ATTACHED];
};

static void bench_close(struct bench *bench)
{
    engine_close(bench->engine);
    for (int i = 0; i < ATTACHED; i++)
        head_destroy(bench->head[i]);
    backend_close(bench->backend);
    model_close(bench->model);
}

static int attach_heads(struct bench *bench, struct error *error)
{
    const struct head_source source = {model_source, bench->model};
    struct attached_head heads[ATTACHED];
    for (int i = 0; i < ATTACHED; i++) {
        const struct head_spec spec = {.kind = head_kind_find(attached_table[i].kind, error),
                                       .tap = {.layer = attached_table[i].half / 2},
                                       .to = attached_table[i].to};
        if (head_create(&spec, model_config(bench->model), bench->backend, &bench->head[i], error) < 0 ||
            head_initialise(bench->head[i], INIT_COPY, 1, &source, error) < 0)
            return -1;
        heads[i] = (struct attached_head){.head = bench->head[i], .half = attached_table[i].half};
    }
    return engine_attach(bench->engine, heads, ATTACHED, error);
}

static int bench_open(struct bench *bench, const char *device, enum math math, int positions,
                      struct error *error)
{
    char folder[4000];
    *bench = (struct bench){0};
    snprintf(folder, sizeof folder, "%s/model", test_folder());
    if (make_model(&made, folder, error) < 0 || model_open(folder, &bench->model, error) < 0 ||
        backend_open(device, &(struct backend_options){.threads = 2, .math = math}, &bench->backend, error) < 0)
        return -1;
    if (engine_open(bench->model, bench->backend, positions, &bench->engine, error) < 0)
        return -1;
    return attach_heads(bench, error);
}

static void make_ids(int32_t *ids, int count, uint64_t seed)
{
    struct random random = {seed};
    for (int i = 0; i < count; i++)
        ids[i] = (int32_t)(random_next(&random) % V);
}

static int below(struct random *random, int limit)
{
    return (int)(random_next(random) % (uint64_t)limit);
}

/* Brings the row at a position to a half. */
static void run_row(struct bench *bench, struct engine_sequence *sequence, int position, int half)
{
    const struct matrix none =
        engine_run(bench->engine, &(struct engine_row){sequence, position, half, false}, 1);
    CHECK(matrix_is_none(none));
}

static void run_last(struct bench *bench, struct engine_sequence *sequence, int half)
{
    run_row(bench, sequence, sequence_rows(sequence) - 1, half);
}

/* ---- what is right ---- */

/* Tokens, and in how many appends they come; groups end with 0. */
enum { ROWS = 96, GROUPS = 24 };
struct text {
    int32_t ids[ROWS];
    int groups[GROUPS];
};

/* Every row after every half. */
struct record {
    double tolerance; /* of a value, as a share of the row's largest one; 0: the same bits */
    float state[ROWS][HALVES + 1][H];
    float of_heads[ATTACHED][ROWS][H]; /* what the heads make of it */
};

static int text_rows(const struct text *text)
{
    int rows = 0;
    for (int g = 0; g < GROUPS; g++)
        rows += text->groups[g];
    return rows;
}

static void read_states(struct bench *bench, const struct engine_sequence *sequence, int first, int rows,
                        float *states)
{
    struct error error;
    op_read(engine_queue(bench->engine), sequence_states(sequence, first, rows), states);
    REQUIRE_OK(queue_wait(engine_queue(bench->engine), &error));
}

/* What the heads have made of a sequence's rows. */
static void read_made(struct bench *bench, const struct engine_sequence *sequence,
                      float of_heads[ATTACHED][ROWS][H])
{
    struct error error;
    for (int h = 0; h < ATTACHED; h++) {
        for (int i = 0; i < sequence_rows(sequence); i++)
            op_read(engine_queue(bench->engine), sequence_head_row(sequence, h, i), of_heads[h][i]);
    }
    REQUIRE_OK(queue_wait(engine_queue(bench->engine), &error));
}

static void record_text(struct bench *bench, const struct text *text, struct record *record)
{
    static float states[ROWS * H];
    struct error error;
    struct engine_sequence *sequence;
    int first = 0;
    record->tolerance = strcmp(backend_name(bench->backend), "cuda") == 0 ? 1e-4 : 0;
    REQUIRE_OK(engine_sequence_create(bench->engine, ROWS, &sequence, &error));
    for (int g = 0; g < GROUPS && text->groups[g] > 0; first += text->groups[g++]) {
        const int rows = text->groups[g];
        REQUIRE_OK(sequence_append(sequence, text->ids + first, rows, &error));
        for (int half = 0; half <= HALVES; half++) {
            run_last(bench, sequence, half);
            read_states(bench, sequence, first, rows, states);
            for (int i = 0; i < rows; i++)
                memcpy(record->state[first + i][half], states + i * H, H * sizeof(float));
        }
    }
    read_made(bench, sequence, record->of_heads);
    sequence_destroy(sequence);
}

/* Whether values are what the record says. */
static bool same_values(const struct record *record, const float *state, const float *expected)
{
    double worst = 0, largest = 0;
    for (int i = 0; i < H; i++) {
        worst = fmax(worst, fabs((double)state[i] - (double)expected[i]));
        largest = fmax(largest, fabs((double)expected[i]));
    }
    return record->tolerance > 0 ? worst <= record->tolerance * largest
                                 : memcmp(state, expected, H * sizeof *state) == 0;
}

/* What the result of engine_run says of a row is what the record says. */
static void check_state(const float *state, const struct record *record, const struct engine_sequence *sequence,
                        int position, const char *what)
{
    const int half = sequence_depth(sequence, position);
    if (!same_values(record, state, record->state[position][half]))
        test_fail(__FILE__, __LINE__, "%s: row %d at half %d is not what it is alone", what, position, half);
}

/* Everything to the top, and compared. */
static void check_top(struct bench *bench, struct engine_sequence *sequence, const struct record *record,
                      const char *what)
{
    static float states[ROWS * H], of_heads[ATTACHED][ROWS][H];
    const int rows = sequence_rows(sequence);
    run_last(bench, sequence, HALVES);
    read_made(bench, sequence, of_heads);
    for (int h = 0; h < ATTACHED; h++) {
        for (int i = 0; i < rows; i++) {
            if (!same_values(record, of_heads[h][i], record->of_heads[h][i]))
                test_fail(__FILE__, __LINE__, "%s: what head %d makes of row %d is not what it is alone", what,
                          h, i);
        }
    }
    read_states(bench, sequence, 0, rows, states);
    for (int i = 0; i < rows; i++) {
        CHECK(sequence_depth(sequence, i) == HALVES);
        check_state(states + i * H, record, sequence, i, what);
    }
}

/* What the heads made, against the heads on the whole sequence at once. x [rows, H] is working memory. */
static void check_made(struct bench *bench, int rows, const struct record *record, struct matrix x)
{
    static float states[ROWS * H], of_heads[ROWS * H];
    const struct span whole = {.rows = rows};
    struct queue *queue = engine_queue(bench->engine);
    struct buffer *h;
    struct error error;
    REQUIRE_OK(buffer_create(bench->backend, sizeof of_heads, &h, &error));
    for (int a = 0; a < ATTACHED; a++) {
        struct head_scratch *scratch;
        double worst = 0, largest = 0;
        for (int i = 0; i < rows; i++)
            memcpy(states + i * H, record->state[i][attached_table[a].half], H * sizeof(float));
        REQUIRE_OK(head_scratch_create(bench->head[a], rows, rows, false, &scratch, &error));
        const struct head_run run = {.head = bench->head[a],
                                     .scratch = scratch,
                                     .x = x,
                                     .spans = &whole,
                                     .span_count = 1,
                                     .h = matrix_f32(h, rows, H)};
        op_write(queue, x, states);
        heads_forward(queue, &run, 1);
        op_read(queue, run.h, of_heads);
        REQUIRE_OK(queue_wait(queue, &error));
        for (int i = 0; i < rows * H; i++) {
            worst = fmax(worst, fabs((double)of_heads[i] - (double)record->of_heads[a][i / H][i % H]));
            largest = fmax(largest, fabs((double)of_heads[i]));
        }
        CHECK(worst < (backend_math(bench->backend) == MATH_BF16 ? 3e-2 : 1e-4) * largest);
        head_scratch_destroy(scratch);
    }
    buffer_destroy(h);
}

/* The record itself, against the whole sequence through the layers, with no cache, on the same backend. */
static void check_record(struct bench *bench, const struct text *text, const struct record *record)
{
    static float states[ROWS * H];
    const int rows = text_rows(text);
    const struct span whole = {.rows = rows};
    struct queue *queue = engine_queue(bench->engine);
    struct layer_scratch *scratch;
    struct buffer *ids, *x;
    struct error error;
    double worst = 0, largest = 0;
    REQUIRE_OK(scratch_create(model_config(bench->model), bench->backend, rows, 1, rows, &scratch, &error));
    REQUIRE_OK(buffer_create(bench->backend, sizeof text->ids, &ids, &error));
    REQUIRE_OK(buffer_create(bench->backend, sizeof states, &x, &error));
    op_write(queue, matrix_i32(ids, rows, 1), text->ids);
    ends_embed(engine_ends(bench->engine), queue, matrix_i32(ids, rows, 1), matrix_f32(x, rows, H));
    for (int half = 1; half <= HALVES; half++) {
        struct layer *layer;
        REQUIRE_OK(layer_load(bench->model, (half - 1) / 2, bench->backend, WEIGHT_FORWARD | WEIGHT_ROWS,
                              &layer, &error));
        if (half % 2)
            layer_attention(layer, queue, scratch, &whole, 1, matrix_f32(x, rows, H));
        else
            layer_mlp(layer, queue, scratch, matrix_f32(x, rows, H));
        op_read(queue, matrix_f32(x, rows, H), states);
        REQUIRE_OK(queue_wait(queue, &error));
        for (int i = 0; i < rows * H; i++) {
            worst = fmax(worst, fabs((double)states[i] - (double)record->state[i / H][half][i % H]));
            largest = fmax(largest, fabs((double)states[i]));
        }
        layer_destroy(layer);
    }
    CHECK(worst < (backend_math(bench->backend) == MATH_BF16 ? 3e-2 : 1e-4) * largest); /* four layers */
    check_made(bench, rows, record, matrix_f32(x, rows, H));
    buffer_destroy(ids);
    buffer_destroy(x);
    scratch_destroy(scratch);
}

/* ---- several sequences ---- */

/* Alone, some at a time, prompts of many rows, and prompts behind rows that came alone. */
enum { TEXTS = 4 };
static const int text_groups[TEXTS][GROUPS] = {
    {9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
    {1, 1, 3, 1, 8, 1, 1, 20, 1, 1, 5, 1, 1, 1, 12, 2, 2},
    {40, 1, 4, 4, 1, 1, 9, 9, 1, 1, 1, 1},
    {2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2},
};

static void make_text(struct text *text, int number)
{
    memcpy(text->groups, text_groups[number], sizeof text->groups);
    make_ids(text->ids, ROWS, 100 + (uint64_t)number);
}

struct group {
    struct text text[TEXTS];
    struct record record[TEXTS];
    struct engine_sequence *sequence[TEXTS];
    int appended[TEXTS]; /* groups */
};

static int append_group(struct group *group, int t, struct error *error)
{
    const int rows = group->text[t].groups[group->appended[t]];
    const int32_t *ids = group->text[t].ids + sequence_rows(group->sequence[t]);
    if (group->appended[t] == GROUPS || rows == 0)
        return 0;
    group->appended[t]++;
    return sequence_append(group->sequence[t], ids, rows, error);
}

/* Rows that are wanted together: of each sequence up to two, anywhere among the last ones, each at any half. */
static int choose_rows(const struct group *group, struct random *random, struct engine_row *rows, int *text)
{
    int count = 0;
    for (int t = 0; t < TEXTS; t++) {
        for (int i = 0; i < 2; i++) {
            const int there = sequence_rows(group->sequence[t]), back = below(random, 12);
            if (there == 0 || below(random, 3) == 0)
                continue;
            text[count] = t;
            rows[count++] = (struct engine_row){group->sequence[t], back < there ? there - 1 - back : 0,
                                                below(random, HALVES + 1), below(random, 4) > 0};
        }
    }
    return count;
}

static void run_together(struct bench *bench, const struct group *group, struct random *random)
{
    struct engine_row rows[2 * TEXTS];
    struct error error;
    float states[2 * TEXTS * H];
    int text[2 * TEXTS], wanted = 0;
    const int count = choose_rows(group, random, rows, text);
    const struct matrix result = engine_run(bench->engine, rows, count);
    for (int i = 0; i < count; i++)
        wanted += rows[i].logits;
    CHECK(matrix_is_none(result) ? wanted == 0 : result.rows == wanted);
    if (!matrix_is_none(result))
        op_read(engine_queue(bench->engine), result, states);
    REQUIRE_OK(queue_wait(engine_queue(bench->engine), &error));
    for (int i = 0, row = 0; i < count; i++) {
        CHECK(sequence_depth(rows[i].sequence, rows[i].position) >= rows[i].half);
        if (rows[i].logits)
            check_state(states + H * row++, &group->record[text[i]], rows[i].sequence, rows[i].position,
                        "together");
    }
}

static void check_together(const char *device, enum math math)
{
    static struct group group;
    struct random random = {7};
    struct bench bench;
    struct error error;
    if (!test_wants_mode(device, math))
        return;
    REQUIRE_OK(bench_open(&bench, device, math, ROWS, &error));
    for (int t = 0; t < TEXTS; t++) {
        make_text(&group.text[t], t);
        record_text(&bench, &group.text[t], &group.record[t]);
        check_record(&bench, &group.text[t], &group.record[t]);
    }
    const int times = strcmp(device, "cuda") == 0 ? 1 : 4; /* emulated, it is slow */
    for (int again = 0; again < times; again++) {
        for (int t = 0; t < TEXTS; t++) {
            group.appended[t] = 0;
            REQUIRE_OK(engine_sequence_create(bench.engine, ROWS, &group.sequence[t], &error));
        }
        for (int turn = 0; turn < 60; turn++) {
            REQUIRE_OK(append_group(&group, below(&random, TEXTS), &error));
            if (below(&random, 3) > 0)
                run_together(&bench, &group, &random);
        }
        for (int t = 0; t < TEXTS; t++) {
            check_top(&bench, group.sequence[t], &group.record[t], "at the top");
            for (int half = 0; half <= HALVES; half++) /* each row took each half once */
                CHECK(sequence_work(group.sequence[t], half) == sequence_rows(group.sequence[t]));
            sequence_destroy(group.sequence[t]);
        }
    }
    bench_close(&bench);
}

TEST(engine_several_sequences)
{
    check_together("ref", MATH_F32);
    check_together("cpu", MATH_F32);
    check_together("cuda", MATH_F32);
}

TEST(engine_several_sequences_in_bf16)
{
    check_together("cpu", MATH_BF16);
}

/* ---- forks ---- */

/* Two texts with a common beginning of `common` rows. */
static void check_fork(const char *device, enum math math, int common_groups, int common, int half)
{
    static struct text text[2];
    static struct record record[2];
    struct bench bench;
    struct error error;
    struct engine_sequence *sequence[2];
    struct random random = {3};
    if (!test_wants_mode(device, math))
        return;
    REQUIRE_OK(bench_open(&bench, device, math, ROWS, &error));
    for (int i = 0; i < 2; i++) {
        make_text(&text[i], 1);
        make_ids(text[i].ids + common, ROWS - common, 200 + (uint64_t)i);
        record_text(&bench, &text[i], &record[i]);
    }
    REQUIRE_OK(engine_sequence_create(bench.engine, ROWS, &sequence[0], &error));
    for (int g = 0; g < common_groups; g++) {
        REQUIRE_OK(
            sequence_append(sequence[0], text[0].ids + sequence_rows(sequence[0]), text[0].groups[g], &error));
        run_last(&bench, sequence[0], g % 2 ? half : below(&random, half + 1));
    }
    REQUIRE_OK(sequence_fork(sequence[0], ROWS, &sequence[1], &error));
    CHECK(sequence_rows(sequence[1]) == common);
    for (int i = 0; i < common; i++)
        CHECK(sequence_depth(sequence[1], i) == sequence_depth(sequence[0], i));
    for (int g = common_groups; g < GROUPS && text[0].groups[g] > 0; g++) {
        struct engine_row rows[2];
        for (int i = 0; i < 2; i++) {
            REQUIRE_OK(sequence_append(sequence[i], text[i].ids + sequence_rows(sequence[i]), text[i].groups[g],
                                       &error));
            rows[i] =
                (struct engine_row){sequence[i], sequence_rows(sequence[i]) - 1, below(&random, HALVES), false};
        }
        engine_run(bench.engine, rows, 2);
    }
    for (int i = 0; i < 2; i++)
        check_top(&bench, sequence[i], &record[i], i ? "the fork" : "what was forked");
    for (int i = 0; i < 2; i++)
        sequence_destroy(sequence[i]);
    bench_close(&bench);
}

TEST(sequence_forks_and_diverges)
{
    check_fork("ref", MATH_F32, 5, 14, 5);
    check_fork("cpu", MATH_F32, 5, 14, HALVES); /* all at the top, most rows */
    check_fork("cpu", MATH_F32, 5, 14, 5); /* rows that wait at several halves */
    check_fork("cpu", MATH_F32, 8, 36, 0); /* nothing but embeddings, a prompt among them */
    check_fork("cpu", MATH_F32, 0, 0, 0); /* of nothing */
    check_fork("cpu", MATH_BF16, 5, 14, 5);
    check_fork("cuda", MATH_F32, 5, 14, 5);
}

/* ---- truncation ---- */

/* Before each group of a text come rows that are wrong, go up some way, and are forgotten. */
static void check_truncation(const char *device, enum math math, int number, uint64_t seed)
{
    static struct text text;
    static struct record record;
    struct bench bench;
    struct error error;
    struct engine_sequence *sequence;
    struct random random = {seed};
    int32_t wrong[ROWS];
    if (!test_wants_mode(device, math))
        return;
    REQUIRE_OK(bench_open(&bench, device, math, CONTEXT, &error));
    make_text(&text, number);
    record_text(&bench, &text, &record);
    REQUIRE_OK(engine_sequence_create(bench.engine, 2 * ROWS, &sequence, &error));
    for (int g = 0; g < GROUPS && text.groups[g] > 0; g++) {
        const int rows = sequence_rows(sequence), drafts = below(&random, 14);
        make_ids(wrong, ROWS, random_next(&random));
        if (drafts > 0) {
            REQUIRE_OK(sequence_append(sequence, wrong, drafts, &error));
            run_row(&bench, sequence, rows + below(&random, drafts), below(&random, HALVES + 1));
        }
        if (drafts > 1 && below(&random, 2)) { /* by parts */
            REQUIRE_OK(sequence_truncate(sequence, rows + drafts / 2, &error));
            run_last(&bench, sequence, below(&random, HALVES + 1));
        }
        REQUIRE_OK(sequence_truncate(sequence, rows, &error));
        REQUIRE_OK(sequence_append(sequence, text.ids + rows, text.groups[g], &error));
        run_last(&bench, sequence, below(&random, HALVES + 1));
    }
    CHECK(sequence_rows(sequence) == text_rows(&text));
    check_top(&bench, sequence, &record, "behind what was truncated");
    sequence_destroy(sequence);
    bench_close(&bench);
}

TEST(sequence_goes_on_behind_what_was_truncated)
{
    check_truncation("ref", MATH_F32, 1, 1);
    check_truncation("cuda", MATH_F32, 1, 1);
    for (int number = 0; number < TEXTS; number++)
        check_truncation("cpu", MATH_F32, number, 2 + (uint64_t)number);
}

/* Of a prompt that is cut what is left is a shorter prompt; or rows that came alone. */
TEST(sequence_cuts_a_prompt)
{
    static const struct {
        int appended, half, left;
    } cases[] = {{30, 3, 20}, {30, 0, 9}, {30, HALVES, 10}, {30, 0, 8}, {12, 0, 5}, {30, 3, 0}};
    static struct text text;
    static struct record record;
    struct bench bench;
    struct error error;
    struct engine_sequence *sequence;
    REQUIRE_OK(bench_open(&bench, "cpu", MATH_F32, ROWS, &error));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        make_text(&text, 0);
        memset(text.groups, 0, sizeof text.groups);
        text.groups[0] = 3;
        text.groups[1] = cases[i].left > 0 ? cases[i].left : 1;
        text.groups[2] = cases[i].left > 0;
        record_text(&bench, &text, &record);
        REQUIRE_OK(engine_sequence_create(bench.engine, ROWS, &sequence, &error));
        REQUIRE_OK(sequence_append(sequence, text.ids, 3, &error));
        REQUIRE_OK(sequence_append(sequence, text.ids + 3, cases[i].appended, &error));
        if (cases[i].half > 0) /* else they have gone through no head, either */
            run_last(&bench, sequence, cases[i].half);
        REQUIRE_OK(sequence_truncate(sequence, 3 + cases[i].left, &error));
        REQUIRE_OK(sequence_append(sequence, text.ids + 3 + cases[i].left, 1, &error));
        check_top(&bench, sequence, &record, "a prompt that was cut");
        sequence_destroy(sequence);
    }
    bench_close(&bench);
}

/* ---- prompts of more than a call ---- */

/* The last of `count` tokens, at the top; they come in two appends of which the first has `first`, or in one:
 * 0. */
static void last_state(struct bench *bench, const int32_t *ids, int count, int first, bool waits,
                       float state[H])
{
    struct error error;
    struct engine_sequence *sequence;
    REQUIRE_OK(engine_sequence_create(bench->engine, CONTEXT, &sequence, &error));
    if (first > 0) {
        REQUIRE_OK(sequence_append(sequence, ids, first, &error));
        run_last(bench, sequence, waits ? 3 : HALVES);
    }
    REQUIRE_OK(sequence_append(sequence, ids + first, count - first, &error));
    run_last(bench, sequence, HALVES);
    read_states(bench, sequence, count - 1, 1, state);
    sequence_destroy(sequence);
}

/* A prompt of any length goes through the kernels of many rows to its last row: what that comes to is, to the
 * last bit, what it is behind a prompt of other pieces. */
TEST(engine_prompts_of_any_length)
{
    static const int lengths[] = {511, 512, 513, 516, 520, 521, 530, CONTEXT};
    struct error error;
    struct bench bench;
    int32_t ids[CONTEXT];
    make_ids(ids, CONTEXT, 17);
    REQUIRE_OK(bench_open(&bench, "cpu", MATH_F32, CONTEXT, &error));
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        float whole[H], parts[H], waited[H];
        last_state(&bench, ids, lengths[i], 0, false, whole);
        last_state(&bench, ids, lengths[i], lengths[i] / 3, false, parts);
        last_state(&bench, ids, lengths[i], lengths[i] / 3, true, waited);
        if (memcmp(whole, parts, sizeof whole) != 0 || memcmp(whole, waited, sizeof whole) != 0)
            test_fail(__FILE__, __LINE__, "the last of %d tokens", lengths[i]);
    }
    bench_close(&bench);
}

/* A prompt goes up as a whole, though a row of its first piece is wanted: else what is left of it, when it is
 * cut, may be few rows. */
TEST(engine_prompts_go_up_as_a_whole)
{
    enum { LONG = 530, LEFT = 270 };
    struct error error;
    struct bench bench;
    struct engine_sequence *sequence;
    int32_t ids[LONG];
    float found[H], expected[H];
    make_ids(ids, LONG, 23);
    REQUIRE_OK(bench_open(&bench, "cpu", MATH_F32, CONTEXT, &error));
    last_state(&bench, ids, LEFT, 0, false, expected);
    REQUIRE_OK(engine_sequence_create(bench.engine, CONTEXT, &sequence, &error));
    REQUIRE_OK(sequence_append(sequence, ids, LONG, &error));
    run_row(&bench, sequence, 100, 3);
    CHECK(sequence_depth(sequence, LONG - 1) == 3);
    REQUIRE_OK(sequence_truncate(sequence, LEFT, &error));
    run_last(&bench, sequence, HALVES);
    read_states(&bench, sequence, LEFT - 1, 1, found);
    CHECK(memcmp(found, expected, sizeof found) == 0);
    sequence_destroy(sequence);
    bench_close(&bench);
}

/* More sequences wait than a call has room for: with a prompt each, or with a row that came alone. */
static void check_shared_calls(bool prompts)
{
    enum { SEQUENCES = 90 };
    struct error error;
    struct bench bench;
    struct engine_sequence *sequence[SEQUENCES];
    struct engine_row rows[SEQUENCES];
    static float together[SEQUENCES * H];
    int32_t ids[SEQUENCES + 30];
    make_ids(ids, SEQUENCES + 30, 19);
    REQUIRE_OK(bench_open(&bench, "cpu", MATH_F32, CONTEXT, &error));
    for (int i = 0; i < SEQUENCES; i++) {
        const int count = prompts ? 9 + i % 3 + (i == 50) * 12 : 1;
        REQUIRE_OK(engine_sequence_create(bench.engine, count, &sequence[i], &error));
        REQUIRE_OK(sequence_append(sequence[i], ids + i, count, &error));
        rows[i] = (struct engine_row){sequence[i], count - 1, HALVES, true};
    }
    op_read(engine_queue(bench.engine), engine_run(bench.engine, rows, SEQUENCES), together);
    REQUIRE_OK(queue_wait(engine_queue(bench.engine), &error));
    for (int i = 0; i < SEQUENCES; i++) {
        float alone[H];
        last_state(&bench, ids + i, rows[i].position + 1, 0, false, alone);
        CHECK(memcmp(alone, together + i * H, sizeof alone) == 0);
        sequence_destroy(sequence[i]);
    }
    bench_close(&bench);
}

TEST(engine_sequences_share_calls)
{
    check_shared_calls(true);
    check_shared_calls(false);
}

/* ---- what it takes, and what it refuses ---- */

/* What is said of a device's memory is what its weights and keys hold. */
static void check_bytes(const struct model *model, enum math math)
{
    const size_t vectors = 2 * H * sizeof(float), embedding = V * H * sizeof(float);
    struct error error;
    struct backend *backend;
    struct layer *layer;
    struct ends *ends;
    uint64_t held = model_config(model)->tied ? 0 : embedding;
    REQUIRE_OK(backend_open("cuda", &(struct backend_options){.math = math}, &backend, &error));
    for (int l = 0; l < LAYERS; l++) {
        REQUIRE_OK(layer_load(model, l, backend, WEIGHT_FORWARD | WEIGHT_ROWS, &layer, &error));
        held += layer_bytes(layer) - vectors;
        layer_destroy(layer);
    }
    REQUIRE_OK(ends_load(model, backend, true, WEIGHT_FORWARD | WEIGHT_ROWS, &ends, &error));
    held += weight_bytes(ends_output(ends));
    CHECK(engine_bytes(model, math) == held);
    CHECK(sequence_bytes(model_config(model), 10) == LAYERS * 2 * 10 * KV_HEADS * D * sizeof(float));
    ends_destroy(ends);
    backend_close(backend);
}

TEST(engine_bytes_of_a_device)
{
    struct error error;
    struct model *model = NULL;
    if (!test_wants_device("cuda"))
        return;
    for (int tied = 0; tied < 2; tied++) {
        struct made_model shape = made;
        char folder[4000];
        shape.untied = !tied;
        snprintf(folder, sizeof folder, "%s/%s", test_folder(), tied ? "tied" : "untied");
        REQUIRE_OK(make_model(&shape, folder, &error));
        REQUIRE_OK(model_open(folder, &model, &error));
        check_bytes(model, MATH_F32);
        check_bytes(model, MATH_BF16);
        model_close(model);
    }
}

TEST(engine_refuses)
{
    struct error error;
    struct bench bench;
    struct engine *engine;
    struct engine_sequence *sequence, *fork;
    const int32_t ids[4] = {0, V - 1, V, -1};
    REQUIRE_OK(bench_open(&bench, "ref", MATH_F32, 10, &error));
    CHECK(engine_open(bench.model, bench.backend, CONTEXT + 1, &engine, &error) < 0 && !engine);
    CHECK_TEXT(error.text, "1025 positions");
    CHECK(engine_sequence_create(bench.engine, 11, &sequence, &error) < 0 && !sequence);
    CHECK_TEXT(error.text, "11 positions are not in 1 .. 10");
    CHECK(engine_sequence_create(bench.engine, 0, &sequence, &error) < 0);
    REQUIRE_OK(engine_sequence_create(bench.engine, 3, &sequence, &error));
    CHECK(sequence_append(sequence, ids, 4, &error) < 0);
    CHECK_TEXT(error.text, "4 tokens do not fit behind 0 of 3");
    CHECK(sequence_append(sequence, ids + 2, 1, &error) < 0);
    CHECK_TEXT(error.text, "token 97");
    CHECK(sequence_append(sequence, ids + 3, 1, &error) < 0);
    REQUIRE_OK(sequence_append(sequence, ids, 2, &error));
    CHECK(sequence_append(sequence, ids, 2, &error) < 0);
    CHECK(sequence_rows(sequence) == 2);
    CHECK(sequence_truncate(sequence, 3, &error) < 0);
    CHECK_TEXT(error.text, "3 rows cannot be kept of 2");
    CHECK(sequence_truncate(sequence, -1, &error) < 0 && sequence_rows(sequence) == 2);
    CHECK(sequence_fork(sequence, 1, &fork, &error) < 0 && !fork);
    CHECK_TEXT(error.text, "2 rows do not fit in 1 positions");
    sequence_destroy(sequence);
    bench_close(&bench);
}

TEST_MAIN
