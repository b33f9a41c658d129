/* kind.h: what a kind of head is made of. For common/head/ only: everybody else includes head.h.
 *
 * A kind is a list of stages. Each maps states to states, and owns its parameters, its working memory, and the ops
 * that it is made of:
 *
 *     x [M, H]  ->  stage 0  ->  stage 1  ->  ...  ->  h [M, H]
 *
 * What a spec comes to for a model is its plan: the stages, the rules of all parameters, and the working memory. The
 * rest, such as allocation, first values, files, and the way through the stages and back, is written once for all kinds.
 * A new kind is a row in kind.c; a new stage is a file with a struct stage_kind.
 */
#ifndef OFFRAMP_HEAD_KIND_H
#define OFFRAMP_HEAD_KIND_H

#include "common/base/random.h"
#include "common/head/head.h"
#include "common/model/attend.h"

/* Where a parameter's first values come from. */
enum fill {
    FILL_ZEROS,
    FILL_ONES,
    FILL_IDENTITY,
    FILL_NORMAL, /* mean 0, deviation 0.02 */
    FILL_MODEL /* the model's tensor of the rule's role */
};

struct parameter_rule {
    char name[HEAD_NAME_SIZE];
    int64_t rows, cols; /* rows 1: a vector */
    enum tensor_role role; /* the tensor of the model that it is a copy of; or ROLE_NONE */
    int layer; /* whose tensor that is, from 1 as taps count */
    bool trained;
    enum fill copy, random; /* by INIT_COPY, by INIT_RANDOM */
    int stage, slot; /* which of the stage's parameters it is, as the stage counts them */
    bool last; /* behind those of all stages that are not */
};

/* Working memory that only heads_backward needs. Stages use it one after another. */
enum temporary {
    TEMPORARY_GRADIENT, /* [M, H]: the gradient of states on its way back */
    TEMPORARY_NORMED,
    TEMPORARY_PROJECTED,
    TEMPORARY_ATTENDED,
    TEMPORARY_MIXED,
    TEMPORARY_INNER,
    TEMPORARY_ZEROS, /* which nobody writes */
    TEMPORARIES
};

struct stage_kind;

/* How a half's parameters are called. */
enum stage_names {
    NAMES_ROLE, /* "q", "mlp_gate", "mlp_norm": role_name */
    NAMES_SHORT, /* "gate", "mlp_norm": but for the norm without "mlp_" */
    NAMES_LAYER /* "29.q", "29.mlp_gate" */
};

struct stage {
    const struct stage_kind *kind;
    int rank; /* of an affine map; 0: full */
    int layer; /* of a half: whose tensors it copies, from 1 as taps count */
    int half; /* HALF_ATTENTION or HALF_MLP (block.h) */
    enum stage_names names;
    bool frozen; /* nothing of it is trained */
    bool norm_frozen; /* of a half: its norm is not trained */
    bool idle; /* of a half: `out` starts at zero, so that at first y = x */
    /* Set by plan_add_stage and head_plan_make: */
    bool first; /* its x is the tap's: nobody reads the gradient of x */
    int attention; /* of an attention half: its number among those of the head */
    int scratch; /* the first of its matrices of working memory */
    int result; /* the matrix for its y; -1: y is h */
};

#define STAGES_MAX    8
#define RULES_MAX     64
#define SCRATCHES_MAX 32

struct head_plan {
    int stages, rules, scratches;
    int attentions; /* stages that are attention halves */
    struct stage stage[STAGES_MAX];
    struct parameter_rule rule[RULES_MAX]; /* in the order of the head's parameters */
    int64_t scratch[SCRATCHES_MAX]; /* columns of matrices of working memory; 0: it is not needed */
    int64_t temporary[TEMPORARIES]; /* the same */
};

struct head_kind {
    const char *name;
    bool wants_mid; /* only makes sense at a tap L.mid */
    bool has_map; /* begins with an affine map: `rank`, INIT_RIDGE */
    bool has_layers; /* of the model behind it: `to`, `frozen` */
    bool by_row; /* head_spec_is_by_row: no stage is an attention half */
    bool draft; /* it runs by draft.h, and has rules of parameters, but no stages */
    /* Adds the stages to the plan, in order (plan_add_stage). */
    void (*stages)(const struct head_spec *spec, const struct model_config *config, struct head_plan *plan);
    /* head_initialise of a kind that does it by itself; or NULL. */
    int (*initialise)(struct head *head, enum head_init init, uint64_t seed, const struct head_source *source,
                      struct error *error);
};

extern const struct head_kind head_kind_draft;
/* The kinds; NULL ends the list. */
extern const struct head_kind *const head_kinds[];

/* ---- plans ---- */

/* For a spec that head_spec_check has let through. */
void head_plan_make(const struct head_spec *spec, const struct model_config *config, struct head_plan *plan);

/* For kinds: the next stage. */
void plan_add_stage(struct head_plan *plan, struct stage stage);
/* For stages, by turns: another parameter, another matrix of working memory of so many columns (0: its index is taken,
 * and that is all), and columns that a temporary has at least. */
void plan_add_rule(struct head_plan *plan, struct parameter_rule rule);
void plan_add_scratch(struct head_plan *plan, int64_t cols);
void plan_need_temporary(struct head_plan *plan, enum temporary temporary, int64_t cols);

/* ---- stages ---- */

/* A stage of a head at work. */
struct stage_run {
    const struct head_run *run;
    const struct stage *stage;
    struct matrix x, y; /* [M, H] */
    struct matrix dy; /* backward: the gradient of y */
    struct matrix dx; /* backward: gets that of x. The same matrix as dy, but for the last stage */
};

struct stage_kind {
    /* Adds the rules of the stage's parameters and working memory to the plan. */
    void (*rules)(const struct stage *stage, int index, const struct model_config *config,
                  struct head_plan *plan);
    /* Of `count` heads that join. backward adds to the gradients of what is trained. */
    void (*forward)(struct queue *queue, const struct stage_run *runs, int count);
    void (*backward)(struct queue *queue, const struct stage_run *runs, int count);
};

extern const struct stage_kind stage_norm, stage_affine, stage_half;

/* A parameter of a stage's run by its slot, and its gradient; none where there is none. */
struct matrix stage_value(const struct stage_run *run, int slot);
struct matrix stage_gradient(const struct stage_run *run, int slot);
/* A matrix of the stage's working memory, by its index among the stage's, and a temporary; as many rows as the run
 * has. */
struct matrix stage_scratch(const struct stage_run *run, int index);
struct matrix stage_temporary(const struct stage_run *run, enum temporary temporary, int64_t cols);
/* Of an attention half: the working memory of attention; the run's spans, with the keys and values that the half keeps
 * of their sequences. The latter live until the next call. */
struct attend *stage_attend(const struct stage_run *run);
const struct span *stage_spans(const struct stage_run *run);

/* ---- heads ---- */

/* First values [rows, cols] of a parameter, into zeros; FILL_MODEL leaves these. */
void head_fill(enum fill fill, int64_t rows, int64_t cols, struct random *random, float *values);

struct head {
    struct head_spec spec;
    struct model_config config;
    struct head_plan plan;
    struct backend *backend;
    int parameters;
    struct head_parameter *parameter; /* [parameters], in the order of the plan's rules */
};

#endif
