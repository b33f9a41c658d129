/* contract.c: calls that break the contract of ops.h fail the queue, with a message that names the op
 * and its shapes, and touch nothing. */
#include <stdlib.h>

#include "common/base/random.h"
#include "kernels/ops.h"
#include "tests/test.h"

enum { VALUES = 4096 };

struct desk {
    struct backend *backend, *other;
    struct buffer *a, *b, *c, *d, *foreign; /* VALUES f32 each */
    struct weight *forward, *rows; /* [48, 32], for one use each */
    struct weight *subset; /* of 9 rows */
    float data[48 * 32];
};

static void desk_open(struct desk *desk)
{
    struct error error;
    const struct weight_part part = {DTYPE_F32, 48, 32, desk->data};
    const struct backend_options options = {.threads = 1};
    struct buffer **buffers[] = {&desk->a, &desk->b, &desk->c, &desk->d};
    memset(desk->data, 0, sizeof desk->data);
    if (backend_open("ref", &options, &desk->backend, &error) < 0 ||
        backend_open("ref", &options, &desk->other, &error) < 0 ||
        buffer_create(desk->other, VALUES * sizeof(float), &desk->foreign, &error) < 0 ||
        weight_prepare(desk->backend, &part, 1, NULL, WEIGHT_FORWARD, &desk->forward, &error) < 0 ||
        weight_prepare(desk->backend, &part, 1, NULL, WEIGHT_ROWS, &desk->rows, &error) < 0 ||
        weight_subset_create(desk->rows, 9, &desk->subset, &error) < 0) {
        fprintf(stderr, "contract: %s\n", error.text);
        exit(1);
    }
    for (int i = 0; i < 4; i++)
        if (buffer_create(desk->backend, VALUES * sizeof(float), buffers[i], &error) < 0)
            exit(1);
}

static void desk_close(struct desk *desk)
{
    buffer_destroy(desk->a);
    buffer_destroy(desk->b);
    buffer_destroy(desk->c);
    buffer_destroy(desk->d);
    buffer_destroy(desk->foreign);
    weight_destroy(desk->forward);
    weight_destroy(desk->rows);
    weight_destroy(desk->subset);
    backend_close(desk->backend);
    backend_close(desk->other);
}

static struct queue *new_queue(struct backend *backend)
{
    struct error error;
    struct queue *queue;
    if (queue_create(backend, &queue, &error) == 0)
        return queue;
    fprintf(stderr, "contract: %s\n", error.text);
    exit(1);
}

/* Waits for the queue, destroys it, and gives its error: "" when it has not failed. */
static const char *queue_end(struct queue *queue)
{
    static struct error error;
    error.text[0] = 0;
    if (queue_wait(queue, &error) == 0)
        error.text[0] = 0;
    queue_destroy(queue);
    return error.text;
}

/* `call` works on a `queue` of its own, which must fail with both texts in its message. */
#define REFUSED(call, operands, reason)                                                                        \
    do {                                                                                                       \
        struct queue *queue = new_queue(desk.backend);                                                         \
        call;                                                                                                  \
        const char *text = queue_end(queue);                                                                   \
        CHECK_TEXT(text, operands);                                                                            \
        CHECK_TEXT(text, reason);                                                                              \
    } while (0)

#define ACCEPTED(call)                                                                                         \
    do {                                                                                                       \
        struct queue *queue = new_queue(desk.backend);                                                         \
        call;                                                                                                  \
        const char *text = queue_end(queue);                                                                   \
        if (*text)                                                                                             \
            test_fail(__FILE__, __LINE__, "%s: %s", #call, text);                                              \
    } while (0)

TEST(wrong_shapes)
{
    struct desk desk;
    desk_open(&desk);
    const struct matrix x = matrix_f32(desk.a, 9, 32), y = matrix_f32(desk.b, 9, 48), none = matrix_none();
    const struct matrix narrow = matrix_f32(desk.c, 9, 31), scale = matrix_f32(desk.d, 1, 32);
    const struct matrix integers = {desk.c, DTYPE_I16, 100, 9, 32, 32},
                        bytes = {desk.d, DTYPE_U8, 7, 9, 32, 32};
    const struct matrix y_alone = matrix_f32(desk.b, 9, 32), sum = matrix_f64(desk.b, 1, 1);
    const struct adam first = {.step = 1};
    REFUSED(op_matmul(queue, narrow, desk.forward, y, OP_STORE),
            "op_matmul(x f32 [9, 31], weight [48, 32], y f32 [9, 48])", "x must be [9, 32]");
    REFUSED(op_matmul(queue, x, desk.forward, matrix_rows(y, 0, 8), OP_STORE), "y f32 [8, 48]",
            "y must be [9, 48]");
    REFUSED(op_matmul_grad(queue, x, desk.forward, y, OP_STORE), "op_matmul_grad(", "dy must be [9, 48]");
    REFUSED(op_embed(queue, desk.rows, matrix_i32(desk.c, 9, 2), x), "op_embed(", "ids must be [9, 1]");
    REFUSED(op_gather(queue, desk.rows, matrix_i32(desk.c, 8, 1), desk.subset),
            "op_gather(from [48, 32], ids i32 [8, 1], subset [9, 32])", "ids must be [9, 1]");
    REFUSED(op_gather(queue, desk.forward, matrix_i32(desk.c, 9, 1), desk.subset), "op_gather(",
            "from was not prepared for WEIGHT_ROWS");
    REFUSED(op_gather(queue, desk.rows, matrix_i32(desk.c, 48, 1), desk.forward), "op_gather(",
            "subset must come from weight_subset_create");
    REFUSED(op_gather(queue, desk.subset, matrix_i32(desk.c, 9, 1), desk.subset), "op_gather(",
            "subset must come from weight_subset_create");
    REFUSED(op_gemm(queue, x, true, y, false, matrix_f32(desk.c, 48, 32), OP_ADD),
            "op_gemm(a^T f32 [9, 32], b f32 [9, 48]", "c must be [32, 48]");
    const struct gemm wrong = {
        .a = x, .transpose_a = true, .b = y, .c = matrix_f32(desk.c, 48, 32), .mode = OP_ADD};
    REFUSED(op_gemm_group(queue, (const struct gemm[]){wrong, wrong}, 2),
            "op_gemm(a^T f32 [9, 32], b f32 [9, 48]", "c must be [32, 48]");
    REFUSED(op_gemm(queue, x, false, y, false, narrow, OP_ADD), "op_gemm(a f32 [9, 32], b ",
            "b must be [32, 48]");
    REFUSED(op_gram(queue, x, y, matrix_f32(desk.c, 8, 1), matrix_f64(desk.d, 32, 48)), "op_gram(",
            "w must be [9, 1]");
    REFUSED(op_axpy(queue, 1, x, narrow), "op_axpy(x f32 [9, 32], y f32 [9, 31])", "y must be [9, 32]");
    REFUSED(op_copy(queue, x, narrow), "op_copy(", "y must be [9, 32]");
    REFUSED(op_add_bias(queue, matrix_f32(desk.c, 9, 32), x), "op_add_bias(", "b must be [1, 32]");
    REFUSED(op_sum_rows(queue, x, y), "op_sum_rows(", "s must be [1, 32]");
    REFUSED(op_sum_squares(queue, (struct square_sum[]){{x, sum}, {x, matrix_f64(desk.c, 9, 1)}}, 2),
            "op_sum_squares(", "s must be [1, 1]");
    REFUSED(op_mean_square(queue, x, scale), "op_mean_square(", "m must be [9, 1]");
    REFUSED(op_quantise(queue, x, y, y, 1, integers, scale, scale),
            "op_quantise(x f32 [9, 32], basis f32 [9, 48]", "x must be [9, 9]");
    REFUSED(op_quantise(queue, x, matrix_f32(desk.b, 32, 31), scale, 1, integers, scale, scale), "op_quantise(",
            "offset must be [1, 31]");
    REFUSED(op_quantise(queue, x, matrix_f32(desk.b, 32, 32), scale, 1, integers, scale, scale),
            "q i16 [9, 32]", "scale must be [9, 1]");
    REFUSED(op_quantise(queue, x, matrix_f32(desk.b, 32, 32), scale, 0, integers, matrix_f32(desk.c, 9, 1),
                        matrix_f32(desk.d, 9, 1)),
            "op_quantise(", "the spacing must be above 0");
    REFUSED(op_split_planes(queue, x, integers, bytes), "op_split_planes(", "high must be u8");
    REFUSED(op_split_planes(queue, x, bytes, matrix_cols(bytes, 0, 31)), "low u8 [9, 31]",
            "low must be [9, 32]");
    REFUSED(op_split_planes(queue, x, bytes, bytes), "op_split_planes(", "high overlaps low");
    REFUSED(op_norm(queue, x, matrix_f32(desk.d, 1, 5), 0, matrix_f32(desk.c, 9, 32)), "scale f32 [1, 5]",
            "scale's columns must divide x's");
    REFUSED(op_norm(queue, x, matrix_f32(desk.d, 1, 0), 0, matrix_f32(desk.c, 9, 32)), "op_norm(", "scale");
    REFUSED(op_norm_grad(queue, matrix_f32(desk.b, 9, 32), x, scale, 0, matrix_f32(desk.c, 9, 32), OP_STORE,
                         matrix_f32(desk.c, 1, 31)),
            "op_norm_grad(", "dscale must be [1, 32]");
    REFUSED(op_swiglu(queue, x, y), "op_swiglu(x f32 [9, 32], y f32 [9, 48])", "x must be [9, 96]");
    REFUSED(op_swiglu_grad(queue, matrix_f32(desk.b, 9, 16), x, y), "op_swiglu_grad(", "dx must be [9, 32]");
    REFUSED(op_rope(queue, x, matrix_i32(desk.b, 9, 1), matrix_f32(desk.c, 7, 5), ROPE_HALVES),
            "table f32 [7, 5]", "must divide x's");
    REFUSED(op_adam(queue, &(struct adam_update){first, x, y, y, y}, 1), "op_adam(",
            "gradient must be [9, 48]");
    const struct matrix moments[2] = {matrix_f32(desk.c, 9, 32), matrix_f32(desk.d, 9, 32)};
    REFUSED(op_adam(queue,
                    (struct adam_update[]){{first, x, y_alone, moments[0], moments[1]},
                                           {{.step = 0}, x, y_alone, moments[0], moments[1]}},
                    2),
            "op_adam(", "steps count from 1");
    REFUSED(op_norm(queue, none, scale, 0, x), "op_norm(x none, ", "x is missing");
    desk_close(&desk);
}

TEST(wrong_shapes_of_attention)
{
    struct desk desk;
    desk_open(&desk);
    const struct attention attention = {4, 2, 8, 0, 1}, odd = {4, 3, 8, 0, 1};
    const struct matrix x = matrix_f32(desk.a, 9, 32), narrow = matrix_f32(desk.c, 9, 31);
    const struct attention_span span = {
        .queries = 5, .k = matrix_f32(desk.b, 6, 16), .v = matrix_f32(desk.c, 6, 16)};
    struct attention_span spans[] = {span, span}, longer[] = {span, span}, narrower[] = {span, span},
                          empty[] = {span, span};
    spans[1].k = matrix_f32(desk.b, 3, 16);
    spans[1].v = matrix_f32(desk.c, 3, 16);
    narrower[1].v = narrow;
    empty[1].queries = 0;
    spans[1].queries = narrower[1].queries = 4;
    REFUSED(op_attention(queue, &odd, x, longer, 2, matrix_f32(desk.d, 9, 32)), "op_attention(q f32 [9, 32], ",
            "kv_heads must divide the heads");
    REFUSED(op_attention(queue, &attention, x, spans, 1, matrix_f32(desk.d, 9, 32)),
            "op_attention(q f32 [9, 32], out f32 [9, 32])", "queries must be all of q");
    REFUSED(op_attention(queue, &attention, x, NULL, 0, matrix_f32(desk.d, 9, 32)),
            "op_attention(q f32 [9, 32], out f32 [9, 32])", "queries must be all of q");
    REFUSED(op_attention(queue, &attention, x, spans, 2, matrix_f32(desk.d, 9, 32)), "k f32 [3, 16]",
            "nor more than keys");
    REFUSED(op_attention(queue, &attention, x, longer, 2, matrix_f32(desk.d, 9, 32)), "k f32 [6, 16]",
            "no more than q has left");
    REFUSED(op_attention(queue, &attention, x, empty, 2, matrix_f32(desk.d, 9, 32)), "k f32 [6, 16]",
            "a span has 1 query or more");
    REFUSED(op_attention(queue, &attention, x, narrower, 2, matrix_f32(desk.d, 9, 32)), "v f32 [9, 31]",
            "v must be [6, 16]");
    REFUSED(op_attention(queue, &attention, matrix_rows(x, 0, 5), &span, 1, matrix_f32(desk.b, 5, 32)),
            "op_attention(", "out overlaps k");
    desk_close(&desk);
}

TEST(wrong_own_keys_and_gradients_of_attention)
{
    struct desk desk;
    desk_open(&desk);
    const struct attention attention = {4, 2, 8, 0, 1};
    const struct matrix q = matrix_f32(desk.a, 3, 32), out = matrix_rows(matrix_f32(desk.a, 6, 32), 3, 3);
    const struct matrix both = matrix_f32(desk.b, 3, 32), dq = matrix_f32(desk.c, 3, 32);
    const struct matrix dboth = matrix_rows(matrix_f32(desk.c, 9, 32), 3, 3);
    const struct attention_span span = {
        .queries = 3, .k = matrix_cols(both, 0, 16), .v = matrix_cols(both, 16, 16)};
    struct attention_span alone = span, odd = span, short_one = span, own = span;
    alone.own_k = odd.own_k = odd.own_v = matrix_f32(desk.d, 3, 15);
    short_one.own_k = short_one.own_v = matrix_f32(desk.d, 2, 16);
    own.own_k = own.own_v = matrix_f32(desk.d, 3, 32);
    REFUSED(op_attention(queue, &attention, q, &alone, 1, dq), "own_k f32 [3, 15], own_v none",
            "own_k and own_v go together");
    REFUSED(op_attention(queue, &attention, q, &odd, 1, dq), "own_k f32 [3, 15]", "own_k must have whole keys");
    REFUSED(op_attention(queue, &attention, q, &short_one, 1, dq), "own_k f32 [2, 16]",
            "own_k must be [3, 16]");
    const struct attention_span dspan = {.k = matrix_cols(dboth, 0, 16), .v = matrix_cols(dboth, 16, 16)};
    struct attention_span dwide = dspan, down = dspan, dq_again = dspan;
    dwide.v = dboth;
    down.own_v = matrix_rows(matrix_f32(desk.c, 9, 32), 6, 3);
    dq_again.k = matrix_cols(dq, 0, 16);
    ACCEPTED(op_attention_grad(queue, &attention, q, &span, 1, out, q, dq, &dspan));
    ACCEPTED(op_attention_grad(queue, &attention, q, &own, 1, out, q, dq, &down));
    REFUSED(op_attention_grad(queue, &attention, q, &span, 1, matrix_rows(out, 0, 2), q, dq, &dspan),
            "op_attention_grad(q f32 [3, 32], ", "out must be [3, 32]");
    REFUSED(op_attention_grad(queue, &attention, q, &span, 1, out, q, dq, &dwide), "dv f32 [3, 32]",
            "dv must be [3, 16]");
    REFUSED(op_attention_grad(queue, &attention, q, &span, 1, out, q, dq, &down), "own_dv f32 [3, 32]",
            "own_dv must be [3, 0]");
    REFUSED(op_attention_grad(queue, &attention, q, &span, 1, out, q, dq, &dq_again), "op_attention_grad(",
            "dq overlaps dk");
    REFUSED(op_attention_grad(queue, &attention, q, NULL, 0, out, q, dq, NULL), "op_attention_grad(",
            "queries must be all of q");
    desk_close(&desk);
}

TEST(wrong_vocabularies)
{
    struct desk desk;
    desk_open(&desk);
    const struct matrix h = matrix_f32(desk.a, 9, 32), none = matrix_none(), column = matrix_f32(desk.b, 9, 1);
    const struct vocab tied = {desk.forward, none}, own = {NULL, matrix_f32(desk.c, 48, 32)},
                       nothing = {NULL, none};
    struct vocab_loss loss = {.target = VOCAB_LABELS, .labels = matrix_i32(desk.d, 9, 1)};
    REFUSED(op_vocab_stats(queue, h, &nothing, none, &(struct vocab_stats){.lse = column}), "vocab none",
            "vocab is missing");
    REFUSED(op_vocab_stats(queue, matrix_f32(desk.a, 9, 31), &tied, none, &(struct vocab_stats){.lse = column}),
            "op_vocab_stats(h f32 [9, 31], vocab [48, 32], labels none, lse f32 [9, 1]",
            "vocab must be [48, 31]");
    REFUSED(op_vocab_stats(queue, h, &tied, none, &(struct vocab_stats){.label = column}), "label f32 [9, 1]",
            "the label's logit needs labels");
    REFUSED(op_vocab_stats(queue, h, &tied, none, &(struct vocab_stats){.u = matrix_f32(desk.b, 9, 32)}),
            "u f32 [9, 32]", "vocab was not prepared for WEIGHT_BACKWARD");
    REFUSED(op_vocab_stats(queue, h, &tied, none, &(struct vocab_stats){.top = column}), "op_vocab_stats(",
            "top must be i32");
    const struct matrix best = matrix_i32(desk.d, 9, 8), logits = matrix_f32(desk.c, 9, 8);
    ACCEPTED(op_vocab_stats(queue, h, &tied, none, &(struct vocab_stats){.best = best, .best_logit = logits}));
    REFUSED(op_vocab_stats(queue, h, &tied, none, &(struct vocab_stats){.best = best}), "best i32 [9, 8]",
            "best and best_logit go together");
    REFUSED(op_vocab_stats(queue, h, &tied, none, &(struct vocab_stats){.best_logit = logits}), "best none",
            "best and best_logit go together");
    REFUSED(op_vocab_stats(queue, h, &tied, none,
                           &(struct vocab_stats){.best = best, .best_logit = matrix_cols(logits, 0, 7)}),
            "best_logit f32 [9, 7]", "best_logit must be [9, 8]");
    REFUSED(op_vocab_stats(queue, h, &tied, none,
                           &(struct vocab_stats){.best = matrix_i32(desk.d, 9, VOCAB_BEST_MOST + 1),
                                                 .best_logit = matrix_f32(desk.c, 9, VOCAB_BEST_MOST + 1)}),
            "best i32 [9, 33]", "best has more columns than there may be");
    const struct vocab few = {NULL, matrix_f32(desk.c, 7, 32)};
    REFUSED(op_vocab_stats(queue, h, &few, none,
                           &(struct vocab_stats){.best = best, .best_logit = matrix_f32(desk.b, 9, 8)}),
            "vocab f32 [7, 32]", "best has more columns than there may be");
    REFUSED(op_vocab_cross(queue, h, &own, matrix_f32(desk.d, 9, 32),
                           &(struct vocab){NULL, matrix_f32(desk.c, 47, 32)}, column),
            "teacher f32 [47, 32]", "teacher must be [48, 32]");
    REFUSED(op_vocab_loss(queue, h, &tied, &loss, column, matrix_f32(desk.c, 9, 32), none), "op_vocab_loss(",
            "vocab was not prepared for WEIGHT_BACKWARD");
    loss.shift = matrix_f32(desk.b, 1, 47);
    REFUSED(op_vocab_loss(queue, h, &own, &loss, column, matrix_f32(desk.d, 9, 32), none), "shift f32 [1, 47]",
            "shift must be [1, 48]");
    loss.shift = none;
    loss.target = VOCAB_U;
    REFUSED(op_vocab_loss(queue, h, &own, &loss, column, matrix_f32(desk.d, 9, 32), none), "u none",
            "u is missing");
    loss.u = matrix_f32(desk.d, 9, 32);
    REFUSED(op_vocab_loss(queue, h, &own, &loss, column, matrix_rows(matrix_f32(desk.d, 27, 32), 9, 9),
                          matrix_f32(desk.d, 48, 32)),
            "op_vocab_loss(", "VOCAB_U has no gradient of the weight");
    loss.temperature = 2;
    REFUSED(op_vocab_loss(queue, h, &own, &loss, column, matrix_rows(matrix_f32(desk.d, 27, 32), 9, 9), none),
            "op_vocab_loss(", "a temperature needs VOCAB_TEACHER");
    loss.temperature = -1;
    REFUSED(op_vocab_loss(queue, h, &own, &loss, column, matrix_rows(matrix_f32(desk.d, 27, 32), 9, 9), none),
            "op_vocab_loss(", "the temperature must be above 0");
    loss.temperature = 0;
    loss.share = 1.5f;
    REFUSED(op_vocab_loss(queue, h, &own, &loss, column, matrix_rows(matrix_f32(desk.d, 27, 32), 9, 9), none),
            "op_vocab_loss(", "share must be in 0 .. 1");
    loss.share = 0.5f;
    loss.labels = none;
    REFUSED(op_vocab_loss(queue, h, &own, &loss, column, matrix_rows(matrix_f32(desk.d, 27, 32), 9, 9), none),
            "labels none", "labels is missing");
    loss.share = 0;
    loss.target = VOCAB_TEACHER;
    loss.teacher = own;
    loss.teacher_state = matrix_f32(desk.d, 9, 16);
    REFUSED(op_vocab_loss(queue, h, &own, &loss, column, matrix_f32(desk.d, 9, 32), none),
            "teacher_state f32 [9, 16]", "teacher_state must be [9, 32]");
    desk_close(&desk);
}

/* A vocabulary that is a subset beside a whole one of as many rows. */
TEST(vocabularies_that_are_cut_in_two_ways)
{
    struct desk desk;
    struct error error;
    struct weight *subset;
    desk_open(&desk);
    const struct matrix none = matrix_none(), h = matrix_f32(desk.a, 8, 32), column = matrix_f32(desk.b, 8, 1);
    REQUIRE_OK(weight_subset_create(desk.rows, 48, &subset, &error));
    const struct vocab one = {subset, none}, other = {desk.rows, none},
                       own = {NULL, matrix_f32(desk.d, 48, 32)};
    const struct vocab_loss loss = {.target = VOCAB_TEACHER, .teacher_state = h, .teacher = other, .scale = 1};
    ACCEPTED(op_gather(queue, desk.rows, matrix_i32(desk.c, 48, 1), subset));
    ACCEPTED(op_vocab_cross(queue, h, &one, h, &one, column));
    ACCEPTED(op_vocab_cross(queue, h, &own, h, &one, column));
    REFUSED(op_vocab_cross(queue, h, &other, h, &one, column), "teacher [48, 32]",
            "vocab and teacher must both come from weight_subset_create, or neither");
    REFUSED(op_vocab_loss(queue, h, &one, &loss, column, matrix_f32(desk.c, 8, 32), none), "teacher [48, 32]",
            "vocab and teacher must both come from weight_subset_create, or neither");
    weight_destroy(subset);
    desk_close(&desk);
}

TEST(unprepared_weights_and_foreign_objects)
{
    struct desk desk;
    desk_open(&desk);
    const struct matrix x = matrix_f32(desk.a, 9, 32), y = matrix_f32(desk.b, 9, 48);
    ACCEPTED(op_matmul(queue, x, desk.forward, y, OP_STORE));
    ACCEPTED(op_matmul(queue, matrix_rows(x, 0, 8), desk.rows, matrix_rows(y, 0, 8), OP_STORE));
    REFUSED(op_matmul(queue, x, desk.rows, y, OP_STORE), "op_matmul(",
            "weight was not prepared for WEIGHT_FORWARD");
    REFUSED(op_matmul(queue, matrix_rows(x, 0, 8), desk.forward, matrix_rows(y, 0, 8), OP_STORE),
            "x f32 [8, 32]", "weight was not prepared for WEIGHT_ROWS");
    REFUSED(op_matmul_grad(queue, y, desk.forward, x, OP_STORE), "op_matmul_grad(",
            "not prepared for WEIGHT_BACKWARD");
    REFUSED(op_embed(queue, desk.forward, matrix_i32(desk.c, 9, 1), x), "op_embed(",
            "not prepared for WEIGHT_ROWS");
    REFUSED(op_axpy(queue, 1, x, matrix_f32(desk.foreign, 9, 32)), "op_axpy(", "y belongs to another backend");
    struct queue *queue = new_queue(desk.other);
    op_matmul(queue, matrix_f32(desk.foreign, 9, 32), desk.forward,
              matrix_rows(matrix_f32(desk.foreign, 18, 48), 9, 9), OP_STORE);
    CHECK_TEXT(queue_end(queue), "weight belongs to another backend");
    desk_close(&desk);
}

TEST(wrong_types)
{
    struct desk desk;
    desk_open(&desk);
    const struct matrix x = matrix_f32(desk.a, 9, 32), y = matrix_f32(desk.b, 9, 32);
    struct matrix half = y;
    half.type = DTYPE_F16;
    REFUSED(op_axpy(queue, 1, x, matrix_i32(desk.b, 9, 32)), "op_axpy(x f32 [9, 32], y i32 [9, 32])",
            "y must be f32");
    REFUSED(op_copy(queue, matrix_i32(desk.c, 9, 32), y), "op_copy(", "y must be i32");
    REFUSED(op_copy(queue, half, x), "x of no type [9, 32]", "x must be f32, f64, i32, i16 or u8");
    REFUSED(op_embed(queue, desk.rows, matrix_f32(desk.c, 9, 1), x), "op_embed(", "ids must be i32");
    REFUSED(op_rope(queue, x, matrix_f32(desk.b, 9, 1), matrix_f32(desk.c, 7, 8), ROPE_HALVES), "op_rope(",
            "positions must be i32");
    REFUSED(op_sum_squares(queue, &(struct square_sum){x, matrix_f32(desk.b, 1, 1)}, 1), "op_sum_squares(",
            "s must be f64");
    REFUSED(op_write(queue, half, desk.data), "op_write(", "matrix must be f32, f64, i32, i16 or u8");
    desk_close(&desk);
}

TEST(views_outside_their_buffer)
{
    struct desk desk;
    desk_open(&desk);
    float values[8] = {0};
    struct matrix view = matrix_f32(desk.a, 2, 4);
    ACCEPTED(op_read(queue, matrix_rows(matrix_f32(desk.a, VALUES / 4, 4), VALUES / 4 - 2, 2), values));
    REFUSED(op_read(queue, matrix_rows(matrix_f32(desk.a, VALUES / 4, 4), VALUES / 4 - 1, 2), values),
            "op_read(matrix f32 [2, 4])", "(offset 4092, stride 4) is outside its buffer of 16384 bytes");
    REFUSED(op_read_rounded(queue, matrix_i32(desk.a, 2, 4), values), "op_read_rounded(matrix i32 [2, 4])",
            "must be f32");
    REFUSED(op_write_bf16(queue, matrix_f64(desk.a, 2, 4), values), "op_write_bf16(matrix f64 [2, 4])",
            "must be f32");
    ACCEPTED(op_read(queue, matrix_f64(desk.a, VALUES / 2, 1), (double[VALUES / 2]){0}));
    REFUSED(op_read(queue, matrix_f64(desk.a, VALUES / 2 + 1, 1), values), "matrix f64 [2049, 1]",
            "is outside its buffer");
    REFUSED(op_write(queue, matrix_f32(desk.a, 1, VALUES + 1), values), "op_write(", "is outside its buffer");
    REFUSED(op_read(queue, matrix_rows(view, -1, 2), values), "op_read(", "(offset -4, stride 4) is outside");
    REFUSED(op_read(queue, matrix_f32(desk.a, 0, 4), values), "op_read(matrix f32 [0, 4])", "is outside");
    REFUSED(op_read(queue, matrix_f32(desk.a, 4, 0), values), "op_read(", "is outside");
    REFUSED(op_read(queue, matrix_f32(desk.a, INT64_MAX, 4), values), "op_read(", "is outside");
    REFUSED(op_read(queue, matrix_f32(desk.a, 2, INT64_MAX / 4), values), "op_read(", "is outside");
    REFUSED(op_read(queue, matrix_f32(desk.a, INT64_MAX / 8 + 2, 8), values), "op_read(", "is outside");
    view.stride = 3;
    REFUSED(op_read(queue, view, values), "op_read(", "stride 3) is outside");
    view.stride = INT64_MAX;
    REFUSED(op_read(queue, view, values), "op_read(", "is outside");
    view.stride = 4;
    view.offset = INT64_MAX;
    REFUSED(op_read(queue, view, values), "op_read(", "is outside");
    desk_close(&desk);
}

TEST(overlapping_operands)
{
    struct desk desk;
    desk_open(&desk);
    const struct matrix x = matrix_f32(desk.a, 9, 32), scale = matrix_f32(desk.b, 1, 32),
                        y = matrix_f32(desk.c, 9, 32);
    const struct matrix wide = matrix_f32(desk.a, 9, 64);
    REFUSED(op_axpy(queue, 1, x, x), "op_axpy(", "y overlaps x");
    ACCEPTED(op_axpy(queue, 1, matrix_cols(wide, 0, 32), matrix_cols(wide, 32, 32)));
    REFUSED(op_axpy(queue, 1, matrix_cols(wide, 0, 32), matrix_cols(wide, 31, 32)), "op_axpy(", "y overlaps x");
    ACCEPTED(op_norm(queue, x, scale, 1, x));
    REFUSED(op_norm(queue, x, scale, 1, matrix_rows(matrix_f32(desk.a, 10, 32), 1, 9)), "op_norm(",
            "y overlaps x");
    REFUSED(op_norm(queue, x, matrix_f32(desk.a, 1, 32), 1, x), "op_norm(", "y overlaps scale");
    REFUSED(op_swiglu(queue, x, matrix_f32(desk.a, 9, 16)), "op_swiglu(", "y overlaps x");
    REFUSED(op_norm_grad(queue, y, x, scale, 1, y, OP_STORE, matrix_none()), "op_norm_grad(", "dx overlaps dy");
    REFUSED(op_norm_grad(queue, y, x, scale, 1, matrix_f32(desk.d, 9, 32), OP_STORE, matrix_f32(desk.d, 1, 32)),
            "op_norm_grad(", "dx overlaps dscale");
    ACCEPTED(op_gemm(queue, x, true, x, false, matrix_f32(desk.b, 32, 32), OP_STORE));
    REFUSED(op_adam(queue, &(struct adam_update){{.step = 1}, x, y, y, matrix_f32(desk.b, 9, 32)}, 1),
            "op_adam(", "value overlaps first");
    desk_close(&desk);
}

/* The first reason stays, ops behind it do not run, and another queue is not concerned. */
TEST(a_failed_queue_stays_failed)
{
    struct desk desk;
    struct error error;
    float before[4] = {1, 2, 3, 4}, after[4] = {0};
    desk_open(&desk);
    const struct matrix x = matrix_f32(desk.a, 1, 4);
    struct queue *queue = new_queue(desk.backend), *sound = new_queue(desk.backend);
    op_write(queue, x, before);
    op_axpy(queue, 1, x, matrix_f32(desk.b, 4, 1));
    op_write(queue, x, after);
    op_norm(queue, matrix_none(), x, 1, x);
    op_read(queue, x, after);
    CHECK(queue_wait(queue, &error) < 0);
    CHECK_TEXT(error.text, "op_axpy(x f32 [1, 4], y f32 [4, 1]): y must be [1, 4]");
    CHECK(queue_wait(queue, &error) < 0);
    CHECK_TEXT(error.text, "op_axpy(");
    CHECK(after[0] == 0);
    op_read(sound, x, after);
    REQUIRE_OK(queue_wait(sound, &error));
    CHECK(memcmp(before, after, sizeof after) == 0);
    queue_destroy(queue);
    queue_destroy(sound);
    desk_close(&desk);
}

static void mark_view(struct matrix view, unsigned char *bytes)
{
    const int64_t size = view.type == DTYPE_F64 ? 8 : 4;
    for (int64_t row = 0; row < view.rows; row++)
        memset(bytes + (view.offset + row * view.stride) * size, 1, (size_t)(view.cols * size));
}

static struct matrix random_view(struct random *random, struct buffer *buffer, int64_t stride)
{
    const int64_t rows = 1 + (int64_t)(random_next(random) % 4),
                  cols = 1 + (int64_t)(random_next(random) % (uint64_t)stride);
    return (struct matrix){buffer, DTYPE_F32, (int64_t)(random_next(random) % 60), rows, cols, stride};
}

/* Random pairs of small views against their bytes, counted. Two views of several rows and different
 * strides may be refused though they do not meet; all else is exact. */
TEST(overlap_is_exact_where_it_can_be)
{
    struct desk desk;
    struct random random = {3};
    int overlapping = 0, apart = 0;
    desk_open(&desk);
    for (int i = 0; i < 20000; i++) {
        unsigned char a_bytes[1024] = {0}, b_bytes[1024] = {0};
        const int64_t stride = 1 + (int64_t)(random_next(&random) % 12);
        const struct matrix a = random_view(&random, desk.a, stride);
        struct matrix b =
            random_view(&random, desk.a, i % 3 ? stride : 1 + (int64_t)(random_next(&random) % 12));
        if (i % 2) { /* one value of f64 beside f32: sum_squares(a) into b */
            b = (struct matrix){desk.a, DTYPE_F64, b.offset / 2, 1, 1, b.stride};
        } else {
            b.rows = a.rows;
            b.cols = a.cols <= b.stride ? a.cols : b.stride;
        }
        mark_view(a, a_bytes);
        mark_view(b, b_bytes);
        bool meet = false;
        for (int k = 0; k < 1024; k++)
            meet = meet || (a_bytes[k] && b_bytes[k]);
        struct queue *queue = new_queue(desk.backend);
        if (i % 2)
            op_sum_squares(queue, &(struct square_sum){a, b}, 1);
        else
            op_copy(queue, matrix_cols(a, 0, b.cols), b);
        if (a.cols != b.cols && !(i % 2)) {
            queue_end(queue);
            continue;
        }
        const bool refused = strstr(queue_end(queue), "overlaps") != NULL;
        if (meet)
            CHECK(refused);
        else if (a.rows == 1 || b.rows == 1 || a.stride == b.stride)
            CHECK(!refused);
        overlapping += meet;
        apart += !meet;
    }
    CHECK(overlapping > 1000 && apart > 1000);
    desk_close(&desk);
}

/* Values that only the device sees. */
TEST(ids_and_positions_out_of_range)
{
    static const char *const devices[] = {"ref", "cpu"};
    static const int32_t bad[] = {-1, 48};
    for (int i = 0; i < 4; i++) {
        struct error error;
        struct backend *backend;
        struct weight *weight, *subset;
        struct buffer *ids, *x, *table;
        static float data[48 * 32];
        const struct weight_part part = {DTYPE_F32, 48, 32, data};
        const int32_t values[3] = {0, 47, bad[i / 2]};
        REQUIRE_OK(backend_open(devices[i % 2], &(struct backend_options){.threads = 1}, &backend, &error));
        REQUIRE_OK(weight_prepare(backend, &part, 1, NULL, WEIGHT_ROWS, &weight, &error));
        REQUIRE_OK(buffer_create(backend, sizeof values, &ids, &error));
        REQUIRE_OK(buffer_create(backend, 3 * 32 * sizeof(float), &x, &error));
        REQUIRE_OK(buffer_create(backend, sizeof data, &table, &error));
        struct queue *queue = new_queue(backend);
        op_write(queue, matrix_i32(ids, 3, 1), values);
        op_embed(queue, weight, matrix_i32(ids, 2, 1), matrix_f32(x, 2, 32));
        REQUIRE_OK(queue_wait(queue, &error));
        op_embed(queue, weight, matrix_i32(ids, 3, 1), matrix_f32(x, 3, 32));
        const char *text = queue_end(queue);
        CHECK_TEXT(text, "op_embed(weight [48, 32], ids i32 [3, 1], y f32 [3, 32]): id ");
        CHECK_TEXT(text, i / 2 ? "48" : "-1");
        queue = new_queue(backend);
        REQUIRE_OK(weight_subset_create(weight, 3, &subset, &error));
        op_gather(queue, weight, matrix_i32(ids, 3, 1), subset);
        text = queue_end(queue);
        CHECK_TEXT(text, "op_gather(from [48, 32], ids i32 [3, 1], subset [3, 32]): id ");
        CHECK_TEXT(text, i / 2 ? "48" : "-1");
        weight_destroy(subset);
        queue = new_queue(backend);
        op_rope(queue, matrix_f32(x, 2, 32), matrix_i32(ids, 2, 1), matrix_f32(table, 48, 32), ROPE_HALVES);
        REQUIRE_OK(queue_wait(queue, &error));
        op_rope(queue, matrix_f32(x, 3, 32), matrix_i32(ids, 3, 1), matrix_f32(table, 48, 32), ROPE_HALVES);
        text = queue_end(queue);
        CHECK_TEXT(text, "op_rope(x f32 [3, 32], ");
        CHECK_TEXT(text, i / 2 ? "48" : "-1");
        buffer_destroy(ids);
        buffer_destroy(x);
        buffer_destroy(table);
        weight_destroy(weight);
        backend_close(backend);
    }
}

/* A device finds an id that is not there when it is waited for. One launch for each part of a weight gathers
 * (tests/cuda/ops.sh counts them). */
TEST(ids_out_of_range_on_a_device)
{
    struct error error;
    struct backend *backend;
    struct buffer *buffer;
    struct weight *weight, *subset;
    float data[5 * 32], got[3 * 32];
    if (!test_wants_device("cuda"))
        return;
    for (int i = 0; i < 5 * 32; i++)
        data[i] = (float)(i / 32 + 1);
    const struct weight_part parts[2] = {{DTYPE_F32, 2, 32, data}, {DTYPE_F32, 3, 32, data + 2 * 32}};
    REQUIRE_OK(backend_open("cuda", &(struct backend_options){.threads = 1}, &backend, &error));
    REQUIRE_OK(weight_prepare(backend, parts, 2, NULL, WEIGHT_ROWS, &weight, &error));
    REQUIRE_OK(weight_subset_create(weight, 3, &subset, &error));
    REQUIRE_OK(buffer_create(backend, sizeof got + 3 * sizeof(int32_t), &buffer, &error));
    const struct matrix ids = matrix_i32(buffer, 3, 1), rows = {buffer, DTYPE_F32, 3, 3, 32, 32};
    for (int bad = -1; bad <= 5; bad += 6) {
        struct queue *queue = new_queue(backend);
        op_write(queue, ids, (const int32_t[]){4, 0, 2});
        op_gather(queue, weight, ids, subset);
        op_write(queue, ids, (const int32_t[]){2, 1, 0});
        op_embed(queue, subset, ids, rows);
        op_read(queue, rows, got);
        REQUIRE_OK(queue_wait(queue, &error));
        CHECK(got[0] == 3 && got[32] == 1 && got[64] == 5);
        op_write(queue, ids, (const int32_t[]){0, bad, 1});
        op_gather(queue, weight, ids, subset);
        CHECK_TEXT(queue_end(queue), "op_gather: an id is outside the weight");
    }
    buffer_destroy(buffer);
    weight_destroy(subset);
    weight_destroy(weight);
    backend_close(backend);
}

TEST(weights_that_cannot_be)
{
    struct desk desk;
    struct error error;
    struct weight *weight;
    desk_open(&desk);
    struct weight_part parts[2] = {{DTYPE_F32, 4, 32, desk.data}, {DTYPE_F32, 4, 31, desk.data}};
    CHECK(weight_prepare(desk.backend, parts, 2, NULL, WEIGHT_ROWS, &weight, &error) < 0);
    CHECK_TEXT(error.text, "part 2 of 2, f32 [4, 31], does not fit a weight of 32 columns");
    CHECK(weight_prepare(desk.backend, parts, 0, NULL, WEIGHT_ROWS, &weight, &error) < 0);
    CHECK(weight_prepare(desk.backend, parts, 1, NULL, 0, &weight, &error) < 0);
    CHECK(weight_prepare(desk.backend, parts, 1, NULL, 8, &weight, &error) < 0);
    parts[0] = (struct weight_part){DTYPE_Q8_0, 4, 48, desk.data};
    CHECK(weight_prepare(desk.backend, parts, 1, NULL, WEIGHT_ROWS, &weight, &error) < 0);
    CHECK_TEXT(error.text, "q8_0 [4, 48]");
    parts[0] = (struct weight_part){DTYPE_F64, 4, 32, desk.data};
    CHECK(weight_prepare(desk.backend, parts, 1, NULL, WEIGHT_ROWS, &weight, &error) < 0);
    parts[0] = (struct weight_part){DTYPE_F32, INT64_MAX, 32, desk.data};
    CHECK(weight_prepare(desk.backend, parts, 1, NULL, WEIGHT_ROWS, &weight, &error) < 0);
    parts[0].rows = 0;
    CHECK(weight_prepare(desk.backend, parts, 1, NULL, WEIGHT_ROWS, &weight, &error) < 0);
    CHECK(weight_subset_create(desk.rows, 0, &weight, &error) < 0);
    CHECK(weight_subset_create(desk.rows, INT64_MAX / 16, &weight, &error) < 0);
    CHECK_TEXT(error.text, "rows make no subset of [48, 32]");
    desk_close(&desk);
}

/* What is read stays what it was when the read was put, whatever later ops make of the buffer. */
static void check_reads(const char *device)
{
    enum { READS = 7, COLS = 64, ROWS = 40 };
    static float got[READS + 1][ROWS * COLS], expected[ROWS * COLS];
    uint64_t mark[READS];
    struct error error;
    struct backend *backend;
    struct buffer *buffer;
    REQUIRE_OK(backend_open(device, &(struct backend_options){.threads = 1}, &backend, &error));
    REQUIRE_OK(buffer_create(backend, sizeof expected * 2, &buffer, &error));
    struct queue *queue = new_queue(backend);
    struct matrix x = {buffer, DTYPE_F32, 3, ROWS, COLS, COLS + 5}, step = matrix_f32(buffer, 1, COLS);
    for (int i = 0; i < ROWS * COLS; i++)
        expected[i] = (float)i;
    op_write(queue, x, expected);
    step.offset = 3 + ROWS * (COLS + 5);
    for (int r = 0; r < READS; r++) {
        memset(got[r], 0, sizeof got[r]);
        op_read(queue, x, got[r]);
        mark[r] = queue_mark(queue);
        op_add_bias(queue, step, x); /* of zeros, at first */
        op_write(queue, step, (float[COLS]){1});
    }
    for (int r = 0; r < READS; r++) {
        REQUIRE_OK(queue_reach(queue, mark[r], &error));
        for (int row = 0; row < ROWS && r > 1; row++)
            expected[row * COLS] += 1;
        CHECK(memcmp(got[r], expected, sizeof expected) == 0);
    }
    op_read(queue, x, got[READS]);
    REQUIRE_OK(queue_wait(queue, &error));
    CHECK(got[READS][COLS] == expected[COLS] + 1);
    queue_destroy(queue);
    buffer_destroy(buffer);
    backend_close(backend);
}

TEST(reads_keep_what_they_saw)
{
    static const char *const kinds[] = {"ref", "cpu", "cuda"};
    for (int i = 0; i < 3; i++)
        if (test_wants_device(kinds[i]))
            check_reads(kinds[i]);
}

/* Reads of this shape, rounded, give the bits that the host's rounding gives. */
static void check_rounded(struct backend *backend, int64_t rows, int64_t cols, int64_t offset, int64_t gap)
{
    /* Ties to even, both ways; carries; zeros; subnormals; the largest; infinite; no numbers. */
    static const uint32_t edges[] = {0x3f808000, 0x3f818000, 0xbf808001, 0x3f80ffff, 0x3fff8000, 0x80000000,
                                     0x00000001, 0x00008000, 0x80018000, 0x007fffff, 0x7f7fffff, 0x7f800000,
                                     0xff800000, 0x7f800001, 0xffc12345, 0x7fffffff};
    enum { EDGES = sizeof edges / sizeof *edges };
    const int64_t count = rows * cols;
    float values[VALUES], got[VALUES], expected[VALUES];
    struct random random = {7};
    struct error error;
    struct buffer *buffer;
    struct queue *queue = new_queue(backend);
    for (int64_t i = 0; i < count; i++) {
        const uint32_t bits = i % 2 ? edges[i / 2 % EDGES] : (uint32_t)random_next(&random);
        memcpy(&values[i], &bits, sizeof bits);
        expected[i] = bf16_to_f32(f32_to_bf16(values[i]));
    }
    REQUIRE_OK(
        buffer_create(backend, (size_t)(offset + rows * (cols + gap)) * sizeof *values, &buffer, &error));
    const struct matrix x = {buffer, DTYPE_F32, offset, rows, cols, cols + gap};
    op_write(queue, x, values);
    op_read_rounded(queue, x, got);
    REQUIRE_OK(queue_wait(queue, &error));
    if (memcmp(got, expected, (size_t)count * sizeof *got) != 0)
        test_fail(__FILE__, __LINE__, "[%lld, %lld] at %lld, %lld between rows: not the host's rounding",
                  (long long)rows, (long long)cols, (long long)offset, (long long)gap);
    op_read(queue, x, got);
    REQUIRE_OK(queue_wait(queue, &error));
    CHECK(memcmp(got, values, (size_t)count * sizeof *got) == 0);
    queue_destroy(queue);
    buffer_destroy(buffer);
}

typedef void check_shape(struct backend *backend, int64_t rows, int64_t cols, int64_t offset, int64_t gap);

/* Shapes with rows 1, 1 + step ... below `last`, on every backend there is. */
static void check_shapes(check_shape *check, int64_t last, int64_t step)
{
    static const char *const kinds[] = {"ref", "cpu", "cuda"};
    static const int64_t cols[] = {1, 7, 8, 9, 48, 64, 129};
    for (int i = 0; i < 3; i++) {
        struct error error;
        struct backend *backend;
        if (!test_wants_device(kinds[i]))
            continue;
        REQUIRE_OK(backend_open(kinds[i], &(struct backend_options){.threads = 1}, &backend, &error));
        for (size_t c = 0; c < sizeof cols / sizeof *cols; c++)
            for (int64_t rows = 1; rows < last; rows += step)
                for (int64_t offset = 0; offset < 5; offset++)
                    check(backend, rows, cols[c], offset, 2 * offset);
        backend_close(backend);
    }
}

TEST(rounded_reads_match_ref)
{
    check_shapes(check_rounded, 32, 15);
}

/* Writes of this shape, from an address that may be odd, give each value's bits behind which 16 zeros stand,
 * and leave what is between rows as it is. */
static void check_widened(struct backend *backend, int64_t rows, int64_t cols, int64_t offset, int64_t gap)
{
    enum { GUARD = 0x12345678 };
    const int64_t stride = cols + gap, count = offset + rows * stride;
    unsigned char source[2 * VALUES + 1];
    uint32_t before[VALUES], got[VALUES];
    struct random random = {9};
    struct error error;
    struct buffer *buffer;
    struct queue *queue = new_queue(backend);
    unsigned char *halves = source + offset % 2;
    for (int64_t i = 0; i < 2 * rows * cols; i++)
        halves[i] = (unsigned char)random_next(&random);
    for (int64_t i = 0; i < count; i++)
        before[i] = GUARD;
    REQUIRE_OK(buffer_create(backend, (size_t)count * sizeof *got, &buffer, &error));
    op_write(queue, matrix_f32(buffer, 1, count), before);
    op_write_bf16(queue, (struct matrix){buffer, DTYPE_F32, offset, rows, cols, stride}, halves);
    memset(source, 0, sizeof source);
    op_read(queue, matrix_f32(buffer, 1, count), got);
    REQUIRE_OK(queue_wait(queue, &error));
    random = (struct random){9};
    for (int64_t i = 0; i < count; i++) {
        const bool inside = i >= offset && (i - offset) % stride < cols;
        const uint32_t low = inside ? (unsigned char)random_next(&random) : 0;
        const uint32_t high = inside ? (unsigned char)random_next(&random) : 0;
        if (got[i] != (inside ? high << 24 | low << 16 : GUARD)) {
            test_fail(__FILE__, __LINE__, "[%lld, %lld] at %lld, %lld between rows: value %lld is %08x",
                      (long long)rows, (long long)cols, (long long)offset, (long long)gap, (long long)i,
                      got[i]);
            break;
        }
    }
    queue_destroy(queue);
    buffer_destroy(buffer);
}

TEST(bf16_writes_match_ref)
{
    check_shapes(check_widened, 25, 7);
}

/* Copies of what is narrower than 4 bytes leave the bytes behind a row as they are. */
TEST(narrow_views_are_copied)
{
    static const char *const kinds[] = {"ref", "cpu", "cuda"};
    static const enum dtype types[] = {DTYPE_I16, DTYPE_U8};
    for (int i = 0; i < 6; i++) {
        struct error error;
        struct backend *backend;
        struct buffer *from, *to;
        const enum dtype type = types[i % 2];
        const size_t size = type == DTYPE_I16 ? 2 : 1;
        unsigned char values[2 * 12], got[2 * 12];
        if (!test_wants_device(kinds[i / 2]))
            continue;
        for (int k = 0; k < 24; k++)
            values[k] = (unsigned char)(k + 1);
        REQUIRE_OK(backend_open(kinds[i / 2], &(struct backend_options){.threads = 1}, &backend, &error));
        struct queue *queue = new_queue(backend);
        REQUIRE_OK(buffer_create(backend, 12 * size, &from, &error));
        REQUIRE_OK(buffer_create(backend, 12 * size, &to, &error));
        op_write(queue, (struct matrix){from, type, 0, 1, 12, 12}, values);
        op_copy(queue, (struct matrix){from, type, 1, 3, 2, 3}, (struct matrix){to, type, 2, 3, 2, 3});
        op_read(queue, (struct matrix){to, type, 0, 1, 12, 12}, got);
        REQUIRE_OK(queue_wait(queue, &error));
        for (size_t k = 0; k < 12; k++) {
            const bool copied = k >= 2 && k < 10 && (k - 2) % 3 < 2;
            for (size_t b = 0; b < size; b++)
                CHECK(got[k * size + b] == (copied ? values[(k - 1) * size + b] : 0));
        }
        queue_destroy(queue);
        buffer_destroy(from);
        buffer_destroy(to);
        backend_close(backend);
    }
}

/* More ops than are measured at a time, so that times are gathered on the way and at the end. */
static struct device_times times_of(const char *device, bool timed)
{
    enum { OPS = 300, ROWS = 64, COLS = 64 };
    static float values[ROWS * COLS];
    const struct weight_part part = {DTYPE_F32, ROWS, COLS, values};
    struct error error;
    struct backend *backend;
    struct buffer *buffer;
    struct weight *weight;
    if (backend_open(device, &(struct backend_options){.threads = 1, .timed = timed}, &backend, &error) < 0 ||
        buffer_create(backend, 2 * sizeof values, &buffer, &error) < 0 ||
        weight_prepare(backend, &part, 1, NULL, WEIGHT_FORWARD, &weight, &error) < 0) {
        fprintf(stderr, "contract: %s\n", error.text);
        exit(1);
    }
    struct queue *queue = new_queue(backend);
    const struct matrix both = matrix_f32(buffer, 2 * ROWS, COLS);
    const struct matrix x = matrix_rows(both, 0, ROWS), y = matrix_rows(both, ROWS, ROWS);
    for (int i = 0; i < OPS; i++)
        op_write(queue, x, values);
    CHECK(queue_wait(queue, &error) == 0);
    const struct device_times written = backend_times(backend);
    CHECK(written.ops == 0 && written.out == 0);
    for (int i = 0; i < OPS; i++)
        op_axpy(queue, 1, x, y);
    CHECK(queue_wait(queue, &error) == 0);
    CHECK(backend_times(backend).in == written.in && backend_times(backend).out == 0);
    op_read(queue, x, values);
    CHECK(queue_wait(queue, &error) == 0);
    const struct device_times times = backend_times(backend);
    queue_destroy(queue);
    weight_destroy(weight);
    buffer_destroy(buffer);
    backend_close(backend);
    return times;
}

TEST(times_are_the_device_s)
{
    static const char *const kinds[] = {"ref", "cpu", "cuda"};
    for (int i = 0; i < 3; i++)
        for (int timed = 0; timed < 2; timed++) {
            if (!test_wants_device(kinds[i]))
                continue;
            const bool own = timed && strcmp(kinds[i], "cuda") == 0;
            const struct device_times times = times_of(kinds[i], timed);
            if ((times.ops > 0) != own || (times.in > 0) != own || (times.out > 0) != own)
                test_fail(__FILE__, __LINE__, "%s%s: %g s computing, %g in, %g out", kinds[i],
                          timed ? ", timed" : "", times.ops, times.in, times.out);
        }
}

TEST(devices)
{
    struct error error;
    struct backend *backend;
    const struct backend_options one = {.threads = 1}, all = {0}, negative = {.threads = -1};
    CHECK(backend_open("gpu", &one, &backend, &error) < 0);
    CHECK_TEXT(error.text, "device gpu: there is no such device; known are auto, cpu, cuda and ref");
    CHECK(backend_open("ref", &negative, &backend, &error) < 0);
    CHECK_TEXT(error.text, "-1 threads");
    REQUIRE_OK(backend_open("auto", &all, &backend, &error));
    CHECK_TEXT(backend_identity(backend), backend_name(backend));
    backend_close(backend);
    REQUIRE_OK(backend_open("cpu", &one, &backend, &error));
    CHECK(backend_warning(backend) == NULL);
    backend_close(backend);
    backend_close(NULL);
}

TEST_MAIN
