/* The cpu backend's products: a row's result is the same in a product of any number of rows, at any place in
 * it. */
#include "kernels/cpu/product.h"

#include <stdlib.h>

#include "common/base/memory.h"
#include "common/base/random.h"
#include "tests/mode.h"

enum { ROWS_MOST = 256 };

/* The operands of one inner and outer size: every row of the left side is the same. */
struct desk {
    struct product_cache *cache;
    int64_t inner, cols;
    float *left, *right, *result, *first; /* [ROWS_MOST, inner], [inner, cols], [ROWS_MOST, cols], [cols] */
    uint16_t *left_bf16, *right_bf16;
    void *packed;
};

static int desk_open(struct desk *desk, int64_t inner, int64_t cols, struct error *error)
{
    struct random random = {(uint64_t)(inner * 1000 + cols)};
    desk->inner = inner;
    desk->cols = cols;
    if (array_alloc(&desk->left, ROWS_MOST * inner, error) < 0 ||
        array_alloc(&desk->right, inner * cols, error) < 0 ||
        array_alloc(&desk->result, ROWS_MOST * cols, error) < 0 || array_alloc(&desk->first, cols, error) < 0 ||
        array_alloc(&desk->left_bf16, ROWS_MOST * inner, error) < 0 ||
        array_alloc(&desk->right_bf16, inner * cols, error) < 0)
        return -1;
    for (int64_t i = 0; i < inner; i++)
        desk->left[i] = (float)random_normal(&random);
    for (int64_t row = 1; row < ROWS_MOST; row++)
        memcpy(desk->left + row * inner, desk->left, (size_t)inner * sizeof *desk->left);
    for (int64_t i = 0; i < inner * cols; i++)
        desk->right[i] = (float)random_normal(&random);
    for (int64_t i = 0; i < ROWS_MOST * inner; i++)
        desk->left_bf16[i] = f32_to_bf16(desk->left[i]);
    for (int64_t i = 0; i < inner * cols; i++)
        desk->right_bf16[i] = f32_to_bf16(desk->right[i]);
    return 0;
}

static void desk_close(struct desk *desk)
{
    free(desk->left);
    free(desk->right);
    free(desk->result);
    free(desk->first);
    free(desk->left_bf16);
    free(desk->right_bf16);
    free(desk->packed);
}

/* The right side as a product of that shape reads it. */
static int make_right(struct desk *desk, struct product_shape shape, struct product_right *right,
                      struct error *error)
{
    size_t bytes;
    *right = (struct product_right){.plain = shape.bf16 ? (const void *)desk->right_bf16 : desk->right};
    if (!shape.packed)
        return 0;
    free(desk->packed);
    desk->packed = NULL;
    if (right_bytes(desk->cache, shape.inner, shape.cols, shape.bf16, &bytes, error) < 0)
        return -1;
    if (posix_memalign(&desk->packed, 64, bytes) != 0)
        return error_set(error, "out of memory");
    if (right_create(desk->cache, shape.inner, shape.cols, shape.bf16, desk->packed, right, error) < 0)
        return -1;
    return right_pack(desk->cache, right, 0, desk->right, shape.cols, 1);
}

/* All rows of products of that shape, of any number of rows. */
static void check_rows(struct desk *desk, struct product_shape shape)
{
    static const int64_t rows[] = {16, 32, 48, 64, 80, 96, 112, 128, 176, 192, 240, 256};
    struct error error = {0};
    struct product_right right;
    REQUIRE_OK(make_right(desk, shape, &right, &error));
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        shape.rows = rows[i];
        const struct product *product = product_find(desk->cache, shape, &error);
        if (!product) {
            test_fail(__FILE__, __LINE__, "%s", error.text);
            break;
        }
        for (int64_t k = 0; k < shape.rows * shape.cols; k++)
            desk->result[k] = 0.5f;
        CHECK(product_run(product, 0, shape.bf16 ? (const void *)desk->left_bf16 : desk->left, &right,
                          desk->result) == 0);
        const size_t row_bytes = (size_t)shape.cols * sizeof *desk->result;
        if (i == 0)
            memcpy(desk->first, desk->result, row_bytes);
        for (int64_t row = 0; row < shape.rows; row++)
            if (memcmp(desk->result + row * shape.cols, desk->first, row_bytes) != 0) {
                test_fail(__FILE__, __LINE__,
                          "[%lld, %lld] times [%lld, %lld]%s%s%s: row %lld has other values",
                          (long long)shape.rows, (long long)shape.inner, (long long)shape.inner,
                          (long long)shape.cols, shape.bf16 ? " bf16" : "", shape.packed ? " packed" : "",
                          shape.add ? " added" : "", (long long)row);
                break;
            }
    }
    if (shape.packed)
        right_destroy(&right);
}

static void check_products(bool bf16)
{
    static const int64_t inner[] = {1, 2, 7, 33, 64, 257, 576, 1050},
                         cols[] = {1, 3, 8, 16, 17, 37, 64, 100, 513};
    struct error error = {0};
    struct product_cache *cache;
    REQUIRE_OK(product_cache_create(1, &cache, &error));
    if (!bf16 || test_wants_mode("cpu", MATH_BF16))
        for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
            for (size_t c = 0; c < sizeof cols / sizeof *cols; c++) {
                struct desk desk = {.cache = cache};
                REQUIRE_OK(desk_open(&desk, inner[i], cols[c], &error));
                for (int way = 0; way < 3; way++)
                    check_rows(&desk, (struct product_shape){.inner = inner[i],
                                                             .cols = cols[c],
                                                             .bf16 = bf16,
                                                             .packed = way > 0,
                                                             .add = way > 1});
                desk_close(&desk);
            }
    product_cache_destroy(cache);
}

TEST(rows_of_products)
{
    check_products(false);
}

TEST(rows_of_products_in_bf16)
{
    check_products(true);
}

TEST_MAIN
