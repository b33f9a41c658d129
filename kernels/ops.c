/* ops.c: every call is checked against ops.h here, once for all backends, and handed to the table of
 * the queue's backend. A call that is refused, or fails, fails the queue with a message that shows all
 * its operands. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/base/memory.h"
#include "kernels/backend.h"

/* ---- queues, buffers, weights ---- */

int queue_create(struct backend *backend, struct queue **queue, struct error *error)
{
    if (backend->table->queue_create(backend, queue, error) < 0)
        return error_prefix(error, "queue");
    (*queue)->backend = backend;
    return 0;
}

void queue_destroy(struct queue *queue)
{
    if (queue)
        queue->backend->table->queue_destroy(queue);
}

int queue_wait(struct queue *queue, struct error *error)
{
    if (queue->backend->table->queue_wait(queue, error) < 0)
        return -1;
    if (!queue->failed)
        return 0;
    *error = queue->error;
    return -1;
}

uint64_t queue_mark(const struct queue *queue)
{
    return queue->backend->table->queue_mark ? queue->backend->table->queue_mark(queue) : 0;
}

int queue_reach(struct queue *queue, uint64_t mark, struct error *error)
{
    if (queue->backend->table->queue_reach)
        queue->backend->table->queue_reach(queue, mark);
    if (!queue->failed)
        return 0;
    *error = queue->error;
    return -1;
}

struct backend *queue_backend(const struct queue *queue)
{
    return queue->backend;
}

void queue_fail(struct queue *queue, enum error_kind kind, const char *format, ...)
{
    va_list list;
    if (queue->failed)
        return;
    queue->failed = true;
    queue->error.kind = kind;
    va_start(list, format);
    vsnprintf(queue->error.text, sizeof queue->error.text, format, list);
    va_end(list);
}

int buffer_create(struct backend *backend, size_t bytes, struct buffer **buffer, struct error *error)
{
    if (backend->table->buffer_create(backend, bytes, buffer, error) < 0)
        return error_prefix(error, "buffer of %zu bytes", bytes);
    (*buffer)->backend = backend;
    (*buffer)->bytes = bytes;
    return 0;
}

void buffer_destroy(struct buffer *buffer)
{
    if (buffer)
        buffer->backend->table->buffer_destroy(buffer);
}

int weight_prepare(struct backend *backend, const struct weight_part *parts, int count, const float *bias,
                   unsigned uses, struct weight **weight, struct error *error)
{
    const unsigned known = WEIGHT_FORWARD | WEIGHT_BACKWARD | WEIGHT_ROWS;
    int64_t rows = 0;
    size_t row_bytes, bytes;
    if (count < 1 || !uses || uses & ~known)
        return error_set_kind(error, ERROR_INTERNAL, "weight: %d parts for the uses %#x make no weight", count,
                              uses);
    for (int p = 0; p < count; p++) {
        const struct weight_part *part = &parts[p];
        const bool is_weight = part->type >= 0 && part->type <= DTYPE_Q4_1;
        if (!is_weight || part->rows < 1 || part->cols < 1 || part->cols != parts[0].cols ||
            !dtype_row_bytes(part->type, part->cols, &row_bytes) ||
            !size_multiply((size_t)part->rows, row_bytes, &bytes) ||
            __builtin_add_overflow(rows, part->rows, &rows))
            return error_set_kind(
                error, ERROR_INTERNAL,
                "weight: part %d of %d, %s [%lld, %lld], does not fit a weight of %lld columns", p + 1, count,
                is_weight ? dtype_name(part->type) : "no weight's type", (long long)part->rows,
                (long long)part->cols, (long long)parts[0].cols);
    }
    if (backend->table->weight_prepare(backend, parts, count, bias, uses, weight, error) < 0)
        return error_prefix(error, "weight [%lld, %lld]", (long long)rows, (long long)parts[0].cols);
    (*weight)->backend = backend;
    (*weight)->rows = rows;
    (*weight)->cols = parts[0].cols;
    (*weight)->uses = uses;
    return 0;
}

int weight_subset_create(const struct weight *from, int64_t rows, struct weight **subset, struct error *error)
{
    size_t bytes;
    if (rows < 1 || !size_multiply((size_t)rows, (size_t)from->cols * sizeof(float), &bytes))
        return error_set_kind(error, ERROR_INTERNAL, "weight: %lld rows make no subset of [%lld, %lld]",
                              (long long)rows, (long long)from->rows, (long long)from->cols);
    if (from->backend->table->weight_subset_create(from->backend, rows, from->cols, subset, error) < 0)
        return error_prefix(error, "weight [%lld, %lld]", (long long)rows, (long long)from->cols);
    (*subset)->backend = from->backend;
    (*subset)->rows = rows;
    (*subset)->cols = from->cols;
    (*subset)->uses = WEIGHT_FORWARD | WEIGHT_BACKWARD | WEIGHT_ROWS;
    (*subset)->is_subset = true;
    return 0;
}

void weight_destroy(struct weight *weight)
{
    if (weight)
        weight->backend->table->weight_destroy(weight);
}

size_t weight_bytes(const struct weight *weight)
{
    return weight->bytes;
}

/* ---- views ---- */

static struct matrix whole(struct buffer *buffer, enum dtype type, int64_t rows, int64_t cols)
{
    return (struct matrix){buffer, type, 0, rows, cols, cols};
}

struct matrix matrix_f32(struct buffer *buffer, int64_t rows, int64_t cols)
{
    return whole(buffer, DTYPE_F32, rows, cols);
}

struct matrix matrix_i32(struct buffer *buffer, int64_t rows, int64_t cols)
{
    return whole(buffer, DTYPE_I32, rows, cols);
}

struct matrix matrix_f64(struct buffer *buffer, int64_t rows, int64_t cols)
{
    return whole(buffer, DTYPE_F64, rows, cols);
}

struct matrix matrix_rows(struct matrix matrix, int64_t first, int64_t rows)
{
    matrix.offset += first * matrix.stride;
    matrix.rows = rows;
    return matrix;
}

struct matrix matrix_cols(struct matrix matrix, int64_t first, int64_t cols)
{
    matrix.offset += first;
    matrix.cols = cols;
    return matrix;
}

struct matrix matrix_none(void)
{
    return (struct matrix){0};
}

bool matrix_is_none(struct matrix matrix)
{
    return !matrix.buffer;
}

/* ---- checks ---- */

enum {
    OPERAND_OUTPUT = 1,
    OPERAND_OPTIONAL = 2,
    OPERAND_IN_PLACE = 4 /* an output that may be the very view of the call's first operand */
};

/* One operand of a call, and what it must be. A list of them ends with name NULL. */
struct operand {
    const char *name;
    struct matrix matrix;
    const struct weight *weight; /* instead of a matrix */
    unsigned flags; /* OPERAND_*; of a weight: the WEIGHT_* it needs */
    enum dtype type;
    int64_t rows, cols;
};

static struct operand input(const char *name, struct matrix matrix, enum dtype type, int64_t rows, int64_t cols)
{
    return (struct operand){name, matrix, NULL, 0, type, rows, cols};
}

static struct operand output(const char *name, struct matrix matrix, enum dtype type, int64_t rows,
                             int64_t cols)
{
    return (struct operand){name, matrix, NULL, OPERAND_OUTPUT, type, rows, cols};
}

static struct operand with(unsigned flags, struct operand operand)
{
    operand.flags |= flags;
    return operand;
}

static struct operand prepared(const char *name, const struct weight *weight, unsigned uses, int64_t rows,
                               int64_t cols)
{
    return (struct operand){name, matrix_none(), weight, uses, DTYPE_F32, rows, cols};
}

/* What a weight must be prepared for when it multiplies that many rows. */
static unsigned forward_use(int64_t rows)
{
    return rows > MATMUL_FEW_ROWS ? WEIGHT_FORWARD : WEIGHT_ROWS;
}

static int64_t vocab_size(const struct vocab *vocab)
{
    return vocab->tied ? vocab->tied->rows : vocab->own.rows;
}

/* Weights of a vocabulary may be cut for products in other ways where one is a subset. */
static const char *unlike(const struct vocab *vocab, const struct vocab *teacher)
{
    const bool both = vocab->tied && teacher->tied;
    return both && vocab->tied->is_subset != teacher->tied->is_subset
               ? "vocab and teacher must both come from weight_subset_create, or neither"
               : NULL;
}

/* A vocabulary's weight for `states` rows [M, H]. */
static struct operand vocabulary(const char *name, const struct vocab *vocab, int64_t size,
                                 struct matrix states, bool combines_rows)
{
    if (!vocab->tied)
        return input(name, vocab->own, DTYPE_F32, size, states.cols);
    const unsigned uses = forward_use(states.rows) | (combines_rows ? WEIGHT_BACKWARD : 0);
    return prepared(name, vocab->tied, uses, size, states.cols);
}

static bool view_fits(struct matrix matrix)
{
    const int64_t size = (int64_t)value_size(matrix.type);
    int64_t end;
    return matrix.rows >= 1 && matrix.cols >= 1 && matrix.offset >= 0 && matrix.stride >= matrix.cols &&
           !__builtin_mul_overflow(matrix.rows - 1, matrix.stride, &end) &&
           !__builtin_add_overflow(end, matrix.offset, &end) &&
           !__builtin_add_overflow(end, matrix.cols, &end) && !__builtin_mul_overflow(end, size, &end) &&
           (uint64_t)end <= matrix.buffer->bytes;
}

/* Whether two views that fit share a byte. Exact for equal strides (two column ranges of one matrix
 * do not overlap) and when one has a single row; otherwise by their whole extents. */
static bool views_overlap(struct matrix a, struct matrix b)
{
    const int64_t a_size = (int64_t)value_size(a.type), a_first = a.offset * a_size, a_width = a.cols * a_size;
    const int64_t b_size = (int64_t)value_size(b.type), b_first = b.offset * b_size, b_width = b.cols * b_size;
    if (matrix_is_none(a) || matrix_is_none(b) || a.buffer != b.buffer)
        return false;
    const int64_t b_stride = b.rows > 1 ? b.stride * b_size : a.rows > 1 ? a.stride * a_size : 1;
    const int64_t a_stride = a.rows > 1 ? a.stride * a_size : b_stride;
    if (a_stride != b_stride)
        return a_first < b_first + (b.rows - 1) * b_stride + b_width &&
               b_first < a_first + (a.rows - 1) * a_stride + a_width;
    /* Row i of a and row j of b overlap when -b_width < distance + (j - i) stride < a_width. The
     * largest j - i that obeys the right side decides. */
    const int64_t distance = b_first - a_first, room = a_width - 1 - distance;
    int64_t shift = room >= 0 ? room / a_stride : -((-room + a_stride - 1) / a_stride);
    if (shift > b.rows - 1)
        shift = b.rows - 1;
    return shift >= 1 - a.rows && distance + shift * a_stride > -b_width;
}

static bool same_view(struct matrix a, struct matrix b)
{
    return a.buffer == b.buffer && a.type == b.type && a.offset == b.offset && a.rows == b.rows &&
           a.cols == b.cols && a.stride == b.stride;
}

/* Writes "x f32 [7, 32], weight [96, 32]" of all operands. */
static void describe(const struct operand *operands, char *text, size_t size)
{
    size_t used = 0;
    for (const struct operand *o = operands; o->name && used < size; o++) {
        const struct matrix m = o->matrix;
        const char *comma = o == operands ? "" : ", ";
        int length;
        if (o->weight)
            length = snprintf(text + used, size - used, "%s%s [%lld, %lld]", comma, o->name,
                              (long long)o->weight->rows, (long long)o->weight->cols);
        else if (matrix_is_none(m))
            length = snprintf(text + used, size - used, "%s%s none", comma, o->name);
        else
            length = snprintf(text + used, size - used, "%s%s %s [%lld, %lld]", comma, o->name,
                              value_size(m.type) ? dtype_name(m.type) : "of no type", (long long)m.rows,
                              (long long)m.cols);
        used += (size_t)length;
    }
}

/* Writes why an operand is not what it must be; false when it is. */
static bool operand_wrong(const struct queue *queue, const struct operand *o, char *why, size_t size)
{
    const struct matrix m = o->matrix;
    if (o->weight) {
        const unsigned missing = o->flags & ~o->weight->uses;
        if (o->weight->backend != queue->backend)
            snprintf(why, size, "%s belongs to another backend", o->name);
        else if (o->weight->rows != o->rows || o->weight->cols != o->cols)
            snprintf(why, size, "%s must be [%lld, %lld]", o->name, (long long)o->rows, (long long)o->cols);
        else if (missing)
            snprintf(why, size, "%s was not prepared for%s%s%s", o->name,
                     missing & WEIGHT_FORWARD ? " WEIGHT_FORWARD" : "",
                     missing & WEIGHT_BACKWARD ? " WEIGHT_BACKWARD" : "",
                     missing & WEIGHT_ROWS ? " WEIGHT_ROWS" : "");
        else
            return false;
    } else if (matrix_is_none(m)) {
        if (o->flags & OPERAND_OPTIONAL)
            return false;
        snprintf(why, size, "%s is missing", o->name);
    } else if (m.buffer->backend != queue->backend) {
        snprintf(why, size, "%s belongs to another backend", o->name);
    } else if (!value_size(m.type)) {
        snprintf(why, size, "%s must be f32, f64, i32, i16 or u8", o->name);
    } else if (m.type != o->type) {
        snprintf(why, size, "%s must be %s", o->name, dtype_name(o->type));
    } else if (m.rows != o->rows || m.cols != o->cols) {
        snprintf(why, size, "%s must be [%lld, %lld]", o->name, (long long)o->rows, (long long)o->cols);
    } else if (!view_fits(m)) {
        snprintf(why, size, "%s (offset %lld, stride %lld) is outside its buffer of %zu bytes", o->name,
                 (long long)m.offset, (long long)m.stride, m.buffer->bytes);
    } else {
        return false;
    }
    return true;
}

/* Writes which output overlaps what; false when none does. */
static bool outputs_overlap(const struct operand *operands, char *why, size_t size)
{
    for (const struct operand *o = operands; o->name; o++)
        for (const struct operand *other = operands; other->name; other++) {
            const bool in_place =
                o->flags & OPERAND_IN_PLACE && other == operands && same_view(o->matrix, other->matrix);
            if (o->weight || other->weight || !(o->flags & OPERAND_OUTPUT) || o == other || in_place ||
                !views_overlap(o->matrix, other->matrix))
                continue;
            snprintf(why, size, "%s overlaps %s", o->name, other->name);
            return true;
        }
    return false;
}

/* True when the op may run. `wrong`: another reason why it may not, or NULL. */
static bool accept(struct queue *queue, const char *op, const char *wrong, const struct operand *operands)
{
    char shapes[512] = "", why[256] = "";
    bool bad = false;
    if (queue->failed)
        return false;
    for (const struct operand *o = operands; o->name && !bad; o++)
        bad = operand_wrong(queue, o, why, sizeof why);
    if (!bad && wrong) {
        snprintf(why, sizeof why, "%s", wrong);
        bad = true;
    }
    if (!bad && !outputs_overlap(operands, why, sizeof why))
        return true;
    describe(operands, shapes, sizeof shapes);
    queue_fail(queue, ERROR_INTERNAL, "%s(%s): %s", op, shapes, why);
    return false;
}

/* A backend's own reason gets the call before it. */
static void explain_failure(struct queue *queue, const char *op, const struct operand *operands)
{
    char shapes[512] = "";
    if (!queue->failed)
        return;
    describe(operands, shapes, sizeof shapes);
    error_prefix(&queue->error, "%s(%s)", op, shapes);
}

/* Runs an op if the operands at the end are right and `wrong`, another reason against it, is NULL. `kind` is
 * the member of struct device_times that its time counts to. */
#define RUN_AS(kind, op, arguments, wrong, ...)                                                                \
    do {                                                                                                       \
        const struct operand operands[] = {__VA_ARGS__, {.name = NULL}};                                       \
        if (accept(queue, "op_" #op, wrong, operands)) {                                                       \
            const struct backend_table *functions = queue->backend->table;                                     \
            const bool timed = queue->backend->options.timed && functions->time_begin;                         \
            if (timed)                                                                                         \
                functions->time_begin(queue, &queue->backend->times.kind);                                     \
            functions->op arguments;                                                                           \
            if (timed)                                                                                         \
                functions->time_end(queue);                                                                    \
            explain_failure(queue, "op_" #op, operands);                                                       \
        }                                                                                                      \
    } while (0)
#define RUN(op, arguments, wrong, ...) RUN_AS(ops, op, arguments, wrong, __VA_ARGS__)

static const char *unless(bool right, const char *wrong)
{
    return right ? NULL : wrong;
}

static bool divides(int64_t part, int64_t total)
{
    return part > 0 && total % part == 0;
}

/* ---- ops ---- */

void op_write(struct queue *queue, struct matrix matrix, const void *source)
{
    RUN_AS(in, write, (queue, matrix, source), NULL,
           output("matrix", matrix, matrix.type, matrix.rows, matrix.cols));
}

void op_write_bf16(struct queue *queue, struct matrix matrix, const void *source)
{
    RUN_AS(in, write_bf16, (queue, matrix, source), NULL,
           output("matrix", matrix, DTYPE_F32, matrix.rows, matrix.cols));
}

void op_read(struct queue *queue, struct matrix matrix, void *destination)
{
    RUN_AS(out, read, (queue, matrix, destination), NULL,
           input("matrix", matrix, matrix.type, matrix.rows, matrix.cols));
}

void op_read_rounded(struct queue *queue, struct matrix matrix, float *destination)
{
    RUN_AS(out, read_rounded, (queue, matrix, destination), NULL,
           input("matrix", matrix, DTYPE_F32, matrix.rows, matrix.cols));
}

void op_matmul(struct queue *queue, struct matrix x, const struct weight *weight, struct matrix y,
               enum op_mode mode)
{
    RUN(matmul, (queue, x, weight, y, mode), NULL, input("x", x, DTYPE_F32, x.rows, weight->cols),
        prepared("weight", weight, forward_use(x.rows), weight->rows, weight->cols),
        output("y", y, DTYPE_F32, x.rows, weight->rows));
}

void op_matmul_grad(struct queue *queue, struct matrix dy, const struct weight *weight, struct matrix dx,
                    enum op_mode mode)
{
    RUN(matmul_grad, (queue, dy, weight, dx, mode), NULL, input("dy", dy, DTYPE_F32, dy.rows, weight->rows),
        prepared("weight", weight, WEIGHT_BACKWARD, weight->rows, weight->cols),
        output("dx", dx, DTYPE_F32, dy.rows, weight->cols));
}

void op_embed(struct queue *queue, const struct weight *weight, struct matrix ids, struct matrix y)
{
    RUN(embed, (queue, weight, ids, y), NULL,
        prepared("weight", weight, WEIGHT_ROWS, weight->rows, weight->cols),
        input("ids", ids, DTYPE_I32, ids.rows, 1), output("y", y, DTYPE_F32, ids.rows, weight->cols));
}

void op_gather(struct queue *queue, const struct weight *from, struct matrix ids, struct weight *subset)
{
    RUN(gather, (queue, from, ids, subset),
        unless(subset->is_subset && subset != from, "subset must come from weight_subset_create"),
        prepared("from", from, WEIGHT_ROWS, from->rows, subset->cols),
        input("ids", ids, DTYPE_I32, subset->rows, 1),
        prepared("subset", subset, 0, subset->rows, subset->cols));
}

void op_gemm(struct queue *queue, struct matrix a, bool transpose_a, struct matrix b, bool transpose_b,
             struct matrix c, enum op_mode mode)
{
    const int64_t m = transpose_a ? a.cols : a.rows, k = transpose_a ? a.rows : a.cols;
    const int64_t n = transpose_b ? b.rows : b.cols;
    RUN(gemm, (queue, a, transpose_a, b, transpose_b, c, mode), NULL,
        input(transpose_a ? "a^T" : "a", a, DTYPE_F32, a.rows, a.cols),
        input(transpose_b ? "b^T" : "b", b, DTYPE_F32, transpose_b ? n : k, transpose_b ? k : n),
        output("c", c, DTYPE_F32, m, n));
}

static bool views_alike(struct matrix a, struct matrix b)
{
    return a.rows == b.rows && a.cols == b.cols && a.stride == b.stride;
}

static bool gemms_alike(const struct gemm *a, const struct gemm *b)
{
    return views_alike(a->a, b->a) && views_alike(a->b, b->b) && views_alike(a->c, b->c) &&
           a->transpose_a == b->transpose_a && a->transpose_b == b->transpose_b && a->mode == b->mode;
}

/* Each is checked as op_gemm checks it, then all are run. */
static void run_alike(struct queue *queue, const struct gemm *gemms, int count)
{
    const struct gemm *first = &gemms[0];
    const int64_t m = first->c.rows, n = first->c.cols;
    const int64_t k = first->transpose_a ? first->a.rows : first->a.cols;
    for (int i = 0; i < count; i++) {
        const struct gemm *gemm = &gemms[i];
        const struct operand operands[] = {input(gemm->transpose_a ? "a^T" : "a", gemm->a, DTYPE_F32,
                                                 gemm->transpose_a ? k : m, gemm->transpose_a ? m : k),
                                           input(gemm->transpose_b ? "b^T" : "b", gemm->b, DTYPE_F32,
                                                 gemm->transpose_b ? n : k, gemm->transpose_b ? k : n),
                                           output("c", gemm->c, DTYPE_F32, m, n),
                                           {.name = NULL}};
        if (!accept(queue, "op_gemm", NULL, operands))
            return;
    }
    RUN(gemm_alike, (queue, gemms, count), NULL, input("a", first->a, DTYPE_F32, first->a.rows, first->a.cols),
        input("b", first->b, DTYPE_F32, first->b.rows, first->b.cols), output("c", first->c, DTYPE_F32, m, n));
}

void op_gemm_group(struct queue *queue, const struct gemm *gemms, int count)
{
    const bool together = queue->backend->table->gemm_alike != NULL;
    for (int first = 0, alike; first < count; first += alike) {
        const struct gemm *gemm = &gemms[first];
        alike = 1;
        while (together && alike < GEMMS_ALIKE && first + alike < count &&
               gemms_alike(gemm, &gemms[first + alike]))
            alike++;
        if (alike > 1)
            run_alike(queue, gemm, alike);
        else
            op_gemm(queue, gemm->a, gemm->transpose_a, gemm->b, gemm->transpose_b, gemm->c, gemm->mode);
    }
}

void op_gram(struct queue *queue, struct matrix x, struct matrix y, struct matrix w, struct matrix g)
{
    RUN(gram, (queue, x, y, w, g), NULL, input("x", x, DTYPE_F32, x.rows, x.cols),
        input("y", y, DTYPE_F32, x.rows, y.cols), input("w", w, DTYPE_F32, x.rows, 1),
        output("g", g, DTYPE_F64, x.cols, y.cols));
}

void op_copy(struct queue *queue, struct matrix x, struct matrix y)
{
    RUN(copy, (queue, x, y), NULL, input("x", x, x.type, x.rows, x.cols),
        output("y", y, x.type, x.rows, x.cols));
}

void op_axpy(struct queue *queue, float alpha, struct matrix x, struct matrix y)
{
    RUN(axpy, (queue, alpha, x, y), NULL, input("x", x, DTYPE_F32, x.rows, x.cols),
        output("y", y, DTYPE_F32, x.rows, x.cols));
}

void op_add_bias(struct queue *queue, struct matrix b, struct matrix y)
{
    RUN(add_bias, (queue, b, y), NULL, input("b", b, DTYPE_F32, 1, y.cols),
        output("y", y, DTYPE_F32, y.rows, y.cols));
}

void op_sum_rows(struct queue *queue, struct matrix x, struct matrix s)
{
    RUN(sum_rows, (queue, x, s), NULL, input("x", x, DTYPE_F32, x.rows, x.cols),
        output("s", s, DTYPE_F32, 1, x.cols));
}

void op_sum_squares(struct queue *queue, const struct square_sum *sums, int count)
{
    for (int i = 0; i < count; i++) {
        const struct matrix x = sums[i].x;
        const struct operand operands[] = {
            input("x", x, DTYPE_F32, x.rows, x.cols), output("s", sums[i].s, DTYPE_F64, 1, 1), {.name = NULL}};
        if (!accept(queue, "op_sum_squares", NULL, operands))
            return;
    }
    if (count > 0)
        RUN(sum_squares, (queue, sums, count), NULL, input("x", sums->x, DTYPE_F32, sums->x.rows, sums->x.cols),
            output("s", sums->s, DTYPE_F64, 1, 1));
}

void op_mean_square(struct queue *queue, struct matrix x, struct matrix m)
{
    RUN(mean_square, (queue, x, m), NULL, input("x", x, DTYPE_F32, x.rows, x.cols),
        output("m", m, DTYPE_F32, x.rows, 1));
}

void op_norm(struct queue *queue, struct matrix x, struct matrix scale, float epsilon, struct matrix y)
{
    RUN(norm, (queue, x, scale, epsilon, y),
        unless(divides(scale.cols, x.cols), "scale's columns must divide x's"),
        input("x", x, DTYPE_F32, x.rows, x.cols), input("scale", scale, DTYPE_F32, 1, scale.cols),
        with(OPERAND_IN_PLACE, output("y", y, DTYPE_F32, x.rows, x.cols)));
}

void op_norm_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix scale, float epsilon,
                  struct matrix dx, enum op_mode mode, struct matrix dscale)
{
    RUN(norm_grad, (queue, dy, x, scale, epsilon, dx, mode, dscale),
        unless(divides(scale.cols, x.cols), "scale's columns must divide x's"),
        input("dy", dy, DTYPE_F32, x.rows, x.cols), input("x", x, DTYPE_F32, x.rows, x.cols),
        input("scale", scale, DTYPE_F32, 1, scale.cols), output("dx", dx, DTYPE_F32, x.rows, x.cols),
        with(OPERAND_OPTIONAL, output("dscale", dscale, DTYPE_F32, 1, scale.cols)));
}

void op_swiglu(struct queue *queue, struct matrix x, struct matrix y)
{
    RUN(swiglu, (queue, x, y), NULL, input("x", x, DTYPE_F32, x.rows, 2 * y.cols),
        output("y", y, DTYPE_F32, x.rows, y.cols));
}

void op_swiglu_grad(struct queue *queue, struct matrix dy, struct matrix x, struct matrix dx)
{
    RUN(swiglu_grad, (queue, dy, x, dx), NULL, input("dy", dy, DTYPE_F32, x.rows, dy.cols),
        input("x", x, DTYPE_F32, x.rows, 2 * dy.cols), output("dx", dx, DTYPE_F32, x.rows, 2 * dy.cols));
}

static const char *rope_wrong(struct matrix x, struct matrix table)
{
    return unless(divides(table.cols, x.cols) && table.cols % 2 == 0,
                  "table's columns, an even number, must divide x's");
}

void op_rope(struct queue *queue, struct matrix x, struct matrix positions, struct matrix table,
             enum rope_pairs pairs)
{
    RUN(rope, (queue, x, positions, table, pairs), rope_wrong(x, table),
        output("x", x, DTYPE_F32, x.rows, x.cols), input("positions", positions, DTYPE_I32, x.rows, 1),
        input("table", table, DTYPE_F32, table.rows, table.cols));
}

void op_rope_grad(struct queue *queue, struct matrix dx, struct matrix positions, struct matrix table,
                  enum rope_pairs pairs)
{
    RUN(rope_grad, (queue, dx, positions, table, pairs), rope_wrong(dx, table),
        output("dx", dx, DTYPE_F32, dx.rows, dx.cols), input("positions", positions, DTYPE_I32, dx.rows, 1),
        input("table", table, DTYPE_F32, table.rows, table.cols));
}

/* A call of op_attention, or of its gradient: with dout, dq and dspans. */
struct attention_call {
    const char *op;
    const struct attention *attention;
    struct matrix q, out, dout, dq;
    const struct attention_span *spans, *dspans;
    int count;
};

/* A span against the whole call, which has `left` rows without a span: the message shows the keys of the span that
 * is wrong. */
static bool accept_span(struct queue *queue, const struct attention_call *call, int number, int64_t left)
{
    const int64_t width = (int64_t)call->attention->heads * call->attention->head_size;
    const int64_t kv_width = (int64_t)call->attention->kv_heads * call->attention->head_size;
    const struct attention_span *span = &call->spans[number], none = {0};
    const struct operand end = {.name = NULL};
    const struct attention_span *grads = call->dspans ? &call->dspans[number] : &none;
    const unsigned optional = OPERAND_OPTIONAL;
    const int64_t keys = span->k.rows, rows = call->q.rows, own = span->own_k.cols;
    const struct operand operands[] = {
        input("q", call->q, DTYPE_F32, rows, width),
        input("k", span->k, DTYPE_F32, keys, kv_width),
        input("v", span->v, DTYPE_F32, keys, kv_width),
        with(optional, input("own_k", span->own_k, DTYPE_F32, span->queries, own)),
        with(optional, input("own_v", span->own_v, DTYPE_F32, span->queries, own)),
        call->dspans ? input("out", call->out, DTYPE_F32, rows, width)
                     : output("out", call->out, DTYPE_F32, rows, width),
        call->dspans ? input("dout", call->dout, DTYPE_F32, rows, width) : end,
        output("dq", call->dq, DTYPE_F32, rows, width),
        with(optional, output("dk", grads->k, DTYPE_F32, keys, kv_width)),
        with(optional, output("dv", grads->v, DTYPE_F32, keys, kv_width)),
        with(optional, output("own_dk", grads->own_k, DTYPE_F32, span->queries, own)),
        with(optional, output("own_dv", grads->own_v, DTYPE_F32, span->queries, own)),
        end};
    const bool right = span->queries >= 1 && span->queries <= left && keys >= span->queries;
    const char *wrong = !right ? "a span has 1 query or more, no more than q has left, nor more than keys"
                        : matrix_is_none(span->own_k) != matrix_is_none(span->own_v)
                            ? "own_k and own_v go together"
                            : unless(own % kv_width == 0, "own_k must have whole keys");
    return accept(queue, call->op, wrong, operands);
}

/* Why the call may not run, or NULL; each span has been accepted, or the queue has failed. */
static const char *attention_wrong(struct queue *queue, const struct attention_call *call)
{
    const struct attention *attention = call->attention;
    int64_t left = call->q.rows; /* without a span */
    if (attention->head_size <= 0 || attention->window < 0 || attention->heads <= 0 ||
        !divides(attention->kv_heads, attention->heads))
        return "kv_heads must divide the heads";
    for (int i = 0; i < call->count; left -= call->spans[i++].queries)
        if (!accept_span(queue, call, i, left))
            return NULL;
    return unless(left == 0, "the spans' queries must be all of q");
}

void op_attention(struct queue *queue, const struct attention *attention, struct matrix q,
                  const struct attention_span *spans, int count, struct matrix out)
{
    const int64_t width = (int64_t)attention->heads * attention->head_size;
    const struct attention_call call = {
        .op = "op_attention", .attention = attention, .q = q, .out = out, .spans = spans, .count = count};
    RUN(attention, (queue, attention, q, spans, count, out), attention_wrong(queue, &call),
        input("q", q, DTYPE_F32, q.rows, width), output("out", out, DTYPE_F32, q.rows, width));
}

void op_attention_grad(struct queue *queue, const struct attention *attention, struct matrix q,
                       const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                       struct matrix dq, const struct attention_span *dspans)
{
    const int64_t width = (int64_t)attention->heads * attention->head_size;
    const struct attention_call call = {.op = "op_attention_grad",
                                        .attention = attention,
                                        .q = q,
                                        .out = out,
                                        .dout = dout,
                                        .dq = dq,
                                        .spans = spans,
                                        .dspans = dspans,
                                        .count = count};
    RUN(attention_grad, (queue, attention, q, spans, count, out, dout, dq, dspans),
        attention_wrong(queue, &call), input("q", q, DTYPE_F32, q.rows, width),
        input("out", out, DTYPE_F32, q.rows, width), input("dout", dout, DTYPE_F32, q.rows, width),
        output("dq", dq, DTYPE_F32, q.rows, width));
}

void op_vocab_stats(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix labels,
                    const struct vocab_stats *stats)
{
    const unsigned optional = OPERAND_OPTIONAL;
    const int64_t best = matrix_is_none(stats->best) ? stats->best_logit.cols : stats->best.cols;
    const int64_t most = vocab_size(vocab);
    const char *wrong =
        !matrix_is_none(stats->label) && matrix_is_none(labels) ? "the label's logit needs labels"
        : matrix_is_none(stats->best) != matrix_is_none(stats->best_logit)
            ? "best and best_logit go together"
            : unless(best <= most && best <= VOCAB_BEST_MOST, "best has more columns than there may be");
    RUN(vocab_stats, (queue, h, vocab, labels, stats), wrong, input("h", h, DTYPE_F32, h.rows, h.cols),
        vocabulary("vocab", vocab, vocab_size(vocab), h, !matrix_is_none(stats->u)),
        with(optional, input("labels", labels, DTYPE_I32, h.rows, 1)),
        with(optional, output("lse", stats->lse, DTYPE_F32, h.rows, 1)),
        with(optional, output("label", stats->label, DTYPE_F32, h.rows, 1)),
        with(optional, output("top", stats->top, DTYPE_I32, h.rows, 1)),
        with(optional, output("top_logit", stats->top_logit, DTYPE_F32, h.rows, 1)),
        with(optional, output("entropy", stats->entropy, DTYPE_F32, h.rows, 1)),
        with(optional, output("u", stats->u, DTYPE_F32, h.rows, h.cols)),
        with(optional, output("best", stats->best, DTYPE_I32, h.rows, best)),
        with(optional, output("best_logit", stats->best_logit, DTYPE_F32, h.rows, best)));
}

void op_vocab_cross(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix t,
                    const struct vocab *teacher, struct matrix cross)
{
    RUN(vocab_cross, (queue, h, vocab, t, teacher, cross), unlike(vocab, teacher),
        input("h", h, DTYPE_F32, h.rows, h.cols), vocabulary("vocab", vocab, vocab_size(vocab), h, false),
        input("t", t, DTYPE_F32, h.rows, h.cols), vocabulary("teacher", teacher, vocab_size(vocab), t, false),
        output("cross", cross, DTYPE_F32, h.rows, 1));
}

static const char *impossible_loss(const struct vocab_loss *target)
{
    const bool tempered = target->temperature != 0 && target->temperature != 1;
    if (!(target->share >= 0 && target->share <= 1))
        return "share must be in 0 .. 1";
    if (!(target->temperature >= 0) || !isfinite(target->temperature))
        return "the temperature must be above 0";
    return unless(!tempered || target->target == VOCAB_TEACHER, "a temperature needs VOCAB_TEACHER");
}

void op_vocab_loss(struct queue *queue, struct matrix h, const struct vocab *vocab,
                   const struct vocab_loss *target, struct matrix loss, struct matrix dh, struct matrix down)
{
    const struct matrix state = target->teacher_state;
    const int64_t size = vocab_size(vocab);
    struct operand wanted[3] = {{0}}; /* the target's; the first without a name ends them */
    int more = 1;
    const char *wrong = unless(!vocab->tied || matrix_is_none(down), "a tied weight has no gradient");
    if (!wrong)
        wrong = impossible_loss(target);
    switch (target->target) {
    case VOCAB_LABELS: wanted[0] = input("labels", target->labels, DTYPE_I32, h.rows, 1); break;
    case VOCAB_U:
        wanted[0] = input("u", target->u, DTYPE_F32, h.rows, h.cols);
        if (!matrix_is_none(down))
            wrong = "VOCAB_U has no gradient of the weight";
        break;
    case VOCAB_TEACHER:
        wanted[0] = input("teacher_state", state, DTYPE_F32, h.rows, h.cols);
        wanted[more++] = vocabulary("teacher", &target->teacher, size, state, false);
        if (!wrong)
            wrong = unlike(vocab, &target->teacher);
        break;
    }
    if (target->target != VOCAB_LABELS && target->share > 0)
        wanted[more] = input("labels", target->labels, DTYPE_I32, h.rows, 1);
    RUN(vocab_loss, (queue, h, vocab, target, loss, dh, down), wrong, input("h", h, DTYPE_F32, h.rows, h.cols),
        vocabulary("vocab", vocab, size, h, true),
        with(OPERAND_OPTIONAL, input("shift", target->shift, DTYPE_F32, 1, size)),
        output("loss", loss, DTYPE_F32, h.rows, 1), output("dh", dh, DTYPE_F32, h.rows, h.cols),
        with(OPERAND_OPTIONAL, output("down", down, DTYPE_F32, size, h.cols)), wanted[0], wanted[1], wanted[2]);
}

void op_quantise(struct queue *queue, struct matrix x, struct matrix basis, struct matrix offset, float spacing,
                 struct matrix q, struct matrix scale, struct matrix lost)
{
    RUN(quantise, (queue, x, basis, offset, spacing, q, scale, lost),
        unless(spacing > 0 && isfinite(spacing), "the spacing must be above 0"),
        input("x", x, DTYPE_F32, x.rows, basis.rows), input("basis", basis, DTYPE_F32, basis.rows, basis.cols),
        input("offset", offset, DTYPE_F32, 1, basis.cols), output("q", q, DTYPE_I16, x.rows, basis.cols),
        output("scale", scale, DTYPE_F32, x.rows, 1), output("lost", lost, DTYPE_F32, x.rows, 1));
}

void op_split_planes(struct queue *queue, struct matrix x, struct matrix high, struct matrix low)
{
    RUN(split_planes, (queue, x, high, low), NULL, input("x", x, DTYPE_F32, x.rows, x.cols),
        output("high", high, DTYPE_U8, x.rows, x.cols), output("low", low, DTYPE_U8, x.rows, x.cols));
}

void op_adam(struct queue *queue, const struct adam_update *updates, int count)
{
    for (int i = 0; i < count; i++) {
        const struct adam_update *update = &updates[i];
        const int64_t rows = update->value.rows, cols = update->value.cols;
        const struct operand operands[] = {output("gradient", update->gradient, DTYPE_F32, rows, cols),
                                           output("value", update->value, DTYPE_F32, rows, cols),
                                           output("first", update->first, DTYPE_F32, rows, cols),
                                           output("second", update->second, DTYPE_F32, rows, cols),
                                           {.name = NULL}};
        if (!accept(queue, "op_adam", unless(update->adam.step >= 1, "steps count from 1"), operands))
            return;
    }
    if (count > 0) {
        const struct matrix value = updates->value;
        RUN(adam, (queue, updates, count), NULL, output("value", value, DTYPE_F32, value.rows, value.cols));
    }
}
