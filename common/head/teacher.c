#include "common/head/teacher.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/memory.h"

/* ---- values of rows ---- */

enum { LSE, LABEL, TOP, TOP_LOGIT, ENTROPY, BEST, BEST_LOGIT, PARTS };

struct answer {
    struct buffer *buffer[PARTS];
    float *lse, *label, *top_logit, *entropy; /* [rows] */
    int32_t *top; /* [rows] */
    int32_t *best; /* [rows, TARGET_BEST], or NULL: they are not wanted */
    float *best_logit; /* likewise */
};

static int create_best(struct backend *backend, int64_t rows, struct answer *answer, struct error *error)
{
    const int64_t count = rows * TARGET_BEST;
    if (buffer_create(backend, (size_t)count * sizeof(int32_t), &answer->buffer[BEST], error) < 0 ||
        buffer_create(backend, (size_t)count * sizeof(float), &answer->buffer[BEST_LOGIT], error) < 0 ||
        array_alloc(&answer->best, count, error) < 0)
        return -1;
    return array_alloc(&answer->best_logit, count, error);
}

int answer_create(struct backend *backend, int64_t rows, bool best, struct answer **result, struct error *error)
{
    struct answer *answer;
    *result = NULL;
    if (array_alloc(&answer, 1, error) < 0)
        return -1;
    for (int i = 0; i < BEST; i++)
        if (buffer_create(backend, (size_t)rows * sizeof(float), &answer->buffer[i], error) < 0)
            goto fail;
    if (array_alloc(&answer->lse, rows, error) < 0 || array_alloc(&answer->label, rows, error) < 0 ||
        array_alloc(&answer->top_logit, rows, error) < 0 || array_alloc(&answer->entropy, rows, error) < 0 ||
        array_alloc(&answer->top, rows, error) < 0 || (best && create_best(backend, rows, answer, error) < 0))
        goto fail;
    *result = answer;
    return 0;
fail:
    answer_destroy(answer);
    return -1;
}

void answer_destroy(struct answer *answer)
{
    if (!answer)
        return;
    for (int i = 0; i < PARTS; i++)
        buffer_destroy(answer->buffer[i]);
    free(answer->lse);
    free(answer->label);
    free(answer->top_logit);
    free(answer->entropy);
    free(answer->top);
    free(answer->best);
    free(answer->best_logit);
    free(answer);
}

struct vocab_stats answer_stats(const struct answer *answer, int64_t rows)
{
    return (struct vocab_stats){
        .lse = matrix_f32(answer->buffer[LSE], rows, 1),
        .label = matrix_f32(answer->buffer[LABEL], rows, 1),
        .top = matrix_i32(answer->buffer[TOP], rows, 1),
        .top_logit = matrix_f32(answer->buffer[TOP_LOGIT], rows, 1),
        .entropy = matrix_f32(answer->buffer[ENTROPY], rows, 1),
        .u = matrix_none(),
        .best = answer->best ? matrix_i32(answer->buffer[BEST], rows, TARGET_BEST) : matrix_none(),
        .best_logit = answer->best ? matrix_f32(answer->buffer[BEST_LOGIT], rows, TARGET_BEST) : matrix_none(),
    };
}

/* At most 1: logits and lse are rounded. */
static float probability_of(float logit, float lse)
{
    const double probability = exp((double)logit - (double)lse);
    return (float)(probability < 1 ? probability : 1);
}

int answer_read(struct answer *answer, struct queue *queue, int64_t rows, struct target_row *values,
                struct error *error)
{
    const struct vocab_stats stats = answer_stats(answer, rows);
    op_read(queue, stats.lse, answer->lse);
    op_read(queue, stats.label, answer->label);
    op_read(queue, stats.top, answer->top);
    op_read(queue, stats.top_logit, answer->top_logit);
    op_read(queue, stats.entropy, answer->entropy);
    if (answer->best) {
        op_read(queue, stats.best, answer->best);
        op_read(queue, stats.best_logit, answer->best_logit);
    }
    if (queue_wait(queue, error) < 0)
        return -1;
    for (int64_t r = 0; r < rows; r++) {
        values[r] = (struct target_row){
            .top = answer->top[r],
            .probability = probability_of(answer->top_logit[r], answer->lse[r]),
            .entropy = answer->entropy[r],
            .loss = (float)((double)answer->lse[r] - answer->label[r]),
        };
        for (int k = 0; k < TARGET_BEST; k++) {
            const int64_t at = r * TARGET_BEST + k;
            values[r].best[k] = answer->best ? answer->best[at] : -1;
            values[r].best_probability[k] =
                answer->best ? probability_of(answer->best_logit[at], answer->lse[r]) : 0;
        }
    }
    return 0;
}

/* ---- a whole model's ---- */

struct teacher {
    const struct model *model;
    struct backend *backend;
    struct ends *ends; /* NULL: not loaded */
    bool resident;
    struct buffer *labels; /* [rows] i32 */
    struct buffer *normed, *u; /* [rows, H] */
    struct answer *answer;
};

static int load(struct teacher *teacher, struct error *error)
{
    if (teacher->ends)
        return 0;
    if (ends_load_output(teacher->model, teacher->backend, WEIGHT_FORWARD | WEIGHT_BACKWARD, &teacher->ends,
                         error) < 0)
        return -1;
    tensor_release(model_tensor(teacher->model, 0, ROLE_OUTPUT));
    return 0;
}

int teacher_open(const struct model *model, struct backend *backend, int64_t rows, bool resident,
                 struct teacher **result, struct error *error)
{
    const size_t states = (size_t)rows * (size_t)model_config(model)->hidden * sizeof(float);
    struct teacher *teacher;
    *result = NULL;
    if (model_config(model)->vocab < TARGET_BEST)
        return error_set(error, "a target needs a vocabulary of %d tokens or more: without it, use --no-target",
                         TARGET_BEST);
    if (array_alloc(&teacher, 1, error) < 0)
        return -1;
    teacher->model = model;
    teacher->backend = backend;
    teacher->resident = resident;
    if (buffer_create(backend, (size_t)rows * sizeof(int32_t), &teacher->labels, error) < 0 ||
        buffer_create(backend, states, &teacher->normed, error) < 0 ||
        buffer_create(backend, states, &teacher->u, error) < 0 ||
        answer_create(backend, rows, true, &teacher->answer, error) < 0 ||
        (resident && load(teacher, error) < 0)) {
        teacher_close(teacher);
        return -1;
    }
    *result = teacher;
    return 0;
}

void teacher_close(struct teacher *teacher)
{
    if (!teacher)
        return;
    ends_destroy(teacher->ends);
    buffer_destroy(teacher->labels);
    buffer_destroy(teacher->normed);
    buffer_destroy(teacher->u);
    answer_destroy(teacher->answer);
    free(teacher);
}

int teacher_ask(struct teacher *teacher, struct queue *queue, struct matrix states, const int32_t *labels,
                struct target_row *values, struct matrix *u, struct error *error)
{
    const struct model_config *config = model_config(teacher->model);
    const struct matrix ids = matrix_i32(teacher->labels, states.rows, 1);
    const struct matrix normed = matrix_f32(teacher->normed, states.rows, config->hidden);
    struct vocab_stats stats = answer_stats(teacher->answer, states.rows);
    if (load(teacher, error) < 0)
        return -1;
    const struct vocab vocab = {.tied = ends_output(teacher->ends), .own = matrix_none()};
    *u = stats.u = matrix_f32(teacher->u, states.rows, config->hidden);
    op_write(queue, ids, labels);
    op_norm(queue, states, ends_final_norm(teacher->ends), config->norm_epsilon, normed);
    op_vocab_stats(queue, normed, &vocab, ids, &stats);
    return answer_read(teacher->answer, queue, states.rows, values, error);
}

const struct ends *teacher_ends(const struct teacher *teacher)
{
    return teacher->ends;
}

void teacher_rest(struct teacher *teacher)
{
    if (teacher->resident)
        return;
    ends_destroy(teacher->ends);
    teacher->ends = NULL;
}

uint64_t teacher_weight_bytes(const struct model_config *config, enum math math)
{
    const int64_t values = role_values(config, role_holder(config, ROLE_OUTPUT));
    return 2 * (uint64_t)values * (math == MATH_BF16 ? 2 : 4);
}

/* States, u and best tokens of all rows; and what the cpu's op takes for a chunk of them (kernels/cpu/vocab.c):
 * softmax values, a sum for u of every part of the vocabulary, and the best tokens of every tile. */
uint64_t teacher_working_bytes(const struct model_config *config, int64_t rows)
{
    enum { CHUNK = 256, PART = 2048, TILE = 512 };
    const uint64_t hidden = (uint64_t)config->hidden, vocab = (uint64_t)config->vocab;
    const uint64_t parts = (vocab + PART - 1) / PART, tiles = (vocab + TILE - 1) / TILE;
    return sizeof(float) * (2 * (uint64_t)rows * (hidden + TARGET_BEST) +
                            CHUNK * (vocab + parts * hidden + 2 * tiles * TARGET_BEST));
}
