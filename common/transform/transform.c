#include "common/transform/transform.h"

#include <stdlib.h>

#include "common/base/memory.h"

struct parameters {
    struct codec_transform transform;
    struct buffer *basis, *offset; /* of CODEC_QUANTISE, f32 [cols, cols] and [1, cols] */
};

struct transforms {
    int64_t cols;
    int taps;
    struct parameters *parameters; /* [taps] */
    struct buffer *made; /* rows of the tap that was put last; NULL: no tap has a transform */
};

static int upload(struct backend *backend, struct queue *queue, int64_t rows, int64_t cols, const float *values,
                  struct buffer **buffer, struct error *error)
{
    if (buffer_create(backend, (size_t)(rows * cols) * sizeof(float), buffer, error) < 0)
        return -1;
    op_write(queue, matrix_f32(*buffer, rows, cols), values);
    return 0;
}

/* Puts all parameters on the device; *row becomes the bytes of the largest row. */
static int upload_all(struct transforms *transforms, struct backend *backend, struct queue *queue, size_t *row,
                      struct error *error)
{
    const int64_t cols = transforms->cols;
    *row = 0;
    for (int tap = 0; tap < transforms->taps; tap++) {
        struct parameters *own = &transforms->parameters[tap];
        if (own->transform.kind == CODEC_QUANTISE &&
            (upload(backend, queue, cols, cols, own->transform.basis, &own->basis, error) < 0 ||
             upload(backend, queue, 1, cols, own->transform.offset, &own->offset, error) < 0))
            return -1;
        *row = own->transform.row > *row ? own->transform.row : *row;
    }
    return queue_wait(queue, error);
}

int transforms_open(struct backend *backend, const struct coder *const *coder, int taps, int64_t rows,
                    int64_t cols, struct transforms **result, struct error *error)
{
    struct transforms *transforms;
    struct queue *queue = NULL;
    size_t row;
    *result = NULL;
    if (array_alloc(&transforms, 1, error) < 0)
        return -1;
    transforms->taps = taps;
    transforms->cols = cols;
    int made = array_alloc(&transforms->parameters, taps, error);
    for (int tap = 0; tap < taps && made == 0; tap++)
        if (coder[tap])
            transforms->parameters[tap].transform = coder_transform(coder[tap]);
    if (made < 0 || queue_create(backend, &queue, error) < 0 ||
        upload_all(transforms, backend, queue, &row, error) < 0 ||
        (row > 0 && buffer_create(backend, (size_t)rows * row, &transforms->made, error) < 0)) {
        queue_destroy(queue);
        transforms_close(transforms);
        return -1;
    }
    queue_destroy(queue);
    *result = transforms;
    return 0;
}

void transforms_close(struct transforms *transforms)
{
    if (!transforms)
        return;
    for (int tap = 0; tap < transforms->taps && transforms->parameters; tap++) {
        buffer_destroy(transforms->parameters[tap].basis);
        buffer_destroy(transforms->parameters[tap].offset);
    }
    buffer_destroy(transforms->made);
    free(transforms->parameters);
    free(transforms);
}

struct matrix transforms_put(struct transforms *transforms, struct queue *queue, int tap, struct matrix states)
{
    const struct parameters *own = &transforms->parameters[tap];
    const int64_t cols = transforms->cols, words = (int64_t)(own->transform.row / sizeof(float));
    const struct matrix rows = matrix_f32(transforms->made, states.rows, words),
                        integers = {transforms->made, DTYPE_I16, 0, states.rows, cols, 2 * words},
                        bytes = {transforms->made, DTYPE_U8, 0, states.rows, 2 * cols, 4 * words};
    switch (own->transform.kind) {
    case CODEC_NO_TRANSFORM: return matrix_none();
    case CODEC_QUANTISE:
        op_quantise(queue, states, matrix_f32(own->basis, cols, cols), matrix_f32(own->offset, 1, cols),
                    own->transform.spacing, integers, matrix_cols(rows, words - 2, 1),
                    matrix_cols(rows, words - 1, 1));
        break;
    case CODEC_SPLIT:
        op_split_planes(queue, states, matrix_cols(bytes, 0, cols), matrix_cols(bytes, cols, cols));
        break;
    }
    return rows;
}
