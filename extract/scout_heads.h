/* scout_heads.h: what two heads without a gradient step would say at every layer, on held-out text.
 *
 *     affine    tap L -> ridge map -> the model's final norm and output weight
 *     bridge    tap L -> ridge map to tap n - 2 -> the model's last two layers -> the same
 *
 * Each is measured as train measures heads: the loss on the labels; KL(full model || head) as lse - h . u - entropy with
 * the teacher's u (docs/design.md); how often its likeliest token is the full model's.
 *
 *     scout_heads_open(model, backend, &plan, rows, &heads, error);
 *     scout_heads_set(heads, map, a, b, error);                           // every map
 *     ... scout_heads_measure as scout_pass_run's visitor ...
 *     scout_heads_scores(heads, scores, &full);
 *     scout_heads_close(heads);
 */
#ifndef OFFRAMP_EXTRACT_SCOUT_HEADS_H
#define OFFRAMP_EXTRACT_SCOUT_HEADS_H

#include "extract/scout_sums.h"

struct scout_score {
    double loss, kl, agreement; /* means over the tokens */
};

struct scout_heads;

/* rows: of a sequence. The model outlives the heads. */
int scout_heads_open(const struct model *model, struct backend *backend, const struct plan *plan, int rows,
                     struct scout_heads **heads, struct error *error);
void scout_heads_close(struct scout_heads *heads); /* NULL is fine */
/* Bytes of it, the teacher not counted, for that many rows in a call. */
uint64_t scout_heads_bytes(const struct model_config *config, enum math math, int64_t rows);

/* a [hidden, hidden] and b [hidden] of a map (scout_map). */
int scout_heads_set(struct scout_heads *heads, int map, const float *a, const float *b, struct error *error);

/* Measures all heads on a call. */
int scout_heads_measure(struct scout_heads *heads, const struct scout_call *call, struct error *error);

/* scores [scout_map_count]: of the head of each map; full: the model's own. Returns how many tokens they are of. */
uint64_t scout_heads_scores(const struct scout_heads *heads, struct scout_score *scores,
                            struct scout_score *full);

#endif
