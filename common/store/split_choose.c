#include "common/store/split_choose.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/store/runs.h"

#define RUN_LENGTH 8 /* sequences; beside shorter runs too many would be left out */
#define RUNS_MAX   256

/* How the wanted sequences are spread. */
struct spread {
    uint64_t sequences, wanted, runs;
};

struct split_chooser {
    struct spread spread;
    double share;
    uint64_t rows;
    struct split_list list; /* of documents */
    uint64_t held_out; /* sequences of it */
    uint64_t number; /* of the run that comes next, or that is begun */
    bool begun;
    uint64_t begin, last; /* rows: where the run's first document starts, and the latest document */
};

static int spread_make(uint64_t sequences, double share, struct spread *spread, struct error *error)
{
    const uint64_t wanted = (uint64_t)((double)sequences * share + 0.5);
    if (!(share > 0 && share <= SPLIT_SHARE_MAX))
        return error_set(error, "a share of %g cannot be held out: give one above 0 and up to %g", share,
                         SPLIT_SHARE_MAX);
    if (sequences < RUNS_LEAST)
        return error_set(error, "%" PRIu64 " sequences are too few for a split: %d are the least", sequences,
                         RUNS_LEAST);
    *spread = (struct spread){sequences, wanted > 0 ? wanted : 1, 1};
    spread->runs = spread->wanted / RUN_LENGTH;
    spread->runs = spread->runs < 1 ? 1 : spread->runs > RUNS_MAX ? RUNS_MAX : spread->runs;
    return 0;
}

static uint64_t run_length(const struct spread *spread, uint64_t number)
{
    return spread->wanted * (number + 1) / spread->runs - spread->wanted * number / spread->runs;
}

/* The store is cut into as many stretches as there are runs. This is where one ends. */
static uint64_t stretch_end(const struct spread *spread, uint64_t number)
{
    return spread->sequences * (number + 1) / spread->runs;
}

/* ---- by sequences ---- */

/* As extract does where documents are too few. */
static int choose_sequences(uint64_t sequences, double share, struct split_list *list, struct error *error)
{
    uint64_t at = 0;
    while (at < sequences) {
        while (at < sequences && runs_split(at, share) == SPLIT_TRAIN)
            at++;
        uint64_t first = at;
        while (first < sequences && runs_split(first, share) == RUNS_GAP)
            first++;
        uint64_t end = first;
        while (end < sequences && runs_split(end, share) == SPLIT_HELD_OUT)
            end++;
        uint64_t to = end;
        while (to < sequences && runs_split(to, share) == RUNS_GAP)
            to++;
        if (end > first && split_add(list, at, first, end, to, error) < 0)
            return -1;
        at = to;
    }
    return 0;
}

/* ---- by documents ---- */

int split_chooser_create(uint64_t sequences, int rows, double share, struct split_chooser **result,
                         struct error *error)
{
    struct split_chooser *chooser;
    struct spread spread;
    *result = NULL;
    if (spread_make(sequences, share, &spread, error) < 0 || array_alloc(&chooser, 1, error) < 0)
        return -1;
    chooser->spread = spread;
    chooser->share = share;
    chooser->rows = (uint64_t)rows;
    *result = chooser;
    return 0;
}

void split_chooser_free(struct split_chooser *chooser)
{
    if (!chooser)
        return;
    split_free(&chooser->list);
    free(chooser);
}

/* A run begins at this row or later, so that it lies in the middle of its stretch. */
static uint64_t begin_row(const struct split_chooser *chooser, uint64_t number)
{
    const struct spread *spread = &chooser->spread;
    const uint64_t begin = number > 0 ? stretch_end(spread, number - 1) : 0;
    const uint64_t length = stretch_end(spread, number) - begin;
    return (begin + (length - run_length(spread, number)) / 2) * chooser->rows;
}

/* The run is full when the documents from `begin` to `end` contain enough whole sequences, with the label
 * behind the last row. Sequences of which they contain a part are left out. */
static int end_run(struct split_chooser *chooser, uint64_t end, struct error *error)
{
    const uint64_t rows = chooser->rows, runs = chooser->list.runs;
    const uint64_t first = (chooser->begin + rows - 1) / rows, behind = (end - 1) / rows;
    if (behind < first + run_length(&chooser->spread, chooser->number))
        return 0;
    const uint64_t before = runs > 0 ? chooser->list.run[runs - 1].to : 0;
    const uint64_t from = first > before ? first - 1 : before;
    const uint64_t to = behind < chooser->spread.sequences ? behind + 1 : behind;
    if (split_add(&chooser->list, from, first, behind, to, error) < 0)
        return -1;
    chooser->held_out += behind - first;
    chooser->begun = false;
    do
        chooser->number++;
    while (chooser->number < chooser->spread.runs && begin_row(chooser, chooser->number) < to * rows);
    return 0;
}

int split_chooser_document(struct split_chooser *chooser, uint64_t row, struct error *error)
{
    if (row > 0 && row <= chooser->last)
        return 0;
    chooser->last = row;
    if (chooser->begun && end_run(chooser, row, error) < 0)
        return -1;
    if (!chooser->begun && chooser->number < chooser->spread.runs &&
        row >= begin_row(chooser, chooser->number)) {
        chooser->begun = true;
        chooser->begin = row;
    }
    return 0;
}

/* Where documents are few or long, far too much or too little may be held out. */
static bool is_near_enough(const struct split_chooser *chooser)
{
    const uint64_t wanted = chooser->spread.wanted, all = chooser->spread.sequences;
    uint64_t taken = 0;
    for (size_t i = 0; i < chooser->list.runs; i++)
        taken += chooser->list.run[i].to - chooser->list.run[i].from;
    return 2 * chooser->held_out >= wanted && chooser->held_out <= 2 * wanted && taken < all &&
           all - taken >= (all - wanted) / 2;
}

const char *split_chooser_finish(struct split_chooser *chooser, struct split_list *list, struct error *error)
{
    const uint64_t behind = chooser->spread.sequences * chooser->rows + 1; /* the last label, too */
    if (chooser->begun && end_run(chooser, behind, error) < 0)
        return NULL;
    if (is_near_enough(chooser)) {
        *list = chooser->list;
        chooser->list = (struct split_list){0};
        return "documents";
    }
    return choose_sequences(chooser->spread.sequences, chooser->share, list, error) < 0 ? NULL : "sequences";
}
