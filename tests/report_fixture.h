/* report_fixture.h: a run that was not trained, to see what its report looks like: trials of all kinds at a few taps, some of
 * which have failed or were stopped at a rung, a policy and gates. The same numbers always.
 *
 *     struct report_fixture fixture;
 *     report_fixture_make(&fixture, folder, 200, &error);
 *     html_report_page(&fixture.report, &text);
 *     report_fixture_free(&fixture);
 */
#ifndef OFFRAMP_TESTS_REPORT_FIXTURE_H
#define OFFRAMP_TESTS_REPORT_FIXTURE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "tests/small_config.h"
#include "train/html_report.h"

enum { FIXTURE_STEPS = 60, FIXTURE_ROWS = 12, FIXTURE_EXITS = 2 };

struct report_fixture {
    struct report report;
    struct run_folder run;
    struct trial_config *config; /* [board.count] */
    struct leaderboard board;
    struct policy policy;
    struct policy_row row[FIXTURE_ROWS];
    struct policy_exit exit[FIXTURE_EXITS];
    struct tap tried[FIXTURE_EXITS];
    double rate[FIXTURE_ROWS][FIXTURE_EXITS];
    struct report_gate_list gates;
};

/* Between 0 and 1. */
static inline double fixture_random(unsigned a, unsigned b)
{
    unsigned x = a * 2654435761u + b * 40503u + 12345u;
    x ^= x >> 15;
    x *= 2246822519u;
    x ^= x >> 13;
    return (double)(x % 10007) / 10007;
}

static inline int fixture_metrics(struct leaderboard_row *row, int trial, double end, int last,
                                  struct error *error)
{
    struct metrics *metrics = &row->metrics;
    for (int step = 0; step <= last; step++) {
        if (array_grow(&metrics->point, &metrics->capacity, metrics->count + 1, error) < 0)
            return -1;
        const double loss =
            end + 2.5 * exp(-step / 9.) + 0.15 * fixture_random((unsigned)trial, (unsigned)step);
        metrics->point[metrics->count++] = (struct metrics_point){
            .step = step,
            .tokens = 2048 * step,
            .trained = step > 0,
            .training = {.loss = loss, .rate = 1e-3, .norm = 0.5},
            .evaluated = step % 12 == 0 || step == 4 || step == 15,
            .sequences = 4,
            .held_out = {.loss = loss + 0.05, .kl = loss - 2.5, .agreement = 1 / loss},
        };
    }
    metrics->cost = (struct trial_cost){.own = 2 + trial % 7, .shared = 5, .stalled = 0.4};
    return 0;
}

/* Trial i of `count`: those that are done come first, and of these the deeper ones. */
static inline int fixture_row(struct report_fixture *fixture, int i, int count, struct error *error)
{
    static const char *const kinds[] = {"affine", "norm", "affine"};
    static const struct tap taps[] = {{6, false}, {12, false}, {18, false}, {24, false}};
    struct leaderboard_row *row = &fixture->board.row[i];
    struct trial_config *config = &fixture->config[i];
    const int ended = (count + 1) / 2;
    const bool done = i < ended, failed = i >= count - count / 8;
    const int tap = done ? 3 - 4 * i / ended : i % 4;
    const double kl = 0.4 + 0.7 * (3 - tap) + 0.3 * i / count;
    *config = (struct trial_config){
        .rate = 1e-3, .init = INIT_RIDGE, .loss = i % 3 == 1 ? LOSS_CROSS_ENTROPY : LOSS_DISTILLATION};
    config->spec =
        (struct head_spec){.kind = head_kind_find(i % 5 == 4 ? "mlp" : kinds[i % 3], error), .tap = taps[tap]};
    config->spec.tap.mid = i % 5 == 4;
    tap_name(config->spec.tap, small.layers, config->tap);
    snprintf(config->id, sizeof config->id, "%.15s-%s-ridge-%s-0.001%s-%d", config->tap,
             head_kind_name(config->spec.kind), trial_loss_name(config->loss),
             i == 2 ? "-warmup1000000-clip0.12345678901234-decay0.0123456789-beta10.987654321-beta20.987654321"
                    : "",
             i);
    row->config = config;
    row->exit = exit_cost(&config->spec, &small);
    row->trained = 333000;
    const int last = done ? FIXTURE_STEPS : failed ? 7 : i % 2 ? 4 : 15;
    if (fixture_metrics(row, i, 2.6 + kl, last, error) < 0)
        return -1;
    row->step = last;
    row->finished = done;
    row->status = done ? "done" : failed ? "failed" : "stopped";
    if (failed) {
        snprintf(row->metrics.failed, sizeof row->metrics.failed,
                 "the loss is not a number <after step 7> & the head's \"a\" holds values of 1e+38: try a "
                 "lower rate");
        return 0;
    }
    if (!done)
        snprintf(row->metrics.stopped, sizeof row->metrics.stopped,
                 "its KL of %.4f is number 9 of 12 at tap %s, of which 3 go on", kl, config->tap);
    row->best = &row->metrics.point[row->metrics.count - 1];
    row->held_out = (struct evaluation){.loss = 2.55 + kl, .kl = kl, .agreement = 0.9 - 0.2 * kl};
    row->sequences = done ? 40 : 4;
    fixture->board.cost.own += row->metrics.cost.own;
    fixture->board.cost.shared += row->metrics.cost.shared;
    fixture->board.cost.stalled += row->metrics.cost.stalled;
    return 0;
}

static inline void fixture_draft(struct leaderboard_row *row, int i)
{
    row->metrics.failed[0] = 0;
    row->status = "done";
    row->finished = true;
    row->best = &row->metrics.point[0];
    row->exit = (struct exit_cost){0, 2.1};
    row->held_out = (struct evaluation){.loss = 2.9,
                                        .kl = 1.1,
                                        .agreement = 0.5,
                                        .draft = {3, {0.5, 0.42, 0.3 + 0.1 * (i % 2)}, {0.5, 0.24, 0.12}}};
}

static inline void fixture_policy(struct report_fixture *fixture)
{
    struct policy *policy = &fixture->policy;
    *policy = (struct policy){.layers = small.layers,
                              .exits = FIXTURE_EXITS,
                              .exit = fixture->exit,
                              .tried_tap = fixture->tried,
                              .agreement = 0.95,
                              .cost_head = 0.1,
                              .cost_output = 8,
                              .rows = FIXTURE_ROWS - 1,
                              .row = fixture->row};
    for (int e = 0; e < FIXTURE_EXITS; e++) {
        fixture->exit[e].tap = fixture->tried[e] = (struct tap){12 * (e + 1), false};
        fixture->exit[e].rule.threshold = 0.9;
    }
    for (int i = 0; i < policy->rows; i++) {
        static const double thresholds[] = {0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99};
        const double t = thresholds[i];
        fixture->rate[i][0] = 0.5 * (1 - t);
        fixture->rate[i][1] = i == policy->rows - 1 ? 0 : 0.8 * (1 - t);
        policy->row[i] =
            (struct policy_row){t, fixture->rate[i], 0.6 + 0.4 * t, 30 - 20 * (1 - t), 0.6 + 0.7 * t};
    }
}

static inline int fixture_gates(struct report_fixture *fixture, struct error *error)
{
    static const char *const taps[] = {"6", "12", "18", "24"};
    static const char *const names[] = {"linear", "mlp", "candidates+state", "short-list", "confidence"};
    struct report_gate_list *gates = &fixture->gates;
    if (array_grow(&gates->gate, &gates->capacity, 20, error) < 0)
        return -1;
    for (unsigned i = 0; i < 20; i++) {
        struct report_gate *gate = &gates->gate[gates->count++];
        *gate = (struct report_gate){.confidence = i % 2 ? 0.72 : NAN,
                                     .auc = 0.68 + 0.12 * fixture_random(i, 3),
                                     .cost = 0.01 * i,
                                     .fitted = 8192,
                                     .scored = 8192,
                                     .bins = GATE_BINS};
        snprintf(gate->tap, sizeof gate->tap, "%s", taps[i / 5]);
        snprintf(gate->gate, sizeof gate->gate, "%s", names[i % 5]);
        for (int b = 0; b < GATE_BINS; b++)
            gate->bin[b] =
                (struct gate_bin){.tokens = b == 9 && i == 3 ? 0 : 800,
                                  .predicted = 0.05 + 0.1 * b,
                                  .observed = fmin(1, 0.02 + 0.1 * b + 0.1 * fixture_random(i, (unsigned)b))};
        if (!(gate->trial =
                  string_copy(fixture->board.count > 0 ? fixture->board.row[0].config->id : "none", error)))
            return -1;
    }
    return 0;
}

static inline void report_fixture_free(struct report_fixture *fixture)
{
    leaderboard_free(&fixture->board);
    report_gate_list_free(&fixture->gates);
    free(fixture->config);
    run_folder_close(&fixture->run);
}

/* In a folder that does not hold a run. */
static inline int report_fixture_make(struct report_fixture *fixture, const char *folder, int trials,
                                      struct error *error)
{
    static const struct {
        const char *name;
        double value;
    } facts[] = {{"steps", FIXTURE_STEPS},      {"halving", 4},   {"rows", 512},         {"sequences", 4},
                 {"held_out_sequences", 40},    {"seconds", 320}, {"stall_seconds", 80}, {"peak_memory", 1.2e9},
                 {"device_compute_seconds", 12}};
    *fixture = (struct report_fixture){.run.lock = -1};
    if (run_folder_open(folder, &fixture->run, error) < 0 || array_alloc(&fixture->config, trials, error) < 0 ||
        array_alloc(&fixture->board.row, trials, error) < 0)
        return -1;
    for (size_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        if (run_folder_note(&fixture->run, facts[i].name, json_real(facts[i].value), error) < 0)
            return -1;
    }
    fixture->board.steps = FIXTURE_STEPS;
    fixture->board.split = 40;
    fixture->board.full_loss = 2.5356;
    fixture->board.sample_full_loss = 2.61;
    fixture->board.output = output_cost(&small);
    fixture->board.guessing = log(small.vocab);
    for (; fixture->board.count < trials; fixture->board.count++) {
        if (fixture_row(fixture, fixture->board.count, trials, error) < 0)
            return -1;
    }
    /* The last two are drafts, of many. */
    fixture->board.exits = trials >= 8 ? trials - 2 : trials;
    for (int i = 0; i < trials; i++) {
        struct leaderboard_row *row = &fixture->board.row[i];
        row->draft = i >= fixture->board.exits;
        row->rank = row->draft ? i + 1 - fixture->board.exits : i + 1;
        if (row->draft)
            fixture_draft(row, i);
    }
    fixture_policy(fixture);
    if (fixture_gates(fixture, error) < 0)
        return -1;
    fixture->report = (struct report){.name = "SmolLM2 <135M> & \"friends\"",
                                      .fingerprint = "0123456789abcdef",
                                      .model = &small,
                                      .run = &fixture->run,
                                      .board = &fixture->board,
                                      .policy = &fixture->policy,
                                      .gates = &fixture->gates};
    return 0;
}

#endif
