/* klt's parameters and a record of it against what numpy makes of the same states in f64 (make_klt.py). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/codec/klt.h"
#include "common/model/safetensors.h"
#include "tests/test.h"

#define GOLDEN "tests/golden/klt.safetensors"

/* Gram matrices are summed in f32, and an eigenvector moves by their error over the gap to its neighbour. */
#define TOLERANCE 1e-5
/* A decoded value is a sum over all directions; a coefficient rounded otherwise is 0.15. */
#define DECODED_TOLERANCE 3e-5

struct golden {
    struct safetensors *file;
    int64_t rows, cols;
    const float *states, *decoded; /* [rows, cols] */
    const float *rms; /* [rows] */
    const float *mean, *variances; /* [cols] */
    const float *covariance, *basis; /* [cols, cols] */
    const float *spacing; /* [1] */
    struct moments *moments; /* of the states */
    struct string parameters; /* made of them, with the spacing */
};

static int find(const struct golden *golden, const char *name, int64_t count, const float **values,
                struct error *error)
{
    const struct tensor *tensor = safetensors_find(golden->file, name);
    if (!tensor || tensor->type != DTYPE_F32 || tensor->bytes != (size_t)count * sizeof(float))
        return error_set(error, GOLDEN ": %s is not what make_klt.py writes", name);
    *values = tensor->data;
    return 0;
}

static int golden_open(struct golden *golden, struct error *error)
{
    *golden = (struct golden){0};
    if (safetensors_open(GOLDEN, &golden->file, error) < 0)
        return -1;
    const struct tensor *states = safetensors_find(golden->file, "states");
    if (!states || states->dims != 2)
        return error_set(error, GOLDEN ": has no states");
    const int64_t rows = golden->rows = states->shape[0], cols = golden->cols = states->shape[1];
    if (find(golden, "states", rows * cols, &golden->states, error) < 0 ||
        find(golden, "decoded", rows * cols, &golden->decoded, error) < 0 ||
        find(golden, "rms", rows, &golden->rms, error) < 0 ||
        find(golden, "mean", cols, &golden->mean, error) < 0 ||
        find(golden, "variances", cols, &golden->variances, error) < 0 ||
        find(golden, "covariance", cols * cols, &golden->covariance, error) < 0 ||
        find(golden, "basis", cols * cols, &golden->basis, error) < 0 ||
        find(golden, "step", 1, &golden->spacing, error) < 0)
        return -1;
    const struct codec_setting setting = {.spacing = *golden->spacing};
    if (moments_create(cols, &golden->moments, error) < 0 ||
        moments_add(golden->moments, golden->states, rows, error) < 0 ||
        klt_fit(golden->moments, &golden->parameters, error) < 0)
        return -1;
    return klt_set(golden->parameters.data, golden->parameters.length, &setting, error);
}

static void golden_close(struct golden *golden)
{
    moments_destroy(golden->moments);
    string_free(&golden->parameters);
    safetensors_close(golden->file);
}

static double dot(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

TEST(klt_parameters_are_those_of_numpy)
{
    struct error error;
    struct golden golden;
    double *covariance = NULL;
    REQUIRE_OK(golden_open(&golden, &error));
    REQUIRE_OK(moments_covariance(golden.moments, &covariance, &error));
    const int64_t cols = golden.cols;
    const float *mean = (const float *)(golden.parameters.data + sizeof(struct klt_header)),
                *basis = mean + cols;
    for (int64_t i = 0; i < cols * cols; i++)
        CHECK(fabs(covariance[i] - golden.covariance[i]) < TOLERANCE);
    for (int64_t c = 0; c < cols; c++) {
        const float *own = basis + c * cols, *expected = golden.basis + c * cols;
        const double sign = dot(own, expected, cols) < 0 ? -1 : 1;
        double variance = 0;
        CHECK(fabs((double)mean[c] - golden.mean[c]) < TOLERANCE);
        for (int64_t i = 0; i < cols; i++) {
            CHECK(fabs(sign * own[i] - expected[i]) < TOLERANCE);
            for (int64_t j = 0; j < cols; j++)
                variance += own[i] * covariance[i * cols + j] * own[j];
        }
        CHECK(fabs(variance - golden.variances[c]) < TOLERANCE * golden.variances[0]);
    }
    free(covariance);
    golden_close(&golden);
}

TEST(klt_record_is_that_of_numpy)
{
    struct error error;
    struct golden golden;
    struct codec_choice choice;
    struct coder *coder = NULL;
    struct codec_worker *worker = NULL;
    struct codec_payload payload = {0};
    float *decoded;
    REQUIRE_OK(golden_open(&golden, &error));
    REQUIRE_OK(codec_parse("klt:4", &choice, &error));
    const int64_t rows = golden.rows, cols = golden.cols;
    REQUIRE_OK(
        coder_create(choice.codec, golden.parameters.data, golden.parameters.length, cols, &coder, &error));
    REQUIRE_OK(codec_worker_create(&worker, &error));
    payload.capacity = coder_bound(coder, rows);
    REQUIRE_OK(array_alloc(&payload.bytes, payload.capacity, &error));
    REQUIRE_OK(array_alloc(&decoded, rows * cols, &error));
    REQUIRE_OK(coder_encode(coder, worker, golden.states, rows, &payload, &error));
    REQUIRE_OK(coder_decode(coder, worker, payload.bytes, payload.size, rows, decoded, &error));
    for (int64_t r = 0; r < rows; r++) {
        uint16_t rms;
        memcpy(&rms, payload.bytes + r * (int64_t)sizeof rms, sizeof rms);
        CHECK(bf16_to_f32(rms) == golden.rms[r]);
        for (int64_t i = r * cols; i < (r + 1) * cols; i++)
            CHECK(fabs((double)decoded[i] - golden.decoded[i]) <= DECODED_TOLERANCE * golden.rms[r]);
    }
    free(payload.bytes);
    free(decoded);
    codec_worker_destroy(worker);
    coder_destroy(coder);
    golden_close(&golden);
}

TEST_MAIN
