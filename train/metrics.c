#include "train/metrics.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"

/* ---- reading ---- */

/* The point of a step: the last one, or a new one behind it. */
static struct metrics_point *point_at(struct metrics *metrics, int64_t step, struct error *error)
{
    if (metrics->count > 0 && metrics->point[metrics->count - 1].step == step)
        return &metrics->point[metrics->count - 1];
    if (array_grow(&metrics->point, &metrics->capacity, metrics->count + 1, error) < 0)
        return NULL;
    metrics->point[metrics->count] = (struct metrics_point){.step = step};
    return &metrics->point[metrics->count++];
}

/* Lines of before there was a cost have none. */
static int add_cost(const char *name, const json_t *line, struct trial_cost *cost, struct error *error)
{
    double seconds, shared, stalled;
    if (!json_object_get(line, "seconds"))
        return 0;
    if (json_get_number(name, line, "seconds", &seconds, error) < 0 ||
        json_get_number(name, line, "shared_seconds", &shared, error) < 0 ||
        json_get_number(name, line, "stall_seconds", &stalled, error) < 0)
        return -1;
    cost->own += seconds - shared;
    cost->shared += shared;
    cost->stalled += stalled;
    return 0;
}

/* Digits of the numbers that are written. */
#define DIGITS 9

/* A list of shares of the draft's steps. */
static int read_shares(const char *name, const json_t *line, const char *key, double share[DRAFT_STEPS_MOST],
                       int *steps, struct error *error)
{
    const json_t *list = json_object_get(line, key);
    const size_t count = json_array_size(list);
    if (count == 0 || count > DRAFT_STEPS_MOST)
        return error_set_kind(error, ERROR_DAMAGED, "%s: \"%s\" is not a list of 1 to %d shares", name, key,
                              DRAFT_STEPS_MOST);
    for (size_t k = 0; k < count; k++) {
        const json_t *value = json_array_get(list, k);
        share[k] = json_number_value(value);
        if (!json_is_number(value) || !(share[k] >= 0 && share[k] <= 1))
            return error_set_kind(error, ERROR_DAMAGED, "%s: \"%s\" holds what is not a share", name, key);
    }
    *steps = (int)count;
    return 0;
}

static int read_draft(const char *name, const json_t *line, struct draft_hits *draft, struct error *error)
{
    int steps = 0;
    if (!json_object_get(line, "hits"))
        return 0;
    if (read_shares(name, line, "hits", draft->hit, &draft->steps, error) < 0 ||
        read_shares(name, line, "accepted", draft->accepted, &steps, error) < 0)
        return -1;
    return steps == draft->steps
               ? 0
               : error_set_kind(error, ERROR_DAMAGED, "%s: \"hits\" and \"accepted\" differ in length", name);
}

static int read_evaluation(const char *name, const json_t *line, struct evaluation *held_out,
                           int64_t *sequences, struct error *error)
{
    *sequences = 0;
    if (read_draft(name, line, &held_out->draft, error) < 0 ||
        json_get_number(name, line, "held_out_loss", &held_out->loss, error) < 0 ||
        json_get_number(name, line, "kl", &held_out->kl, error) < 0 ||
        json_get_number(name, line, "agreement", &held_out->agreement, error) < 0)
        return -1;
    return json_object_get(line, "sequences")
               ? json_get_integer(name, line, "sequences", 1, INT64_MAX, sequences, error)
               : 0;
}

static int read_whole(const char *name, const json_t *line, int64_t step, struct metrics *metrics,
                      struct error *error)
{
    struct metrics_whole *whole = &metrics->whole;
    whole->step = step;
    metrics->ended = true;
    if (add_cost(name, line, &metrics->cost, error) < 0 ||
        json_get_integer(name, line, "tokens", 0, INT64_MAX, &whole->tokens, error) < 0 ||
        json_get_integer(name, line, "of_step", 0, step, &whole->of_step, error) < 0)
        return -1;
    return read_evaluation(name, line, &whole->held_out, &whole->sequences, error);
}

static int read_reason(const char *name, const json_t *line, const char *key, char text[512],
                       struct error *error)
{
    const char *reason;
    if (json_get_string(name, line, key, &reason, error) < 0)
        return -1;
    snprintf(text, 512, "%s", reason);
    return 0;
}

static int read_line(const char *name, const json_t *line, struct metrics *metrics, struct error *error)
{
    int64_t step;
    const int64_t last = metrics->count > 0 ? metrics->point[metrics->count - 1].step : 0;
    if (json_get_integer(name, line, "step", last, INT64_MAX, &step, error) < 0)
        return -1;
    if (json_object_get(line, "failed"))
        return read_reason(name, line, "failed", metrics->failed, error);
    if (json_object_get(line, "stopped"))
        return read_reason(name, line, "stopped", metrics->stopped, error);
    if (json_is_true(json_object_get(line, "whole")))
        return read_whole(name, line, step, metrics, error);
    struct metrics_point *point = point_at(metrics, step, error);
    if (!point || add_cost(name, line, &metrics->cost, error) < 0 ||
        json_get_integer(name, line, "tokens", 0, INT64_MAX, &point->tokens, error) < 0)
        return -1;
    if (json_object_get(line, "kl")) {
        point->evaluated = true;
        return read_evaluation(name, line, &point->held_out, &point->sequences, error);
    }
    point->trained = true;
    if (json_get_number(name, line, "loss", &point->training.loss, error) < 0 ||
        json_get_number(name, line, "rate", &point->training.rate, error) < 0 ||
        json_get_number(name, line, "norm", &point->training.norm, error) < 0)
        return -1;
    return 0;
}

int metrics_read(const char *path, struct metrics *metrics, struct error *error)
{
    char *text, name[4096];
    size_t size;
    int result = 0, number = 1;
    *metrics = (struct metrics){0};
    if (!file_exists(path))
        return 0;
    if (file_read(path, &text, &size, error) < 0)
        return -1;
    const char *end;
    for (const char *from = text; result == 0 && (end = memchr(from, '\n', size - (size_t)(from - text)));
         from = end + 1, number++) {
        snprintf(name, sizeof name, "%s: line %d", path, number);
        json_t *line = json_parse(name, from, (size_t)(end - from), error);
        result = line ? read_line(name, line, metrics, error) : -1;
        json_decref(line);
    }
    free(text);
    if (result < 0)
        metrics_free(metrics);
    return result;
}

void metrics_free(struct metrics *metrics)
{
    free(metrics->point);
    *metrics = (struct metrics){0};
}

void metrics_cut(struct metrics *metrics, int64_t step)
{
    while (metrics->count > 0 && metrics->point[metrics->count - 1].step > step)
        metrics->count--;
    metrics->ended = false;
    metrics->stopped[0] = 0;
}

const struct metrics_point *metrics_last_evaluation(const struct metrics *metrics)
{
    for (size_t i = metrics->count; i > 0; i--) {
        if (metrics->point[i - 1].evaluated)
            return &metrics->point[i - 1];
    }
    return NULL;
}

const struct metrics_point *metrics_best_evaluation(const struct metrics *metrics)
{
    const struct metrics_point *best = NULL;
    for (size_t i = 0; i < metrics->count; i++) {
        const struct metrics_point *point = &metrics->point[i];
        if (point->evaluated && (!best || point->held_out.kl < best->held_out.kl))
            best = point;
    }
    return best;
}

/* ---- writing ---- */

/* How many bytes of the text are lines up to `step` that do not end a trial. */
static size_t lines_until(const char *text, size_t size, int64_t step)
{
    size_t kept = 0;
    const char *end;
    while ((end = memchr(text + kept, '\n', size - kept))) {
        struct error ignored;
        int64_t found;
        json_t *line = json_parse("", text + kept, (size_t)(end - text) - kept, &ignored);
        const bool good = line && json_get_integer("", line, "step", 0, step, &found, &ignored) == 0 &&
                          !json_object_get(line, "whole") && !json_object_get(line, "stopped");
        json_decref(line);
        if (!good)
            break;
        kept = (size_t)(end - text) + 1;
    }
    return kept;
}

int metrics_continue(const char *path, int64_t step, FILE **file, struct error *error)
{
    char *text;
    size_t size;
    *file = NULL;
    if (file_exists(path)) {
        if (file_read(path, &text, &size, error) < 0)
            return -1;
        const size_t kept = lines_until(text, size, step);
        int result = kept < size ? file_write(path, text, kept, error) : 0;
        free(text);
        if (result < 0)
            return -1;
    }
    *file = fopen(path, "ae");
    if (!*file)
        return error_system(error, "%s", path);
    setvbuf(*file, NULL, _IONBF, 0); /* what a call has not written is not written later */
    return 0;
}

int metrics_flush(FILE *file, struct string *lines, struct error *error)
{
    const size_t written = lines->length > 0 ? fwrite(lines->data, 1, lines->length, file) : 0;
    int result = 0;
    if (written < lines->length || fflush(file) != 0)
        result = error_system(error, "metrics.jsonl cannot be written");
    clearerr(file);
    if (written > 0)
        memmove(lines->data, lines->data + written, lines->length - written + 1);
    lines->length -= written;
    return result;
}

/* Takes the reference to `line`, which may be NULL. cost: NULL: the line has none. */
static int write_line(struct string *lines, json_t *line, const struct trial_cost *cost, int64_t read,
                      struct error *error)
{
    const double seconds = cost ? cost->own + cost->shared : 0;
    if (line && cost)
        json_object_update_new(line, json_pack("{sf sf sf sf}", "tokens_per_second",
                                               (double)read / fmax(seconds, 1e-9), "seconds", seconds,
                                               "shared_seconds", cost->shared, "stall_seconds", cost->stalled));
    char *text = json_text("a line of metrics.jsonl", line, JSON_REAL_PRECISION(DIGITS), error);
    int result = text ? 0 : -1;
    if (text)
        string_print(lines, "%s\n", text);
    if (text && string_failed(lines, error))
        result = -1;
    free(text);
    json_decref(line);
    return result;
}

int metrics_write_step(struct string *lines, int64_t step, int64_t tokens, const struct trial_result *result,
                       const struct trial_cost *cost, int64_t read, struct error *error)
{
    return write_line(lines,
                      json_pack("{sI sI sf sf sf}", "step", (json_int_t)step, "tokens", (json_int_t)tokens,
                                "loss", result->loss, "rate", result->rate, "norm", result->norm),
                      cost, read, error);
}

json_t *metrics_shares(const double *share, int count)
{
    json_t *list = json_array();
    for (int k = 0; k < count; k++)
        json_array_append_new(list, json_real(share[k]));
    return list;
}

/* Takes the reference to `line`, and gives it back; NULL where memory is out. */
static json_t *add_draft(json_t *line, const struct draft_hits *draft)
{
    if (line && draft->steps > 0 &&
        (json_object_set_new(line, "hits", metrics_shares(draft->hit, draft->steps)) < 0 ||
         json_object_set_new(line, "accepted", metrics_shares(draft->accepted, draft->steps)) < 0)) {
        json_decref(line);
        return NULL;
    }
    return line;
}

int metrics_write_evaluation(struct string *lines, int64_t step, int64_t tokens,
                             const struct evaluation *held_out, int64_t sequences,
                             const struct trial_cost *cost, int64_t read, struct error *error)
{
    return write_line(
        lines,
        add_draft(json_pack("{sI sI sf sf sf sI}", "step", (json_int_t)step, "tokens", (json_int_t)tokens,
                            "held_out_loss", held_out->loss, "kl", held_out->kl, "agreement",
                            held_out->agreement, "sequences", (json_int_t)sequences),
                  &held_out->draft),
        cost, read, error);
}

int metrics_write_whole(struct string *lines, const struct metrics_whole *whole, const struct trial_cost *cost,
                        int64_t read, struct error *error)
{
    const struct evaluation *held_out = &whole->held_out;
    return write_line(
        lines,
        add_draft(json_pack("{sI sI sf sf sf sI sb sI}", "step", (json_int_t)whole->step, "tokens",
                            (json_int_t)whole->tokens, "held_out_loss", held_out->loss, "kl", held_out->kl,
                            "agreement", held_out->agreement, "sequences", (json_int_t)whole->sequences,
                            "whole", 1, "of_step", (json_int_t)whole->of_step),
                  &held_out->draft),
        cost, read, error);
}

int metrics_write_failure(struct string *lines, int64_t step, const char *reason, struct error *error)
{
    return write_line(lines, json_pack("{sI ss}", "step", (json_int_t)step, "failed", reason), NULL, 0, error);
}

int metrics_write_stop(struct string *lines, int64_t step, const char *reason, struct error *error)
{
    return write_line(lines, json_pack("{sI ss}", "step", (json_int_t)step, "stopped", reason), NULL, 0, error);
}

static double as_read(double value)
{
    char text[64];
    snprintf(text, sizeof text, "%.*g", DIGITS, value);
    return strtod(text, NULL);
}

struct evaluation metrics_as_read(const struct evaluation *held_out)
{
    struct evaluation read = *held_out;
    read.loss = as_read(held_out->loss);
    read.kl = as_read(held_out->kl);
    read.agreement = as_read(held_out->agreement);
    for (int k = 0; k < held_out->draft.steps; k++) {
        read.draft.hit[k] = as_read(held_out->draft.hit[k]);
        read.draft.accepted[k] = as_read(held_out->draft.accepted[k]);
    }
    return read;
}
