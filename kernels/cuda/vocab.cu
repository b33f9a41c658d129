/* vocab.cu: the output product fused with what is wanted of its logits, a chunk of tokens at a time:
 * the whole [tokens, vocabulary] never exists. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/table.cuh"

#define THREADS_MOST 1024

/* Rows of a chunk. Its product with the weight, [rows, H] over V, cuBLAS cuts into tiles of 128 rows and
 * up to 256 columns: 1,024 rows at H 4,096 make 128, one for each of an H100's 132 multiprocessors. */
#define LOGITS_VALUES                                                                                          \
    EMULATED_ELSE((int64_t)1 << 14, (int64_t)1 << 27) /* 512 MB of f32: 1,024 rows at V 128,256 */
#define CHUNK_MOST  4096
#define CHUNK_TILE  128
#define CHUNK_LEAST 16

/* ---- output weights ---- */

/* An output weight as an operand [V, H]; an own weight is rounded into *scratch under MATH_BF16. */
static bool vocab_operand(struct queue *queue, const char *op, const struct vocab *vocab,
                          struct operand *operand, void **scratch)
{
    *scratch = NULL;
    if (!vocab->tied)
        return operand_make(queue, op, vocab->own, operand, scratch);
    operand->data = ((const struct cuda_weight *)vocab->tied)->matrix;
    operand->bf16 = queue_is_bf16(queue);
    operand->stride = vocab->tied->cols;
    return true;
}

static int64_t vocab_size(const struct vocab *vocab)
{
    return vocab->tied ? vocab->tied->rows : vocab->own.rows;
}

/* Rows per chunk: fixed by the vocabulary alone; whole tiles if there is room for one. */
static int64_t chunk_rows(int64_t size)
{
    int64_t rows = LOGITS_VALUES / size, whole = rows < CHUNK_TILE ? CHUNK_LEAST : CHUNK_TILE;
    rows = rows / whole * whole;
    return rows > CHUNK_MOST ? CHUNK_MOST : rows < CHUNK_LEAST ? CHUNK_LEAST : rows;
}

/* logits [M, V] f32 = h W^T. */
static void make_logits(struct queue *queue, const char *op, struct matrix h, const struct vocab *vocab,
                        struct operand weight, float *logits)
{
    int64_t size = vocab_size(vocab);
    struct product product = {};
    void *scratch;
    if (vocab->tied && !((const struct cuda_weight *)vocab->tied)->matrix) {
        struct buffer buffer = {queue->backend, (size_t)(h.rows * size) * sizeof(float), logits};
        struct matrix to = {&buffer, DTYPE_F32, 0, h.rows, size, size};
        cuda_matmul_few(queue, h, vocab->tied, to, OP_STORE);
        return;
    }
    if (!operand_make(queue, op, h, &product.a, &scratch))
        return;
    product.op = op;
    product.rows = h.rows;
    product.cols = size;
    product.inner = h.cols;
    product.b = weight;
    product.transpose_b = true;
    product.c = logits;
    product.c_stride = size;
    product_run(queue, &product);
    scratch_free(queue, scratch);
}

/* ---- one row of logits ---- */

/* Running maximum and sum of exponentials of what a thread has seen. */
struct log_sum {
    float most, sum;
};

__device__ inline struct log_sum log_sum_add(struct log_sum s, float value)
{
    if (value > s.most) {
        s.sum = s.sum * __expf(s.most - value) + 1;
        s.most = value;
    } else {
        s.sum += __expf(value - s.most);
    }
    return s;
}

/* A row of logits, what it is multiplied by, and what is added then, or NULL. */
struct logits_row {
    const float *logits, *shift;
    float factor;

    __device__ float operator[](int64_t i) const
    {
        return shift ? factor * logits[i] + shift[i] : factor * logits[i];
    }
};

/* The block's maximum into *most; returns log sum exp. The row is read once. */
__device__ inline float row_lse(struct logits_row row, int64_t size, float *partial, float *most)
{
    struct log_sum s = {-INFINITY, 0};
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x)
        s = log_sum_add(s, row[i]);
    *most = block_max(s.most, partial);
    return *most + logf(block_sum(s.sum > 0 ? s.sum * __expf(s.most - *most) : 0.0f, partial));
}

/* Views of per-row outputs: NULL where not wanted. */
struct row_outputs {
    float *lse, *label, *top_logit, *entropy;
    int32_t *top;
    int64_t lse_stride, label_stride, top_stride, top_logit_stride, entropy_stride;
};

/* One block a row of logits; read up to three times, mostly from the L2 cache: bound by memory.
 * probabilities (or NULL): the softmax, in the compute type. */
template <typename T>
__global__ void describe_rows(const float *logits, int64_t size, const int32_t *labels, int64_t labels_stride,
                              struct row_outputs out, T *probabilities)
{
    __shared__ float partial[32];
    __shared__ int least;
    const struct logits_row row = {logits + blockIdx.x * size, NULL, 1};
    float most, lse = row_lse(row, size, partial, &most), mean = 0;
    if (out.top) {
        if (threadIdx.x == 0)
            least = 0x7fffffff;
        __syncthreads();
        int mine = 0x7fffffff;
        for (int64_t i = threadIdx.x; i < size; i += blockDim.x)
            if (row[i] == most && (int)i < mine)
                mine = (int)i;
        if (mine != 0x7fffffff)
            atomicMin(&least, mine); /* a minimum is the same in any order */
        __syncthreads();
        if (threadIdx.x == 0)
            out.top[blockIdx.x * out.top_stride] = least;
    }
    if (out.entropy) {
        for (int64_t i = threadIdx.x; i < size; i += blockDim.x)
            mean += __expf(row[i] - lse) * (row[i] - most);
        mean = block_sum(mean, partial);
    }
    if (probabilities)
        for (int64_t i = threadIdx.x; i < size; i += blockDim.x)
            store_value(probabilities + blockIdx.x * size + i, __expf(row[i] - lse));
    if (threadIdx.x == 0) {
        int label = labels ? labels[blockIdx.x * labels_stride] : -1;
        if (out.lse)
            out.lse[blockIdx.x * out.lse_stride] = lse;
        if (out.label)
            out.label[blockIdx.x * out.label_stride] = label >= 0 && label < size ? row[label] : 0.0f;
        if (out.top_logit)
            out.top_logit[blockIdx.x * out.top_logit_stride] = most;
        if (out.entropy)
            out.entropy[blockIdx.x * out.entropy_stride] = lse - most - mean;
    }
}

/* The largest logits of a row. */
struct best_outputs {
    int32_t *token;
    float *logit;
    int64_t token_stride, logit_stride;
    int count;
};

#define NO_TOKEN 0x7fffffff

/* A thread's largest logit of those that come behind (value, token): by falling value, then rising token. */
__device__ inline float next_best(const float *row, int64_t size, float value, int token, int *next)
{
    float most = -INFINITY;
    *next = NO_TOKEN;
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x)
        if (row[i] > most && (row[i] < value || (row[i] == value && (int)i > token))) {
            most = row[i];
            *next = (int)i;
        }
    return most;
}

/* One block a row. Every thread offers its largest; whose is taken looks for its next one. */
__global__ void best_of_rows(const float *logits, int64_t size, struct best_outputs out)
{
    __shared__ float partial[32];
    __shared__ int least;
    const float *row = logits + blockIdx.x * size;
    int mine;
    float offer = next_best(row, size, INFINITY, -1, &mine);
    for (int k = 0; k < out.count; k++) {
        const float most = block_max(offer, partial);
        if (threadIdx.x == 0)
            least = NO_TOKEN;
        __syncthreads();
        if (offer == most && mine != NO_TOKEN)
            atomicMin(&least, mine); /* a minimum is the same in any order */
        __syncthreads();
        const int token = least;
        if (threadIdx.x == 0) { /* too few where logits are not finite */
            out.token[blockIdx.x * out.token_stride + k] = token == NO_TOKEN ? k : token;
            out.logit[blockIdx.x * out.logit_stride + k] = token == NO_TOKEN ? NAN : most;
        }
        if (mine == token && token != NO_TOKEN)
            offer = next_best(row, size, most, token, &mine);
    }
}

/* ---- statistics ---- */

static float *rows_from(struct matrix m, int64_t first)
{
    return m.buffer ? matrix_floats(m) + first * m.stride : NULL;
}

static struct row_outputs outputs_from(const struct vocab_stats *stats, int64_t first)
{
    struct row_outputs out = {};
    out.lse = rows_from(stats->lse, first);
    out.label = rows_from(stats->label, first);
    out.top_logit = rows_from(stats->top_logit, first);
    out.entropy = rows_from(stats->entropy, first);
    out.top = (int32_t *)rows_from(stats->top, first);
    out.lse_stride = stats->lse.stride;
    out.label_stride = stats->label.stride;
    out.top_stride = stats->top.stride;
    out.top_logit_stride = stats->top_logit.stride;
    out.entropy_stride = stats->entropy.stride;
    return out;
}

static struct best_outputs best_from(const struct vocab_stats *stats, int64_t first)
{
    struct best_outputs out = {};
    out.token = (int32_t *)rows_from(stats->best, first);
    out.logit = rows_from(stats->best_logit, first);
    out.token_stride = stats->best.stride;
    out.logit_stride = stats->best_logit.stride;
    out.count = (int)stats->best.cols;
    return out;
}

/* to [M, H] = probabilities [M, V] W [V, H]. */
static void weigh_vocab(struct queue *queue, const char *op, int64_t rows, int64_t size,
                        const void *probabilities, struct operand weight, struct matrix to)
{
    struct product product = {};
    product.op = op;
    product.rows = rows;
    product.cols = to.cols;
    product.inner = size;
    product.a.data = probabilities;
    product.a.bf16 = weight.bf16;
    product.a.stride = size;
    product.b = weight;
    product.c = matrix_floats(to);
    product.c_stride = to.stride;
    product_run(queue, &product);
}

static void launch_describe(struct queue *queue, int64_t rows, const float *logits, int64_t size,
                            struct matrix labels, int64_t first, struct row_outputs out, void *probabilities)
{
    const int32_t *label = (const int32_t *)rows_from(labels, first);
    if (queue_is_bf16(queue))
        LAUNCH(describe_rows<__nv_bfloat16>, dim3((unsigned)rows), row_threads(size, THREADS_MOST), 0,
               queue_stream(queue), logits, size, label, labels.stride, out, (__nv_bfloat16 *)probabilities);
    else
        LAUNCH(describe_rows<float>, dim3((unsigned)rows), row_threads(size, THREADS_MOST), 0,
               queue_stream(queue), logits, size, label, labels.stride, out, (float *)probabilities);
}

void cuda_vocab_stats(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix labels,
                      const struct vocab_stats *stats)
{
    int64_t size = vocab_size(vocab), chunk = chunk_rows(size), value = queue_is_bf16(queue) ? 2 : 4;
    struct operand weight = {};
    void *scratch = NULL, *probabilities = NULL;
    if (h.rows == 0)
        return;
    if (chunk > h.rows)
        chunk = h.rows;
    float *logits = (float *)scratch_take(queue, "vocab_stats", h, (size_t)(chunk * size) * sizeof(float));
    if (stats->u.buffer)
        probabilities = scratch_take(queue, "vocab_stats", h, (size_t)(chunk * size * value));
    if (!queue->failed && vocab_operand(queue, "vocab_stats", vocab, &weight, &scratch))
        for (int64_t first = 0; first < h.rows && !queue->failed; first += chunk) {
            int64_t rows = h.rows - first < chunk ? h.rows - first : chunk;
            make_logits(queue, "vocab_stats", view_rows(h, first, rows), vocab, weight, logits);
            launch_describe(queue, rows, logits, size, labels, first, outputs_from(stats, first),
                            probabilities);
            if (stats->best.buffer)
                LAUNCH(best_of_rows, dim3((unsigned)rows), row_threads(size, THREADS_MOST), 0,
                       queue_stream(queue), logits, size, best_from(stats, first));
            if (probabilities)
                weigh_vocab(queue, "vocab_stats", rows, size, probabilities, weight,
                            view_rows(stats->u, first, rows));
            launch_ok(queue, "vocab_stats", h);
        }
    scratch_free(queue, logits);
    scratch_free(queue, probabilities);
    scratch_free(queue, scratch);
}

/* cross = sum_v softmax(teacher)_v own_v. One block a row, both rows of logits read twice at most. */
__global__ void cross_rows(const float *own, const float *teacher, int64_t size, float *cross, int64_t stride)
{
    __shared__ float partial[32];
    const float *z = own + blockIdx.x * size;
    const struct logits_row t = {teacher + blockIdx.x * size, NULL, 1};
    float most, lse = row_lse(t, size, partial, &most), sum = 0;
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x)
        sum += __expf(t[i] - lse) * z[i];
    sum = block_sum(sum, partial);
    if (threadIdx.x == 0)
        cross[blockIdx.x * stride] = sum;
}

void cuda_vocab_cross(struct queue *queue, struct matrix h, const struct vocab *vocab, struct matrix t,
                      const struct vocab *teacher, struct matrix cross)
{
    int64_t size = vocab_size(vocab), chunk = chunk_rows(size);
    struct operand weight = {}, teacher_weight = {};
    void *scratch = NULL, *teacher_scratch = NULL;
    if (h.rows == 0)
        return;
    if (chunk > h.rows)
        chunk = h.rows;
    float *logits = (float *)scratch_take(queue, "vocab_cross", h, (size_t)(2 * chunk * size) * sizeof(float));
    if (!queue->failed && vocab_operand(queue, "vocab_cross", vocab, &weight, &scratch) &&
        vocab_operand(queue, "vocab_cross", teacher, &teacher_weight, &teacher_scratch))
        for (int64_t first = 0; first < h.rows && !queue->failed; first += chunk) {
            int64_t rows = h.rows - first < chunk ? h.rows - first : chunk;
            make_logits(queue, "vocab_cross", view_rows(h, first, rows), vocab, weight, logits);
            make_logits(queue, "vocab_cross", view_rows(t, first, rows), teacher, teacher_weight,
                        logits + chunk * size);
            LAUNCH(cross_rows, dim3((unsigned)rows), row_threads(size, THREADS_MOST), 0, queue_stream(queue),
                   logits, logits + chunk * size, size, rows_from(cross, first), cross.stride);
            launch_ok(queue, "vocab_cross", h);
        }
    scratch_free(queue, logits);
    scratch_free(queue, scratch);
    scratch_free(queue, teacher_scratch);
}

/* ---- loss ---- */

/* Where a row's loss and gradient come from. */
struct loss_rows {
    float share; /* of cross-entropy, where a row has a label; the rest is distillation */
    bool weighted;
    float temperature, cold; /* T, 1 / T */
    const int32_t *labels; /* or NULL */
    int64_t labels_stride;
    const float *h, *u; /* [M, H]; u: or NULL */
    int64_t h_stride, u_stride, hidden;
    const float *teacher; /* logits [M, V], or NULL */
    const float *shift; /* [V] or NULL */
    float scale;
    float *loss;
    int64_t loss_stride;
    float *u_scale; /* [M] what u is multiplied by in the gradient */
};

__device__ inline float largest_logit(const float *logits, int64_t size, float *partial)
{
    float most = -INFINITY;
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x)
        most = logits[i] > most ? logits[i] : most;
    return block_max(most, partial);
}

/* q . z / T; teacher: the teacher's row over T, with its shift. */
__device__ inline float teacher_cross(const struct loss_rows r, const float *logits, struct logits_row teacher,
                                      float teacher_lse, int64_t size, float *partial)
{
    float sum = 0;
    if (r.teacher) {
        for (int64_t i = threadIdx.x; i < size; i += blockDim.x)
            sum += __expf(teacher[i] - teacher_lse) * (r.cold * logits[i]);
    } else if (r.u) {
        for (int64_t i = threadIdx.x; i < r.hidden; i += blockDim.x)
            sum += r.h[blockIdx.x * r.h_stride + i] * r.u[blockIdx.x * r.u_stride + i];
    }
    return block_sum(sum, partial);
}

/* One block a row: the loss, and the gradient of the logits (without u's part) in the compute type. Bound by
 * memory. */
template <typename T>
__global__ void loss_gradients(const float *logits, int64_t size, struct loss_rows r, T *gradient)
{
    __shared__ float partial[32];
    const float *plain = logits + blockIdx.x * size;
    const struct logits_row row = {plain, r.shift, 1}, soft = {plain, r.shift, r.cold},
                            t = {r.teacher ? r.teacher + blockIdx.x * size : NULL, r.shift, r.cold};
    const int label = r.labels ? r.labels[blockIdx.x * r.labels_stride] : -1;
    const float c = label >= 0 && label < size ? r.share : 0, d = 1 - r.share, heat = d * r.temperature;
    const bool tempered = r.temperature != 1;
    T *to = gradient + blockIdx.x * size;
    float most, weight = 1, teacher_lse = 0;
    const float soft_lse = row_lse(soft, size, partial, &most);
    const float lse = tempered && (c > 0 || r.weighted) ? row_lse(row, size, partial, &most) : soft_lse;
    if (r.weighted)
        weight = __expf(largest_logit(plain, size, partial) - lse);
    if (r.teacher)
        teacher_lse = row_lse(t, size, partial, &most);
    const float cross = teacher_cross(r, plain, t, teacher_lse, size, partial);
    const float scale = r.scale * weight;
    for (int64_t i = threadIdx.x; i < size; i += blockDim.x) {
        float value = (tempered ? heat : c + d) * __expf(soft[i] - soft_lse);
        if (r.teacher)
            value -= heat * __expf(t[i] - teacher_lse);
        if (tempered && c > 0)
            value += c * __expf(row[i] - lse);
        if (i == label)
            value -= c;
        store_value(to + i, c + d > 0 ? scale * value : 0.0f);
    }
    if (threadIdx.x == 0) {
        float loss = 0;
        if (c > 0)
            loss += c * (lse - plain[label]);
        if (d > 0)
            loss += heat * r.temperature * (soft_lse - cross);
        r.loss[blockIdx.x * r.loss_stride] = c + d > 0 ? weight * loss : 0.0f;
        r.u_scale[blockIdx.x] = scale * d;
    }
}

/* y [M, H] -= factors [M] u, a block a row. */
__global__ void subtract_rows(const float *factors, const float *u, int64_t u_stride, int64_t cols, float *y,
                              int64_t y_stride)
{
    for (int64_t i = threadIdx.x; i < cols; i += blockDim.x)
        y[blockIdx.x * y_stride + i] -= factors[blockIdx.x] * u[blockIdx.x * u_stride + i];
}

/* down [V, H] += gradient [M, V]^T h [M, H]. */
static void weight_gradient(struct queue *queue, int64_t rows, int64_t size, const void *gradient,
                            struct matrix h, struct matrix down)
{
    struct product product = {};
    void *scratch;
    if (!operand_make(queue, "vocab_loss", h, &product.b, &scratch))
        return;
    product.op = "vocab_loss";
    product.rows = size;
    product.cols = h.cols;
    product.inner = rows;
    product.a.data = gradient;
    product.a.bf16 = product.b.bf16;
    product.a.stride = size;
    product.transpose_a = true;
    product.c = matrix_floats(down);
    product.c_stride = down.stride;
    product.add = true;
    product_run(queue, &product);
    scratch_free(queue, scratch);
}

/* Working memory of a loss, for chunks of tokens. */
struct loss_work {
    float *logits, *teacher, *u_scale;
    void *gradient, *scratch, *teacher_scratch;
    struct operand weight, teacher_weight;
    int64_t size;
};

static void loss_chunk(struct queue *queue, struct loss_work *work, struct matrix h, const struct vocab *vocab,
                       const struct vocab_loss *target, int64_t first, struct matrix loss, struct matrix dh,
                       struct matrix down)
{
    struct loss_rows rows = {};
    rows.share = (float)loss_shares_of(target, true).labels;
    rows.weighted = target->weighted;
    rows.temperature = vocab_temperature(target);
    rows.cold = 1 / rows.temperature;
    rows.labels = rows.share > 0 ? (const int32_t *)rows_from(target->labels, first) : NULL;
    rows.labels_stride = target->labels.stride;
    rows.h = matrix_floats(h);
    rows.h_stride = h.stride;
    rows.u = target->target == VOCAB_U ? rows_from(target->u, first) : NULL;
    rows.u_stride = target->u.stride;
    rows.hidden = h.cols;
    rows.shift = target->shift.buffer ? matrix_floats(target->shift) : NULL;
    rows.scale = target->scale;
    rows.loss = rows_from(loss, first);
    rows.loss_stride = loss.stride;
    rows.u_scale = work->u_scale;
    make_logits(queue, "vocab_loss", h, vocab, work->weight, work->logits);
    if (target->target == VOCAB_TEACHER) {
        make_logits(queue, "vocab_loss", view_rows(target->teacher_state, first, h.rows), &target->teacher,
                    work->teacher_weight, work->teacher);
        rows.teacher = work->teacher;
    }
    if (queue_is_bf16(queue))
        LAUNCH(loss_gradients<__nv_bfloat16>, dim3((unsigned)h.rows), row_threads(work->size, THREADS_MOST), 0,
               queue_stream(queue), work->logits, work->size, rows, (__nv_bfloat16 *)work->gradient);
    else
        LAUNCH(loss_gradients<float>, dim3((unsigned)h.rows), row_threads(work->size, THREADS_MOST), 0,
               queue_stream(queue), work->logits, work->size, rows, (float *)work->gradient);
    struct matrix to = view_rows(dh, first, h.rows);
    weigh_vocab(queue, "vocab_loss", h.rows, work->size, work->gradient, work->weight, to);
    if (rows.u)
        LAUNCH(subtract_rows, dim3((unsigned)h.rows), row_threads(h.cols, THREADS_MOST), 0, queue_stream(queue),
               work->u_scale, rows.u, rows.u_stride, h.cols, matrix_floats(to), to.stride);
    if (down.buffer)
        weight_gradient(queue, h.rows, work->size, work->gradient, h, down);
    launch_ok(queue, "vocab_loss", h);
}

void cuda_vocab_loss(struct queue *queue, struct matrix h, const struct vocab *vocab,
                     const struct vocab_loss *target, struct matrix loss, struct matrix dh, struct matrix down)
{
    struct loss_work work = {};
    bool teacher = target->target == VOCAB_TEACHER;
    work.size = vocab_size(vocab);
    int64_t chunk = chunk_rows(work.size), value = queue_is_bf16(queue) ? 2 : 4;
    if (h.rows == 0)
        return;
    if (chunk > h.rows)
        chunk = h.rows;
    size_t bytes = (size_t)(chunk * work.size) * sizeof(float);
    work.logits = (float *)scratch_take(queue, "vocab_loss", h, bytes);
    work.gradient = scratch_take(queue, "vocab_loss", h, (size_t)(chunk * work.size * value));
    work.u_scale = (float *)scratch_take(queue, "vocab_loss", h, (size_t)chunk * sizeof(float));
    if (teacher)
        work.teacher = (float *)scratch_take(queue, "vocab_loss", h, bytes);
    if (!queue->failed && vocab_operand(queue, "vocab_loss", vocab, &work.weight, &work.scratch) &&
        (!teacher ||
         vocab_operand(queue, "vocab_loss", &target->teacher, &work.teacher_weight, &work.teacher_scratch)))
        for (int64_t first = 0; first < h.rows && !queue->failed; first += chunk)
            loss_chunk(queue, &work, view_rows(h, first, h.rows - first < chunk ? h.rows - first : chunk),
                       vocab, target, first, loss, dh, down);
    scratch_free(queue, work.logits);
    scratch_free(queue, work.gradient);
    scratch_free(queue, work.u_scale);
    scratch_free(queue, work.teacher);
    scratch_free(queue, work.scratch);
    scratch_free(queue, work.teacher_scratch);
}
