/* head.h: exit heads. A head maps the states of a tap to logits:
 *
 *     x [M, H]  ->  kind  ->  h [M, H]  ->  output weight  ->  logits
 *
 *     kind       h                                                       trained
 *     embedding  x                                                       the output weight, if untied
 *     norm       norm(x)                                                 the norm's scale
 *     affine     norm(x A + b), the "tuned lens" (Belrose et al. 2023)   A, b, scale
 *     affine+mlp norm(y + MLP(norm(y))), y = x A + b                     A, b, norms, gate, up, down; biases
 *     mlp        norm(x + MLP(frozen norm of layer L(x))), tap L.mid     gate, up, down, scale; biases
 *                                                                        where the model's MLPs have them
 *     block      norm(layer(x))                                          all tensors of the layer, scale
 *     bridge     norm(layers to + 1 .. n(x A + b)), n the model's last   A, b, scale; the layers, if not frozen
 *
 * A map has `rank` r where it is x + x U V + b, with U [H, r] and V [r, H] trained. The MLP of affine+mlp is copied from
 * the model's last layer, because the map leads to where that leaves off; its `down` starts at zero, so that at first the
 * head is the affine one. block copies the model's last layer, whose states the output weight is made for. A bridge
 * leads the states to an earlier tap of the model, whose own last layers then do the rest.
 *
 * The output weight is the model's (`tied`: frozen, shared by all heads) or the head's own copy (`untied`:
 * trained). What is here ends at h; the ops of the vocabulary (kernels/ops.h) take h and the output weight
 * together. A kind is a list of stages, one row of a table (kind.c). Forward and backward are made of ops and run
 * on every backend.
 *
 *     head_load(path, config, fingerprint, backend, &head, error);
 *     head_scratch_create(head, rows, 0, false, &scratch, error);
 *     head_forward(head, queue, scratch, x, h);
 *
 * To train one, or several whose products go together:
 *
 *     head_create(&spec, config, backend, &head, error);
 *     head_initialise(head, INIT_COPY, seed, &source, error);
 *     head_scratch_create(head, rows, positions, true, &scratch, error);
 *     heads_forward(queue, runs, count);
 *     ...                                                     // op_vocab_loss: dh from h
 *     heads_backward(queue, runs, count);                     // gradients[i] += , for each parameter
 */
#ifndef OFFRAMP_HEAD_HEAD_H
#define OFFRAMP_HEAD_HEAD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/model/layer.h"
#include "common/model/role.h"
#include "common/store/tap.h"
#include "kernels/ops.h"

enum head_output { OUTPUT_TIED, OUTPUT_UNTIED };
/* "tied", "untied" */
const char *head_output_name(enum head_output output);
int head_output_find(const char *name, enum head_output *output, struct error *error);

enum head_init { INIT_COPY, INIT_RANDOM, INIT_RIDGE };
/* "copy", "random", "ridge" */
const char *head_init_name(enum head_init init);
int head_init_find(const char *name, enum head_init *init, struct error *error);

struct head_kind; /* a row of the table */
/* NULL with an error that lists the kinds. */
const struct head_kind *head_kind_find(const char *name, struct error *error);
const char *head_kind_name(const struct head_kind *kind);
/* Whether head_initialise can do that for the kind; the error says what it can do. */
int head_init_check(const struct head_kind *kind, enum head_init init, struct error *error);

#define HEAD_TAPS      3 /* that a draft reads, at most */
#define TAPS_NAME_SIZE (HEAD_TAPS * TAP_NAME_SIZE)

struct head_spec {
    const struct head_kind *kind;
    enum head_output output;
    struct tap tap; /* of a draft: the last one that it reads */
    struct tap before[HEAD_TAPS - 1]; /* of a draft, ascending: those before it */
    int befores;
    int draft_vocab; /* of a draft: D, the tokens that it chooses from; 0 of other kinds */
    int rank; /* of the affine map; 0: it is full */
    int to; /* bridge: the tap that the map leads to; else 0 */
    bool frozen; /* bridge: the layers stay as they are */
};

/* The taps of a spec, in order; returns how many. */
int head_spec_taps(const struct head_spec *spec, struct tap taps[HEAD_TAPS]);
/* The other way, and to names: "2+15+27". */
int head_spec_parse_taps(const char *text, int layers, struct head_spec *spec, struct error *error);
void head_spec_name_taps(const struct head_spec *spec, int layers, char name[TAPS_NAME_SIZE]);
/* Whether both are the same head, but for the values of its parameters. */
bool head_spec_equal(const struct head_spec *a, const struct head_spec *b);

/* Whether the spec makes sense for the model: the model has the tap, and the kind can read it. */
int head_spec_check(const struct head_spec *spec, const struct model_config *config, struct error *error);
/* Of that, what is about `rank`, and about `to` and `frozen`. */
int head_spec_check_rank(const struct head_spec *spec, const struct model_config *config, struct error *error);
int head_spec_check_layers(const struct head_spec *spec, const struct model_config *config,
                           struct error *error);
/* `to` where nobody says it: the model's last two layers are behind it. 0 for kinds that have none. */
int head_spec_standard_to(const struct head_kind *kind, const struct model_config *config);

/* The tap to whose states a ridge regression fits the head's map (INIT_RIDGE): where the map leads to. */
struct tap head_spec_goal(const struct head_spec *spec, const struct model_config *config);

/* Whether what such a head makes of a row depends on that row alone. Others (those with attention) need whole
 * sequences. */
bool head_spec_is_by_row(const struct head_spec *spec);
/* Whether heads of both go through heads_forward together, and take the same working memory: they have the same stages. */
bool head_specs_join(const struct head_spec *spec, const struct head_spec *other);

#define HEAD_NAME_SIZE        32
#define HEAD_TENSOR_NAME_SIZE 64

struct head_parameter {
    char name
        [HEAD_NAME_SIZE]; /* "scale", "a", "b", "gate", "up", "down", "gate_bias", ..., "output", "mlp_norm" */
    struct matrix value;
    bool trained; /* a frozen one is kept with the head, so that the head's file is whole */
};

struct head;

/* A head for the model of a config, which is copied. */
int head_create(const struct head_spec *spec, const struct model_config *config, struct backend *backend,
                struct head **head, struct error *error);
void head_destroy(struct head *head); /* NULL is fine */

const struct head_spec *head_get_spec(const struct head *head);
const struct model_config *head_get_config(const struct head *head);
int head_parameter_count(const struct head *head);
const struct head_parameter *head_parameter(const struct head *head, int index);

/* Where frozen tensors of the model come from: `name` as in store_put_source, values [rows, cols]
 * converted to f32, free()d by the caller. */
struct head_source {
    int (*get)(void *context, const char *name, float **values, int64_t *rows, int64_t *cols,
               struct error *error);
    void *context;
};

/* The names of the model's tensors that such a head may begin with, as a source has them: number `index`; false behind the
 * last. */
bool head_spec_tensor(const struct head_spec *spec, const struct model_config *config, int index,
                      char name[HEAD_TENSOR_NAME_SIZE]);

/* Fills the parameters. Frozen ones always come from `source`.
 *     COPY     the model's tensors: the final norm's scale, the MLP of the tap's layer, layers, the output weight. A is
 *              the identity, b is zero. U is normal(0, 0.02), V is zero
 *     RANDOM   matrices normal(0, 0.02), norms ones; down, o and biases zero
 *     RIDGE    as COPY; the caller then writes the map of its regression: "a" or "u" and "v", and "b". Heads with a map only */
int head_initialise(struct head *head, enum head_init init, uint64_t seed, const struct head_source *source,
                    struct error *error);

/* Values of the parameters of such a head, of all or of the trained ones; and of its working memory for a
 * row. */
int64_t head_spec_values(const struct head_spec *spec, const struct model_config *config, bool trained);
int64_t head_spec_scratch(const struct head_spec *spec, const struct model_config *config);

/* ---- running ---- */

/* Working memory for calls of up to `rows` rows, of any head that joins this one (head_specs_join) and is of the same
 * model. positions: the longest sequence, where the head is not by row. backward: heads_backward is called, too. */
struct head_scratch;
int head_scratch_create(const struct head *head, int64_t rows, int64_t positions, bool backward,
                        struct head_scratch **scratch, struct error *error);
void head_scratch_destroy(struct head_scratch *scratch); /* NULL is fine */

/* Keys and values of a head that is not by row, of one sequence, so that its rows may come one after another:
 *
 *     head_cache_create(head, capacity, &cache, error);
 *     head_scratch_create(head, rows, capacity, false, &scratch, error);
 *     const struct span span = {.rows = 1, .first = position};
 *     const struct head_run run = {
 *         .head = head, .scratch = scratch, .x = x, .spans = &span, .span_count = 1, .caches = &cache, .h = h};
 *     heads_forward(queue, &run, 1);
 *
 * A span's rows stand at the positions first .. first + rows - 1 of its sequence, and read what is kept of the positions
 * before, which must have gone through before. A position may go through again: what it leaves is overwritten. Spans of
 * one sequence may follow each other in a call. On the cpu a row has the same bytes in all spans of at most
 * MATMUL_FEW_ROWS rows (ops.h, "Same bytes"). capacity: positions, at most. */
struct head_cache;
int head_cache_create(const struct head *head, int capacity, struct head_cache **cache, struct error *error);
void head_cache_destroy(struct head_cache *cache); /* NULL is fine */
/* Copies what is kept of the first `rows` positions, which both caches of the head have room for. */
void head_cache_copy(const struct head *head, struct queue *queue, const struct head_cache *from,
                     struct head_cache *to, int64_t rows);

#define HEADS_TOGETHER 32

/* A head at work on rows: what heads_forward and heads_backward take. */
struct head_run {
    const struct head *head;
    struct head_scratch *scratch; /* its own */
    struct matrix x; /* [M, H] the tap's states */
    const struct span
        *spans; /* [span_count] the sequences and positions of the M rows. Heads by row need none */
    int span_count;
    struct head_cache *const *caches; /* [span_count] of the spans' sequences; NULL: each span is a whole one */
    struct matrix h; /* [M, H] what the head makes of them */
    struct matrix dh; /* [M, H] backward: the gradient of h */
    const struct matrix *gradients; /* [parameter] backward: these are added to; none for a frozen one */
};

/* h from x, of up to HEADS_TOGETHER heads that join (head_specs_join) and are of one model, each with the same M: their
 * products go together. */
void heads_forward(struct queue *queue, const struct head_run *runs, int count);
/* After heads_forward of the same runs. The gradient of "output" is not touched (op_vocab_loss does that). */
void heads_backward(struct queue *queue, const struct head_run *runs, int count);

/* heads_forward of one head by row. Few rows (at most MATMUL_FEW_ROWS) give the same as many, up to
 * rounding. */
void head_forward(const struct head *head, struct queue *queue, struct head_scratch *scratch, struct matrix x,
                  struct matrix h);
/* The head's output weight: its own, or `tied`. */
struct vocab head_vocab(const struct head *head, const struct weight *tied);

/* ---- files ---- */

/* Writes head.safetensors: one F32 tensor for each parameter; metadata, all strings: "offramp" (version),
 * "kind", "output", "tap", "layers", "hidden", "intermediate", "vocab", "norm_epsilon", "mlp_bias" ("yes" or
 * "no"), and "model", the model's fingerprint; of a map that is not of full rank "rank"; of a bridge "to", a tap's name,
 * and "frozen" ("yes" or "no"). */
int head_save(const struct head *head, struct queue *queue, const char *path, const char *fingerprint,
              struct error *error);
/* Reads a head of the model with that config and fingerprint; a head of another model is an error. Every byte
 * is checked. The head's norm_epsilon is the one in the file, with which the head was trained. */
int head_load(const char *path, const struct model_config *config, const char *fingerprint,
              struct backend *backend, struct head **head, struct error *error);

#endif
