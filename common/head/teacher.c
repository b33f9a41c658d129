#include "common/head/teacher.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/memory.h"
#include "common/model/forward.h"

enum {
    BUFFER_LABELS,
    BUFFER_NORMED,
    BUFFER_U,
    BUFFER_LSE,
    BUFFER_LABEL,
    BUFFER_TOP,
    BUFFER_TOP_LOGIT,
    BUFFER_ENTROPY,
    BUFFERS
};

struct teacher {
    const struct model *model;
    struct backend *backend;
    struct ends *ends; /* NULL: not loaded */
    bool resident;
    struct buffer *buffer[BUFFERS];
    float *lse, *label, *top_logit, *entropy; /* [rows] */
    int32_t *top; /* [rows] */
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

static int allocate(struct teacher *teacher, size_t rows, size_t hidden, struct error *error)
{
    for (int i = 0; i < BUFFERS; i++) {
        const size_t values = i == BUFFER_NORMED || i == BUFFER_U ? rows * hidden : rows;
        if (buffer_create(teacher->backend, values * sizeof(float), &teacher->buffer[i], error) < 0)
            return -1;
    }
    if (array_alloc(&teacher->lse, rows, error) < 0 || array_alloc(&teacher->label, rows, error) < 0 ||
        array_alloc(&teacher->top_logit, rows, error) < 0 || array_alloc(&teacher->entropy, rows, error) < 0)
        return -1;
    return array_alloc(&teacher->top, rows, error);
}

int teacher_open(const struct model *model, struct backend *backend, int64_t rows, bool resident,
                 struct teacher **result, struct error *error)
{
    struct teacher *teacher;
    *result = NULL;
    if (array_alloc(&teacher, 1, error) < 0)
        return -1;
    teacher->model = model;
    teacher->backend = backend;
    teacher->resident = resident;
    if (allocate(teacher, (size_t)rows, (size_t)model_config(model)->hidden, error) < 0 ||
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
    for (int i = 0; i < BUFFERS; i++)
        buffer_destroy(teacher->buffer[i]);
    free(teacher->lse);
    free(teacher->label);
    free(teacher->top_logit);
    free(teacher->entropy);
    free(teacher->top);
    free(teacher);
}

static void fill_values(const struct teacher *teacher, int64_t rows, struct target_row *values)
{
    for (int64_t r = 0; r < rows; r++)
        values[r] = (struct target_row){
            .top = teacher->top[r],
            .probability = (float)exp((double)teacher->top_logit[r] - teacher->lse[r]),
            .entropy = teacher->entropy[r],
            .loss = (float)((double)teacher->lse[r] - teacher->label[r]),
        };
}

int teacher_ask(struct teacher *teacher, struct queue *queue, struct matrix states, const int32_t *labels,
                struct target_row *values, struct matrix *u, struct error *error)
{
    const struct model_config *config = model_config(teacher->model);
    struct buffer *const *buffer = teacher->buffer;
    const int64_t rows = states.rows;
    if (load(teacher, error) < 0)
        return -1;
    const struct vocab vocab = {.tied = ends_output(teacher->ends), .own = matrix_none()};
    const struct matrix ids = matrix_i32(buffer[BUFFER_LABELS], rows, 1);
    const struct matrix normed = matrix_f32(buffer[BUFFER_NORMED], rows, config->hidden);
    const struct vocab_stats stats = {
        .lse = matrix_f32(buffer[BUFFER_LSE], rows, 1),
        .label = matrix_f32(buffer[BUFFER_LABEL], rows, 1),
        .top = matrix_i32(buffer[BUFFER_TOP], rows, 1),
        .top_logit = matrix_f32(buffer[BUFFER_TOP_LOGIT], rows, 1),
        .entropy = matrix_f32(buffer[BUFFER_ENTROPY], rows, 1),
        .u = matrix_f32(buffer[BUFFER_U], rows, config->hidden),
    };
    op_write(queue, ids, labels);
    op_norm(queue, states, ends_final_norm(teacher->ends), config->norm_epsilon, normed);
    op_vocab_stats(queue, normed, &vocab, ids, &stats);
    op_read(queue, stats.lse, teacher->lse);
    op_read(queue, stats.label, teacher->label);
    op_read(queue, stats.top, teacher->top);
    op_read(queue, stats.top_logit, teacher->top_logit);
    op_read(queue, stats.entropy, teacher->entropy);
    if (queue_wait(queue, error) < 0)
        return -1;
    fill_values(teacher, rows, values);
    *u = stats.u;
    return 0;
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
    return 2 * (uint64_t)config->vocab * (uint64_t)config->hidden * (math == MATH_BF16 ? 2 : 4);
}

/* States and u of all rows; and what the cpu's op takes for a chunk of them (kernels/cpu/vocab.c): softmax values,
 * and a part of u for every piece of the vocabulary. */
uint64_t teacher_working_bytes(const struct model_config *config, int64_t rows)
{
    enum { CHUNK = 256, PIECE = 2048 };
    const uint64_t hidden = (uint64_t)config->hidden, vocab = (uint64_t)config->vocab;
    const uint64_t pieces = (vocab + PIECE - 1) / PIECE;
    return sizeof(float) * (2 * (uint64_t)rows * hidden + CHUNK * (vocab + pieces * hidden));
}
