/* scout_pass.h: takes sequences through the whole model, and keeps the states of a super-batch at every tap until the
 * last layer has been: who fits maps from a tap to a later one needs both.
 *
 *     scout_plan(config, file, rows, &machine, extra, &plan, error);
 *     scout_pass_open(model, backend, &plan, rows, &pass, error);
 *     scout_pass_run(pass, read, reader, visit, visitor, error);       // any number of times
 *     scout_pass_close(pass);
 *
 * Memory: a row takes (layers + 1) states of hidden size, where an extraction takes one. So where layers take turns
 * (plan.h), a super-batch of the same memory has fewer calls.
 */
#ifndef OFFRAMP_EXTRACT_SCOUT_PASS_H
#define OFFRAMP_EXTRACT_SCOUT_PASS_H

#include "common/model/model.h"
#include "extract/plan.h"
#include "kernels/ops.h"

/* A plan to run all layers and to ask the teacher. extra: bytes that the caller takes besides. */
int scout_plan(const struct model_config *config, struct plan_file file, int rows,
               const struct plan_machine *machine, uint64_t extra, struct plan *plan, struct error *error);

struct scout_pass;

/* The plan outlives the pass. */
int scout_pass_open(const struct model *model, struct backend *backend, const struct plan *plan, int rows,
                    struct scout_pass **pass, struct error *error);
void scout_pass_close(struct scout_pass *pass); /* NULL is fine */

/* Gives the next sequence's ids [rows + 1]: 1; 0: there is none; -1: an error. */
typedef int scout_reader(void *context, int32_t *ids, struct error *error);

/* A call whose last layer has been. */
struct scout_call {
    struct queue *queue;
    int sequences, rows; /* rows of each */
    const struct matrix *tap; /* [layers + 1], each [sequences * rows, hidden]: 0 is the embedding's output */
    const int32_t *labels; /* [sequences * rows] the token after each row */
};

typedef int scout_visit(void *context, const struct scout_call *call, struct error *error);

/* Takes all sequences of the reader through the model. A signal ends it with ERROR_INTERRUPTED. */
int scout_pass_run(struct scout_pass *pass, scout_reader *read, void *reader, scout_visit *visit, void *visitor,
                   struct error *error);

#endif
