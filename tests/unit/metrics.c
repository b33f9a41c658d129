/* metrics.jsonl: what is written is read; what a checkpoint does not count is cut; broken lines. */
#include "train/metrics.h"
#include "train/leaderboard.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/small_config.h"
#include "tests/test.h"

static char path[4300];

/* Of each line that is written here. */
static const struct trial_cost cost = {.own = 1.5, .shared = 0.5, .stalled = 0.25};

static struct string lines;

/* Brings the lines to the file. */
static void close_written(FILE *file)
{
    struct error error;
    if (metrics_flush(file, &lines, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    fclose(file);
    string_free(&lines);
}

static int write_some(struct error *error)
{
    FILE *file;
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_folder());
    if (metrics_continue(path, -1, &file, error) < 0)
        return -1;
    int result = metrics_write_evaluation(
        &lines, 0, 0, &(struct evaluation){.loss = 5, .kl = 2, .agreement = 0.25}, 3, &cost, 50, error);
    for (int64_t step = 1; step <= 4 && result == 0; step++) {
        const struct trial_result training = {.loss = 4 - 0.1 * (double)step, .norm = 0.5, .rate = 1e-3};
        result = metrics_write_step(&lines, step, 100 * step, &training, &cost, 100, error);
        if (step == 2 && result == 0)
            result = metrics_write_evaluation(&lines, step, 200,
                                              &(struct evaluation){.loss = 4, .kl = 1, .agreement = 0.5}, 3,
                                              &cost, 50, error);
    }
    close_written(file);
    return result;
}

static int count_lines_with(const char *text)
{
    struct error error;
    char *all = NULL;
    size_t size;
    int count = 0;
    if (file_read(path, &all, &size, &error) < 0)
        return -1;
    for (const char *at = all; (at = strstr(at, text)); at++)
        count++;
    free(all);
    return count;
}

static void append(const char *text)
{
    FILE *file = fopen(path, "a");
    if (file) {
        fputs(text, file);
        fclose(file);
    }
}

TEST(metrics_come_back)
{
    struct error error = {0};
    struct metrics metrics;
    REQUIRE_OK(write_some(&error));
    append("{\"step\": 5, \"tokens\": 5"); /* as a killed process leaves it */
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    REQUIRE(metrics.count == 5 && !metrics.failed[0]);
    CHECK(!metrics.point[0].trained && metrics.point[0].evaluated && metrics.point[0].held_out.loss == 5);
    CHECK(metrics.point[2].trained && metrics.point[2].evaluated && metrics.point[2].step == 2);
    CHECK(metrics.point[2].training.loss == 3.8 && metrics.point[2].tokens == 200);
    CHECK(metrics.point[2].training.norm == 0.5 && metrics.point[2].training.rate == 1e-3);
    CHECK(metrics.point[4].trained && !metrics.point[4].evaluated);
    CHECK(metrics.cost.own == 9 && metrics.cost.shared == 3 && metrics.cost.stalled == 1.5);
    const struct metrics_point *last = metrics_last_evaluation(&metrics);
    CHECK(last && last->step == 2 && last->held_out.kl == 1 && last->held_out.agreement == 0.5);
    metrics_free(&metrics);
}

TEST(metrics_say_what_a_line_took)
{
    struct error error = {0};
    struct metrics metrics;
    REQUIRE_OK(write_some(&error));
    /* 100 tokens of a step, or 50 of an evaluation, in 2 seconds. */
    CHECK(count_lines_with("\"tokens_per_second\": 50.0, \"seconds\": 2.0, \"shared_seconds\": 0.5, "
                           "\"stall_seconds\": 0.25}\n") == 4);
    CHECK(count_lines_with("\"tokens_per_second\": 25.0, \"seconds\": 2.0, ") == 2);
    /* Lines of before there was a cost. */
    append("{\"step\": 5, \"tokens\": 500, \"loss\": 3, \"rate\": 1e-3, \"norm\": 1, \"tokens_per_second\": 9, "
           "\"stall_seconds\": 7}\n");
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    CHECK(metrics.count == 6 && metrics.cost.own == 9 && metrics.cost.stalled == 1.5);
    metrics_free(&metrics);
}

/* How a trial has ended is the last line, and no evaluation among the others. */
TEST(metrics_say_how_a_trial_has_ended)
{
    struct error error = {0};
    struct metrics metrics;
    FILE *file;
    const struct metrics_whole whole = {.step = 4,
                                        .tokens = 400,
                                        .of_step = 2,
                                        .sequences = 12,
                                        .held_out = {.loss = 4.5, .kl = 0.5, .agreement = 0.75}};
    REQUIRE_OK(write_some(&error));
    REQUIRE_OK(metrics_continue(path, 4, &file, &error));
    REQUIRE_OK(metrics_write_whole(&lines, &whole, &cost, 0, &error));
    close_written(file);
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    CHECK(metrics.count == 5 && metrics.ended && !metrics.stopped[0] && !metrics.point[4].evaluated);
    CHECK(metrics.whole.step == 4 && metrics.whole.tokens == 400 && metrics.whole.of_step == 2);
    CHECK(metrics.whole.sequences == 12 && metrics.whole.held_out.kl == 0.5);
    CHECK(metrics_best_evaluation(&metrics)->step == 2 && metrics.point[2].sequences == 3);
    metrics_cut(&metrics, 4);
    CHECK(metrics.count == 5 && !metrics.ended);
    metrics_free(&metrics);
    /* Whoever goes on from this very step has not ended; nor has one that was stopped. */
    REQUIRE_OK(metrics_continue(path, 4, &file, &error));
    REQUIRE_OK(metrics_write_stop(&lines, 4, "halving", &error));
    close_written(file);
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    CHECK(metrics.count == 5 && !metrics.ended && !strcmp(metrics.stopped, "halving") && !metrics.failed[0]);
    metrics_cut(&metrics, 4);
    CHECK(!metrics.stopped[0]);
    metrics_free(&metrics);
    REQUIRE_OK(metrics_continue(path, 4, &file, &error));
    close_written(file);
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    CHECK(metrics.count == 5 && !metrics.ended && !metrics.stopped[0]);
    metrics_free(&metrics);
}

TEST(metrics_go_on_within_a_line)
{
    struct error error = {0};
    struct metrics metrics;
    const struct trial_result result = {.loss = 2};
    FILE *full = fopen("/dev/full", "a"), *file;
    REQUIRE(full != NULL);
    setvbuf(full, NULL, _IONBF, 0);
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_folder());
    REQUIRE_OK(metrics_continue(path, -1, &file, &error));
    REQUIRE_OK(metrics_write_step(&lines, 1, 1, &result, &cost, 1, &error));
    CHECK(metrics_flush(full, &lines, &error) < 0 && error.kind == ERROR_NO_SPACE);
    REQUIRE_OK(metrics_write_step(&lines, 2, 2, &result, &cost, 1, &error));
    close_written(file);
    fclose(full);
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    CHECK(metrics.count == 2 && metrics.point[1].step == 2);
    metrics_free(&metrics);
}

/* Numbers are compared as they are read, so that a run that was stopped decides as one that was not. */
TEST(metrics_as_they_are_read)
{
    struct error error = {0};
    struct metrics metrics;
    FILE *file;
    const struct evaluation exact = {
        .loss = 1. / 3, .kl = 2e-7 / 3, .agreement = 5. / 7, .draft = {2, {1. / 3, 2. / 7}, {1. / 3, 1. / 7}}};
    snprintf(path, sizeof path, "%s/metrics.jsonl", test_folder());
    REQUIRE_OK(metrics_continue(path, -1, &file, &error));
    REQUIRE_OK(metrics_write_evaluation(&lines, 0, 0, &exact, 1, &cost, 1, &error));
    close_written(file);
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    const struct evaluation read = metrics_as_read(&exact), found = metrics.point[0].held_out;
    CHECK(read.loss == found.loss && read.kl == found.kl && read.agreement == found.agreement);
    CHECK(read.kl != exact.kl);
    CHECK(found.draft.steps == 2 && read.draft.steps == 2 && read.draft.hit[1] != exact.draft.hit[1]);
    CHECK(read.draft.hit[1] == found.draft.hit[1] && read.draft.accepted[1] == found.draft.accepted[1]);
    metrics_free(&metrics);
}

TEST(metrics_are_cut_to_the_checkpoint)
{
    struct error error = {0};
    struct metrics metrics;
    FILE *file;
    REQUIRE_OK(write_some(&error));
    append("{\"step\": 5, \"tok");
    REQUIRE_OK(metrics_continue(path, 2, &file, &error));
    REQUIRE_OK(metrics_write_failure(&lines, 3, "it \"broke\"", &error));
    close_written(file);
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    CHECK(metrics.count == 3 && metrics.point[2].step == 2 && metrics.point[2].evaluated);
    CHECK(!strcmp(metrics.failed, "it \"broke\""));
    metrics_free(&metrics);

    REQUIRE_OK(metrics_continue(path, -1, &file, &error)); /* no checkpoint: nothing counts */
    close_written(file);
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    CHECK(metrics.count == 0 && !metrics.failed[0] && !metrics_last_evaluation(&metrics));
    metrics_free(&metrics);
    unlink(path);
    REQUIRE_OK(metrics_read(path, &metrics, &error));
    CHECK(metrics.count == 0);
}

TEST(metrics_broken_lines_have_their_number)
{
    static const struct {
        const char *line, *part;
    } cases[] = {
        {"nonsense\n", "metrics.jsonl: line 7: line 1"},
        {"{\"step\": 3, \"tokens\": 1, \"loss\": 1, \"rate\": 1, \"norm\": 1}\n", "line 7: \"step\" is 3"},
        {"{\"tokens\": 5}\n", "line 7: \"step\" is missing"},
        {"{\"step\": 9, \"tokens\": 5, \"loss\": \"low\"}\n", "\"loss\" is not a number"},
        {"{\"step\": 9, \"tokens\": 5, \"kl\": 1}\n", "\"held_out_loss\" is missing"},
        {"{\"step\": 9, \"failed\": 7}\n", "\"failed\" is not a string"},
        {"{\"step\": 9, \"stopped\": 7}\n", "\"stopped\" is not a string"},
        {"{\"step\": 9, \"tokens\": 5, \"kl\": 1, \"whole\": true}\n", "\"of_step\" is missing"},
        {"{\"step\": 9, \"tokens\": 5, \"kl\": 1, \"whole\": true, \"of_step\": 10}\n", "\"of_step\" is 10"},
        {"{\"step\": 9, \"tokens\": 5, \"kl\": 1, \"hits\": []}\n", "\"hits\" is not a list of 1 to 7 shares"},
        {"{\"step\": 9, \"tokens\": 5, \"kl\": 1, \"hits\": [2]}\n", "\"hits\" holds what is not a share"},
        {"{\"step\": 9, \"tokens\": 5, \"kl\": 1, \"hits\": [1], \"accepted\": [1, 1]}\n", "differ in length"},
        {"[1, 2]\n", "line 7: \"step\" is missing"},
    };
    struct error error = {0};
    struct metrics metrics;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        REQUIRE_OK(write_some(&error));
        append(cases[i].line);
        CHECK(metrics_read(path, &metrics, &error) < 0);
        CHECK_TEXT(error.text, cases[i].part);
    }
}

/* The evaluation with the lowest KL, the first of equals; and why a head is worse than guessing. */
TEST(metrics_best_evaluation_and_remark)
{
    struct metrics_point points[] = {
        {.step = 0, .evaluated = true, .held_out = {.loss = 20.25, .kl = 17.3, .agreement = 0.08}},
        {.step = 1, .trained = true},
        {.step = 4, .evaluated = true, .held_out = {.loss = 17.24, .kl = 14.4, .agreement = 0.1}},
        {.step = 8, .evaluated = true, .held_out = {.loss = 17.3, .kl = 14.4, .agreement = 0.1}}};
    struct trial_config config = {.tap = "12.mid", .init = INIT_COPY};
    struct leaderboard_row row = {
        .config = &config, .metrics = {.point = points, .count = 4}, .finished = true};
    const struct leaderboard board = {.row = &row, .count = 1, .guessing = 10.8};
    char text[400];
    CHECK(metrics_best_evaluation(&row.metrics) == &points[2]);
    row.best = &points[2];
    row.held_out = points[2].held_out;
    CHECK_TEXT(
        leaderboard_remark(&board, &row, text, sizeof text),
        "worse than guessing, whose loss is 10.80: a copy reads the states at 12.mid as if they were the last "
        "layer's, which gave 20.25, and 4 steps took it to 17.24;");
    config.init = INIT_RANDOM;
    CHECK_TEXT(leaderboard_remark(&board, &row, text, sizeof text),
               "it began at 20.25 and 4 steps took it to 17.24");
    CHECK_TEXT(leaderboard_remark(&board, &row, text, sizeof text), "more steps, a higher rate");
    row.best = &points[0];
    row.held_out = points[0].held_out;
    CHECK_TEXT(leaderboard_remark(&board, &row, text, sizeof text),
               "it began at 20.25, and training made it no better: a lower rate may");
    CHECK(!strstr(text, "higher"));
    config.init = INIT_COPY;
    CHECK_TEXT(leaderboard_remark(&board, &row, text, sizeof text),
               "which gave 20.25, and training made it no better: a lower rate may");
    row.metrics.count = 1; /* nobody has trained it */
    CHECK_TEXT(leaderboard_remark(&board, &row, text, sizeof text),
               "which gave 20.25; more steps, a higher rate");
    row.metrics.count = 4;
    row.best = &points[2];
    row.held_out.loss = 10.7;
    CHECK(!*leaderboard_remark(&board, &row, text, sizeof text));
    row.held_out.loss = 17;
    row.finished = false;
    CHECK(!*leaderboard_remark(&board, &row, text, sizeof text));
    metrics_cut(&row.metrics, 3);
    CHECK(row.metrics.count == 2);
}

/* A trial of a run in `folder`: its evaluation on the sample, and how it has ended. */
static int add_trial(const char *folder, const char *id, double sample_kl, double whole_kl, const char *stopped,
                     struct error *error)
{
    char name[4400];
    FILE *file;
    const struct metrics_whole whole = {.step = 8,
                                        .of_step = 4,
                                        .sequences = 40,
                                        .held_out = {.loss = whole_kl + 1, .kl = whole_kl, .agreement = 0.5}};
    snprintf(name, sizeof name, "%s/trials/%s", folder, id);
    if (directory_create(name, error) < 0)
        return -1;
    snprintf(name, sizeof name, "%s/trials/%s/config.json", folder, id);
    if (file_write(name, "{\"trained\": 7}", 14, error) < 0)
        return -1;
    snprintf(name, sizeof name, "%s/trials/%s/metrics.jsonl", folder, id);
    if (metrics_continue(name, -1, &file, error) < 0)
        return -1;
    int result = metrics_write_evaluation(
        &lines, 4, 0, &(struct evaluation){.loss = 9, .kl = sample_kl, .agreement = 0.5}, 8, &cost, 8, error);
    if (result == 0 && stopped)
        result = metrics_write_stop(&lines, 4, stopped, error);
    else if (result == 0 && whole_kl > 0)
        result = metrics_write_whole(&lines, &whole, &cost, 32, error);
    close_written(file);
    return result;
}

/* Trials that are done rank by the whole split, then stopped ones by the sample, then the others by name. */
TEST(leaderboard_ranks_by_the_whole_split)
{
    static const struct {
        const char *id, *stopped, *status;
        double sample, whole;
        int64_t sequences;
    } cases[] = {{"e", NULL, "done", 2.2, 2.0, 40},
                 {"d", NULL, "done", 2.0, 2.1, 40},
                 {"c", "halving", "stopped", 1, 0, 8},
                 {"b", "halving", "stopped", 3, 0, 8},
                 {"a", NULL, "unfinished", 0.5, 0, 8}};
    enum { COUNT = sizeof cases / sizeof cases[0] };
    struct trial_config configs[COUNT] = {0};
    struct sweep sweep = {.trial = configs, .trials = COUNT};
    struct error error = {0};
    struct run_folder run = {.lock = -1};
    struct leaderboard board;
    char folder[4100], *text = NULL;
    size_t size;
    snprintf(folder, sizeof folder, "%s/run", test_folder());
    REQUIRE_OK(run_folder_open(folder, &run, &error));
    REQUIRE_OK(run_folder_note(&run, "steps", json_integer(8), &error));
    REQUIRE_OK(run_folder_note(&run, "vocabulary", json_integer(50), &error));
    REQUIRE_OK(run_folder_note(&run, "held_out_sequences", json_integer(40), &error));
    REQUIRE_OK(run_folder_note(&run, "sample_full_loss", json_real(0.75), &error));
    for (int i = 0; i < COUNT; i++) {
        configs[i] =
            (struct trial_config){.tap = "1", .spec = {.kind = head_kind_find("norm", &error), .tap.layer = 1}};
        strcpy(configs[i].id, cases[i].id);
        REQUIRE_OK(add_trial(folder, cases[i].id, cases[i].sample, cases[i].whole, cases[i].stopped, &error));
    }
    REQUIRE_OK(leaderboard_read(&run, &sweep, &small, &board, &error));
    CHECK(board.full_loss == 0.75 && board.sample_full_loss == 0.75);
    for (int i = 0; i < COUNT; i++) {
        const struct leaderboard_row *row = &board.row[i];
        CHECK(!strcmp(row->config->id, cases[i].id) && !strcmp(row->status, cases[i].status));
        CHECK(row->held_out.kl == (cases[i].whole > 0 ? cases[i].whole : cases[i].sample));
        CHECK(row->sequences == cases[i].sequences && row->best->step == 4);
        CHECK(row->finished == (i < 2));
    }
    leaderboard_free(&board);
    REQUIRE_OK(run_folder_note(&run, "full_loss", json_real(0.5), &error));
    REQUIRE_OK(leaderboard_read(&run, &sweep, &small, &board, &error));
    CHECK(board.full_loss == 0.5 && board.sample_full_loss == 0.75 && board.split == 40);
    REQUIRE_OK(leaderboard_write(&run, &board, &error));
    snprintf(path, sizeof path, "%s/leaderboard.tsv", folder);
    REQUIRE_OK(file_read(path, &text, &size, &error));
    CHECK_TEXT(text, "\n3\tc\t1\tnorm\t");
    CHECK_TEXT(text, "\tstopped\t4\t9.000000\t1.000000\t0.500000\t4\t8\t1.0000\t9.0002\t\t\n");
    free(text);
    leaderboard_free(&board);
    run_folder_close(&run);
}

TEST_MAIN
