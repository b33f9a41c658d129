/* Coefficients by their scale: every value is coded with a table for its spread, which is that of its column
 * times that of its row (rans.h), after what the value above lets expect is taken away.
 *
 *     u32 escapes                  values in the list at the end
 *     u8 level[3], u8 0            of column differences, slopes and row levels
 *     u32 state[RANS_LANES]
 *     u16 word[]                   column differences and slopes [2, cols], row levels [rows], residuals [rows, cols]
 *     i16 escape[escapes]
 *
 * A column difference is a column's level less that of the column before it.
 */
#include "common/codec/coefficients.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/codec/rans.h"

#define MOST_SLOPE   15 /* sixteenths */
#define ROW_LEVELS   32 /* row levels are -32 .. 32 */
#define LEAST_ENERGY 0.25

enum { SIDE_DIFFERENCES, SIDE_SLOPES, SIDE_ROWS, SIDES };

struct header {
    uint32_t escapes;
    uint8_t level[SIDES], reserved;
    uint32_t state[RANS_LANES];
};
_Static_assert(sizeof(struct header) == 8 + 4 * RANS_LANES, "the header is the same on every machine");

/* Parts of worker->model, int16 each. */
struct model {
    int16_t *side; /* [2, cols] column differences, slopes */
    int16_t *column_level; /* [cols] */
    int16_t *row_level; /* [rows] */
    int16_t *zero; /* [max(rows, cols)] */
};

static size_t coded_values(int64_t rows, int64_t cols)
{
    return codec_values(rows, cols) + 2 * (size_t)cols + (size_t)rows;
}

size_t coefficients_bound(int64_t rows, int64_t cols)
{
    return codec_values(rows, cols) ? sizeof(struct header) + 4 * coded_values(rows, cols) : 0;
}

static int open_model(struct codec_worker *worker, int64_t rows, int64_t cols, struct model *model,
                      struct error *error)
{
    const int64_t longer = rows > cols ? rows : cols, count = 3 * cols + rows + longer;
    if (array_grow(&worker->model, &worker->model_capacity, (size_t)count, error) < 0)
        return -1;
    model->side = worker->model;
    model->column_level = model->side + 2 * cols;
    model->row_level = model->column_level + cols;
    model->zero = model->row_level + rows;
    memset(model->zero, 0, (size_t)longer * sizeof *model->zero);
    return 0;
}

/* The three matrices in the order of decoding. `level` are those of the header. */
static void describe(const struct model *model, const int16_t level[SIDES], int64_t rows, int64_t cols,
                     struct rans_matrix matrix[3])
{
    matrix[0] = (struct rans_matrix){2, cols, level, model->zero, model->zero};
    matrix[1] = (struct rans_matrix){1, rows, level + SIDE_ROWS, model->zero, model->zero};
    matrix[2] = (struct rans_matrix){rows, cols, model->row_level, model->column_level, model->side + cols};
}

/* ---- what the values are like ---- */

/* Slopes of columns: the sum of products with the value above over the sum of its squares. sums [2, cols]. */
static void measure_slopes(const int16_t *values, int64_t rows, int64_t cols, int64_t *restrict sums,
                           int16_t *restrict slope)
{
    memset(sums, 0, 2 * (size_t)cols * sizeof *sums);
    for (int64_t r = 1; r < rows; r++) {
        const int16_t *above = values + (r - 1) * cols, *row = above + cols;
        for (int64_t c = 0; c < cols; c++) {
            sums[c] += row[c] * above[c];
            sums[cols + c] += above[c] * above[c];
        }
    }
    for (int64_t c = 0; c < cols; c++) {
        const double share = sums[cols + c] ? 16.0 * (double)sums[c] / (double)sums[cols + c] : 0;
        const int nearest = (int)(share < 0 ? share - 0.5 : share + 0.5);
        slope[c] = (int16_t)(nearest < -MOST_SLOPE ? -MOST_SLOPE : nearest > MOST_SLOPE ? MOST_SLOPE : nearest);
    }
}

static void take_expected(const int16_t *values, const int16_t *slope, int64_t rows, int64_t cols,
                          int16_t *restrict residuals)
{
    memcpy(residuals, values, (size_t)cols * sizeof *residuals);
    for (int64_t i = cols; i < rows * cols; i += cols)
        for (int64_t c = 0; c < cols; c++)
            residuals[i + c] = (int16_t)(values[i + c] - rans_expected(slope[c], values[i + c - cols]));
}

/* Levels of columns by the mean square of their residuals. */
static void measure_columns(const struct rans *rans, const int16_t *residuals, int64_t rows, int64_t cols,
                            int64_t *restrict sums, int16_t *level)
{
    memset(sums, 0, (size_t)cols * sizeof *sums);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            sums[c] += residuals[r * cols + c] * residuals[r * cols + c];
    for (int64_t c = 0; c < cols; c++)
        level[c] = (int16_t)rans_level(rans, (double)sums[c] / (double)rows);
}

/* How much a column's squares count in a row's level: the inverse of what they are on average, in 2^-16. */
static uint32_t weight_of(const struct rans *rans, int level)
{
    return (uint32_t)(65536 / (rans->energy[level] > LEAST_ENERGY ? rans->energy[level] : LEAST_ENERGY));
}

static uint64_t weighted_energy(const int16_t *residuals, const uint32_t *weight, int64_t cols)
{
    uint64_t sum = 0;
    for (int64_t c = 0; c < cols; c++) {
        const int32_t size = residuals[c] < 0 ? -residuals[c] : residuals[c];
        const uint32_t limited = (uint32_t)(size < 2047 ? size : 2047);
        sum += (uint64_t)(limited * limited) * weight[c];
    }
    return sum;
}

/* expected[i]: the weighted energy of a row whose level is i - ROW_LEVELS. */
static void expect_energies(const struct rans *rans, const int16_t *column_level, int64_t cols,
                            double expected[2 * ROW_LEVELS + 1])
{
    int64_t count[RANS_LEVELS] = {0};
    for (int64_t c = 0; c < cols; c++)
        count[column_level[c]]++;
    for (int i = 0; i <= 2 * ROW_LEVELS; i++) {
        expected[i] = 0;
        for (int level = 0; level < RANS_LEVELS; level++) {
            const int moved = level + i - ROW_LEVELS;
            const int there = moved < 0 ? 0 : moved > RANS_LEVELS - 1 ? RANS_LEVELS - 1 : moved;
            expected[i] += (double)count[level] * weight_of(rans, level) * rans->energy[there];
        }
    }
}

/* Levels of rows, beside those of the columns. weight [cols] */
static void measure_rows(const struct rans *rans, const int16_t *residuals, const int16_t *column_level,
                         int64_t rows, int64_t cols, uint32_t *weight, int16_t *row_level)
{
    double expected[2 * ROW_LEVELS + 1];
    expect_energies(rans, column_level, cols, expected);
    for (int64_t c = 0; c < cols; c++)
        weight[c] = weight_of(rans, column_level[c]);
    for (int64_t r = 0; r < rows; r++) {
        const double energy = (double)weighted_energy(residuals + r * cols, weight, cols);
        int i = 0;
        while (i < 2 * ROW_LEVELS && energy * energy > expected[i] * expected[i + 1])
            i++;
        row_level[r] = (int16_t)(i - ROW_LEVELS);
    }
}

static int level_of_side(const struct rans *rans, const int16_t *values, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += values[i] * values[i];
    return rans_level(rans, sum / (double)count);
}

/* ---- coding ---- */

static int measure(struct codec_worker *worker, const int16_t *values, int64_t rows, int64_t cols,
                   const struct model *model, struct error *error)
{
    if (array_grow(&worker->residuals, &worker->residuals_capacity, codec_values(rows, cols), error) < 0 ||
        array_grow(&worker->totals, &worker->totals_capacity, 2 * (size_t)cols, error) < 0 ||
        array_grow(&worker->sums, &worker->sums_capacity, (size_t)cols, error) < 0)
        return -1;
    int16_t *slope = model->side + cols;
    measure_slopes(values, rows, cols, worker->totals, slope);
    take_expected(values, slope, rows, cols, worker->residuals);
    measure_columns(worker->rans, worker->residuals, rows, cols, worker->totals, model->column_level);
    measure_rows(worker->rans, worker->residuals, model->column_level, rows, cols, worker->sums,
                 model->row_level);
    for (int64_t c = 0; c < cols; c++)
        model->side[c] = (int16_t)(model->column_level[c] - (c > 0 ? model->column_level[c - 1] : 0));
    return 0;
}

int coefficients_encode(struct codec_worker *worker, const int16_t *values, int64_t rows, int64_t cols,
                        struct codec_payload *payload, struct error *error)
{
    unsigned char *bytes = payload->bytes;
    struct model model;
    struct header header = {0};
    struct rans_matrix matrix[3];
    struct rans_encoder encoder;
    int16_t level[SIDES];
    const double start = clock_seconds();
    if (codec_check("coefficients", rows, cols, payload->capacity, coefficients_bound(rows, cols), error) < 0 ||
        open_model(worker, rows, cols, &model, error) < 0 ||
        measure(worker, values, rows, cols, &model, error) < 0)
        return -1;
    level[SIDE_DIFFERENCES] = (int16_t)level_of_side(worker->rans, model.side, cols);
    level[SIDE_SLOPES] = (int16_t)level_of_side(worker->rans, model.side + cols, cols);
    level[SIDE_ROWS] = (int16_t)level_of_side(worker->rans, model.row_level, rows);
    describe(&model, level, rows, cols, matrix);

    unsigned char *escapes_end = bytes + coefficients_bound(rows, cols);
    unsigned char *words_end = escapes_end - 2 * coded_values(rows, cols);
    rans_encode_start(&encoder, words_end, escapes_end);
    rans_encode(worker->rans, &encoder, &matrix[2], worker->residuals);
    rans_encode(worker->rans, &encoder, &matrix[1], model.row_level);
    rans_encode(worker->rans, &encoder, &matrix[0], model.side);

    const size_t words = (size_t)(words_end - encoder.words), escapes = (size_t)(escapes_end - encoder.escapes);
    header.escapes = (uint32_t)(escapes / sizeof(int16_t));
    memcpy(header.state, encoder.state, sizeof header.state);
    for (int i = 0; i < SIDES; i++)
        header.level[i] = (uint8_t)level[i];
    memcpy(bytes, &header, sizeof header);
    memmove(bytes + sizeof header, encoder.words, words);
    memmove(bytes + sizeof header + words, encoder.escapes, escapes);
    payload->size = sizeof header + words + escapes;
    worker->entropy_seconds += clock_seconds() - start;
    return 0;
}

static int read_header(const unsigned char *bytes, size_t size, int16_t level[SIDES],
                       struct rans_decoder *decoder, struct error *error)
{
    struct header header;
    memcpy(&header, bytes, sizeof header);
    if (header.escapes > (size - sizeof header) / sizeof(int16_t))
        return error_set(error, "%u escapes do not fit", header.escapes);
    if (header.reserved != 0)
        return error_set(error, "a reserved byte is %u", header.reserved);
    for (int i = 0; i < SIDES; i++) {
        if (header.level[i] >= RANS_LEVELS)
            return error_set(error, "there is no level %u", header.level[i]);
        level[i] = header.level[i];
    }
    decoder->words = bytes + sizeof header;
    decoder->escapes_end = bytes + size;
    decoder->words_end = decoder->escapes = decoder->escapes_end - header.escapes * sizeof(int16_t);
    return rans_decode_start(decoder, header.state, error);
}

int coefficients_decode(struct codec_worker *worker, const unsigned char *bytes, size_t size, int64_t rows,
                        int64_t cols, int16_t *values, struct error *error)
{
    struct model model;
    struct rans_matrix matrix[3];
    struct rans_decoder decoder;
    int16_t level[SIDES];
    const double start = clock_seconds();
    if (codec_check("coefficients", rows, cols, size, sizeof(struct header), error) < 0 ||
        open_model(worker, rows, cols, &model, error) < 0)
        return -1;
    if (read_header(bytes, size, level, &decoder, error) < 0)
        return error_prefix(error, "coefficients are damaged");
    describe(&model, level, rows, cols, matrix);
    rans_decode(worker->rans, worker->path, &decoder, &matrix[0], model.side);
    rans_decode(worker->rans, worker->path, &decoder, &matrix[1], model.row_level);
    for (int64_t c = 0; c < cols; c++)
        model.column_level[c] = (int16_t)(model.side[c] + (c > 0 ? model.column_level[c - 1] : 0));
    rans_decode(worker->rans, worker->path, &decoder, &matrix[2], values);
    if (rans_decode_finish(&decoder, error) < 0)
        return error_prefix(error, "coefficients are damaged");
    worker->entropy_seconds += clock_seconds() - start;
    return 0;
}
