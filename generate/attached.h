/* attached.h: heads that rows go through on their way up. A head that is not by row (common/head/head.h) looks back at
 * the rows before: each row that takes the half of the head's tap goes through it there, with the rows and the kernels
 * that it takes the half with. So what a head makes of a row does not depend on when the row goes up, nor on what waits
 * beside it.
 *
 *     attached_create(config, backend, heads, count, rows, positions, &attached, error);
 *     attached_kept_create(attached, capacity, &kept, error);                   // of one sequence
 *     attached_run(attached, queue, half, spans, keeps, count, x);              // x: the states at the half
 *     h = attached_row(kept, index, position);
 */
#ifndef OFFRAMP_GENERATE_ATTACHED_H
#define OFFRAMP_GENERATE_ATTACHED_H

#include "common/base/error.h"
#include "common/head/head.h"
#include "common/model/layer.h"

/* A head and the half that ends at its tap. */
struct attached_head {
    const struct head *head; /* not owned */
    int half;
};

struct attached; /* the heads of an engine, with working memory */

/* rows: of a call, at most. positions: of the longest sequence. */
int attached_create(const struct model_config *config, struct backend *backend,
                    const struct attached_head *heads, int count, int64_t rows, int positions,
                    struct attached **attached, struct error *error);
void attached_destroy(struct attached *attached); /* NULL is fine */

/* What a sequence keeps for the heads: their keys and values, and what they made of its rows. */
struct attached_kept;
int attached_kept_create(const struct attached *attached, int capacity, struct attached_kept **kept,
                         struct error *error);
void attached_kept_destroy(struct attached_kept *kept); /* NULL is fine */

/* Puts the rows of a call, whose states at the half are x, through the heads of that half. Span s belongs to the sequence
 * of keeps[s]. */
void attached_run(struct attached *attached, struct queue *queue, int half, const struct span *spans,
                  struct attached_kept *const *keeps, int count, struct matrix x);

/* [1, H]: what head `index` of the list has made of the row at a position, which has taken the head's half. */
struct matrix attached_row(const struct attached_kept *kept, int index, int position);

/* Copies what there is of the first rows: rows_at(context, half) of them have taken the half. */
void attached_copy(const struct attached *attached, struct queue *queue, const struct attached_kept *from,
                   struct attached_kept *to, int (*rows_at)(const void *context, int half),
                   const void *context);

#endif
