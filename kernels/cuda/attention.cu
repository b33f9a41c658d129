/* attention.cu: causal attention and its gradients. Many rows: the heads of a key head are stacked, their scores with
 * a tile of query rows are one batched cuBLAS product, then comes a fused causal softmax, then a second
 * product; the [T, T] scores of all rows never exist at once. Gradients, of any number of rows, go the same way, with
 * three products more. Few rows (decoding): own kernels over fixed parts of the keys, so that a row's result depends on
 * its own keys only. What they must know of the spans reaches the device as a kernel parameter: nothing is copied,
 * nothing waits. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/table.cuh"

#define THREADS      256
#define SCORES_BYTES EMULATED_ELSE((int64_t)64 << 10, (int64_t)256 << 20) /* of a tile, working memory */
#define KEY_PART     128 /* keys per block when decoding */
#define FEW_SPANS    EMULATED_ELSE(5, 32) /* in a launch of few rows */

/* What the kernels need to know of the shapes. */
struct layout {
    int64_t spans, queries, keys; /* B, R, S of the spans of a call of many rows, which are alike */
    int64_t own; /* own keys of each of their queries */
    int64_t heads, kv_heads, size; /* D */
    int64_t window;
    float scale;
};

/* First key that the query at `position` sees. */
__device__ inline int64_t first_key(struct layout l, int64_t position)
{
    return l.window > 0 && position + 1 > l.window ? position + 1 - l.window : 0;
}

/* ---- many rows ---- */

/* x [B rows, groups per kv_head D] -> to [B, kv_heads, rows, per, D] in the compute type: the order in
 * which one product serves all heads of a key head. Bound by memory, 6 or 8 bytes a value. */
template <typename T>
__global__ void pack_heads(const float *x, int64_t stride, int64_t rows, int64_t kv_heads, int64_t per,
                           int64_t size, int64_t total, T *to)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= total)
        return;
    int64_t d = index % size, j = index / size % per, row = index / (size * per) % rows;
    int64_t head = index / (size * per * rows) % kv_heads, span = index / (size * per * rows * kv_heads);
    store_value(to + index, x[(span * rows + row) * stride + (head * per + j) * size + d]);
}

/* Query rows first .. first + rows of every span, each with all heads, stacked as [B, kv_heads, rows, per]: lines. */
struct tile {
    struct layout l;
    int64_t first, rows;
    int64_t keys; /* that they see */
    int64_t lines;
};

/* Where a line's query and head are. */
struct line {
    int64_t row; /* of the call */
    int64_t query; /* in its span */
    int64_t head, kv_head;
};

__device__ inline struct line line_of(const struct tile &t, int64_t index)
{
    int64_t per = t.l.heads / t.l.kv_heads, span = index / (per * t.rows * t.l.kv_heads);
    struct line line;
    line.query = t.first + index / per % t.rows;
    line.row = span * t.l.queries + line.query;
    line.kv_head = index / (per * t.rows) % t.l.kv_heads;
    line.head = line.kv_head * per + index % per;
    return line;
}

/* Rows of all queries of a call: own keys or values, or what becomes of them. */
struct own_rows {
    float *data;
    int64_t stride;
};

__device__ inline float *own_row(const struct tile &t, struct own_rows rows, int64_t row, int64_t key,
                                 int64_t kv_head)
{
    return rows.data + row * rows.stride + (key * t.l.kv_heads + kv_head) * t.l.size;
}

/* from [lines, D] -> rows of `to`, with the line's weights [own] of its own rows added: they are f32 in every math
 * mode. */
__global__ void unpack_lines(struct tile t, const float *from, const float *weights, struct own_rows own,
                             float *to, int64_t stride)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= t.lines * t.l.size)
        return;
    int64_t d = index % t.l.size, number = index / t.l.size;
    struct line line = line_of(t, number);
    float sum = from[index];
    for (int64_t e = 0; e < t.l.own; e++)
        sum += weights[number * t.l.own + e] * own_row(t, own, line.row, e, line.kv_head)[d];
    to[line.row * stride + line.head * t.l.size + d] = sum;
}

/* to [lines, own] = the line's row of x . its own rows. A warp a value. */
__global__ void multiply_own(struct tile t, const float *x, int64_t x_stride, struct own_rows own, float *to)
{
    int64_t index = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (index >= t.lines * t.l.own)
        return;
    struct line line = line_of(t, index / t.l.own);
    const float *row = x + line.row * x_stride + line.head * t.l.size;
    const float *other = own_row(t, own, line.row, index % t.l.own, line.kv_head);
    float dot = 0;
    for (int64_t d = threadIdx.x % 32; d < t.l.size; d += 32)
        dot += row[d] * other[d];
    dot = warp_sum(dot);
    if (threadIdx.x % 32 == 0)
        to[index] = dot;
}

/* scores [lines, keys] -> probabilities in the compute type, zero where a query may not look; own scores
 * [lines, own] in place. One block a line; it is read three times, twice from the cache. Bound by memory. */
template <typename T> __global__ void softmax_lines(struct tile t, const float *scores, float *own, T *to)
{
    __shared__ float partial[32];
    int64_t row = (int64_t)blockIdx.x + (int64_t)blockIdx.y * gridDim.x;
    if (row >= t.lines)
        return;
    int64_t position = t.l.keys - t.l.queries + line_of(t, row).query, least = first_key(t.l, position);
    const float *from = scores + row * t.keys;
    float most = -INFINITY, sum = 0;
    own += row * t.l.own;
    for (int64_t i = least + threadIdx.x; i <= position; i += blockDim.x)
        most = fmaxf(most, from[i]);
    for (int64_t e = threadIdx.x; e < t.l.own; e += blockDim.x)
        most = fmaxf(most, own[e]);
    most = block_max(most, partial);
    for (int64_t i = least + threadIdx.x; i <= position; i += blockDim.x)
        sum += __expf((from[i] - most) * t.l.scale);
    for (int64_t e = threadIdx.x; e < t.l.own; e += blockDim.x)
        sum += __expf((own[e] - most) * t.l.scale);
    float inverse = 1.0f / block_sum(sum, partial);
    for (int64_t i = threadIdx.x; i < t.keys; i += blockDim.x)
        store_value(to + row * t.keys + i,
                    i >= least && i <= position ? __expf((from[i] - most) * t.l.scale) * inverse : 0.0f);
    for (int64_t e = threadIdx.x; e < t.l.own; e += blockDim.x)
        own[e] = __expf((own[e] - most) * t.l.scale) * inverse;
}

/* What a call of many rows reads, and its working memory. */
struct call {
    struct matrix q, k, v, own_k, own_v; /* own ones: without a buffer where there are none */
    void *packed_q, *packed_k, *packed_v, *packed_dout;
    void *weights; /* [lines, keys] probabilities, then slopes, in the compute type */
    float *scores; /* [lines, keys] */
    float *own, *own_scores; /* [lines, own] of each */
    float *means; /* [lines] dout . out */
    float *mixed; /* [lines, D] */
    float *dk, *dv; /* packed */
};

static struct own_rows own_rows_of(struct matrix x)
{
    struct own_rows rows = {x.buffer ? matrix_floats(x) : NULL, x.stride};
    return rows;
}

static struct tile tile_at(struct layout l, int64_t first, int64_t rows)
{
    struct tile t = {l, first, rows, l.keys - l.queries + first + rows, l.spans * l.heads * rows};
    return t;
}

/* The packed rows [B, kv_heads, R, per, D] of a tile, as an operand. */
static struct operand tile_operand(const struct tile *t, const void *packed, bool bf16)
{
    int64_t before = t->first * t->l.heads / t->l.kv_heads * t->l.size * (bf16 ? 2 : 4);
    struct operand operand = {(const char *)packed + before, bf16, t->l.size};
    return operand;
}

/* scores [lines, keys] = packed rows times packed keys, or values, transposed. */
static void score_tile(struct queue *queue, const struct tile *t, const void *rows, const void *keys,
                       float *scores)
{
    bool bf16 = queue_is_bf16(queue);
    int64_t per = t->l.heads / t->l.kv_heads;
    struct product product = {};
    product.op = "attention";
    product.rows = t->rows * per;
    product.cols = t->keys;
    product.inner = t->l.size;
    product.a = tile_operand(t, rows, bf16);
    product.a_apart = t->l.queries * per * t->l.size;
    product.b.data = keys;
    product.b.bf16 = bf16;
    product.b.stride = t->l.size;
    product.b_apart = t->l.keys * t->l.size;
    product.transpose_b = true;
    product.c = scores;
    product.c_stride = t->keys;
    product.c_apart = t->rows * per * t->keys;
    product.batch = t->l.spans * t->l.kv_heads;
    product_run(queue, &product);
}

/* mixed [lines, D] = weights [lines, keys] times packed values, or keys. */
static void mix_tile(struct queue *queue, const struct tile *t, const void *weights, const void *values,
                     float *mixed)
{
    bool bf16 = queue_is_bf16(queue);
    int64_t per = t->l.heads / t->l.kv_heads;
    struct product product = {};
    product.op = "attention";
    product.rows = t->rows * per;
    product.cols = t->l.size;
    product.inner = t->keys;
    product.a.data = weights;
    product.a.bf16 = bf16;
    product.a.stride = t->keys;
    product.a_apart = t->rows * per * t->keys;
    product.b.data = values;
    product.b.bf16 = bf16;
    product.b.stride = t->l.size;
    product.b_apart = t->l.keys * t->l.size;
    product.c = mixed;
    product.c_stride = t->l.size;
    product.c_apart = t->rows * per * t->l.size;
    product.batch = t->l.spans * t->l.kv_heads;
    product_run(queue, &product);
}

/* Softmax of the scores, the own ones included, into the weights. */
static void weigh_tile(struct queue *queue, const struct tile *t, const struct call *call)
{
    cudaStream_t stream = queue_stream(queue);
    dim3 grid((unsigned)(t->lines < 32768 ? t->lines : 32768), (unsigned)((t->lines + 32767) / 32768));
    dim3 threads = row_threads(t->keys, 256);
    score_tile(queue, t, call->packed_q, call->packed_k, call->scores);
    if (t->l.own > 0)
        LAUNCH(multiply_own, dim3(blocks_for(t->lines * t->l.own, THREADS / 32)), dim3(THREADS), 0, stream, *t,
               matrix_floats(call->q), call->q.stride, own_rows_of(call->own_k), call->own);
    if (queue_is_bf16(queue))
        LAUNCH(softmax_lines<__nv_bfloat16>, grid, threads, 0, stream, *t, call->scores, call->own,
               (__nv_bfloat16 *)call->weights);
    else
        LAUNCH(softmax_lines<float>, grid, threads, 0, stream, *t, call->scores, call->own,
               (float *)call->weights);
}

static void unpack_tile(struct queue *queue, const struct tile *t, const struct call *call, struct matrix own,
                        struct matrix to)
{
    LAUNCH(unpack_lines, dim3(blocks_for(t->lines * t->l.size, THREADS)), dim3(THREADS), 0, queue_stream(queue),
           *t, call->mixed, call->own, own_rows_of(own), matrix_floats(to), to.stride);
    launch_ok(queue, "attention", to);
}

/* Query rows of a tile: as many as keep its scores within SCORES_BYTES, a multiple of 64, or all. */
static int64_t tile_rows(struct layout l)
{
    int64_t row_bytes = l.spans * l.heads * l.keys * (int64_t)sizeof(float),
            tile = SCORES_BYTES / row_bytes / 64 * 64;
    if (tile < 64)
        tile = 64;
    return tile < l.queries ? tile : l.queries;
}

static float *take_floats(struct queue *queue, struct matrix shape, int64_t count)
{
    return (float *)scratch_take(queue, "attention", shape, (size_t)count * sizeof(float));
}

/* x packed in the compute type; NULL when the queue has failed. */
static void *pack(struct queue *queue, struct layout l, struct matrix x, int64_t rows, int64_t per)
{
    int64_t total = x.rows * x.cols;
    bool bf16 = queue_is_bf16(queue);
    void *to = scratch_take(queue, "attention", x, (size_t)(total * (bf16 ? 2 : 4)));
    dim3 grid(blocks_for(total, THREADS));
    if (!to)
        return NULL;
    if (bf16)
        LAUNCH(pack_heads<__nv_bfloat16>, grid, dim3(THREADS), 0, queue_stream(queue), matrix_floats(x),
               x.stride, rows, l.kv_heads, per, l.size, total, (__nv_bfloat16 *)to);
    else
        LAUNCH(pack_heads<float>, grid, dim3(THREADS), 0, queue_stream(queue), matrix_floats(x), x.stride, rows,
               l.kv_heads, per, l.size, total, (float *)to);
    return to;
}

/* Takes what both directions need; call_close gives back all there is. */
static void call_open(struct queue *queue, struct layout l, int64_t rows, struct call *call)
{
    int64_t lines = l.spans * l.heads * rows;
    call->packed_q = pack(queue, l, call->q, l.queries, l.heads / l.kv_heads);
    call->packed_k = pack(queue, l, call->k, l.keys, 1);
    call->packed_v = pack(queue, l, call->v, l.keys, 1);
    call->scores = take_floats(queue, call->q, lines * l.keys);
    call->weights =
        scratch_take(queue, "attention", call->q, (size_t)(lines * l.keys * (queue_is_bf16(queue) ? 2 : 4)));
    call->mixed = take_floats(queue, call->q, lines * l.size);
    if (l.own > 0)
        call->own = take_floats(queue, call->q, lines * l.own);
}

static void call_close(struct queue *queue, struct call *call)
{
    void *all[] = {call->packed_q,   call->packed_k, call->packed_v, call->packed_dout,
                   call->weights,    call->scores,   call->own,      call->means,
                   call->own_scores, call->mixed,    call->dk,       call->dv};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        scratch_free(queue, all[i]);
}

static void attend_many(struct queue *queue, struct layout l, struct call *call, struct matrix out)
{
    int64_t most = tile_rows(l);
    call_open(queue, l, most, call);
    for (int64_t first = 0; first < l.queries && !queue->failed; first += most) {
        struct tile t = tile_at(l, first, l.queries - first < most ? l.queries - first : most);
        weigh_tile(queue, &t, call);
        mix_tile(queue, &t, call->weights, call->packed_v, call->mixed);
        unpack_tile(queue, &t, call, call->own_v, out);
    }
    call_close(queue, call);
}

/* ---- gradients ---- */

/* means [lines] = the line's dout . out. A warp a line. */
__global__ void multiply_lines(struct tile t, const float *dout, int64_t dout_stride, const float *out,
                               int64_t out_stride, float *means)
{
    int64_t index = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    if (index >= t.lines)
        return;
    struct line line = line_of(t, index);
    int64_t column = line.head * t.l.size;
    float dot = 0;
    for (int64_t d = threadIdx.x % 32; d < t.l.size; d += 32)
        dot += dout[line.row * dout_stride + column + d] * out[line.row * out_stride + column + d];
    dot = warp_sum(dot);
    if (threadIdx.x % 32 == 0)
        means[index] = dot;
}

/* weights [lines, count] become the gradients of the scores' products: scale weight (dweight - mean). Bound by
 * memory. */
template <typename T>
__global__ void slope_lines(int64_t total, int64_t count, float scale, const float *dweights,
                            const float *means, T *weights)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index < total)
        store_value(weights + index,
                    scale * load_value(weights + index) * (dweights[index] - means[index / count]));
}

/* Own rows of `to` += the sum over a key head's lines of their weights times x. One thread a value. */
__global__ void spread_own(struct tile t, const float *weights, const float *x, int64_t x_stride,
                           struct own_rows to)
{
    int64_t per = t.l.heads / t.l.kv_heads, index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= t.lines / per * t.l.own * t.l.size)
        return;
    int64_t d = index % t.l.size, e = index / t.l.size % t.l.own, number = index / (t.l.size * t.l.own) * per;
    struct line line = line_of(t, number);
    float sum = 0;
    for (int64_t j = 0; j < per; j++)
        sum += weights[(number + j) * t.l.own + e] * x[line.row * x_stride + (line.head + j) * t.l.size + d];
    own_row(t, to, line.row, e, line.kv_head)[d] += sum;
}

/* Packed [B, kv_heads, rows, D] is added to rows of `to`. */
__global__ void add_packed(const float *from, int64_t rows, int64_t kv_heads, int64_t size, int64_t total,
                           float *to, int64_t stride)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= total)
        return;
    int64_t d = index % size, row = index / size % rows, head = index / (size * rows) % kv_heads;
    to[(index / (size * rows * kv_heads) * rows + row) * stride + head * size + d] += from[index];
}

/* Packed sums [B, kv_heads, S, D] += the tile's weights, transposed, times its packed rows. */
static void spread_tile(struct queue *queue, const struct tile *t, const void *weights, const void *rows,
                        float *sums)
{
    bool bf16 = queue_is_bf16(queue);
    int64_t per = t->l.heads / t->l.kv_heads;
    struct product product = {};
    product.op = "attention_grad";
    product.rows = t->keys;
    product.cols = t->l.size;
    product.inner = t->rows * per;
    product.a.data = weights;
    product.a.bf16 = bf16;
    product.a.stride = t->keys;
    product.a_apart = t->rows * per * t->keys;
    product.transpose_a = true;
    product.b = tile_operand(t, rows, bf16);
    product.b_apart = t->l.queries * per * t->l.size;
    product.c = sums;
    product.c_stride = t->l.size;
    product.c_apart = t->l.keys * t->l.size;
    product.add = true;
    product.batch = t->l.spans * t->l.kv_heads;
    product_run(queue, &product);
}

/* Zeros for the packed sums of a gradient that is wanted; else NULL. */
static float *take_sums(struct queue *queue, struct layout l, struct matrix wanted)
{
    int64_t count = l.spans * l.keys * l.kv_heads * l.size;
    float *sums = wanted.buffer ? take_floats(queue, wanted, count) : NULL;
    if (sums)
        cuda_ok(queue, "attention_grad", wanted,
                cudaMemsetAsync(sums, 0, (size_t)count * sizeof *sums, queue_stream(queue)));
    return sums;
}

static void add_sums(struct queue *queue, struct layout l, const float *sums, struct matrix to)
{
    int64_t total = l.spans * l.keys * l.kv_heads * l.size;
    if (!sums || queue->failed)
        return;
    LAUNCH(add_packed, dim3(blocks_for(total, THREADS)), dim3(THREADS), 0, queue_stream(queue), sums, l.keys,
           l.kv_heads, l.size, total, matrix_floats(to), to.stride);
    launch_ok(queue, "attention_grad", to);
}

static void spread_own_tile(struct queue *queue, const struct tile *t, const struct call *call, struct matrix x,
                            struct matrix to)
{
    int64_t total = t->lines / (t->l.heads / t->l.kv_heads) * t->l.own * t->l.size;
    if (to.buffer)
        LAUNCH(spread_own, dim3(blocks_for(total, THREADS)), dim3(THREADS), 0, queue_stream(queue), *t,
               call->own, matrix_floats(x), x.stride, own_rows_of(to));
}

/* The weights of the tile, and the own ones, become slopes. */
static void slope_tile(struct queue *queue, const struct tile *t, const struct call *call, struct matrix out,
                       struct matrix dout)
{
    cudaStream_t stream = queue_stream(queue);
    int64_t total = t->lines * t->keys, own = t->lines * t->l.own;
    LAUNCH(multiply_lines, dim3(blocks_for(t->lines, THREADS / 32)), dim3(THREADS), 0, stream, *t,
           matrix_floats(dout), dout.stride, matrix_floats(out), out.stride, call->means);
    score_tile(queue, t, call->packed_dout, call->packed_v, call->scores);
    if (queue_is_bf16(queue))
        LAUNCH(slope_lines<__nv_bfloat16>, dim3(blocks_for(total, THREADS)), dim3(THREADS), 0, stream, total,
               t->keys, t->l.scale, call->scores, call->means, (__nv_bfloat16 *)call->weights);
    else
        LAUNCH(slope_lines<float>, dim3(blocks_for(total, THREADS)), dim3(THREADS), 0, stream, total, t->keys,
               t->l.scale, call->scores, call->means, (float *)call->weights);
    if (own == 0)
        return;
    LAUNCH(multiply_own, dim3(blocks_for(own, THREADS / 32)), dim3(THREADS), 0, stream, *t, matrix_floats(dout),
           dout.stride, own_rows_of(call->own_v), call->own_scores);
    LAUNCH(slope_lines<float>, dim3(blocks_for(own, THREADS)), dim3(THREADS), 0, stream, own, t->l.own,
           t->l.scale, call->own_scores, call->means, call->own);
}

/* grads: where the gradients of call's k, v, own_k and own_v are added, for all spans of the run. */
static void attend_backwards(struct queue *queue, struct layout l, struct call *call, struct matrix out,
                             struct matrix dout, struct matrix dq, const struct attention_span *grads)
{
    int64_t most = tile_rows(l), lines = l.spans * l.heads * most;
    call_open(queue, l, most, call);
    call->packed_dout = pack(queue, l, dout, l.queries, l.heads / l.kv_heads);
    call->means = take_floats(queue, dout, lines);
    if (l.own > 0)
        call->own_scores = take_floats(queue, dout, lines * l.own);
    call->dk = take_sums(queue, l, grads->k);
    call->dv = take_sums(queue, l, grads->v);
    for (int64_t first = 0; first < l.queries && !queue->failed; first += most) {
        struct tile t = tile_at(l, first, l.queries - first < most ? l.queries - first : most);
        weigh_tile(queue, &t, call);
        if (call->dv)
            spread_tile(queue, &t, call->weights, call->packed_dout, call->dv);
        spread_own_tile(queue, &t, call, dout, grads->own_v);
        slope_tile(queue, &t, call, out, dout);
        if (call->dk)
            spread_tile(queue, &t, call->weights, call->packed_q, call->dk);
        spread_own_tile(queue, &t, call, call->q, grads->own_k);
        mix_tile(queue, &t, call->weights, call->packed_k, call->mixed);
        unpack_tile(queue, &t, call, call->own_k, dq);
    }
    add_sums(queue, l, call->dk, grads->k);
    add_sums(queue, l, call->dv, grads->v);
    call_close(queue, call);
}

/* ---- few rows ---- */

/* Where the keys and values of a span are, and its rows in the call. */
struct few_span {
    const float *k, *v, *own_k, *own_v;
    int64_t k_stride, v_stride, keys;
    int64_t own_k_stride, own_v_stride, own; /* keys of each query */
    int first, queries; /* rows */
};
struct few_spans {
    struct few_span span[FEW_SPANS];
};

__device__ inline struct few_span span_of(const struct few_spans &spans, int64_t row)
{
    int i = 0;
    while (row >= spans.span[i].first + spans.span[i].queries)
        i++;
    return spans.span[i];
}

__device__ inline int64_t parts_of(int64_t keys)
{
    return (keys + KEY_PART - 1) / KEY_PART;
}

/* KEY_PART keys from `first` on, of which a query sees `least` .. `last`. */
struct key_part {
    const float *k, *v;
    int64_t k_stride, v_stride, first, least, last;
};

/* Part `number`: of the span's keys, or, behind those, of the own ones of query `query`. False where there is none. */
__device__ inline bool part_of(struct layout l, const struct few_span &span, int64_t query, int64_t column,
                               int64_t number, struct key_part *part)
{
    int64_t shared = parts_of(span.keys), kv_width = l.kv_heads * l.size;
    if (number < shared) {
        int64_t position = span.keys - span.queries + query;
        struct key_part those = {span.k + column,   span.v + column,        span.k_stride, span.v_stride,
                                 number * KEY_PART, first_key(l, position), position};
        *part = those;
        return true;
    }
    struct key_part own = {span.own_k + query * span.own_k_stride + column,
                           span.own_v + query * span.own_v_stride + column,
                           kv_width,
                           kv_width,
                           (number - shared) * KEY_PART,
                           0,
                           span.own - 1};
    *part = own;
    return own.first < span.own;
}

/* Per (query row, head, part of keys): the part's largest score, sum of exponentials and weighted
 * values. Reads keys and values once (8 D bytes a key for 4 D flops): bound by memory. A warp a key
 * for the scores, a thread a column for the values. partial [rows heads, parts, D + 2]; of parts behind the
 * span's keys nothing is written nor read. */
__global__ void attend_part(struct layout l, struct few_spans spans, const float *q, int64_t q_stride,
                            int64_t parts, float *partial)
{
    __shared__ float scores[KEY_PART];
    __shared__ float warps[32];
    int64_t row = blockIdx.y / l.heads, head = blockIdx.y % l.heads;
    struct few_span span = span_of(spans, row);
    struct key_part part;
    int64_t column = head / (l.heads / l.kv_heads) * l.size;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float *query = q + row * q_stride + head * l.size;
    float *to = partial + ((int64_t)blockIdx.y * parts + blockIdx.x) * (l.size + 2), most = -INFINITY, sum = 0;
    if (!part_of(l, span, row - span.first, column, blockIdx.x, &part))
        return;
    for (int i = warp; i < KEY_PART; i += (int)blockDim.x / 32) {
        int64_t key = part.first + i;
        bool seen = key >= part.least && key <= part.last;
        float dot = 0;
        if (seen)
            for (int64_t d = lane; d < l.size; d += 32)
                dot += query[d] * part.k[key * part.k_stride + d];
        dot = warp_sum(dot);
        if (lane == 0)
            scores[i] = seen ? dot * l.scale : -INFINITY;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < KEY_PART; i += blockDim.x)
        most = fmaxf(most, scores[i]);
    most = block_max(most, warps);
    for (int i = threadIdx.x; i < KEY_PART; i += blockDim.x) {
        float weight = most > -INFINITY ? __expf(scores[i] - most) : 0.0f;
        scores[i] = weight;
        sum += weight;
    }
    sum = block_sum(sum, warps); /* its barriers also publish scores */
    for (int64_t d = threadIdx.x; d < l.size; d += blockDim.x) {
        float mixed = 0;
        for (int i = 0; i < KEY_PART; i++)
            if (scores[i] > 0)
                mixed += scores[i] * part.v[(part.first + i) * part.v_stride + d];
        to[2 + d] = mixed;
    }
    if (threadIdx.x == 0) {
        to[0] = most;
        to[1] = sum;
    }
}

/* The parts of one (row, head) put together, in order. A part that saw nothing has weight zero. */
__global__ void join_parts(struct layout l, struct few_spans spans, int64_t parts, const float *partial,
                           float *out, int64_t stride)
{
    const float *from = partial + (int64_t)blockIdx.x * parts * (l.size + 2);
    int64_t row = blockIdx.x / l.heads, head = blockIdx.x % l.heads;
    struct few_span span = span_of(spans, row);
    int64_t there = parts_of(span.keys) + parts_of(span.own);
    float most = -INFINITY, sum = 0;
    for (int64_t part = 0; part < there; part++)
        most = fmaxf(most, from[part * (l.size + 2)]);
    for (int64_t part = 0; part < there; part++)
        sum += __expf(from[part * (l.size + 2)] - most) * from[part * (l.size + 2) + 1];
    for (int64_t d = threadIdx.x; d < l.size; d += blockDim.x) {
        float mixed = 0;
        for (int64_t part = 0; part < there; part++)
            mixed += __expf(from[part * (l.size + 2)] - most) * from[part * (l.size + 2) + 2 + d];
        out[row * stride + head * l.size + d] = mixed / sum;
    }
}

static void attend_few(struct queue *queue, struct layout l, struct matrix q,
                       const struct attention_span *spans, int count, struct matrix out)
{
    struct few_spans few = {};
    int64_t parts = 0, rows = q.rows * l.heads;
    for (int i = 0, first = 0; i < count; first += (int)spans[i++].queries) {
        struct few_span span = {matrix_floats(spans[i].k),
                                matrix_floats(spans[i].v),
                                own_rows_of(spans[i].own_k).data,
                                own_rows_of(spans[i].own_v).data,
                                spans[i].k.stride,
                                spans[i].v.stride,
                                spans[i].k.rows,
                                spans[i].own_k.stride,
                                spans[i].own_v.stride,
                                spans[i].own_k.cols / (l.kv_heads * l.size),
                                first,
                                (int)spans[i].queries};
        int64_t there = (span.keys + KEY_PART - 1) / KEY_PART + (span.own + KEY_PART - 1) / KEY_PART;
        few.span[i] = span;
        parts = there > parts ? there : parts;
    }
    float *partial =
        (float *)scratch_take(queue, "attention", q, (size_t)(rows * parts * (l.size + 2)) * sizeof(float));
    if (!partial)
        return;
    LAUNCH(attend_part, dim3((unsigned)parts, (unsigned)rows), dim3(128), 0, queue_stream(queue), l, few,
           matrix_floats(q), q.stride, parts, partial);
    LAUNCH(join_parts, dim3((unsigned)rows), dim3(128), 0, queue_stream(queue), l, few, parts, partial,
           matrix_floats(out), out.stride);
    launch_ok(queue, "attention", out);
    scratch_free(queue, partial);
}

/* ---- runs of neighbouring spans, each a call ---- */

static bool is_few(const struct attention_span *span)
{
    return span->queries <= MATMUL_FEW_ROWS;
}

/* Whether x lies `index` times behind `first`, which is as large. */
static bool is_behind(struct matrix x, struct matrix first, int64_t index)
{
    return x.buffer == first.buffer && x.stride == first.stride && x.rows == first.rows &&
           x.offset == first.offset + index * first.rows * first.stride;
}

/* The same of what may be none in both. */
static bool is_behind_or_none(struct matrix x, struct matrix first, int64_t index)
{
    return x.buffer && first.buffer ? is_behind(x, first, index) && x.cols == first.cols
                                    : x.buffer == first.buffer;
}

/* Whether spans[index] continues what spans[0] begins: as many queries and keys, behind the ones before it. */
static bool continues(const struct attention_span *spans, int index)
{
    const struct attention_span *span = &spans[index];
    return span->queries == spans->queries && is_behind(span->k, spans->k, index) &&
           is_behind(span->v, spans->v, index) && is_behind_or_none(span->own_k, spans->own_k, index) &&
           is_behind_or_none(span->own_v, spans->own_v, index);
}

/* How many of the spans, from the first on, go together. */
static int run_length(const struct attention_span *spans, int count)
{
    int length = 1;
    if (is_few(&spans[0]))
        while (length < count && length < FEW_SPANS && is_few(&spans[length]))
            length++;
    else
        while (length < count && continues(spans, length))
            length++;
    return length;
}

/* The same for gradients, whose matrices must follow one another, too. */
static int grad_run_length(const struct attention_span *spans, const struct attention_span *dspans, int count)
{
    int length = 1;
    while (length < count && continues(spans, length) &&
           is_behind_or_none(dspans[length].k, dspans->k, length) &&
           is_behind_or_none(dspans[length].v, dspans->v, length) &&
           is_behind_or_none(dspans[length].own_k, dspans->own_k, length) &&
           is_behind_or_none(dspans[length].own_v, dspans->own_v, length))
        length++;
    return length;
}

static struct layout layout_of(const struct attention *attention, const struct attention_span *span, int length)
{
    struct layout l = {};
    l.heads = attention->heads;
    l.kv_heads = attention->kv_heads;
    l.size = attention->head_size;
    l.window = attention->window;
    l.scale = attention->scale;
    l.spans = length;
    l.queries = span->queries;
    l.keys = span->k.rows;
    l.own = span->own_k.buffer ? span->own_k.cols / (l.kv_heads * l.size) : 0;
    return l;
}

static struct matrix view_run(struct matrix first, int64_t rows)
{
    return first.buffer ? view_rows(first, 0, rows) : first;
}

/* All rows of a run of `length` spans. */
static struct call call_of(const struct attention_span *span, int length, struct matrix q)
{
    struct call call = {};
    call.q = q;
    call.k = view_run(span->k, length * span->k.rows);
    call.v = view_run(span->v, length * span->k.rows);
    call.own_k = view_run(span->own_k, length * span->queries);
    call.own_v = view_run(span->own_v, length * span->queries);
    return call;
}

void cuda_attention(struct queue *queue, const struct attention *attention, struct matrix q,
                    const struct attention_span *spans, int count, struct matrix out)
{
    int64_t row = 0, rows;
    for (int i = 0, length; i < count && !queue->failed; i += length, row += rows) {
        const struct attention_span *span = &spans[i];
        length = run_length(span, count - i);
        rows = 0;
        for (int s = 0; s < length; s++)
            rows += span[s].queries;
        struct layout l = layout_of(attention, span, length);
        struct matrix run_q = view_rows(q, row, rows), run_out = view_rows(out, row, rows);
        struct call call = call_of(span, length, run_q);
        if (is_few(span))
            attend_few(queue, l, run_q, span, length, run_out);
        else
            attend_many(queue, l, &call, run_out);
    }
}

void cuda_attention_grad(struct queue *queue, const struct attention *attention, struct matrix q,
                         const struct attention_span *spans, int count, struct matrix out, struct matrix dout,
                         struct matrix dq, const struct attention_span *dspans)
{
    int64_t row = 0, rows;
    for (int i = 0, length; i < count && !queue->failed; i += length, row += rows) {
        const struct attention_span *span = &spans[i];
        length = grad_run_length(span, &dspans[i], count - i);
        rows = length * span->queries;
        struct call call = call_of(span, length, view_rows(q, row, rows));
        struct attention_span grads = {};
        grads.k = view_run(dspans[i].k, length * span->k.rows);
        grads.v = view_run(dspans[i].v, length * span->k.rows);
        grads.own_k = view_run(dspans[i].own_k, rows);
        grads.own_v = view_run(dspans[i].own_v, rows);
        attend_backwards(queue, layout_of(attention, span, length), &call, view_rows(out, row, rows),
                         view_rows(dout, row, rows), view_rows(dq, row, rows), &grads);
    }
}
