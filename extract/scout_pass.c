#include "extract/scout_pass.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/memory.h"
#include "common/model/forward.h"

struct waiting_call {
    int sequences;
    int32_t *ids, *labels; /* [batch * rows] */
};

struct scout_pass {
    const struct plan *plan;
    int layers, hidden, rows;
    struct forward *forward;
    int group; /* calls per super-batch now */
    struct buffer **states; /* [layers], each [group * batch * rows, hidden]: taps below the last one */
    struct matrix *tap; /* [layers + 1] of the call that is visited */
    struct waiting_call *calls; /* [plan->group], made as they are needed */
    int32_t *ahead; /* [rows + 1] the sequence that comes next */
    bool there; /* it has come */

    scout_visit *visit;
    void *visitor;
};

/* ---- memory ---- */

int scout_plan(const struct model_config *config, struct plan_file file, int rows,
               const struct plan_machine *machine, uint64_t extra, struct plan *plan, struct error *error)
{
    const uint64_t layers = (uint64_t)config->layers;
    struct tap tap[2] = {{.layer = config->layers}, tap_target(config->layers)};
    struct codec_choice codec[2];
    const struct store_info info = {.layers = config->layers,
                                    .hidden = config->hidden,
                                    .vocab = config->vocab,
                                    .rows = rows,
                                    .shards = 1,
                                    .taps = 2,
                                    .tap = tap,
                                    .codec = codec};
    struct plan_machine unbound = *machine;
    unbound.memory = 0;
    for (int i = 0; i < 2; i++)
        if (codec_parse("raw:f32", &codec[i], error) < 0)
            return -1;
    if (plan_make(config, file, &info, &unbound, plan, error) < 0)
        return -1;
    const uint64_t kept = layers * plan->call;
    plan->peak += kept + extra;
    plan->least += kept + extra;
    plan->call += kept;
    return machine->memory == 0 || plan->peak <= machine->memory ? 0
                                                                 : plan_stream(plan, machine->memory, error);
}

/* ---- life ---- */

static void free_states(struct scout_pass *pass)
{
    for (int t = 0; pass->states && t < pass->layers; t++) {
        buffer_destroy(pass->states[t]);
        pass->states[t] = NULL;
    }
}

static int resize(struct scout_pass *pass, struct backend *backend, int group, struct error *error)
{
    const size_t rows = (size_t)group * (size_t)pass->plan->batch * (size_t)pass->rows;
    free_states(pass);
    pass->group = group;
    if (forward_resize(pass->forward, group, error) < 0)
        return -1;
    for (int t = 0; t < pass->layers; t++)
        if (buffer_create(backend, rows * (size_t)pass->hidden * sizeof(float), &pass->states[t], error) < 0)
            return -1;
    return 0;
}

/* As many calls as hide the loading of layers. */
static int choose_group(struct scout_pass *pass, struct backend *backend, struct error *error)
{
    if (!pass->plan->resident) {
        if (forward_measure(pass->forward, error) < 0)
            return -1;
        const struct forward_times times = forward_times(pass->forward);
        return resize(pass, backend, plan_group(pass->plan, &times, (uint64_t)pass->plan->group), error);
    }
    return resize(pass, backend, 1, error);
}

int scout_pass_open(const struct model *model, struct backend *backend, const struct plan *plan, int rows,
                    struct scout_pass **result, struct error *error)
{
    const struct model_config *config = model_config(model);
    const struct forward_shape shape = {rows, plan->batch, 1, plan->layers, plan->half, plan->resident};
    struct scout_pass *pass;
    *result = NULL;
    if (array_alloc(&pass, 1, error) < 0)
        return -1;
    *pass = (struct scout_pass){
        .plan = plan, .layers = config->layers, .hidden = config->hidden, .rows = rows, .group = 1};
    if (array_alloc(&pass->states, config->layers, error) < 0 ||
        array_alloc(&pass->tap, config->layers + 1, error) < 0 ||
        array_alloc(&pass->calls, plan->group, error) < 0 || array_alloc(&pass->ahead, rows + 1, error) < 0 ||
        forward_open(model, backend, &shape, &pass->forward, error) < 0 ||
        choose_group(pass, backend, error) < 0) {
        scout_pass_close(pass);
        return -1;
    }
    *result = pass;
    return 0;
}

void scout_pass_close(struct scout_pass *pass)
{
    if (!pass)
        return;
    free_states(pass);
    forward_close(pass->forward);
    for (int i = 0; pass->calls && i < pass->plan->group; i++) {
        free(pass->calls[i].ids);
        free(pass->calls[i].labels);
    }
    free(pass->states);
    free(pass->tap);
    free(pass->calls);
    free(pass->ahead);
    free(pass);
}

/* ---- running ---- */

static int read_ahead(struct scout_pass *pass, scout_reader *read, void *reader, struct error *error)
{
    const int there = read(reader, pass->ahead, error);
    pass->there = there > 0;
    return there < 0 ? -1 : 0;
}

static int fill_call(struct scout_pass *pass, struct waiting_call *call, scout_reader *read, void *reader,
                     struct error *error)
{
    const int64_t rows = pass->rows, most = rows * pass->plan->batch;
    if (!call->ids && (array_alloc(&call->ids, most, error) < 0 || array_alloc(&call->labels, most, error) < 0))
        return -1;
    for (call->sequences = 0; call->sequences < pass->plan->batch && pass->there; call->sequences++) {
        memcpy(call->ids + call->sequences * rows, pass->ahead, (size_t)rows * sizeof *call->ids);
        memcpy(call->labels + call->sequences * rows, pass->ahead + 1, (size_t)rows * sizeof *call->labels);
        if (read_ahead(pass, read, reader, error) < 0)
            return -1;
    }
    return 0;
}

/* Where the states of a call lie: the calls before it in the super-batch are full. */
static struct matrix kept(const struct scout_pass *pass, int layer, int number)
{
    const int64_t rows = (int64_t)pass->plan->batch * pass->rows;
    const struct matrix all = matrix_f32(pass->states[layer], pass->group * rows, pass->hidden);
    return matrix_rows(all, number * rows, (int64_t)pass->calls[number].sequences * pass->rows);
}

static int look(void *context, int number, int layer, bool mid, struct queue *queue, struct matrix states,
                struct error *error)
{
    struct scout_pass *pass = context;
    const struct waiting_call *waiting = &pass->calls[number];
    if (cli_interrupted())
        return error_set_kind(error, ERROR_INTERRUPTED, "interrupted");
    if (mid)
        return 0;
    if (layer < pass->layers) {
        op_copy(queue, states, kept(pass, layer, number));
        return 0;
    }
    for (int t = 0; t < pass->layers; t++)
        pass->tap[t] = kept(pass, t, number);
    pass->tap[pass->layers] = states;
    const struct scout_call call = {queue, waiting->sequences, pass->rows, pass->tap, waiting->labels};
    return pass->visit(pass->visitor, &call, error);
}

int scout_pass_run(struct scout_pass *pass, scout_reader *read, void *reader, scout_visit *visit, void *visitor,
                   struct error *error)
{
    pass->visit = visit;
    pass->visitor = visitor;
    if (read_ahead(pass, read, reader, error) < 0)
        return -1;
    while (pass->there) {
        for (int i = 0; i < pass->group && pass->there; i++) {
            struct waiting_call *call = &pass->calls[i];
            if (fill_call(pass, call, read, reader, error) < 0)
                return -1;
            forward_add(pass->forward, call->ids, call->sequences);
        }
        if (forward_run(pass->forward, pass->there, look, pass, error) < 0)
            return -1;
    }
    return 0;
}
