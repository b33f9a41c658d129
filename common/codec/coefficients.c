/* Coefficients as planes: up to 16 groups of neighbouring columns, each a plane of bytes with a Huffman code
 * of its own. A byte is the value's zigzag number (0, -1, 1, -2, ...) up to 254; 255 stands for a value that
 * follows in a list of its own.
 *
 *     u32 size[groups]             of the planes' zstd frames
 *     u32 escapes                  values in the list
 *     i16 escape[escapes]          in the order of the planes
 *     frame[groups]                zstd, of u8 plane[rows][columns of the group]
 */
#include "common/codec/coefficients.h"

#include "common/base/memory.h"

#define GROUPS 16
#define ESCAPE 255

/* Columns [first, first + cols) of a group. */
struct group {
    int64_t first, cols;
};

static int group_count(int64_t cols)
{
    return cols < GROUPS ? (int)cols : GROUPS;
}

static struct group group_at(int64_t cols, int index)
{
    const int count = group_count(cols);
    const int64_t first = cols * index / count;
    return (struct group){first, cols * (index + 1) / count - first};
}

static size_t head_size(int64_t cols)
{
    return ((size_t)group_count(cols) + 1) * sizeof(uint32_t);
}

size_t coefficients_bound(int64_t rows, int64_t cols)
{
    const size_t values = codec_values(rows, cols);
    if (values == 0)
        return 0;
    size_t bound = head_size(cols) + values * sizeof(int16_t);
    for (int g = 0; g < group_count(cols); g++)
        bound += ZSTD_compressBound((size_t)(rows * group_at(cols, g).cols));
    return bound;
}

/* ---- encoding ---- */

/* A row of a plane; returns how many of its values escape. */
static int64_t fold_row(const int16_t *restrict values, int64_t cols, unsigned char *restrict plane)
{
    int64_t escapes = 0;
    for (int64_t c = 0; c < cols; c++) {
        const int16_t value = values[c];
        const uint16_t zigzag = (uint16_t)((uint16_t)value << 1 ^ (uint16_t)(value >> 15));
        plane[c] = zigzag < ESCAPE ? (unsigned char)zigzag : ESCAPE;
        escapes += zigzag >= ESCAPE;
    }
    return escapes;
}

/* Appends those of the row's values that escape. */
static unsigned char *list_escapes(const int16_t *values, int64_t cols, const unsigned char *plane,
                                   unsigned char *list)
{
    for (int64_t c = 0; c < cols; c++)
        if (plane[c] == ESCAPE) {
            memcpy(list, &values[c], sizeof *values);
            list += sizeof *values;
        }
    return list;
}

/* All planes, one behind the other, into worker->plane; returns the end of the list of escapes. */
static unsigned char *fold(struct codec_worker *worker, const int16_t *values, int64_t rows, int64_t cols,
                           unsigned char *list)
{
    unsigned char *plane = worker->plane;
    for (int g = 0; g < group_count(cols); g++) {
        const struct group group = group_at(cols, g);
        for (int64_t r = 0; r < rows; r++, plane += group.cols) {
            const int16_t *row = values + r * cols + group.first;
            if (fold_row(row, group.cols, plane) > 0)
                list = list_escapes(row, group.cols, plane, list);
        }
    }
    return list;
}

int coefficients_encode(struct codec_worker *worker, const int16_t *values, const float *deviation,
                        int64_t rows, int64_t cols, unsigned char *bytes, size_t capacity, size_t *size,
                        struct error *error)
{
    uint32_t head[GROUPS + 1];
    const int groups = group_count(cols);
    (void)deviation;
    if (array_grow(&worker->plane, &worker->plane_capacity, codec_values(rows, cols), error) < 0)
        return -1;
    unsigned char *list = bytes + head_size(cols), *frame = fold(worker, values, rows, cols, list);
    head[groups] = (uint32_t)((size_t)(frame - list) / sizeof *values);
    const unsigned char *plane = worker->plane;
    for (int g = 0; g < groups; g++) {
        const size_t count = (size_t)(rows * group_at(cols, g).cols);
        const size_t written =
            ZSTD_compress2(worker->compressor, frame, capacity - (size_t)(frame - bytes), plane, count);
        if (ZSTD_isError(written))
            return error_set(error, "coefficients: zstd cannot code: %s", ZSTD_getErrorName(written));
        head[g] = (uint32_t)written;
        frame += written;
        plane += count;
    }
    memcpy(bytes, head, head_size(cols));
    *size = (size_t)(frame - bytes);
    return 0;
}

/* ---- decoding ---- */

/* Returns how many of the row's values are in the list of escapes. */
static int64_t unfold_row(const unsigned char *restrict plane, int64_t cols, int16_t *restrict values)
{
    int64_t escapes = 0;
    for (int64_t c = 0; c < cols; c++) {
        const uint16_t zigzag = plane[c];
        values[c] = (int16_t)(zigzag >> 1 ^ -(zigzag & 1));
        escapes += zigzag == ESCAPE;
    }
    return escapes;
}

static const unsigned char *take_escapes(const unsigned char *restrict plane, int64_t cols,
                                         const unsigned char *list, int16_t *restrict values)
{
    for (int64_t c = 0; c < cols; c++)
        if (plane[c] == ESCAPE) {
            memcpy(&values[c], list, sizeof *values);
            list += sizeof *values;
        }
    return list;
}

/* The planes in worker->plane and the list [list, end) to values. */
static int unfold(const struct codec_worker *worker, const unsigned char *list, const unsigned char *end,
                  int64_t rows, int64_t cols, int16_t *values, struct error *error)
{
    const unsigned char *plane = worker->plane;
    for (int g = 0; g < group_count(cols); g++) {
        const struct group group = group_at(cols, g);
        for (int64_t r = 0; r < rows; r++, plane += group.cols) {
            int16_t *row = values + r * cols + group.first;
            const int64_t escapes = unfold_row(plane, group.cols, row);
            if (escapes > (int64_t)((size_t)(end - list) / sizeof *values))
                return error_set(error, "coefficients are damaged: more values escape than are listed");
            if (escapes > 0)
                list = take_escapes(plane, group.cols, list, row);
        }
    }
    return list == end ? 0 : error_set(error, "coefficients are damaged: values are left over");
}

int coefficients_decode(struct codec_worker *worker, const unsigned char *bytes, size_t size,
                        const float *deviation, int64_t rows, int64_t cols, int16_t *values,
                        struct error *error)
{
    uint32_t head[GROUPS + 1];
    const int groups = group_count(cols);
    (void)deviation;
    if (codec_check("coefficients", rows, cols, size, head_size(cols), error) < 0 ||
        array_grow(&worker->plane, &worker->plane_capacity, codec_values(rows, cols), error) < 0)
        return -1;
    memcpy(head, bytes, head_size(cols));
    size_t at = head_size(cols);
    if (head[groups] > (size - at) / sizeof *values)
        return error_set(error, "coefficients are damaged: %u escapes do not fit", head[groups]);
    const unsigned char *list = bytes + at;
    at += head[groups] * sizeof *values;
    unsigned char *plane = worker->plane;
    for (int g = 0; g < groups; g++) {
        const size_t count = (size_t)(rows * group_at(cols, g).cols);
        if (head[g] > size - at)
            return error_set(error, "coefficients are damaged: a plane is cut short");
        const size_t got = ZSTD_decompressDCtx(worker->decompressor, plane, count, bytes + at, head[g]);
        if (ZSTD_isError(got) || got != count)
            return error_set(error, "coefficients are damaged: %s",
                             ZSTD_isError(got) ? ZSTD_getErrorName(got) : "a plane is of another size");
        at += head[g];
        plane += count;
    }
    if (at != size)
        return error_set(error, "coefficients are damaged: %zu bytes are left over", size - at);
    return unfold(worker, list, bytes + head_size(cols) + head[groups] * sizeof *values, rows, cols, values,
                  error);
}
