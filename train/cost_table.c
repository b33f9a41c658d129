#include "train/cost_table.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/string.h"

static int64_t tokens_of(const struct leaderboard_row *row)
{
    return row->metrics.count > 0 ? row->metrics.point[row->metrics.count - 1].tokens : 0;
}

static struct cost_row make_row(struct trial_cost cost, double shared, int64_t tokens)
{
    const double seconds = cost.own + cost.shared;
    return (struct cost_row){.cost = cost,
                             .seconds = seconds,
                             .part = shared > 0 ? cost.shared / shared : 0,
                             .tokens_per_second = seconds > 0 ? (double)tokens / seconds : 0};
}

struct cost_row cost_row_of_all(const struct leaderboard *board)
{
    int64_t tokens = 0;
    for (int i = 0; i < board->count; i++)
        tokens += tokens_of(&board->row[i]);
    return make_row(board->cost, board->cost.shared, tokens);
}

struct cost_row cost_row(const struct leaderboard *board, const struct leaderboard_row *row)
{
    return make_row(row->metrics.cost, board->cost.shared, tokens_of(row));
}

double cost_of_none(const struct run_folder *run, const struct cost_row *all)
{
    return fmax(run_folder_number(run, "seconds") - all->seconds, 0);
}

/* ---- RUN/cost.tsv ---- */

static void print_row(struct string *text, const char *name, const struct cost_row *row)
{
    string_print(text, "%s\t%.3f\t%.3f\t%.3f\t%.4f\t%.3f\t%.1f\n", name, row->seconds, row->cost.own,
                 row->cost.shared, row->part, row->cost.stalled, row->tokens_per_second);
}

int cost_table_write(const struct run_folder *run, const struct leaderboard *board, struct error *error)
{
    struct string text = {0};
    int result = -1;
    string_print(&text,
                 "trial\tseconds\town_seconds\tshared_seconds\tpart\tstall_seconds\ttokens_per_second\n");
    for (int i = 0; i < board->count; i++) {
        const struct cost_row row = cost_row(board, &board->row[i]);
        print_row(&text, board->row[i].config->id, &row);
    }
    const struct cost_row all = cost_row_of_all(board);
    print_row(&text, "(all trials)", &all);
    string_print(&text, "(no trial)\t%.3f\t\t\t\t\t\n", cost_of_none(run, &all));
    char *path = run_folder_path(run, error, "cost.tsv");
    if (path && !string_failed(&text, error))
        result = file_write(path, text.data, text.length, error);
    free(path);
    string_free(&text);
    return result;
}

/* ---- --json ---- */

json_t *cost_row_to_json(const struct cost_row *row)
{
    return json_pack("{sf sf sf sf sf sf}", "seconds", row->seconds, "own_seconds", row->cost.own,
                     "shared_seconds", row->cost.shared, "part", row->part, "stall_seconds", row->cost.stalled,
                     "tokens_per_second", row->tokens_per_second);
}
