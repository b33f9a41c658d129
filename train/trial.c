#include "train/trial.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/head/draft.h"

/* Parameters start at multiples of 16 values in a buffer of many. */
#define ALIGNMENT 16

static int64_t round_up(int64_t values)
{
    return (values + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

struct matrix trial_parameter_part(const struct trial *trial, struct buffer *buffer, int parameter)
{
    int64_t offset = 0;
    for (int i = 0; i < parameter; i++) {
        const struct head_parameter *before = head_parameter(trial->head, i);
        if (before->trained)
            offset += round_up(before->value.rows * before->value.cols);
    }
    const struct head_parameter *wanted = head_parameter(trial->head, parameter);
    if (!wanted->trained)
        return matrix_none();
    struct matrix part = matrix_f32(buffer, wanted->value.rows, wanted->value.cols);
    part.offset = offset;
    return part;
}

struct matrix trial_first_moment(const struct trial *trial, int parameter)
{
    return trial_parameter_part(trial, trial->first, parameter);
}

struct matrix trial_second_moment(const struct trial *trial, int parameter)
{
    return trial_parameter_part(trial, trial->second, parameter);
}

/* What a trial whose head is there needs for its steps. */
static int create_optimizer(struct trial *trial, struct backend *backend, struct error *error)
{
    for (int i = 0; i < head_parameter_count(trial->head); i++) {
        const struct head_parameter *parameter = head_parameter(trial->head, i);
        if (!parameter->trained)
            continue;
        trial->trained += parameter->value.rows * parameter->value.cols;
        trial->values += round_up(parameter->value.rows * parameter->value.cols);
    }
    const size_t bytes = (size_t)trial->values * sizeof(float);
    return buffer_create(backend, bytes, &trial->first, error) < 0
               ? -1
               : buffer_create(backend, bytes, &trial->second, error);
}

int trial_create(const struct trial_config *config, const struct model_config *model, struct backend *backend,
                 struct trial **trial, struct error *error)
{
    struct trial *made;
    *trial = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->config = *config;
    if (head_create(&config->spec, model, backend, &made->head, error) < 0 ||
        queue_create(backend, &made->queue, error) < 0 || create_optimizer(made, backend, error) < 0)
        goto fail;
    *trial = made;
    return 0;
fail:
    trial_destroy(made);
    return -1;
}

int trial_open_head(const struct trial_config *config, const char *path, const struct model_config *model,
                    const char *fingerprint, struct backend *backend, struct trial **trial, struct error *error)
{
    struct trial *made;
    *trial = NULL;
    if (array_alloc(&made, 1, error) < 0)
        return -1;
    made->config = *config;
    if (head_load(path, model, fingerprint, backend, &made->head, error) < 0 ||
        queue_create(backend, &made->queue, error) < 0)
        goto fail;
    if (!head_spec_equal(head_get_spec(made->head), &config->spec)) {
        error_set(error, "%s: is not the head of trial %s; remove its folder to train it again", path,
                  config->id);
        goto fail;
    }
    *trial = made;
    return 0;
fail:
    trial_destroy(made);
    return -1;
}

int trial_restart(const struct trial_config *config, const char *path, const struct model_config *model,
                  const char *fingerprint, int64_t step, struct backend *backend, struct trial **trial,
                  struct error *error)
{
    if (trial_open_head(config, path, model, fingerprint, backend, trial, error) < 0)
        return -1;
    if (create_optimizer(*trial, backend, error) < 0) {
        trial_destroy(*trial);
        *trial = NULL;
        return -1;
    }
    (*trial)->step = (*trial)->optimizer_start = step;
    return 0;
}

void trial_destroy(struct trial *trial)
{
    if (!trial)
        return;
    buffer_destroy(trial->first);
    buffer_destroy(trial->second);
    queue_destroy(trial->queue);
    head_destroy(trial->head);
    free(trial);
}

unsigned trial_teaching(const struct trial_config *config)
{
    if (head_kind_is_draft(config->spec.kind))
        return TEACH_STATES | TEACH_DRAFT;
    const unsigned subset = config->vocabulary == VOCABULARY_SUBSET ? TEACH_SUBSET : TEACH_NOTHING;
    if (config->loss == LOSS_CROSS_ENTROPY)
        return subset;
    return subset | (trial_config_takes_final(config) ? TEACH_STATES : TEACH_U);
}

unsigned trial_measuring(const struct trial_config *config)
{
    if (head_kind_is_draft(config->spec.kind))
        return TEACH_STATES | TEACH_DRAFT;
    return config->spec.output == OUTPUT_TIED ? TEACH_U : TEACH_STATES | TEACH_STATES_ENTROPY;
}

int trials_create_batch(const struct sweep *sweep, const struct stores *stores, struct backend *backend,
                        int sequences, struct batch **batch, struct error *error)
{
    unsigned teach = TEACH_OUTCOME;
    struct tap *taps;
    int count = 0;
    if (array_alloc(&taps, HEAD_TAPS * sweep->trials, error) < 0)
        return -1;
    for (int i = 0; i < sweep->trials; i++) {
        count += head_spec_taps(&sweep->trial[i].spec, taps + count);
        teach |= trial_measuring(&sweep->trial[i]) | trial_teaching(&sweep->trial[i]);
    }
    int result =
        batch_create(stores, backend, taps, count, teach, (int64_t)sequences * stores->rows, batch, error);
    free(taps);
    if (result == 0)
        (*batch)->seed = sweep->seed;
    return result;
}

bool trial_joins(const struct trial *trial, const struct trial *other)
{
    return !trial_is_draft(trial) && !trial_is_draft(other) && trial->config.spec.output == OUTPUT_TIED &&
           other->config.spec.output == OUTPUT_TIED && trial_config_same_loss(&trial->config, &other->config) &&
           trial->config.vocabulary == other->config.vocabulary;
}

bool trial_is_draft(const struct trial *trial)
{
    return head_kind_is_draft(trial->config.spec.kind);
}

bool trial_is_by_row(const struct trial *trial)
{
    return head_spec_is_by_row(&trial->config.spec);
}

void trial_starve(struct trial *trial, const struct error *reason)
{
    trial->starved = true;
    trial->reason = *reason;
}
