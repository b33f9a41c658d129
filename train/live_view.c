#include "train/live_view.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/base/string.h"

/* Lines above the best trials: the bar, the counts, the names of the columns. */
#define LINES_ABOVE 3

/* ---- how much there is to do ---- */

/* Tokens of the steps from `from` to `to`, and of the evaluations behind them. */
static double tokens_between(const struct live_work *work, int64_t from, int64_t to)
{
    int64_t evaluations = work->every > 0 ? to / work->every - from / work->every : 0;
    if (work->every <= 0 || to % work->every != 0) /* at a rung, and after the last step, there is one anyway */
        evaluations += to > from;
    return (double)(to - from) * (double)work->step + (double)evaluations * (double)work->sample;
}

/* Tokens that a member still has before it, as many of it as will go on. */
static double member_tokens_left(const struct live_view *view, const struct member *member)
{
    const struct schedule *schedule = view->schedule;
    double share = 1;
    if (member->state != MEMBER_WAITING && member->state != MEMBER_TRAINING)
        return 0;
    int64_t from = member_step(member);
    double tokens = from == 0 && member->evaluated < 0 ? (double)view->work.sample : 0;
    for (int r = 0; r < schedule->rungs; r++) {
        if (schedule->rung[r] <= from)
            continue;
        tokens += share * tokens_between(&view->work, from, schedule->rung[r]);
        share /= schedule->halving;
        from = schedule->rung[r];
    }
    return tokens + share * (tokens_between(&view->work, from, schedule->steps) + (double)view->work.end);
}

static uint64_t tokens_left(const struct live_view *view)
{
    double tokens = 0;
    for (int i = 0; i < view->members->count; i++)
        tokens += member_tokens_left(view, &view->members->member[i]);
    return (uint64_t)(tokens + 0.5);
}

void live_view_start(struct live_view *view, const struct members *members, const struct schedule *schedule,
                     const struct live_work *work)
{
    *view = (struct live_view){.members = members, .schedule = schedule, .work = *work};
    progress_start(&view->progress, "train", "tokens", tokens_left(view));
}

/* ---- the best ---- */

static bool is_known(const struct member *member)
{
    return member->state != MEMBER_FAILED && isfinite(member->best.kl);
}

/* The best members, at most `most`, best first; returns how many. */
static int list_best(const struct members *members, int most, const struct member *best[LIVE_VIEW_BEST])
{
    int count = 0;
    for (int i = 0; i < members->count; i++) {
        const struct member *member = &members->member[i];
        int place = count;
        if (!is_known(member))
            continue;
        while (place > 0 && member->best.kl < best[place - 1]->best.kl)
            place--;
        if (place >= most)
            continue;
        count += count < most;
        memmove(best + place + 1, best + place, (size_t)(count - 1 - place) * sizeof *best);
        best[place] = member;
    }
    return count;
}

static void print_best(const struct members *members, int most, struct string *out)
{
    const struct member *best[LIVE_VIEW_BEST];
    const int count = list_best(members, most < LIVE_VIEW_BEST ? most : LIVE_VIEW_BEST, best);
    if (count == 0)
        return;
    string_print(out, TERMINAL_BOLD "      KL  agreement    step  tap    head   trial" TERMINAL_PLAIN "\n");
    for (int i = 0; i < count; i++) {
        const struct member *member = best[i];
        string_print(out, "%8.4f    %5.1f %%  %6" PRId64 "  %-6s %-6s %s\n", member->best.kl,
                     100 * member->best.agreement, member->best_step, member->config->tap,
                     head_kind_name(member->config->spec.kind), member->config->id);
    }
}

/* ---- what they are doing ---- */

static void print_counts(const struct live_view *view, struct string *out)
{
    static const struct {
        enum member_state state;
        const char *name;
    } states[] = {{MEMBER_TRAINING, "live"},
                  {MEMBER_WAITING, "waiting"},
                  {MEMBER_DONE, "done"},
                  {MEMBER_STOPPED, "stopped"},
                  {MEMBER_FAILED, "failed"}};
    const struct members *members = view->members;
    const int64_t step = members_step(members);
    const char *before = ": ";
    string_print(out, "%d %s", members->count, members->count == 1 ? "trial" : "trials");
    for (size_t s = 0; s < sizeof states / sizeof *states; s++) {
        int count = 0;
        for (int i = 0; i < members->count; i++)
            count += members->member[i].state == states[s].state;
        if (count == 0)
            continue;
        string_print(out, "%s%d %s", before, count, states[s].name);
        before = ", ";
    }
    if (step >= 0)
        string_print(out, "; step %" PRId64 " of %" PRId64, step, view->schedule->steps);
    string_print(out, "\n");
}

/* ---- drawing ---- */

static void draw(const struct live_view *view, const struct terminal *terminal)
{
    struct string out = {0};
    char line[PROGRESS_LINE_SIZE];
    string_print(&out, "%s\n", progress_line(&view->progress, terminal, line));
    print_counts(view, &out);
    print_best(view->members, terminal->rows - 1 - LINES_ABOVE, &out);
    if (!out.failed)
        terminal_draw(terminal, out.data);
    string_free(&out);
}

static void print_plain(const struct live_view *view, const struct terminal *terminal)
{
    const struct member *best[LIVE_VIEW_BEST];
    char line[PROGRESS_LINE_SIZE];
    progress_line(&view->progress, terminal, line);
    if (list_best(view->members, 1, best) == 1)
        fprintf(stderr, "%s; best so far: %s, KL %.4f\n", line, best[0]->config->id, best[0]->best.kl);
    else
        fprintf(stderr, "%s\n", line);
}

void live_view_update(struct live_view *view)
{
    struct terminal terminal;
    const uint64_t left = tokens_left(view), total = view->progress.total, before = view->progress.done;
    /* At a rung there is more to do for a moment, until it is known who goes on. */
    const uint64_t done = left + before < total ? total - left : before;
    if (!progress_is_due(&view->progress, done, &terminal))
        return;
    if (terminal.moves)
        draw(view, &terminal);
    else
        print_plain(view, &terminal);
}

void live_view_finish(struct live_view *view)
{
    progress_finish(&view->progress);
}
