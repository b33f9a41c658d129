/* kind.h: what a head kind is made of. For common/head/ only: everybody else includes head.h.
 *
 * A kind is data (its parameters, its working memory) and two functions made of ops. Everything
 * else, such as allocation, initial values and files, is written once for all kinds.
 */
#ifndef OFFRAMP_HEAD_KIND_H
#define OFFRAMP_HEAD_KIND_H

#include "common/head/head.h"
#include "common/model/model.h"

/* A length that the model's shape fixes. */
enum extent { EXTENT_ONE, EXTENT_HIDDEN, EXTENT_INTERMEDIATE, EXTENT_GATE_UP, EXTENT_VOCAB };

int64_t extent_size(enum extent extent, const struct head_shape *shape);

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
    enum extent rows, cols;
    bool trained;
    enum fill copy, random; /* by INIT_COPY, by INIT_RANDOM */
    enum tensor_role
        role; /* FILL_MODEL: which tensor; of the tap's layer when layers have it. A bias of the MLP
                            * is a parameter where the model has it; such rules are a kind's last ones. */
};

/* A matrix of working memory, as many rows as the scratch. */
struct scratch_rule {
    enum extent cols;
    bool backward; /* needed by head_backward only */
};

struct head_kind {
    const char *name;
    bool wants_mid; /* only makes sense at a tap L.mid */
    bool has_ridge; /* INIT_RIDGE */
    int parameters;
    const struct parameter_rule *parameter;
    int scratches;
    const struct scratch_rule *scratch;
    /* As heads_forward and heads_backward. */
    void (*forward)(struct queue *queue, const struct head_run *runs, int count);
    void (*backward)(struct queue *queue, const struct head_run *runs, int count);
};

extern const struct head_kind head_kind_norm, head_kind_affine, head_kind_mlp;

/* The rule of the own output weight of an untied head, behind its kind's parameters. */
extern const struct parameter_rule head_output_rule;
/* The rule of a head's parameter by index, the output weight's included. */
const struct parameter_rule *head_rule(const struct head_spec *spec, const struct head_shape *shape, int index);
/* Parameters of a head, its own output weight counted. */
int head_rule_count(const struct head_spec *spec, const struct head_shape *shape);

struct head {
    struct head_spec spec;
    struct head_shape shape;
    struct backend *backend;
    int parameters;
    struct head_parameter parameter[HEAD_PARAMETERS_MAX];
};

/* The first `rows` rows of a kind's scratch matrix by its place in the kind's list. */
struct matrix head_scratch_rows(const struct head_scratch *scratch, int place, int64_t rows);
/* As many as a run has, of the run's own. */
struct matrix head_run_scratch(const struct head_run *run, int place);

#endif
