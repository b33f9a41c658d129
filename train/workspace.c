#include "train/workspace.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/base/memory.h"
#include "train/draft_work.h"

int trials_together(int64_t rows, int trials)
{
    const int64_t fit = rows > MATMUL_FEW_ROWS ? TRIALS_ROWS / rows : 1;
    const int64_t most = trials < TRIALS_TOGETHER ? trials : TRIALS_TOGETHER;
    return (int)(fit < 1 ? 1 : fit < most ? fit : most);
}

int workspace_create(struct backend *backend, int sequences, int length, int64_t hidden, int trials,
                     struct workspace **workspace, struct error *error)
{
    struct workspace *made;
    const int64_t rows = (int64_t)sequences * length;
    *workspace = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    *made = (struct workspace){
        .backend = backend, .length = length, .hidden = hidden, .rows = rows, .wanted = rows};
    made->trials = trials_together(rows, trials);
    if (array_alloc(&made->spans, sequences, error) < 0 || queue_create(backend, &made->queue, error) < 0) {
        workspace_destroy(made);
        return -1;
    }
    *workspace = made;
    return 0;
}

static void drop_buffers(struct workspace *workspace)
{
    struct buffer **const buffers[] = {&workspace->h,    &workspace->dh,   &workspace->labels,   &workspace->u,
                                       &workspace->loss, &workspace->norm, &workspace->gradients};
    for (size_t i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        buffer_destroy(*buffers[i]);
        *buffers[i] = NULL;
    }
    workspace->values = 0;
    workspace->capacity = 0;
    for (int s = 0; s < workspace->shapes; s++) {
        for (int t = 0; t < TRIALS_TOGETHER; t++)
            head_scratch_destroy(workspace->shape[s].scratch[t]);
    }
    workspace->shapes = 0;
    draft_work_destroy(workspace->draft);
    workspace->draft = NULL;
}

void workspace_destroy(struct workspace *workspace)
{
    if (!workspace)
        return;
    drop_buffers(workspace);
    queue_destroy(workspace->queue);
    free(workspace->shape);
    free(workspace->spans);
    free(workspace->gradient);
    free(workspace->squares);
    free(workspace->updates);
    free(workspace);
}

/* ---- room ---- */

static int need_buffer(const struct workspace *workspace, size_t bytes, struct buffer **buffer,
                       struct error *error)
{
    return *buffer ? 0 : buffer_create(workspace->backend, bytes, buffer, error);
}

/* The rows of a piece, at most. */
static int64_t piece_rows(const struct workspace *workspace, bool by_row)
{
    return by_row || workspace->rows > workspace->length ? workspace->rows : workspace->length;
}

int workspace_need_rows(struct workspace *workspace, bool by_row, struct error *error)
{
    const int64_t rows = piece_rows(workspace, by_row);
    if (workspace->capacity < rows)
        drop_buffers(workspace);
    if (workspace->capacity == 0)
        workspace->capacity = rows;
    const size_t trials = (size_t)workspace->trials;
    const size_t bytes = trials * (size_t)workspace->capacity * sizeof(float);
    const size_t states = bytes * (size_t)workspace->hidden;
    if (need_buffer(workspace, states, &workspace->h, error) < 0 ||
        need_buffer(workspace, states, &workspace->dh, error) < 0 ||
        need_buffer(workspace, bytes, &workspace->labels, error) < 0 ||
        need_buffer(workspace, trials > 1 ? states : sizeof(float), &workspace->u, error) < 0 ||
        need_buffer(workspace, bytes, &workspace->loss, error) < 0 ||
        need_buffer(workspace, trials * sizeof(double), &workspace->norm, error) < 0)
        return -1;
    return 0;
}

/* The index of the shape that a head has; workspace->shapes: it is not there yet. */
static int find_shape(const struct workspace *workspace, const struct head *head)
{
    int s = 0;
    while (s < workspace->shapes && !head_specs_join(&workspace->shape[s].spec, head_get_spec(head)))
        s++;
    return s;
}

struct head_scratch *workspace_scratch(const struct workspace *workspace, const struct head *head, int number)
{
    return workspace->shape[find_shape(workspace, head)].scratch[number];
}

int workspace_need_scratch(struct workspace *workspace, const struct head *head, int number,
                           struct error *error)
{
    const int s = find_shape(workspace, head);
    if (s == workspace->shapes) {
        if (array_grow(&workspace->shape, &workspace->shape_room, (size_t)s + 1, error) < 0)
            return -1;
        workspace->shape[s] = (struct workspace_shape){.spec = *head_get_spec(head)};
        workspace->shapes++;
    }
    struct head_scratch **scratch = &workspace->shape[s].scratch[number];
    return *scratch ? 0
                    : head_scratch_create(head, workspace->capacity, workspace->length, true, scratch, error);
}

int workspace_need_draft(struct workspace *workspace, const struct trial *trial, const struct batch *batch,
                         struct error *error)
{
    return workspace_need_rows(workspace, false, error) < 0
               ? -1
               : draft_work_need(&workspace->draft, trial, batch, workspace->queue, workspace->capacity,
                                 workspace->length, error);
}

int workspace_need_gradients(struct workspace *workspace, int64_t values, struct error *error)
{
    if (values <= workspace->values)
        return 0;
    buffer_destroy(workspace->gradients);
    workspace->gradients = NULL;
    workspace->values = 0;
    if (buffer_create(workspace->backend, (size_t)values * sizeof(float), &workspace->gradients, error) < 0)
        return error_prefix(error, "the gradients of a step");
    workspace->values = values;
    return 0;
}

int workspace_need_parameters(struct workspace *workspace, int parameters, struct error *error)
{
    if (parameters <= workspace->parameters)
        return 0;
    free(workspace->gradient);
    free(workspace->squares);
    free(workspace->updates);
    workspace->gradient = NULL;
    workspace->squares = NULL;
    workspace->updates = NULL;
    workspace->parameters = 0;
    if (array_alloc(&workspace->gradient, parameters, error) < 0 ||
        array_alloc(&workspace->squares, parameters, error) < 0 ||
        array_alloc(&workspace->updates, parameters, error) < 0)
        return -1;
    workspace->parameters = parameters;
    return 0;
}

/* ---- after a failure ---- */

void workspace_clean(struct workspace *workspace)
{
    struct error ignored; /* the trial's own failure is what is told */
    struct queue *queue;
    drop_buffers(workspace);
    if (queue_create(workspace->backend, &queue, &ignored) < 0)
        return; /* the failed one stays, and what follows fails, too */
    queue_destroy(workspace->queue);
    workspace->queue = queue;
}

/* The rows that a piece has at least where memory is short. */
static int64_t least_rows(const struct workspace *workspace, bool by_row)
{
    return by_row || workspace->length < PIECE_ROWS ? PIECE_ROWS : workspace->length;
}

bool workspace_recover(struct workspace *workspace, bool by_row, struct error *reason)
{
    const bool ran_out = reason->kind == ERROR_NO_MEMORY;
    const int64_t half = (workspace->rows + 1) / 2, least = least_rows(workspace, by_row);
    workspace_clean(workspace);
    if (ran_out && workspace->trials > 1) {
        workspace->trials = (workspace->trials + 1) / 2;
        return true;
    }
    if (ran_out && workspace->rows > least) {
        workspace->rows = half > least ? half : least;
        if (workspace->rows > workspace->length)
            workspace->rows -= workspace->rows % workspace->length;
        return true;
    }
    if (ran_out)
        error_prefix(reason, "with only %" PRId64 " rows of the batch at a time", workspace->rows);
    workspace->rows = workspace->wanted; /* that smaller pieces did not help says nothing of the next trial */
    return false;
}

/* ---- pieces ---- */

/* Pieces of a sequence; 0: pieces are whole sequences. */
static int64_t parts_of_sequence(const struct workspace *workspace, bool by_row)
{
    const int64_t most = piece_rows(workspace, by_row);
    return most < workspace->length ? cut_count(workspace->length, most) : 0;
}

int64_t workspace_pieces(const struct workspace *workspace, bool by_row, int64_t rows)
{
    const int64_t length = workspace->length, parts = parts_of_sequence(workspace, by_row);
    return parts ? rows / length * parts : cut_count(rows / length, piece_rows(workspace, by_row) / length);
}

struct piece workspace_piece(const struct workspace *workspace, bool by_row, int64_t rows, int64_t index)
{
    const int64_t length = workspace->length, parts = parts_of_sequence(workspace, by_row);
    const int64_t most = piece_rows(workspace, by_row);
    struct piece piece;
    if (parts) {
        piece = cut_piece(length, most, index % parts);
        piece.first += index / parts * length;
    } else {
        const struct piece sequences = cut_piece(rows / length, most / length, index);
        piece = (struct piece){sequences.first * length, sequences.rows * length};
    }
    return piece;
}

int workspace_spans(struct workspace *workspace, struct piece piece, const struct span **spans)
{
    const int64_t length = workspace->length;
    int count = 0;
    *spans = workspace->spans;
    if (piece.rows < length) {
        workspace->spans[0] = (struct span){.rows = (int)piece.rows, .first = (int)(piece.first % length)};
        return 1;
    }
    while (count < piece.rows / length)
        workspace->spans[count++] = (struct span){.rows = (int)length};
    return count;
}
