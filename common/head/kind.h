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

#include "common/head/head.h"

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

/* A matrix of working memory. It has as many rows as the scratch. */
struct scratch_rule {
    int64_t cols;
    bool backward; /* needed by heads_backward only */
};

struct stage_kind;

struct stage {
    const struct stage_kind *kind;
    int layer; /* whose tensors it copies, from 1 as taps count */
    int half; /* of a half: HALF_ATTENTION or HALF_MLP */
    bool frozen; /* nothing of it is trained */
    bool first; /* its x is the tap's: nobody reads the gradient of x */
    int scratch; /* the first of its matrices of working memory */
    int result; /* the matrix for its y; -1: y is h */
};

#define STAGES_MAX    8
#define RULES_MAX     64
#define SCRATCHES_MAX 64

struct head_plan {
    int stages, rules, scratches;
    struct stage stage[STAGES_MAX];
    struct parameter_rule rule[RULES_MAX]; /* in the order of the head's parameters */
    struct scratch_rule scratch[SCRATCHES_MAX];
    int gradient; /* the matrix of working memory [M, H] that a gradient goes back through */
};

struct head_kind {
    const char *name;
    bool wants_mid; /* only makes sense at a tap L.mid */
    bool has_ridge; /* INIT_RIDGE */
    bool by_row; /* head_spec_is_by_row: no stage reads spans */
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

/* For kinds: the next stage. Only what says what it is need be set: kind, layer, half, frozen. */
void plan_add_stage(struct head_plan *plan, struct stage stage);
/* For stages, by turns: another parameter of stage `index`, another matrix of working memory. Those of one stage are
 * neighbours, in order. */
void plan_add_rule(struct head_plan *plan, struct parameter_rule rule);
void plan_add_scratch(struct head_plan *plan, struct scratch_rule rule);

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
/* A matrix of the stage's working memory, by its index among the stage's; as many rows as the run has. */
struct matrix stage_scratch(const struct stage_run *run, int index);

/* ---- heads ---- */

struct head {
    struct head_spec spec;
    struct model_config config;
    struct head_plan plan;
    struct backend *backend;
    int parameters;
    struct head_parameter *parameter; /* [parameters], in the order of the plan's rules */
};

#endif
