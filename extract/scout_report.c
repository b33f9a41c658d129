#include "extract/scout_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/svg.h"

static const char affine_colour[] = "#2f6db3", bridge_colour[] = "#d1662f";

static const struct scout_score *affine_of(const struct scout_result *result, int tap)
{
    return &result->scores[tap];
}

/* NULL: there is none from that tap. */
static const struct scout_score *bridge_of(const struct scout_result *result, int tap)
{
    const int map = scout_bridge_map(result->layers, tap);
    return map < 0 ? NULL : &result->scores[map];
}

/* "12,18,24,27,final" */
static void taps_text(const struct scout_result *result, char text[128])
{
    int length = 0;
    for (int i = 0; i < result->count; i++)
        length += snprintf(text + length, (size_t)(128 - length), "%d,", result->taps[i]);
    snprintf(text + length, (size_t)(128 - length), "final");
}

static bool is_proposed(const struct scout_result *result, int tap)
{
    for (int i = 0; i < result->count; i++)
        if (result->taps[i] == tap)
            return true;
    return false;
}

/* ---- for people ---- */

static void print_score(const struct scout_score *score)
{
    if (score)
        printf("  %8.4f %8.4f %8.1f %%", score->loss, score->kl, 100 * score->agreement);
    else
        printf("  %8s %8s %10s", "-", "-", "-");
}

static void print_proposal(const struct scout_result *result)
{
    char taps[128];
    taps_text(result, taps);
    printf("\n* proposed: --taps %s\n"
           "  With these %d taps most layers are left out if every token leaves at the first one whose affine "
           "head says\n"
           "  what the full model does. What it takes to know that, and what a check costs, are not in it.\n",
           taps, result->count);
}

static void print_text(const struct scout_job *job, const struct scout_result *result)
{
    char first[32], second[32], memory[32];
    if (result->measured == 0) {
        printf("%s: the sums of %" PRIu64 " tokens, shard %d of %d (counted from 0)\n", job->out,
               result->tokens, job->wish.shard, job->wish.shards);
        return;
    }
    printf("ridge heads of %" PRIu64 " training tokens, on %" PRIu64 " held-out ones\n\n", result->tokens,
           result->measured);
    printf("%-6s  %-29s", "", "affine: tap to final");
    if (result->layers > SCOUT_BRIDGED)
        printf("  bridge: tap to %d, then the last layers", result->layers - SCOUT_BRIDGED);
    printf("\n");
    printf("%-6s", "tap");
    for (int i = 0; i < 2; i++)
        printf("  %8s %8s %10s", "loss", "KL", "agreement");
    printf("\n");
    for (int tap = 0; tap < result->layers; tap++) {
        printf("%4d %c", tap, is_proposed(result, tap) ? '*' : ' ');
        print_score(affine_of(result, tap));
        print_score(bridge_of(result, tap));
        printf("\n");
    }
    printf("%-6s", "final");
    print_score(&result->full);
    printf("\n");
    print_proposal(result);
    printf("%s for the sums, %s for the heads; peak memory %s\n",
           format_duration(result->seconds[SPLIT_TRAIN], first, sizeof first),
           format_duration(result->seconds[SPLIT_HELD_OUT], second, sizeof second),
           format_bytes((double)memory_peak(), memory, sizeof memory));
}

/* ---- JSON ---- */

static json_t *score_to_json(const struct scout_score *score)
{
    return score ? json_pack("{s:f, s:f, s:f}", "loss", score->loss, "kl", score->kl, "agreement",
                             score->agreement)
                 : json_null();
}

static int print_json(const struct scout_job *job, const struct scout_result *result, struct error *error)
{
    char taps[128];
    json_t *list = json_array();
    for (int tap = 0; tap < result->layers && result->measured > 0; tap++)
        json_array_append_new(list, json_pack("{s:i, s:o, s:o}", "tap", tap, "affine",
                                              score_to_json(affine_of(result, tap)), "bridge",
                                              score_to_json(bridge_of(result, tap))));
    taps_text(result, taps);
    json_t *object =
        json_pack("{s:I, s:I, s:{s:i, s:i}, s:f, s:f, s:I, s:o, s:o}", "tokens", (json_int_t)result->tokens,
                  "held_out_tokens", (json_int_t)result->measured, "shard", "index", job->wish.shard, "count",
                  job->wish.shards, "sum_seconds", result->seconds[SPLIT_TRAIN], "measure_seconds",
                  result->seconds[SPLIT_HELD_OUT], "peak_memory", (json_int_t)memory_peak(), "full",
                  score_to_json(result->measured > 0 ? &result->full : NULL), "heads", list);
    if (result->measured > 0)
        json_object_set_new(object, "taps", json_string(taps));
    return json_print("the table", object, stdout, error);
}

int scout_print(const struct scout_job *job, const struct scout_result *result, bool json, struct error *error)
{
    if (json)
        return print_json(job, result, error);
    print_text(job, result);
    return cli_finish_output(error);
}

/* ---- the picture ---- */

static void draw_heads(const struct scout_result *result, struct svg_chart *chart, const char *name,
                       const char *colour, const struct scout_score *(*of)(const struct scout_result *, int))
{
    struct svg_point *points;
    struct error error;
    size_t count = 0;
    char hint[128];
    if (array_alloc(&points, result->layers, &error) < 0) {
        chart->out->failed = true;
        return;
    }
    for (int tap = 0; tap < result->layers; tap++)
        if (of(result, tap))
            points[count++] = (struct svg_point){tap, of(result, tap)->agreement};
    svg_line(chart, points, count, colour, NULL);
    for (size_t i = 0; i < count; i++) {
        const struct scout_score *score = of(result, (int)points[i].x);
        snprintf(hint, sizeof hint, "tap %d, %s: loss %.3f, KL %.3f, agreement %.1f %%", (int)points[i].x, name,
                 score->loss, score->kl, 100 * score->agreement);
        svg_mark(chart, points[i], SVG_CIRCLE, colour, hint);
    }
    free(points);
}

/* At the top left, where heads are not so good. */
static void draw_legend(struct svg_chart *chart)
{
    static const char *const names[] = {"affine", "bridge"}, *const colours[] = {affine_colour, bridge_colour};
    for (int i = 0; i < 2; i++)
        string_print(chart->out,
                     "<circle class=\"mark\" cx=\"82\" cy=\"%d\" r=\"4.5\" fill=\"%s\"/>"
                     "<text class=\"note\" x=\"92\" y=\"%d\">%s</text>\n",
                     50 + 17 * i, colours[i], 54 + 17 * i, names[i]);
}

int scout_draw(const struct scout_result *result, const char *path, struct error *error)
{
    struct string text = {0};
    struct svg_chart chart = {
        .out = &text,
        .width = 720,
        .height = 420,
        .x = {.label = "tap: after so many layers", .least = 0, .most = result->layers, .exact = true},
        .y = {.label = "agreement with the full model", .least = 0, .most = 1, .percent = true, .exact = true},
        .alone = true,
    };
    svg_begin(&chart, "Ridge heads by layer, and the taps that are proposed");
    for (int i = 0; i < result->count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", result->taps[i]);
        svg_rule(&chart, SVG_DOWN, result->taps[i], name);
    }
    draw_heads(result, &chart, "affine", affine_colour, affine_of);
    draw_heads(result, &chart, "bridge", bridge_colour, bridge_of);
    draw_legend(&chart);
    svg_end(&chart);
    const int written = string_failed(&text, error) ? -1 : file_write(path, text.data, text.length, error);
    string_free(&text);
    return written;
}

/* ---- before it runs ---- */

int scout_foretell(const struct scout_job *job, bool json, struct error *error)
{
    struct scout_needs needs;
    char peak[32], sums[32], weights[32];
    if (scout_needs(job, &needs, error) < 0)
        return -1;
    if (json)
        return json_print("the forecast",
                          json_pack("{s:I, s:I, s:I, s:b, s:i}", "memory_bytes", (json_int_t)needs.plan.peak,
                                    "sum_bytes", (json_int_t)needs.sums, "weight_bytes",
                                    (json_int_t)needs.plan.weights, "resident", (int)needs.plan.resident,
                                    "super_batch", needs.plan.group * needs.plan.batch * job->wish.rows),
                          stdout, error);
    printf("memory %s: the sums of %d regressions take %s, the weights %s%s\n",
           format_bytes((double)needs.plan.peak, peak, sizeof peak),
           scout_map_count(model_config(job->model)->layers),
           format_bytes((double)needs.sums, sums, sizeof sums),
           format_bytes((double)needs.plan.weights, weights, sizeof weights),
           needs.plan.resident ? "" : " (two layers' at a time)");
    return cli_finish_output(error);
}
