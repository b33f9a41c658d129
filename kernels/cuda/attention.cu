/* attention.cu: causal attention. Many rows: the heads of a key head are stacked, their scores with a
 * tile of query rows are one batched cuBLAS product, then comes a fused causal softmax, then a second
 * product; the [T, T] scores of all rows never exist at once. Few rows (decoding): own kernels over
 * fixed parts of the keys, so that a row's result depends on its own keys only. What they must know of
 * the spans reaches the device as a kernel parameter: nothing is copied, nothing waits. */
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/table.cuh"

#define THREADS      256
#define SCORES_BYTES EMULATED_ELSE((int64_t)64 << 10, (int64_t)256 << 20) /* of a tile, working memory */
#define KEY_PART     128 /* keys per block when decoding */
#define FEW_SPANS    EMULATED_ELSE(5, 32) /* in a launch of few rows */

/* What the kernels need to know of the shapes. */
struct layout {
    int64_t spans, queries, keys; /* B, R, S of the spans of a call of many rows, which are alike */
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

/* Its inverse for a tile of query rows: from [B, kv_heads, tile, per, D] -> out rows first .. first + tile. */
__global__ void unpack_heads(const float *from, int64_t rows, int64_t first, int64_t tile, int64_t kv_heads,
                             int64_t per, int64_t size, int64_t total, float *out, int64_t stride)
{
    int64_t index = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= total)
        return;
    int64_t d = index % size, j = index / size % per, row = index / (size * per) % tile;
    int64_t head = index / (size * per * tile) % kv_heads, span = index / (size * per * tile * kv_heads);
    out[(span * rows + first + row) * stride + (head * per + j) * size + d] = from[index];
}

/* scores [B kv_heads, tile, per, keys] -> probabilities in the compute type, zero where a query may not
 * look. One block a row; the row is read three times, twice from the cache. Bound by memory. */
template <typename T>
__global__ void softmax_rows(struct layout l, int64_t first, int64_t tile, int64_t keys, const float *scores,
                             T *to)
{
    __shared__ float partial[32];
    int64_t row = (int64_t)blockIdx.x + (int64_t)blockIdx.y * gridDim.x; /* of B kv_heads tile per */
    int64_t per = l.heads / l.kv_heads, query = first + row / per % tile;
    if (row >= l.spans * l.kv_heads * tile * per)
        return;
    int64_t position = l.keys - l.queries + query, least = first_key(l, position);
    const float *from = scores + row * keys;
    float most = -INFINITY, sum = 0;
    for (int64_t i = least + threadIdx.x; i <= position; i += blockDim.x)
        most = fmaxf(most, from[i]);
    most = block_max(most, partial);
    for (int64_t i = least + threadIdx.x; i <= position; i += blockDim.x)
        sum += __expf((from[i] - most) * l.scale);
    float inverse = 1.0f / block_sum(sum, partial);
    for (int64_t i = threadIdx.x; i < keys; i += blockDim.x)
        store_value(to + row * keys + i,
                    i >= least && i <= position ? __expf((from[i] - most) * l.scale) * inverse : 0.0f);
}

/* Working memory of a many-rows call. */
struct packed {
    void *q, *k, *v, *probabilities;
    float *scores, *out;
};

static struct operand pack(struct queue *queue, struct matrix x, int64_t rows, struct layout l, int64_t per,
                           void *to)
{
    int64_t total = x.rows * x.cols;
    bool bf16 = queue_is_bf16(queue);
    dim3 grid(blocks_for(total, THREADS));
    if (bf16)
        LAUNCH(pack_heads<__nv_bfloat16>, grid, dim3(THREADS), 0, queue_stream(queue), matrix_floats(x),
               x.stride, rows, l.kv_heads, per, l.size, total, (__nv_bfloat16 *)to);
    else
        LAUNCH(pack_heads<float>, grid, dim3(THREADS), 0, queue_stream(queue), matrix_floats(x), x.stride, rows,
               l.kv_heads, per, l.size, total, (float *)to);
    struct operand operand = {to, bf16, l.size};
    return operand;
}

/* Rows first .. first + tile of every span. */
static void attend_tile(struct queue *queue, struct layout l, int64_t first, int64_t tile, struct operand q,
                        struct operand k, struct operand v, const struct packed *work, struct matrix out)
{
    int64_t per = l.heads / l.kv_heads, keys = l.keys - l.queries + first + tile, batch = l.spans * l.kv_heads;
    int64_t rows = batch * tile * per, value = q.bf16 ? 2 : 4;
    cudaStream_t stream = queue_stream(queue);
    struct product scores = {};
    scores.op = "attention";
    scores.rows = tile * per;
    scores.cols = keys;
    scores.inner = l.size;
    scores.a = q;
    scores.a.data = (const char *)q.data + first * per * l.size * value;
    scores.a_apart = l.queries * per * l.size;
    scores.b = k;
    scores.b_apart = l.keys * l.size;
    scores.transpose_b = true;
    scores.c = work->scores;
    scores.c_stride = keys;
    scores.c_apart = tile * per * keys;
    scores.batch = batch;
    product_run(queue, &scores);
    dim3 grid((unsigned)(rows < 32768 ? rows : 32768), (unsigned)((rows + 32767) / 32768));
    dim3 threads = row_threads(keys, 256);
    if (q.bf16)
        LAUNCH(softmax_rows<__nv_bfloat16>, grid, threads, 0, stream, l, first, tile, keys, work->scores,
               (__nv_bfloat16 *)work->probabilities);
    else
        LAUNCH(softmax_rows<float>, grid, threads, 0, stream, l, first, tile, keys, work->scores,
               (float *)work->probabilities);
    struct product mix = {};
    mix.op = "attention";
    mix.rows = tile * per;
    mix.cols = l.size;
    mix.inner = keys;
    mix.a.data = work->probabilities;
    mix.a.bf16 = q.bf16;
    mix.a.stride = keys;
    mix.a_apart = tile * per * keys;
    mix.b = v;
    mix.b_apart = l.keys * l.size;
    mix.c = work->out;
    mix.c_stride = l.size;
    mix.c_apart = tile * per * l.size;
    mix.batch = batch;
    product_run(queue, &mix);
    LAUNCH(unpack_heads, dim3(blocks_for(rows * l.size, THREADS)), dim3(THREADS), 0, stream, work->out,
           l.queries, first, tile, l.kv_heads, per, l.size, rows * l.size, matrix_floats(out), out.stride);
    launch_ok(queue, "attention", out);
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

static void attend_many(struct queue *queue, struct layout l, struct matrix q, struct matrix k, struct matrix v,
                        struct matrix out)
{
    int64_t value = queue_is_bf16(queue) ? 2 : 4, tile = tile_rows(l), rows = l.spans * l.heads * tile;
    struct packed work = {};
    work.q = scratch_take(queue, "attention", q, (size_t)(q.rows * q.cols * value));
    work.k = scratch_take(queue, "attention", k, (size_t)(k.rows * k.cols * value));
    work.v = scratch_take(queue, "attention", v, (size_t)(v.rows * v.cols * value));
    work.scores = (float *)scratch_take(queue, "attention", q, (size_t)(rows * l.keys) * sizeof(float));
    work.probabilities = scratch_take(queue, "attention", q, (size_t)(rows * l.keys * value));
    work.out = (float *)scratch_take(queue, "attention", q, (size_t)(rows * l.size) * sizeof(float));
    if (!queue->failed) {
        struct operand packed_q = pack(queue, q, l.queries, l, l.heads / l.kv_heads, work.q);
        struct operand packed_k = pack(queue, k, l.keys, l, 1, work.k),
                       packed_v = pack(queue, v, l.keys, l, 1, work.v);
        for (int64_t first = 0; first < l.queries && !queue->failed; first += tile)
            attend_tile(queue, l, first, l.queries - first < tile ? l.queries - first : tile, packed_q,
                        packed_k, packed_v, &work, out);
    }
    scratch_free(queue, work.q);
    scratch_free(queue, work.k);
    scratch_free(queue, work.v);
    scratch_free(queue, work.scores);
    scratch_free(queue, work.probabilities);
    scratch_free(queue, work.out);
}

/* ---- few rows ---- */

/* Where the keys and values of a span are, and its rows in the call. */
struct few_span {
    const float *k, *v;
    int64_t k_stride, v_stride, keys;
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

/* Per (query row, head, part of keys): the part's largest score, sum of exponentials and weighted
 * values. Reads keys and values once (8 D bytes a key for 4 D flops): bound by memory. A warp a key
 * for the scores, a thread a column for the values. partial [rows heads, parts, D + 2]; of parts behind the
 * span's keys nothing is written nor read. */
__global__ void attend_part(struct layout l, struct few_spans spans, const float *q, int64_t q_stride,
                            int64_t parts, float *partial)
{
    __shared__ float scores[KEY_PART];
    __shared__ float warps[32];
    int64_t row = blockIdx.y / l.heads, head = blockIdx.y % l.heads, first = (int64_t)blockIdx.x * KEY_PART;
    struct few_span span = span_of(spans, row);
    int64_t position = span.keys - span.queries + row - span.first, least = first_key(l, position);
    int64_t column = head / (l.heads / l.kv_heads) * l.size;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const float *query = q + row * q_stride + head * l.size;
    float *to = partial + ((int64_t)blockIdx.y * parts + blockIdx.x) * (l.size + 2), most = -INFINITY, sum = 0;
    if (first >= span.keys)
        return;
    for (int i = warp; i < KEY_PART; i += (int)blockDim.x / 32) {
        int64_t key = first + i;
        bool seen = key >= least && key <= position;
        float dot = 0;
        if (seen)
            for (int64_t d = lane; d < l.size; d += 32)
                dot += query[d] * span.k[key * span.k_stride + column + d];
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
                mixed += scores[i] * span.v[(first + i) * span.v_stride + column + d];
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
    int64_t own = (span_of(spans, row).keys + KEY_PART - 1) / KEY_PART; /* parts */
    float most = -INFINITY, sum = 0;
    for (int64_t part = 0; part < own; part++)
        most = fmaxf(most, from[part * (l.size + 2)]);
    for (int64_t part = 0; part < own; part++)
        sum += __expf(from[part * (l.size + 2)] - most) * from[part * (l.size + 2) + 1];
    for (int64_t d = threadIdx.x; d < l.size; d += blockDim.x) {
        float mixed = 0;
        for (int64_t part = 0; part < own; part++)
            mixed += __expf(from[part * (l.size + 2)] - most) * from[part * (l.size + 2) + 2 + d];
        out[row * stride + head * l.size + d] = mixed / sum;
    }
}

static void attend_few(struct queue *queue, struct layout l, struct matrix q,
                       const struct attention_span *spans, int count, struct matrix out)
{
    struct few_spans few = {};
    int64_t most = 0, rows = q.rows * l.heads;
    for (int i = 0, first = 0; i < count; first += (int)spans[i++].queries) {
        struct few_span span = {matrix_floats(spans[i].k), matrix_floats(spans[i].v), spans[i].k.stride,
                                spans[i].v.stride,         spans[i].k.rows,           first,
                                (int)spans[i].queries};
        few.span[i] = span;
        most = span.keys > most ? span.keys : most;
    }
    int64_t parts = (most + KEY_PART - 1) / KEY_PART;
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

/* How many of the spans, from the first on, go together. */
static int run_length(const struct attention_span *spans, int count)
{
    int length = 1;
    if (is_few(&spans[0]))
        while (length < count && length < FEW_SPANS && is_few(&spans[length]))
            length++;
    else
        while (length < count && spans[length].queries == spans[0].queries &&
               is_behind(spans[length].k, spans[0].k, length) && is_behind(spans[length].v, spans[0].v, length))
            length++;
    return length;
}

void cuda_attention(struct queue *queue, const struct attention *attention, struct matrix q,
                    const struct attention_span *spans, int count, struct matrix out)
{
    struct layout l = {};
    int64_t row = 0, rows;
    l.heads = attention->heads;
    l.kv_heads = attention->kv_heads;
    l.size = attention->head_size;
    l.window = attention->window;
    l.scale = attention->scale;
    for (int i = 0, length; i < count && !queue->failed; i += length, row += rows) {
        const struct attention_span *span = &spans[i];
        if (span->own_k.buffer)
            cuda_fail(queue, ERROR_INTERNAL,
                      "own keys of op_attention are not on this device yet: use --device cpu");
        length = run_length(span, count - i);
        rows = 0;
        for (int s = 0; s < length; s++)
            rows += span[s].queries;
        struct matrix run_q = view_rows(q, row, rows), run_out = view_rows(out, row, rows);
        l.spans = length;
        l.queries = span->queries;
        l.keys = span->k.rows;
        if (is_few(span))
            attend_few(queue, l, run_q, span, length, run_out);
        else
            attend_many(queue, l, run_q, view_rows(span->k, 0, length * l.keys),
                        view_rows(span->v, 0, length * l.keys), run_out);
    }
}
