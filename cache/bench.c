/* cache bench: what every codec makes of a store's records, as a table, as JSON, as a picture. */
#include <argp.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/commands.h"
#include "cache/measure.h"
#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/option.h"
#include "common/base/svg.h"

#define CODECS  "raw:f32,raw,lossless,q8,klt:5,klt:4,klt:3,klt:2"
#define RECORDS 2

struct bench_command {
    const char *path, *svg;
    struct measure_options measure;
    bool json;
};

/* What was measured, and of what. */
struct result {
    const struct store *store;
    const struct bench_command *command;
    struct measured measured;
};

enum { OPTION_CODECS = 256, OPTION_JSON, OPTION_RECORDS, OPTION_SVG };

static void take_codecs(struct bench_command *command, const char *text, struct argp_state *state)
{
    struct error error;
    struct codec_choice choice;
    cli_list_free(command->measure.codecs, command->measure.count);
    if (parse_list(text, &command->measure.codecs, &command->measure.count, &error) < 0)
        argp_error(state, "--codecs: %s", error.text);
    for (int i = 0; i < command->measure.count; i++)
        if (codec_parse(command->measure.codecs[i], &choice, &error) < 0)
            argp_error(state, "--codecs: %s", error.text);
}

static error_t parse_option(int key, char *text, struct argp_state *state)
{
    struct bench_command *command = state->input;
    switch (key) {
    case OPTION_JSON: command->json = true; return 0;
    case OPTION_SVG: command->svg = text; return 0;
    case OPTION_CODECS: take_codecs(command, text, state); return 0;
    case OPTION_RECORDS:
        command->measure.records = (uint64_t)option_integer(state, "records", text, 1, 1000000);
        return 0;
    default: return cache_take_store(&command->path, key, text, state);
    }
}

/* ---- what is said about it ---- */

static const struct measure *measure_at(const struct result *result, int tap, int codec)
{
    return result->measured.measure + tap * result->command->measure.count + codec;
}

/* `tap` is an index among the taps that were measured, here and below. */
static const char *tap_text(const struct result *result, int tap, char name[TAP_NAME_SIZE])
{
    const struct store_info *info = store_info(result->store);
    tap_name(info->tap[measure_at(result, tap, 0)->tap], info->layers, name);
    return name;
}

/* The codec of the tap's records, if they have lost something to it, or NULL. */
static const char *lost_to(const struct result *result, int tap)
{
    const struct codec_choice *choice = &store_info(result->store)->codec[measure_at(result, tap, 0)->tap];
    return choice->codec->type == DTYPE_F32 && choice->codec->exact ? NULL : choice->name;
}

/* GB/s of bf16, which has 2 bytes a value. 0 where no time is spent. */
static double rate(double seconds)
{
    return seconds > 0 ? 2e-9 / seconds : 0;
}

/* ---- JSON ---- */

static json_t *measure_to_json(const struct result *result, int tap, int codec)
{
    const struct measure *measure = measure_at(result, tap, codec);
    char name[TAP_NAME_SIZE];
    const char *lost = lost_to(result, tap);
    return json_pack("{s:s, s:s, s:s*, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "tap",
                     tap_text(result, tap, name), "codec", measure->codec, "relative_to", lost,
                     "bits_per_value", measure->bits, "parameter_bits", measure->parameter_bits, "slack_bits",
                     measure->slack_bits, "ratio", 16 / measure->bits, "encode_transform_gbs",
                     rate(measure->encode_transform), "encode_entropy_gbs", rate(measure->encode_entropy),
                     "decode_transform_gbs", rate(measure->decode_transform), "decode_entropy_gbs",
                     rate(measure->decode_entropy), "loss", measure->loss, "kl", measure->kl);
}

static int print_json(const struct result *result, struct error *error)
{
    json_t *list = json_array();
    for (int tap = 0; tap < result->measured.taps; tap++)
        for (int i = 0; i < result->command->measure.count; i++)
            json_array_append_new(list, measure_to_json(result, tap, i));
    json_t *object = json_pack("{s:s, s:s, s:I, s:o}", "store", store_path(result->store), "split",
                               split_name(measure_takes_held_out(result->store) ? SPLIT_HELD_OUT : SPLIT_TRAIN),
                               "records_per_tap", (json_int_t)result->measured.records, "measures", list);
    return json_print("the table", object, stdout, error);
}

/* ---- for people ---- */

static void print_rate(double seconds, int width)
{
    if (seconds > 2e-13) /* less is a call without work */
        printf(" %*.2f", width, rate(seconds));
    else
        printf(" %*s", width, "-");
}

static void print_measure(const char *tap, const struct measure *measure)
{
    printf("%-8s %-9s %7.3f %7.3f %6.3f %7.2fx", tap, measure->codec, measure->bits, measure->parameter_bits,
           measure->slack_bits, 16 / measure->bits);
    print_rate(measure->encode_transform, 10);
    print_rate(measure->encode_entropy, 7);
    print_rate(measure->decode_transform, 10);
    print_rate(measure->decode_entropy, 7);
    printf(" %10.2g\n", measure->kl);
}

static void print_basis(const struct result *result)
{
    bool lossy = false;
    printf("\n%" PRIu64 " %s record%s of each tap, %d tokens each. Rates: GB/s of bf16 values, one\n"
           "thread, decoded to f32, of lossless to bf16 as train reads it.\n",
           result->measured.records,
           split_name(measure_takes_held_out(result->store) ? SPLIT_HELD_OUT : SPLIT_TRAIN),
           result->measured.records == 1 ? "" : "s", store_info(result->store)->rows);
    printf("KL: nats a token between the model's final norm and output weight on the states before and after,\n"
           "of every %dth token.\n",
           MEASURE_STRIDE);
    for (int tap = 0; tap < result->measured.taps; tap++) {
        char name[TAP_NAME_SIZE];
        if (!lost_to(result, tap))
            continue;
        printf("%s %s was kept as %s", lossy ? ";" : "Relative to what the store has: tap",
               tap_text(result, tap, name), lost_to(result, tap));
        lossy = true;
    }
    printf(lossy ? "\n" : "");
}

static int print_table(const struct result *result)
{
    printf("%-8s %-9s %7s %7s %6s %8s %18s %18s %10s\n", "", "", "bits/", "+para-", "+page", "", "encode",
           "decode", "head KL");
    printf("%-8s %-9s %7s %7s %6s %8s %10s %7s %10s %7s %10s\n", "tap", "codec", "value", "meters", "slack",
           "of bf16", "transform", "entropy", "transform", "entropy", "nats");
    for (int tap = 0; tap < result->measured.taps; tap++)
        for (int i = 0; i < result->command->measure.count; i++) {
            char name[TAP_NAME_SIZE];
            print_measure(i == 0 ? tap_text(result, tap, name) : "", measure_at(result, tap, i));
        }
    print_basis(result);
    return 0;
}

/* ---- the picture ---- */

static const char *const colours[] = {"#2f6db3", "#d1662f", "#3f8f4f", "#8a56a8", "#b3413f", "#5f6b76"};
#define COLOURS ((int)(sizeof colours / sizeof *colours))

/* Whether a measure can be drawn. */
static bool is_drawn(const struct measure *measure)
{
    return measure->kl > 1e-7;
}

static void find_range(const struct result *result, struct svg_axis *x, struct svg_axis *y)
{
    const int count = result->measured.taps * result->command->measure.count;
    x->least = y->least = 1e9;
    x->most = y->most = 0;
    for (int i = 0; i < count; i++) {
        const struct measure *measure = result->measured.measure + i;
        if (!is_drawn(measure))
            continue;
        x->least = measure->bits < x->least ? measure->bits : x->least;
        x->most = measure->bits > x->most ? measure->bits : x->most;
        y->least = measure->kl < y->least ? measure->kl : y->least;
        y->most = measure->kl > y->most ? measure->kl : y->most;
    }
}

/* A tap's codecs. Those with parameters are circles on a line, the others squares. */
static void draw_tap(const struct result *result, struct svg_chart *chart, int tap)
{
    const char *colour = colours[tap % COLOURS];
    const int count = result->command->measure.count;
    struct svg_point *points;
    struct error error;
    size_t drawn = 0;
    char name[TAP_NAME_SIZE], hint[128];
    if (array_alloc(&points, count, &error) < 0) {
        chart->out->failed = true;
        return;
    }
    for (int i = 0; i < count; i++)
        if (is_drawn(measure_at(result, tap, i)) && measure_at(result, tap, i)->parameter_bits > 0)
            points[drawn++] =
                (struct svg_point){measure_at(result, tap, i)->bits, measure_at(result, tap, i)->kl};
    svg_line(chart, points, drawn, colour, NULL);
    for (int i = 0; i < count; i++) {
        const struct measure *measure = measure_at(result, tap, i);
        const struct svg_point point = {measure->bits, measure->kl};
        snprintf(hint, sizeof hint, "tap %s, %s: %.2f bits, %.2g nats", tap_text(result, tap, name),
                 measure->codec, measure->bits, measure->kl);
        if (is_drawn(measure))
            svg_mark(chart, point, measure->parameter_bits > 0 ? SVG_CIRCLE : SVG_SQUARE, colour, hint);
        if (is_drawn(measure) && tap == result->measured.taps - 1)
            svg_note(chart, point, measure->codec);
    }
    free(points);
}

/* Which colour is which tap, at the top right. */
static void draw_legend(const struct result *result, struct svg_chart *chart)
{
    for (int tap = 0; tap < result->measured.taps; tap++) {
        char name[TAP_NAME_SIZE];
        const double y = 52 + 17 * tap, x = chart->width - 96;
        string_print(chart->out,
                     "<circle class=\"mark\" cx=\"%.0f\" cy=\"%.0f\" r=\"4.5\" fill=\"%s\"/>"
                     "<text class=\"note\" x=\"%.0f\" y=\"%.0f\">tap %s</text>\n",
                     x, y, colours[tap % COLOURS], x + 10, y + 4, tap_text(result, tap, name));
    }
}

static int write_picture(const struct result *result, const char *path, struct error *error)
{
    struct string text = {0};
    struct svg_chart chart = {
        .out = &text,
        .width = 720,
        .height = 420,
        .x = {.label = "bits per value"},
        .y = {.label = "KL of the head, nats per token", .log = true},
        .alone = true,
    };
    find_range(result, &chart.x, &chart.y);
    if (chart.x.most == 0)
        return error_set(error, "--svg: there is nothing to draw: no codec of --codecs loses anything");
    svg_begin(&chart, "What a codec costs: bits, and what the model's head loses");
    for (int tap = 0; tap < result->measured.taps; tap++)
        draw_tap(result, &chart, tap);
    draw_legend(result, &chart);
    svg_end(&chart);
    int written = string_failed(&text, error) ? -1 : file_write(path, text.data, text.length, error);
    string_free(&text);
    return written;
}

/* ---- the command ---- */

static int run(const struct bench_command *command, struct error *error)
{
    struct store *store;
    struct result result = {.command = command};
    if (command->svg && (file_check_output(command->svg, error) < 0 ||
                         file_check_apart(command->svg, command->path, error) < 0))
        return error_prefix(error, "--svg");
    if (store_open(command->path, STORE_READ, &store, error) < 0)
        return -1;
    int done = measure_codecs(store, &command->measure, &result.measured, error);
    result.store = store;
    if (done == 0)
        done = command->json ? print_json(&result, error) : print_table(&result);
    if (done == 0 && command->svg)
        done = write_picture(&result, command->svg, error);
    free(result.measured.measure);
    store_close(store);
    return done;
}

int cache_bench(int argc, char **argv)
{
    static const struct argp_option options[] = {
        {"codecs", OPTION_CODECS, "LIST", 0, "The codecs, named as for extract --codec (default: " CODECS ")",
         0},
        {"records", OPTION_RECORDS, "N", 0, "Measure at most N records of each tap (default: 2)", 0},
        {"json", OPTION_JSON, NULL, 0, "Print the table as JSON", 0},
        {"svg", OPTION_SVG, "FILE", 0, "Draw a picture: bits against loss", 0},
        {0}};
    static const struct argp argp = {
        .options = options,
        .parser = parse_option,
        .args_doc = "STORE",
        .doc =
            "Say what every codec makes of a store's records: bits per value, speed, what the head loses."
            "\vCodecs with parameters are fitted to training records, as extract does, and measured on "
            "held-out "
            "ones where there are some. Bits are those of records; what the parameters take, spread over this "
            "store, and the rest of LMDB's last pages stand beside them. Losses are relative to what the store "
            "holds, which is all of it where a tap was kept as raw:f32.",
    };
    struct bench_command command = {.measure = {.records = RECORDS}};
    struct error error;
    int result = parse_list(CODECS, &command.measure.codecs, &command.measure.count, &error);
    if (result == 0) {
        cli_parse(&argp, argc, argv, 0, &command);
        result = run(&command, &error);
    }
    int code = cache_finish(argv[0], result, &error);
    cli_list_free(command.measure.codecs, command.measure.count);
    return code;
}
