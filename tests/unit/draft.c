#include <stdlib.h>
#include <string.h>

#include "common/base/memory.h"
#include "common/head/draft.h"
#include "tests/test.h"

enum { H = 8, HEADS = 2, KV = 1, SIZE = 4, I = 16, V = 16, D = 8, TAPS = 3, Q = HEADS * SIZE, K = KV * SIZE };
enum { PARAMETERS = 14 };

static const struct model_config config = {.family = "llama",
                                           .layers = 3,
                                           .hidden = H,
                                           .attention_heads = HEADS,
                                           .kv_heads = KV,
                                           .head_size = SIZE,
                                           .intermediate = I,
                                           .vocab = V,
                                           .norm_epsilon = 1e-5f,
                                           .rope_theta = 1e4};

static const int32_t draft_ids[D] = {0, 1, 3, 4, 7, 9, 12, 15};

/* ---- first values and files ---- */

static int get_named(void *context, const char *name, float **values, int64_t *rows, int64_t *cols,
                     struct error *error)
{
    const char *slash = strchr(name, '/');
    (void)context;
    for (int role = 1; role < ROLE_COUNT; role++) {
        int64_t shape[2] = {1, 1};
        if (strcmp(role_name((enum tensor_role)role), slash ? slash + 1 : name) != 0 ||
            (slash && atoi(name) != config.layers))
            continue;
        const int dims = role_shape(&config, role_holder(&config, (enum tensor_role)role), shape);
        *rows = dims == 2 ? shape[0] : 1;
        *cols = dims == 2 ? shape[1] : shape[0];
        if (array_alloc(values, *rows * *cols, error) < 0)
            return -1;
        for (int64_t i = 0; i < *rows * *cols; i++)
            (*values)[i] = (float)(role * 1000 + i);
        return 0;
    }
    return error_set(error, "no tensor %s", name);
}

static const struct head_source source = {get_named, NULL};

static int read_values(const struct head *head, struct queue *queue, int index, float *values,
                       struct error *error)
{
    op_read(queue, head_parameter(head, index)->value, values);
    return queue_wait(queue, error);
}

static void check_first_values(const struct head *head, struct queue *queue)
{
    static const int halves[SIZE] = {0, 2, 1, 3}; /* rows of adjacent pairs, in halves */
    struct error error;
    float fc[H * TAPS * H], q[Q * 2 * H], v[K * 2 * H], tokens[D], output[D * H];
    REQUIRE_OK(read_values(head, queue, 0, fc, &error));
    REQUIRE_OK(read_values(head, queue, 4, q, &error));
    REQUIRE_OK(read_values(head, queue, 6, v, &error));
    REQUIRE_OK(read_values(head, queue, 12, tokens, &error));
    REQUIRE_OK(read_values(head, queue, 13, output, &error));
    for (int r = 0; r < H; r++) {
        for (int c = 0; c < TAPS * H; c++)
            CHECK(fc[r * TAPS * H + c] == (c == (TAPS - 1) * H + r));
    }
    for (int r = 0; r < Q; r++) {
        for (int c = 0; c < H; c++) {
            CHECK(q[r * 2 * H + c] == 0);
            CHECK(q[r * 2 * H + H + c] ==
                  (float)(ROLE_Q * 1000 + (r / SIZE * SIZE + halves[r % SIZE]) * H + c));
        }
    }
    CHECK(v[2 * H - 1] == (float)(ROLE_V * 1000 + H - 1) && v[3 * H] == (float)(ROLE_V * 1000 + H));
    for (int d = 0; d < D; d++) {
        CHECK(tokens[d] == (float)draft_ids[d]);
        CHECK(output[d * H + 3] == (float)(ROLE_OUTPUT * 1000 + draft_ids[d] * H + 3));
    }
}

static void check_file(const struct head *head, struct backend *backend, struct queue *queue)
{
    struct error error;
    struct head *loaded = NULL;
    char path[512];
    int32_t tokens[D];
    float before[4 * H * I], after[4 * H * I];
    snprintf(path, sizeof path, "%s/head.safetensors", test_folder());
    REQUIRE_OK(head_save(head, queue, path, "0123456789abcdef", &error));
    REQUIRE_OK(head_load(path, &config, "0123456789abcdef", backend, &loaded, &error));
    CHECK(head_spec_equal(head_get_spec(head), head_get_spec(loaded)));
    REQUIRE(head_parameter_count(loaded) == PARAMETERS);
    for (int i = 0; i < PARAMETERS; i++) {
        const struct matrix value = head_parameter(loaded, i)->value;
        REQUIRE_OK(read_values(head, queue, i, before, &error));
        REQUIRE_OK(read_values(loaded, queue, i, after, &error));
        CHECK(!memcmp(before, after, (size_t)(value.rows * value.cols) * sizeof *after));
    }
    REQUIRE_OK(draft_get_tokens(loaded, queue, tokens, &error));
    CHECK(!memcmp(tokens, draft_ids, sizeof tokens));
    head_destroy(loaded);
}

TEST(draft_first_values)
{
    struct error error;
    struct head_spec spec = {.kind = head_kind_find("draft", &error), .draft_vocab = D};
    struct backend *backend = NULL;
    struct queue *queue = NULL;
    struct head *head = NULL;
    static const int32_t twice[D] = {0, 1, 1, 4, 7, 9, 12, 15};
    REQUIRE_OK(head_spec_parse_taps("1+2.mid+final", config.layers, &spec, &error));
    REQUIRE_OK(backend_open("ref", &(struct backend_options){.threads = 1}, &backend, &error));
    REQUIRE_OK(queue_create(backend, &queue, &error));
    REQUIRE_OK(head_create(&spec, &config, backend, &head, &error));
    REQUIRE_OK(head_initialise(head, INIT_COPY, 1, &source, &error));
    CHECK(draft_set_tokens(head, twice, &source, &error) < 0);
    REQUIRE_OK(draft_set_tokens(head, draft_ids, &source, &error));
    check_first_values(head, queue);
    check_file(head, backend, queue);
    head_destroy(head);
    queue_destroy(queue);
    backend_close(backend);
}

TEST(draft_taps)
{
    struct error error;
    struct head_spec spec = {.kind = head_kind_find("draft", &error), .draft_vocab = D};
    char name[TAPS_NAME_SIZE];
    REQUIRE_OK(head_spec_parse_taps("1+2.mid+3", config.layers, &spec, &error));
    head_spec_name_taps(&spec, config.layers, name);
    CHECK(!strcmp(name, "1+2.mid+final") && spec.befores == 2);
    REQUIRE_OK(head_spec_check(&spec, &config, &error));
    CHECK(head_spec_parse_taps("2+1", config.layers, &spec, &error) < 0);
    CHECK_TEXT(error.text, "do not ascend");
    CHECK(head_spec_parse_taps("0+1+2+3", config.layers, &spec, &error) < 0);
    CHECK(head_spec_parse_taps("1++2", config.layers, &spec, &error) < 0);
    CHECK(head_spec_parse_taps("1+", config.layers, &spec, &error) < 0);
    REQUIRE_OK(head_spec_parse_taps("2", config.layers, &spec, &error));
    CHECK(spec.befores == 0 && spec.tap.layer == 2);
    spec.draft_vocab = V + 1;
    CHECK(head_spec_check(&spec, &config, &error) < 0);
    spec.draft_vocab = 0;
    CHECK(head_spec_check(&spec, &config, &error) < 0);
    spec.kind = head_kind_find("norm", &error);
    REQUIRE_OK(head_spec_check(&spec, &config, &error));
    spec.befores = 1;
    CHECK(head_spec_check(&spec, &config, &error) < 0);
}

TEST_MAIN
