/* The lossy codecs: what they lose is what they say and what their spacing allows; hostile states and
 * parameters. */
#include <string.h>

#include "common/codec/klt.h"
#include "tests/codec_fixture.h"
#include "tests/test.h"

enum { KLT = 5, Q8 = 4 }; /* their ids */

struct trip {
    double said, measured; /* mean over rows of |x - decoded|^2 / |x|^2 */
    double worst; /* of the rows */
    size_t size;
};

/* Through the coder and back; the decoded states replace the given ones. */
static int make_trip(const struct coder *coder, float *states, int64_t rows, struct trip *trip,
                     struct error *error)
{
    const int64_t cols = coder_cols(coder);
    struct codec_worker *worker;
    struct codec_payload payload = {.capacity = coder_bound(coder, rows)};
    float *decoded = malloc((size_t)(rows * cols) * sizeof *decoded);
    payload.bytes = malloc(payload.capacity);
    *trip = (struct trip){0};
    int result = codec_worker_create(&worker, error);
    if (result == 0)
        result = coder_encode(coder, worker, states, rows, &payload, error);
    if (result == 0)
        result = coder_decode(coder, worker, payload.bytes, payload.size, rows, decoded, error);
    trip->size = payload.size;
    trip->said = payload.loss;
    for (int64_t r = 0; r < rows && result == 0; r++) {
        double lost = 0, whole = 0;
        for (int64_t i = r * cols; i < (r + 1) * cols; i++) {
            lost += pow((double)states[i] - decoded[i], 2);
            whole += pow(states[i], 2);
        }
        const double share = whole > 0 ? lost / whole : lost;
        trip->measured += share / (double)rows;
        trip->worst = share > trip->worst ? share : trip->worst;
    }
    memcpy(states, decoded, (size_t)(rows * cols) * sizeof *states);
    codec_worker_destroy(worker);
    free(payload.bytes);
    free(decoded);
    return result;
}

TEST(lossy_says_what_it_loses)
{
    static const int64_t shapes[][2] = {{1, 64}, {3, 5}, {64, 257}, {200, 96}, {512, 64}};
    struct error error;
    struct trip trip;
    for (int id = Q8; id <= KLT; id++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
            const int64_t rows = shapes[i][0], cols = shapes[i][1];
            struct coder *coder;
            float *states = codec_fixture_states(rows, cols, 7);
            REQUIRE_OK(codec_fixture_coder(codec_find_id((uint16_t)id), cols, &coder, &error));
            REQUIRE_OK(make_trip(coder, states, rows, &trip, &error));
            CHECK(trip.measured > 0 && fabs(trip.said - trip.measured) < 0.01 * trip.measured + 1e-9);
            /* klt: no coefficient is off by more than half a spacing (0.05); q8: by half of 1/127 of the
             * largest */
            CHECK(trip.worst < (id == KLT ? 0.025 * 0.025 * 1.02 : 0.001));
            coder_destroy(coder);
            free(states);
        }
}

/* Rows of zeros, the smallest and the largest numbers, and one value alone among zeros. */
TEST(lossy_takes_extreme_rows)
{
    enum { ROWS = 6, COLS = 48 };
    struct error error;
    struct trip trip;
    for (int id = Q8; id <= KLT; id++) {
        struct coder *coder;
        float *states = codec_fixture_states(ROWS, COLS, 9);
        for (int c = 0; c < COLS; c++) {
            states[0 * COLS + c] = 0;
            states[2 * COLS + c] *= 1e-41f;
            states[3 * COLS + c] *= 1e36f;
            states[4 * COLS + c] = c == 17 ? -3 : 0;
        }
        REQUIRE_OK(codec_fixture_coder(codec_find_id((uint16_t)id), COLS, &coder, &error));
        REQUIRE_OK(make_trip(coder, states, ROWS, &trip, &error));
        for (int c = 0; c < COLS; c++) {
            CHECK(states[0 * COLS + c] == 0 && states[2 * COLS + c] == 0);
            CHECK(isfinite(states[3 * COLS + c]));
        }
        CHECK(fabsf(states[4 * COLS + 17] + 3) < 0.2f);
        coder_destroy(coder);
        free(states);
    }
}

TEST(lossy_refuses_what_is_not_finite)
{
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    struct error error;
    struct trip trip;
    for (int id = Q8; id <= KLT; id++)
        for (int i = 0; i < 3; i++) {
            struct coder *coder;
            float *states = codec_fixture_states(4, 16, 9);
            states[37] = bad[i];
            REQUIRE_OK(codec_fixture_coder(codec_find_id((uint16_t)id), 16, &coder, &error));
            CHECK(make_trip(coder, states, 4, &trip, &error) < 0);
            CHECK_TEXT(error.text, "not a finite number");
            coder_destroy(coder);
            free(states);
        }
}

/* ---- fitting ---- */

/* All tokens lie along (0.6, -0.8, 0), a little beside it in the third direction: the basis is known. */
TEST(klt_finds_the_directions)
{
    enum { ROWS = 400, COLS = 3 };
    static const float expected[COLS][COLS] = {{-0.6f, 0.8f, 0}, {0, 0, 1}, {0.8f, 0.6f, 0}};
    struct error error;
    struct string parameters = {0};
    float states[ROWS * COLS];
    for (int r = 0; r < ROWS; r++) {
        const float size = (r % 2 ? 1.0f : -1.0f) * (float)(1 + r % 5), aside = r % 4 < 2 ? 0.05f : -0.05f;
        states[r * COLS] = 0.6f * size;
        states[r * COLS + 1] = -0.8f * size;
        states[r * COLS + 2] = aside * size;
    }
    REQUIRE_OK(codec_fixture_fit(codec_find_id(KLT), states, ROWS, COLS, 0.1, &parameters, &error));
    CHECK(parameters.length == klt_parameters_size(COLS));
    const float *values = (const float *)(const void *)(parameters.data + sizeof(struct klt_header));
    for (int c = 0; c < COLS; c++) {
        CHECK(fabsf(values[c]) < 1e-3f); /* the mean */
        for (int i = 0; i < COLS; i++)
            CHECK(fabsf(values[COLS + c * COLS + i] - expected[c][i]) < 1e-3f);
    }
    string_free(&parameters);
}

/* Independent normal values of deviation 1 have log2(sqrt(2 pi e) / spacing) bits each, when the spacing is
 * small. */
TEST(klt_chooses_the_spacing_by_bits)
{
    enum { ROWS = 4096, COLS = 32 };
    struct error error;
    struct string parameters = {0};
    struct random random = {5};
    float *states = malloc(sizeof *states * ROWS * COLS);
    const struct codec *klt = codec_find_id(KLT);
    for (int i = 0; i < ROWS * COLS; i++)
        states[i] = (float)random_normal(&random);
    REQUIRE_OK(codec_fixture_fit(klt, states, ROWS, COLS, 1, &parameters, &error));
    for (int bits = 3; bits <= 6; bits++) {
        const double expected = sqrt(2 * 3.14159265 * 2.71828183) / exp2(bits);
        double spacing;
        REQUIRE_OK(
            klt->choose_spacing(parameters.data, parameters.length, states, ROWS, bits, &spacing, &error));
        CHECK(fabs(spacing / expected - 1) < 0.03);
    }
    string_free(&parameters);
    free(states);
}

TEST(klt_fit_repeats)
{
    struct error error;
    struct string first = {0}, second = {0};
    float *states = codec_fixture_states(300, 70, 2);
    REQUIRE_OK(codec_fixture_fit(codec_find_id(KLT), states, 300, 70, 0.1, &first, &error));
    REQUIRE_OK(codec_fixture_fit(codec_find_id(KLT), states, 300, 70, 0.1, &second, &error));
    CHECK(first.length == second.length && memcmp(first.data, second.data, first.length) == 0);
    string_free(&first);
    string_free(&second);
    free(states);
}

TEST(klt_wants_two_tokens)
{
    struct error error;
    struct string parameters = {0};
    float states[16] = {1, 2, 3};
    CHECK(codec_fixture_fit(codec_find_id(KLT), states, 1, 8, 0.1, &parameters, &error) < 0);
    CHECK_TEXT(error.text, "too few to fit");
    CHECK(codec_fixture_fit(codec_find_id(KLT), states + 8, 1, 8, 0.1, &parameters, &error) < 0);
    string_free(&parameters);
}

/* ---- parameters ---- */

static void refuse(const unsigned char *bytes, size_t size, int64_t cols, const char *part)
{
    struct error error = {0};
    struct coder *coder;
    unsigned char *copy = malloc(size ? size : 1); /* of its own, so that a read past it is seen */
    memcpy(copy, bytes, size);
    if (coder_create(codec_find_id(KLT), copy, size, cols, &coder, &error) == 0) {
        test_fail(__FILE__, __LINE__, "bad parameters pass (\"%s\" was expected)", part);
        coder_destroy(coder);
    } else if (!strstr(error.text, part))
        test_fail(__FILE__, __LINE__, "\"%s\" lacks \"%s\"", error.text, part);
    free(copy);
}

TEST(klt_refuses_bad_parameters)
{
    enum { COLS = 12 };
    static const struct {
        size_t offset;
        float value;
        const char *part;
    } floats[] = {
        {offsetof(struct klt_header, spacing), 0, "the spacing is 0"},
        {offsetof(struct klt_header, spacing), -1, "the spacing is -1"},
        {offsetof(struct klt_header, spacing), NAN, "the spacing is"},
        {offsetof(struct klt_header, spacing), 1e-5f, "takes"},
        {offsetof(struct klt_header, spacing), INFINITY, "the spacing is"},
        {sizeof(struct klt_header), NAN, "the mean has length"},
        {sizeof(struct klt_header), 100, "the mean has length"},
        {sizeof(struct klt_header) + 4 * COLS, NAN, "direction 0 has length"},
        {sizeof(struct klt_header) + 4 * COLS * (COLS + 1) - 4, 3, "direction 11 has length"},
    };
    struct error error;
    struct string made = {0};
    float *states = codec_fixture_states(100, COLS, 2);
    REQUIRE_OK(codec_fixture_fit(codec_find_id(KLT), states, 100, COLS, 0.1, &made, &error));
    unsigned char *bytes = (unsigned char *)made.data;
    for (size_t size = 0; size < made.length; size++)
        refuse(bytes, size, COLS, "bytes are");
    refuse(bytes, made.length, COLS + 1, "for 12 columns, not 13");
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        unsigned char *changed = malloc(made.length);
        memcpy(changed, bytes, made.length);
        memcpy(changed + floats[i].offset, &floats[i].value, sizeof(float));
        refuse(changed, made.length, COLS, floats[i].part);
        free(changed);
    }
    bytes[0] ^= 1;
    refuse(bytes, made.length, COLS, "not parameters of klt");
    bytes[0] ^= 1;
    bytes[4] = 2;
    refuse(bytes, made.length, COLS, "use a newer one");
    bytes[4] = 1;
    bytes[8] = 200;
    refuse(bytes, made.length, COLS, "bytes are not those of");
    string_free(&made);
    free(states);
}

TEST_MAIN
