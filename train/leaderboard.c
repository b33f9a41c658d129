#include "train/leaderboard.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/string.h"
#include "common/head/draft.h"
#include "train/cost_table.h"
#include "train/member.h"

/* ---- reading ---- */

/* What its kept head is worth, by the best evidence that there is of it. */
static void value_row(const struct run_folder *run, struct leaderboard_row *row, int64_t steps)
{
    const struct metrics *metrics = &row->metrics;
    row->step = metrics->count > 0 ? metrics->point[metrics->count - 1].step : 0;
    row->best = metrics->failed[0] ? NULL : metrics_best_evaluation(metrics);
    if (!row->best)
        return;
    row->held_out = row->best->held_out;
    row->sequences =
        row->best->sequences ? row->best->sequences : (int64_t)run_folder_number(run, "held_out_sequences");
    row->finished = member_end_step(run, metrics) == steps;
    if (row->finished && metrics->ended) { /* a run of before samples has no such line */
        row->held_out = metrics->whole.held_out;
        row->sequences = metrics->whole.sequences;
    }
}

static int read_files(const struct run_folder *run, const struct trial_config *config,
                      struct leaderboard_row *row, struct error *error)
{
    json_t *kept = NULL;
    char *metrics_path = run_folder_trial_path(run, config->id, "metrics.jsonl", error);
    char *config_path = run_folder_trial_path(run, config->id, "config.json", error);
    const bool read = metrics_path && config_path && metrics_read(metrics_path, &row->metrics, error) == 0 &&
                      /* Of a folder that has been removed there is nothing to say. */
                      (!file_exists(config_path) || ((kept = json_read(config_path, error)) &&
                                                     json_get_integer(config_path, kept, "trained", 0,
                                                                      INT64_MAX, &row->trained, error) == 0));
    json_decref(kept);
    free(metrics_path);
    free(config_path);
    return read ? 0 : -1;
}

/* A trial whose files cannot be read has failed. */
static int read_row(const struct run_folder *run, const struct trial_config *config, int64_t steps,
                    struct leaderboard_row *row, struct error *error)
{
    *row = (struct leaderboard_row){.config = config, .draft = head_kind_is_draft(config->spec.kind)};
    if (read_files(run, config, row, error) < 0) {
        metrics_free(&row->metrics);
        if (error_is_machines(error))
            return -1;
        snprintf(row->metrics.failed, sizeof row->metrics.failed, "%.511s", error->text);
    }
    value_row(run, row, steps);
    row->status = row->metrics.failed[0]    ? "failed"
                  : row->finished           ? "done"
                  : row->metrics.stopped[0] ? "stopped"
                                            : "unfinished";
    return 0;
}

/* Done, stopped, the others: only within one of them heads were measured on the same. */
static int class_of(const struct leaderboard_row *row)
{
    return row->finished ? 0 : row->metrics.stopped[0] && row->best ? 1 : 2;
}

static int compare_rows(const void *left, const void *right)
{
    const struct leaderboard_row *a = left, *b = right;
    if (a->draft != b->draft)
        return a->draft - b->draft;
    if (class_of(a) != class_of(b))
        return class_of(a) - class_of(b);
    if (class_of(a) < 2 && a->held_out.kl != b->held_out.kl)
        return a->held_out.kl < b->held_out.kl ? -1 : 1;
    return strcmp(a->config->id, b->config->id);
}

/* On the sample as on the split where they are the same; on the split as on the sample where no trial has come to
 * its end. */
static int read_full_loss(const struct run_folder *run, struct leaderboard *board, struct error *error)
{
    const char *names[] = {"full_loss", "sample_full_loss"};
    double *losses[] = {&board->full_loss, &board->sample_full_loss};
    for (int i = 0; i < 2; i++) {
        const char *name = json_object_get(run->facts, names[i]) ? names[i] : names[1 - i];
        if (json_get_number("run.json", run->facts, name, losses[i], error) < 0)
            return -1;
    }
    return 0;
}

static void rank_rows(struct leaderboard *board)
{
    for (int i = 0; i < board->count; i++) {
        board->exits += !board->row[i].draft;
        board->row[i].rank = board->row[i].draft ? i + 1 - board->exits : i + 1;
    }
}

int leaderboard_read(const struct run_folder *run, const struct sweep *sweep, const struct model_config *model,
                     struct leaderboard *board, struct error *error)
{
    *board = (struct leaderboard){0};
    if (json_get_integer("run.json", run->facts, "steps", 0, INT64_MAX, &board->steps, error) < 0 ||
        read_full_loss(run, board, error) < 0)
        return error_prefix(error, "%s", run->path);
    board->split = (int64_t)run_folder_number(run, "held_out_sequences");
    board->output = output_cost(model);
    board->guessing = log(run_folder_number(run, "vocabulary"));
    if (array_alloc(&board->row, sweep->trials, error) < 0)
        return -1;
    for (; board->count < sweep->trials; board->count++) {
        if (read_row(run, &sweep->trial[board->count], board->steps, &board->row[board->count], error) < 0) {
            leaderboard_free(board);
            return -1;
        }
    }
    for (int i = 0; i < board->count; i++) {
        board->row[i].exit = board->row[i].draft ? draft_cost(&board->row[i].config->spec, model)
                                                 : exit_cost(&board->row[i].config->spec, model);
        const struct trial_cost *cost = &board->row[i].metrics.cost;
        board->cost.own += cost->own;
        board->cost.shared += cost->shared;
        board->cost.stalled += cost->stalled;
    }
    qsort(board->row, (size_t)board->count, sizeof *board->row, compare_rows);
    rank_rows(board);
    return 0;
}

void leaderboard_free(struct leaderboard *board)
{
    for (int i = 0; i < board->count; i++)
        metrics_free(&board->row[i].metrics);
    free(board->row);
    *board = (struct leaderboard){0};
}

double leaderboard_cost(const struct leaderboard *board, const struct leaderboard_row *row)
{
    return row->exit.depth + row->exit.head + (row->draft ? 0 : board->output);
}

char *leaderboard_remark(const struct leaderboard *board, const struct leaderboard_row *row, char *text,
                         size_t size)
{
    const struct metrics_point *first = row->metrics.point;
    char *const begin = text;
    *text = 0;
    if (!row->finished || row->draft || !(row->held_out.loss > board->guessing))
        return text;
    int length = snprintf(text, size, "worse than guessing, whose loss is %.2f: ", board->guessing);
    text += length;
    size -= (size_t)length;
    const bool copied = row->config->init == INIT_COPY && first->evaluated;
    if (copied)
        length = snprintf(text, size,
                          "a copy reads the states at %s as if they were the last layer's, which gave %.2f",
                          row->config->tap, first->held_out.loss);
    else
        length = snprintf(text, size, "it began at %.2f", first->held_out.loss);
    text += length;
    size -= (size_t)length;
    if (row->best->step == 0 && row->metrics.point[row->metrics.count - 1].step > 0) {
        snprintf(text, size,
                 ", and training made it no better: a lower rate may, or an affine head with init ridge");
        return begin;
    }
    if (row->best->step > 0) {
        length = snprintf(text, size, "%s and %" PRId64 " steps took it to %.2f", copied ? "," : "",
                          row->best->step, row->held_out.loss);
        text += length;
        size -= (size_t)length;
    }
    snprintf(text, size, "; more steps, a higher rate, or an affine head with init ridge bring it down");
    return begin;
}

/* ---- writing ---- */

/* With commas between them. */
static void print_shares(struct string *text, const double *share, int count)
{
    string_print(text, "\t");
    for (int k = 0; k < count; k++)
        string_print(text, "%s%.6f", k ? "," : "", share[k]);
}

int leaderboard_write(const struct run_folder *run, const struct leaderboard *board, struct error *error)
{
    struct string text = {0};
    int result = -1;
    string_print(&text, "rank\ttrial\ttap\thead\toutput\tinit\tloss\trate\ttrained\tstatus\tstep\theld_out_loss"
                        "\tkl\tagreement\thead_step\tsequences\tdepth\tcost\thits\taccepted\n");
    for (int i = 0; i < board->count; i++) {
        const struct leaderboard_row *row = &board->row[i];
        const struct trial_config *config = row->config;
        string_print(&text, "%d\t%s\t%s\t%s\t%s\t%s\t%s\t%g\t%" PRId64 "\t%s\t%" PRId64, row->rank, config->id,
                     config->tap, head_kind_name(config->spec.kind), head_output_name(config->spec.output),
                     head_init_name(config->init), trial_loss_name(config->loss), config->rate, row->trained,
                     row->status, row->step);
        if (row->best)
            string_print(&text, "\t%.6f\t%.6f\t%.6f\t%" PRId64 "\t%" PRId64, row->held_out.loss,
                         row->held_out.kl, row->held_out.agreement, row->best->step, row->sequences);
        else
            string_print(&text, "\t\t\t\t\t");
        string_print(&text, "\t%.4f\t%.4f", row->exit.depth, leaderboard_cost(board, row));
        print_shares(&text, row->held_out.draft.hit, row->held_out.draft.steps);
        print_shares(&text, row->held_out.draft.accepted, row->held_out.draft.steps);
        string_print(&text, "\n");
    }
    char *path = run_folder_path(run, error, "leaderboard.tsv");
    if (path && !string_failed(&text, error))
        result = file_write(path, text.data, text.length, error);
    free(path);
    string_free(&text);
    return result;
}

static int name_width(const struct leaderboard *board)
{
    int width = 12;
    for (int i = 0; i < board->count; i++) {
        const int length = (int)strlen(board->row[i].config->id);
        width = length > width ? length : width;
    }
    return width;
}

/* What both kinds of rows end with. */
static void print_end(const struct leaderboard *board, const struct leaderboard_row *row, FILE *stream)
{
    char took[32];
    fprintf(stream, "  %10s", format_duration(cost_row(board, row).seconds, took, sizeof took));
    if (row->finished && row->metrics.ended && row->metrics.whole.step < board->steps)
        fprintf(stream, "  ended early, after step %" PRId64 " of %" PRId64, row->metrics.whole.step,
                board->steps);
    if (!row->finished)
        fprintf(stream, "  %s, measured on %" PRId64 " of %" PRId64 " held-out sequences%s%s", row->status,
                row->sequences, board->split, row->metrics.stopped[0] ? "; " : "", row->metrics.stopped);
    fprintf(stream, "\n");
}

static bool print_begin(const struct leaderboard_row *row, int width, FILE *stream)
{
    fprintf(stream, "%4d  %-*s", row->rank, width, row->config->id);
    if (row->metrics.failed[0])
        fprintf(stream, "  failed after step %" PRId64 ": %s\n", row->step, row->metrics.failed);
    return !row->metrics.failed[0];
}

static void print_exits(const struct leaderboard *board, int width, FILE *stream)
{
    fprintf(stream, "rank  %-*s  held-out loss  KL to full  agreement  of step        took\n", width, "trial");
    for (int i = 0; i < board->exits; i++) {
        const struct leaderboard_row *row = &board->row[i];
        if (!print_begin(row, width, stream))
            continue;
        if (row->best)
            fprintf(stream, "  %13.4f  %10.4f  %7.1f %%  %7" PRId64, row->held_out.loss, row->held_out.kl,
                    100 * row->held_out.agreement, row->best->step);
        print_end(board, row, stream);
    }
    fprintf(stream, "   -  %-*s  %13.4f  %10.4f  %7.1f %%\n", width, "full model", board->full_loss, 0.0,
            100.0);
}

/* Of a draft's steps: how often each is right, and how often with all before it. */
static void print_drafts(const struct leaderboard *board, int width, FILE *stream)
{
    fprintf(stream, "rank  %-*s  held-out loss  of step        took  right at steps 1, 2 .. (accepted)\n",
            width, "draft");
    for (int i = board->exits; i < board->count; i++) {
        const struct leaderboard_row *row = &board->row[i];
        const struct draft_hits *draft = &row->held_out.draft;
        char took[32];
        if (!print_begin(row, width, stream))
            continue;
        if (row->best)
            fprintf(stream, "  %13.4f  %7" PRId64, row->held_out.loss, row->best->step);
        fprintf(stream, "  %10s ", format_duration(cost_row(board, row).seconds, took, sizeof took));
        for (int k = 0; k < draft->steps; k++)
            fprintf(stream, "%s %.1f %% (%.1f)", k ? "," : "", 100 * draft->hit[k], 100 * draft->accepted[k]);
        fprintf(stream, "%s%s\n", row->finished ? "" : "  ", row->finished ? "" : row->status);
    }
}

void leaderboard_print(const struct leaderboard *board, FILE *stream)
{
    const int width = name_width(board);
    print_exits(board, width, stream);
    if (board->exits < board->count)
        print_drafts(board, width, stream);
    for (int i = 0; i < board->count; i++) {
        char remark[400];
        if (*leaderboard_remark(board, &board->row[i], remark, sizeof remark))
            fprintf(stream, "%s is %s.\n", board->row[i].config->id, remark);
    }
}

static json_t *row_to_json(const struct leaderboard *board, const struct leaderboard_row *row)
{
    struct error ignored;
    char remark[400];
    json_t *object = trial_config_to_json(row->config, &ignored);
    if (!object)
        return NULL;
    json_object_set_new(object, "rank", json_integer(row->rank));
    json_object_set_new(object, "status", json_string(row->status));
    json_object_set_new(object, "step", json_integer(row->step));
    json_object_set_new(object, "trained", json_integer(row->trained));
    json_object_set_new(
        object, "cost_in_layers",
        json_pack("{sf sf sf}", "depth", row->exit.depth, "head", row->exit.head, "output", board->output));
    const struct cost_row cost = cost_row(board, row);
    json_object_set_new(object, "cost", cost_row_to_json(&cost));
    if (row->metrics.failed[0])
        json_object_set_new(object, "failed", json_string(row->metrics.failed));
    if (row->metrics.stopped[0])
        json_object_set_new(object, "stopped", json_string(row->metrics.stopped));
    if (row->best) {
        json_object_set_new(object, "held_out_loss", json_real(row->held_out.loss));
        json_object_set_new(object, "kl", json_real(row->held_out.kl));
        json_object_set_new(object, "agreement", json_real(row->held_out.agreement));
        if (row->draft) {
            json_object_set_new(object, "hits",
                                metrics_shares(row->held_out.draft.hit, row->held_out.draft.steps));
            json_object_set_new(object, "accepted",
                                metrics_shares(row->held_out.draft.accepted, row->held_out.draft.steps));
        }
        json_object_set_new(object, "head_step", json_integer(row->best->step));
        json_object_set_new(object, "sequences", json_integer(row->sequences));
        if (*leaderboard_remark(board, row, remark, sizeof remark))
            json_object_set_new(object, "remark", json_string(remark));
    }
    return object;
}

json_t *leaderboard_to_json(const struct leaderboard *board)
{
    json_t *array = json_array();
    for (int i = 0; array && i < board->count; i++) {
        if (json_array_append_new(array, row_to_json(board, &board->row[i])) < 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}
