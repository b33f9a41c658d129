/* What `train --export` writes of heads that a test makes, tensor by tensor. tests/cli/export.sh has the program. */
#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/head/draft.h"
#include "common/model/safetensors.h"
#include "tests/test.h"
#include "tests/train_fixture.h"
#include "train/export.h"
#include "train/stores.h"

enum { D = 7 };
static const int32_t draft_ids[D] = {0, 1, 5, 17, 18, 33, 60};

static struct error error;

struct bench {
    char store[512], trial[512], out[512];
    struct stores stores;
    struct backend *backend;
    struct queue *queue;
    struct head *head;
};

static int write_text(const char *folder, const char *name, const char *text)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return file_write(path, text, strlen(text), &error);
}

/* A trial that has ended, with a head of random values. */
static int bench_open(struct bench *bench, const struct train_fixture *fixture, const struct head_spec *spec)
{
    const char *folder = test_folder(), *stores[] = {bench->store};
    char path[1024];
    *bench = (struct bench){0};
    snprintf(bench->store, sizeof bench->store, "%s/store", folder);
    snprintf(bench->trial, sizeof bench->trial, "%s/trial", folder);
    snprintf(bench->out, sizeof bench->out, "%s/out", folder);
    snprintf(path, sizeof path, "%s/head.safetensors", bench->trial);
    if (train_fixture_create(fixture, bench->store, &error) < 0 ||
        stores_open(stores, 1, &bench->stores, &error) < 0 || directory_create(bench->trial, &error) < 0 ||
        backend_open("cpu", &(struct backend_options){0}, &bench->backend, &error) < 0 ||
        queue_create(bench->backend, &bench->queue, &error) < 0 ||
        head_create(spec, &bench->stores.config, bench->backend, &bench->head, &error) < 0)
        return -1;
    const struct head_source source = stores_head_source(&bench->stores);
    if (head_initialise(bench->head, INIT_RANDOM, 5, &source, &error) < 0 ||
        (spec->draft_vocab > 0 && draft_set_tokens(bench->head, draft_ids, &source, &error) < 0))
        return -1;
    return head_save(bench->head, bench->queue, path, bench->stores.fingerprint, &error) < 0 ||
                   write_text(bench->trial, "config.json", "{\"id\": \"made-here\"}") < 0
               ? -1
               : write_text(bench->trial, "metrics.jsonl",
                            "{\"step\": 0, \"tokens\": 0, \"held_out_loss\": 1.0, \"kl\": 1.0, \"agreement\": "
                            "0.5, \"sequences\": 1, "
                            "\"whole\": true, \"of_step\": 0, \"seconds\": 0.0, \"shared_seconds\": 0.0, "
                            "\"stall_seconds\": 0.0, "
                            "\"tokens_per_second\": 1.0}\n");
}

static void bench_close(struct bench *bench)
{
    head_destroy(bench->head);
    queue_destroy(bench->queue);
    backend_close(bench->backend);
    stores_close(&bench->stores);
}

static int export_it(const struct bench *bench, const char *format)
{
    const char *stores[] = {bench->store};
    const struct export_options options = {.trial = bench->trial,
                                           .format = format,
                                           .out = bench->out,
                                           .store = stores,
                                           .stores = 1,
                                           .model = "models/one"};
    return export_trial(&options, &error);
}

static const struct tensor *find(const struct safetensors *file, const char *name, enum dtype type,
                                 int64_t rows, int64_t cols)
{
    const struct tensor *tensor = safetensors_find(file, name);
    if (!tensor || tensor->type != type || tensor->dims != (cols ? 2 : 1) || tensor->shape[0] != rows ||
        (cols && tensor->shape[1] != cols)) {
        test_fail(__FILE__, __LINE__, "%s is missing, or is not [%lld, %lld]", name, (long long)rows,
                  (long long)cols);
        return NULL;
    }
    return tensor;
}

/* Whether a tensor has a parameter's values. */
static void check_parameter(const struct bench *bench, const struct safetensors *file, const char *name,
                            const char *parameter)
{
    for (int i = 0; i < head_parameter_count(bench->head); i++) {
        const struct matrix value = head_parameter(bench->head, i)->value;
        float *values;
        if (strcmp(head_parameter(bench->head, i)->name, parameter) != 0)
            continue;
        const struct tensor *tensor = value.rows == 1 ? find(file, name, DTYPE_F32, value.cols, 0)
                                                      : find(file, name, DTYPE_F32, value.rows, value.cols);
        REQUIRE_OK(array_alloc(&values, value.rows * value.cols, &error));
        op_read(bench->queue, value, values);
        REQUIRE_OK(queue_wait(bench->queue, &error));
        if (tensor && memcmp(tensor->data, values, tensor->bytes) != 0)
            test_fail(__FILE__, __LINE__, "%s has not the values of %s", name, parameter);
        free(values);
        return;
    }
    test_fail(__FILE__, __LINE__, "the head has no %s", parameter);
}

/* ---- eagle3 ---- */

static const struct train_fixture draft_fixture = {
    .layers = 4,
    .hidden = 24,
    .intermediate = 40,
    .vocab = 61,
    .rows = 16,
    .train = 4,
    .held_out = 2,
    .taps = "1,2,2.mid,3,final,target",
    .codec = "raw:f32",
    .seed = 3,
    .tied = true,
};

static void check_tokens(const struct safetensors *file)
{
    const struct tensor *d2t = find(file, "d2t", DTYPE_I64, D, 0),
                        *t2d = find(file, "t2d", DTYPE_BOOL, draft_fixture.vocab, 0);
    int count = 0;
    REQUIRE(d2t && t2d);
    for (int i = 0; i < D; i++) {
        int64_t offset;
        memcpy(&offset, (const char *)d2t->data + (size_t)i * sizeof offset, sizeof offset);
        CHECK(i + offset == draft_ids[i] && ((const uint8_t *)t2d->data)[draft_ids[i]] == 1);
    }
    for (int v = 0; v < draft_fixture.vocab; v++)
        count += ((const uint8_t *)t2d->data)[v];
    CHECK(count == D);
}

static void check_eagle3_config(const char *folder)
{
    static const char *const flags[] = {"norm_before_residual", "norm_before_fc", "fc_norm", "norm_output",
                                        "tie_word_embeddings"};
    char path[1024];
    snprintf(path, sizeof path, "%s/config.json", folder);
    json_t *config = json_load_file(path, 0, NULL);
    const json_t *layer = json_object_get(config, "transformer_layer_config"),
                 *service = json_object_get(config, "speculators_config"),
                 *taps = json_object_get(config, "eagle_aux_hidden_state_layer_ids");
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        CHECK(json_is_false(json_object_get(config, flags[i])));
    CHECK(json_integer_value(json_object_get(config, "draft_vocab_size")) == D);
    CHECK(json_array_size(taps) == 3 && json_integer_value(json_array_get(taps, 0)) == 1 &&
          json_integer_value(json_array_get(taps, 1)) == 3 && json_integer_value(json_array_get(taps, 2)) == 4);
    CHECK(json_integer_value(json_object_get(layer, "num_hidden_layers")) == 1 &&
          json_integer_value(json_object_get(layer, "vocab_size")) == draft_fixture.vocab);
    const char *model =
        json_string_value(json_object_get(json_object_get(service, "verifier"), "name_or_path"));
    CHECK(model && !strcmp(model, "models/one"));
    json_decref(config);
}

static void check_eagle3_file(const struct bench *bench)
{
    static const char *const parts[][2] = {{"fc.weight", "fc"},
                                           {"layers.0.input_layernorm.weight", "input_norm"},
                                           {"layers.0.hidden_norm.weight", "hidden_norm"},
                                           {"layers.0.post_attention_layernorm.weight", "mlp_norm"},
                                           {"layers.0.self_attn.q_proj.weight", "q"},
                                           {"layers.0.self_attn.k_proj.weight", "k"},
                                           {"layers.0.self_attn.v_proj.weight", "v"},
                                           {"layers.0.self_attn.o_proj.weight", "o"},
                                           {"layers.0.mlp.gate_proj.weight", "gate"},
                                           {"layers.0.mlp.up_proj.weight", "up"},
                                           {"layers.0.mlp.down_proj.weight", "down"},
                                           {"norm.weight", "scale"},
                                           {"lm_head.weight", "output"}};
    struct safetensors *file;
    char path[1024];
    snprintf(path, sizeof path, "%s/model.safetensors", bench->out);
    REQUIRE_OK(safetensors_open(path, &file, &error));
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        check_parameter(bench, file, parts[i][0], parts[i][1]);
    CHECK(find(file, "embed_tokens.weight", DTYPE_F32, draft_fixture.vocab, draft_fixture.hidden));
    CHECK(safetensors_count(file) == sizeof parts / sizeof parts[0] + 3);
    check_tokens(file);
    safetensors_close(file);
}

TEST(export_eagle3)
{
    struct bench bench;
    struct head_spec spec = {
        .kind = head_kind_find("draft", &error), .output = OUTPUT_UNTIED, .draft_vocab = D};
    REQUIRE_OK(head_spec_parse_taps("1+3+final", draft_fixture.layers, &spec, &error));
    REQUIRE_OK(bench_open(&bench, &draft_fixture, &spec));
    CHECK(export_it(&bench, "ee-llm") < 0);
    CHECK_TEXT(error.text, "EE-LLM has no head of kind draft");
    REQUIRE_OK(export_it(&bench, "eagle3"));
    check_eagle3_file(&bench);
    check_eagle3_config(bench.out);
    bench_close(&bench);
}

/* Taps that EAGLE-3 cannot read. */
TEST(export_eagle3_taps)
{
    static const char *const refused[][2] = {{"1+3", "this draft reads fewer"},
                                             {"1+2.mid+3", "the middle of one"}};
    for (size_t i = 0; i < 2; i++) {
        struct bench bench;
        struct head_spec spec = {
            .kind = head_kind_find("draft", &error), .output = OUTPUT_TIED, .draft_vocab = D};
        REQUIRE_OK(head_spec_parse_taps(refused[i][0], draft_fixture.layers, &spec, &error));
        REQUIRE_OK(bench_open(&bench, &draft_fixture, &spec));
        CHECK(export_it(&bench, "eagle3") < 0);
        CHECK_TEXT(error.text, refused[i][1]);
        CHECK(!file_exists(bench.out));
        bench_close(&bench);
    }
}

TEST(export_eagle3_of_another_kind)
{
    struct bench bench;
    const struct head_spec spec = {.kind = head_kind_find("norm", &error), .tap = {.layer = 2}};
    REQUIRE_OK(bench_open(&bench, &draft_fixture, &spec));
    CHECK(export_it(&bench, "eagle3") < 0);
    CHECK_TEXT(error.text, "EAGLE-3 has no head of kind norm (it has draft)");
    bench_close(&bench);
}

TEST_MAIN
