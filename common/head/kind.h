/* kind.h: what a kind of head is made of. For common/head/ only: everybody else includes head.h.
 *
 * A kind is data (the rules of its parameters and of its working memory) and two functions made of ops. The
 * rest, such as allocation, first values and files, is written once for all kinds.
 */
#ifndef OFFRAMP_HEAD_KIND_H
#define OFFRAMP_HEAD_KIND_H

#include "common/head/head.h"
#include "common/model/block.h"

/* The shape of a parameter. */
enum form {
    FORM_ROLE, /* that of the model's tensor of the rule's role (role_shape). The output weight is [V, H], tied or not */
    FORM_VECTOR, /* [1, H] */
    FORM_SQUARE /* [H, H] */
};

/* Where a parameter's first values come from. */
enum fill {
    FILL_ZEROS,
    FILL_ONES,
    FILL_IDENTITY,
    FILL_NORMAL, /* mean 0, deviation 0.02 */
    FILL_MODEL /* the model's tensor of the rule's role */
};

struct parameter_rule {
    const char *name;
    enum form form;
    enum tensor_role
        role; /* the model's tensor that it stands for, of the tap's layer when layers have it; or ROLE_NONE */
    bool trained;
    enum fill copy, random; /* by INIT_COPY, by INIT_RANDOM */
};

/* [rows, cols] of a parameter. False where the model has no tensor of its role (a bias): the head has no such
 * parameter then. */
bool rule_shape(const struct parameter_rule *rule, const struct model_config *config, int64_t *rows,
                int64_t *cols);

/* A matrix of working memory. It has as many rows as the scratch. */
struct scratch_rule {
    enum {
        COLUMNS_HIDDEN, /* H */
        COLUMNS_PROJECTED, /* half_projected of `half` */
        COLUMNS_MIXED /* half_mixed of `half` */
    } columns;
    int half; /* of the layer's block */
    bool backward; /* needed by heads_backward only */
};

struct head_kind {
    const char *name;
    bool wants_mid; /* only makes sense at a tap L.mid */
    bool has_ridge; /* INIT_RIDGE */
    bool by_row; /* head_kind_is_by_row: forward and backward do not read spans */
    int rules; /* of parameters */
    const struct parameter_rule *rule;
    int scratches;
    const struct scratch_rule *scratch;
    /* As heads_forward and heads_backward. */
    void (*forward)(struct queue *queue, const struct head_run *runs, int count);
    void (*backward)(struct queue *queue, const struct head_run *runs, int count);
};

extern const struct head_kind head_kind_norm, head_kind_affine, head_kind_mlp;

/* The rule of a head's parameter `index`; NULL behind the last. The parameters are those of the kind that the
 * model has, then the output weight of an untied head. */
const struct parameter_rule *head_rule(const struct head_spec *spec, const struct model_config *config,
                                       int index);

struct head {
    struct head_spec spec;
    struct model_config config;
    struct backend *backend;
    int parameters;
    struct head_parameter *parameter; /* [parameters], in the order of their rules */
};

/* The value of the parameter of that role, and its gradient; none where the head has no such parameter. */
struct matrix head_value(const struct head *head, enum tensor_role role);
struct matrix head_run_gradient(const struct head_run *run, enum tensor_role role);

/* A run's scratch matrix, by its index in the kind's list; as many rows as the run has. */
struct matrix head_run_scratch(const struct head_run *run, int index);

#endif
