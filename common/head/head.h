/* head.h: exit heads: from the states of a tap to the input of an output weight.
 *
 *     kind    function of the tap's states x                          trained
 *     norm    norm(x)                                                 the norm's scale
 *     affine  norm(x A + b), the "tuned lens" (Belrose et al. 2023)   A, b, scale
 *     mlp     norm(x + MLP(frozen norm of layer L(x))), tap L.mid     gate, up, down, scale; biases
 *                                                                     where the model's MLPs have them
 *
 * followed by an output weight: the model's own (`tied`, frozen, shared by all heads) or the head's
 * own copy (`untied`, trained). A kind is one row of a table (head.c); its forward and backward are
 * made of ops and run on every backend.
 *
 *     head_create(&spec, &config, backend, &head, error);
 *     head_initialise(head, INIT_COPY, seed, &source, error);
 *     head_scratch_create(head, rows, true, &scratch, error);
 *     head_forward(head, queue, scratch, x, h);              // h [M, H], ready for op_vocab_loss
 *     head_backward(head, queue, scratch, x, dh, gradients); // gradients[i] += , one per parameter
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
/* What a head of the kind makes of a row does not depend on the rows before it. Other kinds (attention) take whole
 * sequences. */
bool head_kind_is_by_row(const struct head_kind *kind);
/* head_initialise can do that for the kind; the error says what it can do. */
int head_init_check(const struct head_kind *kind, enum head_init init, struct error *error);

struct head_spec {
    const struct head_kind *kind;
    enum head_output output;
    struct tap tap;
};

/* The spec makes sense for the model: mlp wants a .mid tap, and so on. */
int head_spec_check(const struct head_spec *spec, const struct model_config *config, struct error *error);

struct head_parameter {
    const char *name; /* "scale", "a", "b", "gate", "up", "down", "gate_bias", ..., "output", "mlp_norm" */
    enum tensor_role role; /* the model's tensor that it is in place of; ROLE_NONE: it is the head's own */
    struct matrix value;
    bool trained; /* frozen ones are kept with the head so that its file is whole */
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

/* Fills the parameters; frozen ones always come from `source`. COPY: scale from the final norm, A the
 * identity and b zero, the MLP of the tap's layer, the output weight. RANDOM: normal(0, 0.02) matrices (down
 * and biases zero), scale ones. RIDGE (affine only): as COPY; the caller then sets "a" and "b" from its regression. */
int head_initialise(struct head *head, enum head_init init, uint64_t seed, const struct head_source *source,
                    struct error *error);

/* Values of its parameters, or of the trained ones only; and of its working memory for a row. */
int64_t head_spec_values(const struct head_spec *spec, const struct model_config *config, bool trained);
int64_t head_spec_scratch(const struct head_spec *spec, const struct model_config *config);

/* ---- running ---- */

struct head_scratch; /* for calls of up to `rows` rows, of any head of the same kind and shape */
int head_scratch_create(const struct head *head, int64_t rows, bool backward, struct head_scratch **scratch,
                        struct error *error);
void head_scratch_destroy(struct head_scratch *scratch); /* NULL is fine */

#define HEADS_TOGETHER 32

/* A head at work on rows: what heads_forward and heads_backward take. */
struct head_run {
    const struct head *head;
    struct head_scratch *scratch; /* its own */
    struct matrix x; /* [M, H] the tap's states */
    const struct span
        *spans; /* [span_count] the sequences and positions of all M rows; a kind by row does not look */
    int span_count;
    struct matrix h; /* [M, H] what it makes of them */
    struct matrix dh; /* [M, H], backward: the gradient of that */
    const struct matrix *gradients; /* [parameter], backward: += ; none for frozen ones */
};

/* h from x of up to HEADS_TOGETHER heads of one kind and shape, the same M each: their products go together. */
void heads_forward(struct queue *queue, const struct head_run *runs, int count);
/* After heads_forward of the same runs. The gradient of "output" is not touched (op_vocab_loss does that). */
void heads_backward(struct queue *queue, const struct head_run *runs, int count);

/* heads_forward of one, of a kind by row. Few rows (at most MATMUL_FEW_ROWS) or many: same result up to
 * rounding. */
void head_forward(const struct head *head, struct queue *queue, struct head_scratch *scratch, struct matrix x,
                  struct matrix h);
/* The head's output weight: its own, or `tied`. */
struct vocab head_vocab(const struct head *head, const struct weight *tied);

/* ---- files ---- */

/* head.safetensors: one F32 tensor per parameter; metadata, all strings: "offramp" (version), "kind",
 * "output", "tap", "layers", "hidden", "intermediate", "vocab", "norm_epsilon", "mlp_bias" ("yes" or "no"),
 * and "model", its fingerprint. */
int head_save(const struct head *head, struct queue *queue, const char *path, const char *fingerprint,
              struct error *error);
/* The head must be one of the model with that config and fingerprint; everything is checked. norm_epsilon is the file's:
 * what the head was trained with. */
int head_load(const char *path, const struct model_config *config, const char *fingerprint,
              struct backend *backend, struct head **head, struct error *error);

#endif
