#include "common/model/model.h"

#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/model/safetensors.h"
#include "tests/make_gguf.h"
#include "tests/test.h"

static const char *gguf_path_new(void)
{
    static char path[4200];
    snprintf(path, sizeof path, "%s/test.gguf", test_folder());
    return path;
}

/* Opens the maker's file and expects it to be refused with `expected`. */
static void check_refused(struct gguf_maker *maker, const char *expected)
{
    struct error error;
    struct model *model;
    const char *path = gguf_path_new();
    maker_write(maker, path);
    if (model_open(path, &model, &error) == 0) {
        test_fail(__FILE__, __LINE__, "accepted, where \"%s\" is expected", expected);
        model_close(model);
        return;
    }
    CHECK_TEXT(error.text, expected);
    CHECK_TEXT(error.text, path);
}

static int open_maker(struct gguf_maker *maker, struct model **model, struct error *error)
{
    const char *path = gguf_path_new();
    maker_write(maker, path);
    return model_open(path, model, error);
}

TEST(model_gguf)
{
    struct gguf_maker maker;
    struct error error;
    struct model *model;
    maker_llama(&maker);
    REQUIRE_OK(open_maker(&maker, &model, &error));
    const struct model_config *config = model_config(model);
    CHECK(strcmp(config->family, "llama") == 0 && config->layers == 1 && config->hidden == 32);
    CHECK(config->attention_heads == 4 && config->kv_heads == 2 && config->head_size == 8 &&
          config->intermediate == 32);
    CHECK(config->vocab == 16 && config->context == 64 && config->window == 0 && config->tied);
    CHECK(config->rope_pairs == ROPE_ADJACENT && config->rope_theta == 10000 && config->norm_epsilon == 1e-5f);
    CHECK(config->eos == 2 && !config->attention_bias && !config->qk_norms);
    CHECK(config->rope_scaling == ROPE_SCALING_NONE);
    CHECK(model_gguf(model) != NULL);
    const struct tensor *gate = model_tensor(model, 0, ROLE_MLP_GATE);
    CHECK(gate && strcmp(gate->name, "blk.0.ffn_gate.weight") == 0 && gate->type == DTYPE_Q8_0);
    CHECK(model_tensor(model, 0, ROLE_OUTPUT) == model_tensor(model, 0, ROLE_EMBEDDING));
    CHECK(!model_tensor(model, 0, ROLE_Q_BIAS) && !model_tensor(model, 0, ROLE_Q_NORM));
    model_close(model);
}

/* Roles a file may have beside the usual ones. */
TEST(model_gguf_options)
{
    struct gguf_maker maker;
    struct error error;
    struct model *model;
    maker_llama(&maker);
    static const char output[1024];
    maker_tensor(&maker, "output.weight", GGML_F16, 2, (uint64_t[]){32, 16}, output, 1024);
    maker_tensor(&maker, "blk.0.attn_q.bias", GGML_F32, 1, (uint64_t[]){32}, NULL, 128);
    maker_tensor(&maker, "blk.0.attn_k.bias", GGML_F32, 1, (uint64_t[]){16}, NULL, 64);
    maker_tensor(&maker, "blk.0.attn_v.bias", GGML_F32, 1, (uint64_t[]){16}, NULL, 64);
    maker_u32(&maker, "llama.attention.sliding_window", 7);
    maker_string(&maker, "llama.rope.scaling.type", "linear");
    maker_f32(&maker, "llama.rope.scaling.factor", 4);
    REQUIRE_OK(open_maker(&maker, &model, &error));
    const struct model_config *config = model_config(model);
    CHECK(!config->tied && config->attention_bias && config->window == 7 && config->window_layer == 0);
    CHECK(config->rope_scaling == ROPE_SCALING_LINEAR && config->rope_factor == 4);
    CHECK(strcmp(model_tensor(model, 0, ROLE_OUTPUT)->name, "output.weight") == 0);
    CHECK(strcmp(model_tensor(model, 0, ROLE_K_BIAS)->name, "blk.0.attn_k.bias") == 0);
    model_close(model);

    maker_llama(&maker);
    maker_tensor(&maker, "blk.0.attn_q.bias", GGML_F32, 1, (uint64_t[]){32}, NULL, 128);
    check_refused(&maker, "tensor \"blk.0.attn_k.bias\" (k_bias of layer 1, [16]) is missing");
}

/* Llama 3 in GGUF: the divisors come from a tensor, and its name is only an extra when it was read. */
TEST(model_rope_freqs)
{
    static const float divisors[4] = {1, 1.5f, 4, 8};
    struct gguf_maker maker;
    struct error error;
    struct model *model;
    maker_llama(&maker);
    maker_tensor(&maker, "rope_freqs.weight", GGML_F32, 1, (uint64_t[]){4}, divisors, sizeof divisors);
    maker_f32(&maker, "llama.rope.scale_linear", 2);
    REQUIRE_OK(open_maker(&maker, &model, &error));
    const struct model_config *config = model_config(model);
    CHECK(config->rope_scaling == ROPE_SCALING_TABLE);
    for (int i = 0; i < 4; i++)
        CHECK(config->rope_divisors[i] == 2 * divisors[i]);
    float table[2 * 8];
    config_rope_table(config, 2, table);
    for (int i = 0; i < 4; i++) {
        double angle = pow(10000, -i / 4.0) / (2 * (double)divisors[i]);
        CHECK(fabs((double)table[8 + i] - cos(angle)) < 1e-7 &&
              fabs((double)table[12 + i] - sin(angle)) < 1e-7);
        CHECK(table[i] == 1 && table[4 + i] == 0);
    }
    model_close(model);
    maker_llama(&maker);
    maker_tensor(&maker, "rope_freqs.weight", GGML_F32, 1, (uint64_t[]){5}, NULL, 20);
    check_refused(&maker, "tensor \"rope_freqs.weight\" is f32 with 5 values, f32 with 4 expected");
}

TEST(model_refuses_tensors)
{
    struct gguf_maker maker;
    maker_llama(&maker);
    maker_drop_tensor(&maker, "blk.0.ffn_up.weight");
    check_refused(&maker, "tensor \"blk.0.ffn_up.weight\" (mlp_up of layer 1, [32, 32]) is missing");
    maker_llama(&maker);
    maker_tensor(&maker, "blk.0.attn_rel.weight", GGML_F32, 1, (uint64_t[]){3}, NULL, 12);
    check_refused(&maker, "tensor \"blk.0.attn_rel.weight\" [3] does not belong in a llama model");
    maker_llama(&maker);
    maker_tensor(&maker, "blk.1.attn_norm.weight", GGML_F32, 1, (uint64_t[]){32}, NULL, 128);
    check_refused(&maker, "tensor \"blk.1.attn_norm.weight\" [32] does not belong in");
    maker_llama(&maker);
    maker_tensor(&maker, "blk.0.attn_k.weight", GGML_F16, 2, (uint64_t[]){32, 32}, NULL, 2048);
    check_refused(&maker,
                  "tensor \"blk.0.attn_k.weight\" (k of layer 1) has shape [32, 32], [16, 32] expected");
    maker_llama(&maker);
    maker_tensor(&maker, "output_norm.weight", GGML_F32, 2, (uint64_t[]){1, 32}, NULL, 128);
    check_refused(&maker, "tensor \"output_norm.weight\" (final_norm) has shape [32, 1], [32] expected");
    maker_llama(&maker);
    maker_tensor(&maker, "output_norm.weight", GGML_Q8_0, 1, (uint64_t[]){32}, NULL, 34);
    check_refused(&maker, "(final_norm) is of type q8_0; f32, f16 or bf16 expected");
    maker_llama(&maker);
    maker_string(&maker, "general.architecture", "qwen3");
    check_refused(&maker, "key \"qwen3.block_count\" is missing");
    maker_llama(&maker);
    maker_string(&maker, "general.architecture", "gpt2");
    check_refused(&maker, "architecture \"gpt2\" is not supported (known are llama, qwen2, qwen3)");
}

/* The identity follows the weights and the config, and nothing else. */
TEST(model_fingerprint)
{
    static float norm[32];
    char first[17], second[17], third[17], fourth[17];
    struct gguf_maker maker;
    struct error error;
    struct model *model;
    maker_llama(&maker);
    REQUIRE_OK(open_maker(&maker, &model, &error));
    REQUIRE_OK(model_fingerprint(model, first, &error));
    model_close(model);
    maker_llama(&maker);
    maker_string(&maker, "general.name", "another");
    REQUIRE_OK(open_maker(&maker, &model, &error));
    REQUIRE_OK(model_fingerprint(model, second, &error));
    model_close(model);
    maker_llama(&maker);
    maker_f32(&maker, "llama.rope.freq_base", 10001);
    REQUIRE_OK(open_maker(&maker, &model, &error));
    REQUIRE_OK(model_fingerprint(model, third, &error));
    model_close(model);
    maker_llama(&maker);
    maker_tensor(&maker, "blk.0.ffn_norm.weight", GGML_F32, 1, (uint64_t[]){32}, norm, sizeof norm);
    REQUIRE_OK(open_maker(&maker, &model, &error));
    REQUIRE_OK(model_fingerprint(model, fourth, &error));
    model_close(model);
    CHECK(strlen(first) == 16 && strcmp(first, second) == 0);
    CHECK(strcmp(first, third) != 0 && strcmp(first, fourth) != 0 && strcmp(third, fourth) != 0);
}

/* ---- config.json ---- */

static const char base[] = "{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 96, "
                           "\"num_hidden_layers\": 4, \"num_attention_heads\": 4, \"num_key_value_heads\": 2, "
                           "\"vocab_size\": 100, \"max_position_embeddings\": 2048}";

/* The base with the members of `change` put over it. */
static int config_changed(const char *change, struct model_config *config, struct error *error)
{
    json_t *object = json_parse("base", base, strlen(base), error);
    json_t *over = json_parse("change", change, strlen(change), error);
    int result = object && over && json_object_update(object, over) == 0
                     ? config_from_hf("config.json", object, config, error)
                     : -1;
    json_decref(object);
    json_decref(over);
    return result;
}

TEST(config_hf_defaults)
{
    struct model_config config;
    struct error error;
    REQUIRE_OK(config_changed("{}", &config, &error));
    CHECK(config.head_size == 16 && config.norm_epsilon == 1e-6f && config.rope_theta == 10000);
    CHECK(!config.tied && config.window == 0 && config.rope_pairs == ROPE_HALVES && config.eos == -1);
    REQUIRE_OK(config_changed("{\"num_key_value_heads\": null, \"head_dim\": null, \"rope_scaling\": null, "
                              "\"eos_token_id\": [5, 6], \"sliding_window\": 9}",
                              &config, &error));
    CHECK(config.kv_heads == 4 && config.head_size == 16 && config.eos == 5 && config.window == 0);
    REQUIRE_OK(config_changed("{\"attention_bias\": true, \"mlp_bias\": true, \"tie_word_embeddings\": true, "
                              "\"head_dim\": 24}",
                              &config, &error));
    CHECK(config.attention_bias && config.output_bias && config.mlp_bias && config.tied &&
          config.head_size == 24);
    /* What is not an id of the vocabulary is none: transformers does not look at it either. */
    static const char *const strange[] = {"100",        "-1",    "\"x\"", "[]",
                                          "[\"x\", 5]", "1e400", "{}",    "99999999999999999999"};
    for (size_t i = 0; i < sizeof strange / sizeof *strange; i++) {
        char change[80];
        snprintf(change, sizeof change, "{\"eos_token_id\": %s, \"bos_token_id\": %s}", strange[i], strange[i]);
        REQUIRE_OK(config_changed(change, &config, &error));
        CHECK(config.eos == -1);
    }
    REQUIRE_OK(config_changed("{\"model_type\": \"qwen3\"}", &config, &error));
    CHECK(config.head_size == 128 && config.qk_norms && !config.attention_bias);
    REQUIRE_OK(config_changed("{\"model_type\": \"mistral\", \"attention_bias\": 7, \"mlp_bias\": \"no\"}",
                              &config, &error));
    CHECK(!config.attention_bias && !config.output_bias &&
          !config.mlp_bias); /* Mistral has none, nor reads it */
    REQUIRE_OK(config_changed("{\"model_type\": \"qwen2\", \"attention_bias\": false}", &config, &error));
    CHECK(config.head_size == 16 && config.attention_bias && !config.output_bias);
}

TEST(config_hf_rope)
{
    static const char llama3[] = "{\"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", "
                                 "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
                                 "\"original_max_position_embeddings\": 8192}}";
    struct model_config config;
    struct error error;
    REQUIRE_OK(config_changed(llama3, &config, &error));
    CHECK(config.rope_scaling == ROPE_SCALING_LLAMA3 && config.rope_theta == 500000 && config.rope_factor == 8);
    CHECK(config.rope_low == 1 && config.rope_high == 4 && config.rope_original == 8192);
    REQUIRE_OK(config_changed("{\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 7}}", &config,
                              &error));
    CHECK(config.rope_scaling == ROPE_SCALING_NONE && config.rope_theta == 7);
    REQUIRE_OK(config_changed("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}}", &config, &error));
    CHECK(config.rope_scaling == ROPE_SCALING_LINEAR && config.rope_factor == 2 && config.rope_theta == 10000);
    float table[4 * 16];
    config_rope_table(&config, 4, table);
    CHECK(fabs((double)table[3 * 16] - cos(1.5)) < 1e-7 && fabs((double)table[3 * 16 + 8] - sin(1.5)) < 1e-7);
    CHECK(fabs((double)table[2 * 16 + 9] - sin(pow(10000, -1.0 / 8))) < 1e-7);
}

TEST(config_hf_window)
{
    struct model_config config;
    struct error error;
    REQUIRE_OK(config_changed("{\"model_type\": \"mistral\"}", &config, &error));
    CHECK(config.window == 4096 && config.window_layer == 0);
    REQUIRE_OK(config_changed("{\"model_type\": \"mistral\", \"sliding_window\": null}", &config, &error));
    CHECK(config.window == 0);
    REQUIRE_OK(config_changed("{\"model_type\": \"qwen2\", \"sliding_window\": 8}", &config, &error));
    CHECK(config.window == 0);
    REQUIRE_OK(
        config_changed("{\"model_type\": \"qwen2\", \"sliding_window\": 8, \"use_sliding_window\": true, "
                       "\"max_window_layers\": 3}",
                       &config, &error));
    CHECK(config.window == 8 && config.window_layer == 3);
    REQUIRE_OK(
        config_changed("{\"model_type\": \"qwen3\", \"sliding_window\": 8, \"use_sliding_window\": true, "
                       "\"max_window_layers\": 4}",
                       &config, &error));
    CHECK(config.window == 0 && config.window_layer == 0);
    REQUIRE_OK(
        config_changed("{\"model_type\": \"qwen3\", \"sliding_window\": 8, \"use_sliding_window\": true, "
                       "\"layer_types\": [\"full_attention\", \"sliding_attention\", \"sliding_attention\", "
                       "\"sliding_attention\"]}",
                       &config, &error));
    CHECK(config.window == 8 && config.window_layer == 1);
}

TEST(config_hf_refuses)
{
    static const struct {
        const char *change, *expected;
    } cases[] = {
        {"{\"model_type\": \"gemma2\"}",
         "\"gemma2\" is not supported (known are llama, mistral, qwen2, qwen3)"},
        {"{\"model_type\": 3}", "\"model_type\" is not a string"},
        {"{\"hidden_act\": \"gelu\"}", "\"hidden_act\" is \"gelu\"; only silu is supported"},
        {"{\"quantization_config\": {}}", "the model is quantised"},
        {"{\"final_logit_softcapping\": 30.0}",
         "it has \"final_logit_softcapping\": models with soft-capped logits are not supported"},
        {"{\"attn_logit_softcapping\": 50}", "it has \"attn_logit_softcapping\""},
        {"{\"hidden_size\": null}", "\"hidden_size\" is not an integer"},
        {"{\"hidden_size\": 0}", "hidden is 0, not in 1 .. "},
        {"{\"hidden_size\": -1}", "\"hidden_size\" is -1"},
        {"{\"hidden_size\": 4294967296}", "\"hidden_size\" is 4294967296"},
        {"{\"num_attention_heads\": 0}", "\"num_attention_heads\" is 0"},
        {"{\"num_attention_heads\": 3, \"head_dim\": 16}", "3 attention heads cannot share 2 key heads evenly"},
        {"{\"num_key_value_heads\": 0}", "kv_heads is 0"},
        {"{\"head_dim\": 15}", "head_size is 15, which is odd"},
        {"{\"head_dim\": 100000}", "head_size is 100000"},
        {"{\"num_hidden_layers\": 2000000000}", "layers is 2e+09"},
        {"{\"rms_norm_eps\": \"nan\"}", "\"rms_norm_eps\" is not a number"},
        {"{\"rms_norm_eps\": -1e-5}", "norm_epsilon is -1e-05"},
        {"{\"rope_theta\": 0}", "rope_theta is 0"},
        {"{\"rope_theta\": 1e300}", "rope_theta is 1e+300"},
        {"{\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}}",
         "rope scaling \"yarn\" is not supported"},
        {"{\"rope_scaling\": {\"type\": \"dynamic\"}}", "rope scaling \"dynamic\" is not supported"},
        {"{\"rope_parameters\": {\"rope_type\": \"longrope\"}}", "rope scaling \"longrope\" is not supported"},
        {"{\"rope_scaling\": {\"factor\": 4}}", "\"rope_scaling\" has no \"rope_type\""},
        {"{\"rope_scaling\": []}", "\"rope_scaling\" is not an object"},
        {"{\"rope_scaling\": {\"type\": \"linear\"}}", "\"factor\" is missing"},
        {"{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "linear rope scaling by 0"},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}", "\"low_freq_factor\" is missing"},
        {"{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4, "
         "\"high_freq_factor\": 1, \"original_max_position_embeddings\": 8192}}",
         "low below high"},
        {"{\"partial_rotary_factor\": 0.5}", "only whole attention heads can be rotated"},
        {"{\"tie_word_embeddings\": \"yes\"}", "\"tie_word_embeddings\" is not true or false"},
        {"{\"model_type\": \"qwen2\", \"layer_types\": [\"full_attention\"]}", "not a list of 4 names"},
        {"{\"model_type\": \"qwen2\", \"layer_types\": [\"linear\", \"linear\", \"linear\", \"linear\"]}",
         "holds \"linear\""},
        {"{\"model_type\": \"qwen2\", \"layer_types\": [\"sliding_attention\", \"full_attention\", "
         "\"sliding_attention\", \"full_attention\"]}",
         "layer 2 has full attention behind layers with a sliding window"},
    };
    struct model_config config;
    struct error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (config_changed(cases[i].change, &config, &error) == 0) {
            test_fail(__FILE__, __LINE__, "%s was accepted", cases[i].change);
            continue;
        }
        CHECK_TEXT(error.text, cases[i].expected);
        CHECK_TEXT(error.text, "config.json");
    }
}

/* Stores hold this text, and a model's fingerprint is made from it. */
TEST(config_json_bytes)
{
    static const char expected[] =
        "{\"family\":\"qwen3\",\"layers\":4,\"hidden\":64,\"heads\":4,\"kv_heads\":2,\"head_size\":128,"
        "\"intermediate\":96,\"vocab\":100,\"context\":2048,\"window\":0,\"window_layer\":0,"
        "\"norm_epsilon\":9.9999999747524271e-7,\"attention_bias\":true,\"output_bias\":true,"
        "\"mlp_bias\":false,\"head_norms\":true,\"tied\":false,\"rope_theta\":10000.0,"
        "\"rope_factor\":3.0,\"rope_low\":0.0,\"rope_high\":0.0,\"rope_original\":0,\"eos\":3,"
        "\"rope_pairs\":\"halves\",\"rope_scaling\":\"linear\"}";
    struct model_config config;
    struct error error;
    REQUIRE_OK(config_changed("{\"model_type\": \"qwen3\", \"attention_bias\": true, \"eos_token_id\": 3, "
                              "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 3}}",
                              &config, &error));
    json_t *object = config_to_json(&config, &error);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    json_decref(object);
    REQUIRE(text);
    CHECK(strcmp(text, expected) == 0);
    free(text);
}

/* Every field survives, and every field is checked. */
TEST(config_json)
{
    struct model_config config, again;
    struct error error;
    REQUIRE_OK(
        config_changed("{\"attention_bias\": true, \"eos_token_id\": 3, \"rms_norm_eps\": 1.1e-5, "
                       "\"rope_theta\": 123456.7, \"rope_scaling\": {\"type\": \"linear\", \"factor\": 3}}",
                       &config, &error));
    json_t *object = config_to_json(&config, &error);
    REQUIRE(object);
    REQUIRE_OK(config_from_json("manifest", object, &again, &error));
    json_t *copy = config_to_json(&again, &error);
    CHECK(json_equal(object, copy));
    json_decref(copy);
    CHECK(again.rope_theta == 123456.7 && again.norm_epsilon == 1.1e-5f && again.eos == 3);
    json_object_set_new(object, "kv_heads", json_integer(3));
    CHECK(config_from_json("manifest", object, &again, &error) < 0);
    CHECK_TEXT(error.text, "manifest: 4 attention heads cannot share 3 key heads");
    json_object_del(object, "eos");
    CHECK(config_from_json("manifest", object, &again, &error) < 0);
    CHECK_TEXT(error.text, "\"eos\" is missing");
    json_decref(object);

    config.rope_scaling = ROPE_SCALING_TABLE;
    for (int i = 0; i < config.head_size / 2; i++)
        config.rope_divisors[i] = 1 + (float)i / 3;
    object = config_to_json(&config, &error);
    REQUIRE(object);
    REQUIRE_OK(config_from_json("manifest", object, &again, &error));
    CHECK(memcmp(config.rope_divisors, again.rope_divisors, sizeof config.rope_divisors) == 0);
    json_decref(object);
    config.rope_divisors[1] = NAN;
    CHECK(config_check("x", &config, &error) < 0);
    CHECK_TEXT(error.text, "rope divisor 1 is nan");
    config.rope_theta = NAN;
    CHECK(config_check("x", &config, &error) < 0);
    CHECK_TEXT(error.text, "rope_theta is nan");
    CHECK(!config_to_json(&config, &error));
}

/* A Hugging Face folder: shards, and tensors that older exports carry along. */
TEST(model_folder)
{
    struct error error;
    struct model *model;
    REQUIRE_OK(model_open("tests/golden/mistral", &model, &error));
    CHECK(model_config(model)->window == 7 && model_config(model)->tied && !model_gguf(model));
    CHECK(strcmp(model_tensor(model, 1, ROLE_MLP_NORM)->name,
                 "model.layers.1.post_attention_layernorm.weight") == 0);
    CHECK(model_tensor(model, 0, ROLE_OUTPUT) == model_tensor(model, 0, ROLE_EMBEDDING));
    model_close(model);
    CHECK(model_open(test_folder(), &model, &error) < 0);
    CHECK_TEXT(error.text, "config.json: No such file");
    CHECK(model_open("tests/golden/llama/config.json", &model, &error) < 0);
    CHECK_TEXT(error.text, "not a GGUF file");
}

/* What another_model makes of the golden Mistral model, which is tied. */
struct change {
    const struct tensor *extra; /* tensors more */
    size_t count;
    const char *left_out; /* a tensor */
    int prefix; /* one "model." less or more in every name */
    const char *tie; /* of config.json; NULL: as it is, "": left out */
};

static int write_config(const char *folder, const char *tie, struct error *error)
{
    char path[4400];
    json_t *config = json_read("tests/golden/mistral/config.json", error);
    if (!config)
        return -1;
    if (tie && *tie)
        json_object_set_new(config, "tie_word_embeddings", json_loads(tie, JSON_DECODE_ANY, NULL));
    else if (tie)
        json_object_del(config, "tie_word_embeddings");
    snprintf(path, sizeof path, "%s/config.json", folder);
    int result = json_write(path, config, error);
    json_decref(config);
    return result;
}

static int write_weights(const char *folder, const struct change *change, const struct safetensors *from,
                         struct error *error)
{
    static char names[64][96];
    struct tensor tensors[64];
    struct safetensors_writer *writer = NULL;
    char path[4400];
    size_t total = 0;
    for (size_t i = 0; i < safetensors_count(from) + change->count; i++) {
        const size_t own = safetensors_count(from);
        struct tensor tensor = i < own ? *safetensors_tensor(from, i) : change->extra[i - own];
        if (change->left_out && strcmp(tensor.name, change->left_out) == 0)
            continue;
        const bool shorter = change->prefix < 0 && strncmp(tensor.name, "model.", 6) == 0;
        snprintf(names[total], sizeof names[total], "%s%s", change->prefix > 0 ? "model." : "",
                 tensor.name + (shorter ? 6 : 0));
        tensor.name = names[total];
        tensors[total++] = tensor;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    int result = safetensors_create(path, tensors, total, NULL, &writer, error);
    for (size_t i = 0; i < total && result == 0; i++)
        result = safetensors_write(writer, tensors[i].data, tensors[i].bytes, error);
    return result == 0 ? safetensors_finish(writer, error) : -1;
}

/* Opens the changed model, or gives the error; `from` lends its tensors to the caller's own. */
static struct model *another_model(const struct safetensors *from, const struct change *change,
                                   struct error *error)
{
    const char *folder = test_folder();
    struct model *model = NULL;
    if (write_config(folder, change->tie, error) == 0 && write_weights(folder, change, from, error) == 0)
        model_open(folder, &model, error);
    return model;
}

TEST(model_folder_extras)
{
    static const float zeros[64 * 32];
    static char inverse[] = "model.layers.1.self_attn.rotary_emb.inv_freq",
                once[] = "model.rotary_emb.inv_freq", other[] = "model.layers.1.self_attn.rotary_emb.inv_freqs";
    const struct tensor extra[] = {
        {.name = inverse, .type = DTYPE_F32, .dims = 1, .shape = {8}, .data = zeros, .bytes = 32},
        {.name = once, .type = DTYPE_F32, .dims = 1, .shape = {8}, .data = zeros, .bytes = 32},
        {.name = other, .type = DTYPE_F32, .dims = 1, .shape = {8}, .data = zeros, .bytes = 32},
    };
    struct error error;
    struct safetensors *from;
    REQUIRE_OK(safetensors_open("tests/golden/mistral", &from, &error));
    for (int prefix = -1; prefix <= 1; prefix++) {
        struct model *model =
            another_model(from, &(struct change){.extra = extra, .count = 2, .prefix = prefix}, &error);
        if (!model)
            test_fail(__FILE__, __LINE__, "prefix %d: %s", prefix, error.text);
        model_close(model);
    }
    CHECK(!another_model(from, &(struct change){.extra = extra, .count = 3}, &error));
    CHECK_TEXT(error.text, "inv_freqs\" [8] does not belong in a mistral model");
    safetensors_close(from);
}

/* One "model." less (saved from the model without its head) or more: the same model, as transformers reads
 * it. */
TEST(model_folder_prefix)
{
    char fingerprint[17], wanted[17];
    struct error error;
    struct model *model;
    struct safetensors *from;
    REQUIRE_OK(safetensors_open("tests/golden/mistral", &from, &error));
    REQUIRE_OK(model_open("tests/golden/mistral", &model, &error));
    REQUIRE_OK(model_fingerprint(model, wanted, &error));
    model_close(model);
    for (int prefix = -1; prefix <= 1; prefix += 2) {
        model = another_model(from, &(struct change){.prefix = prefix}, &error);
        if (!model) {
            test_fail(__FILE__, __LINE__, "prefix %d: %s", prefix, error.text);
            continue;
        }
        REQUIRE_OK(model_fingerprint(model, fingerprint, &error));
        CHECK(strcmp(fingerprint, wanted) == 0);
        CHECK(strcmp(model_tensor(model, 0, ROLE_FINAL_NORM)->name,
                     prefix < 0 ? "norm.weight" : "model.model.norm.weight") == 0);
        model_close(model);
    }
    /* A name that is there in both spellings is once too many. */
    const struct tensor *norm = safetensors_find(from, "model.norm.weight");
    REQUIRE(norm);
    struct tensor twice = *norm;
    twice.name = (char[]){"norm.weight"};
    CHECK(!another_model(from, &(struct change){.extra = &twice, .count = 1}, &error));
    CHECK_TEXT(error.text, "tensor \"norm.weight\" [32] does not belong in");
    safetensors_close(from);
}

/* The output weight of the file counts where it differs from the embedding, whatever the config says. */
TEST(model_folder_output)
{
    static char names[2][16] = {"lm_head.weight", "lm_head.weight"};
    static float other[64 * 32];
    struct error error;
    struct model *model;
    struct safetensors *from;
    REQUIRE_OK(safetensors_open("tests/golden/mistral", &from, &error));
    const struct tensor *embedding = safetensors_find(from, "model.embed_tokens.weight");
    REQUIRE(embedding && embedding->shape[0] == 64 && embedding->shape[1] == 32);
    struct tensor same = *embedding, changed = *embedding;
    same.name = names[0];
    changed = (struct tensor){.name = names[1],
                              .type = DTYPE_F32,
                              .dims = 2,
                              .shape = {64, 32},
                              .data = other,
                              .bytes = sizeof other};
    for (int i = 0; i < 64 * 32; i++)
        other[i] = (float)i;
    static const char *const ties[] = {"true", "false", ""};
    for (int t = 0; t < 3; t++) {
        model = another_model(from, &(struct change){.extra = &changed, .count = 1, .tie = ties[t]}, &error);
        REQUIRE(model);
        CHECK(!model_config(model)->tied);
        const struct tensor *output = model_tensor(model, 0, ROLE_OUTPUT);
        CHECK(strcmp(output->name, "lm_head.weight") == 0 && memcmp(output->data, other, sizeof other) == 0);
        model_close(model);
        model = another_model(from, &(struct change){.extra = &same, .count = 1, .tie = ties[t]}, &error);
        REQUIRE(model);
        CHECK(model_config(model)->tied);
        CHECK(model_tensor(model, 0, ROLE_OUTPUT) == model_tensor(model, 0, ROLE_EMBEDDING));
        model_close(model);
        /* Without one the config decides; the key left out means false in all families. */
        model = another_model(from, &(struct change){.tie = ties[t]}, &error);
        CHECK(!model == (t > 0));
        if (!model)
            CHECK_TEXT(error.text,
                       "tensor \"lm_head.weight\" (output, [64, 32]) is missing. A model whose embedding");
        model_close(model);
    }
    /* With the embedding alone missing the output weight is both. */
    model = another_model(
        from,
        &(struct change){.extra = &changed, .count = 1, .left_out = "model.embed_tokens.weight", .tie = "true"},
        &error);
    REQUIRE(model);
    CHECK(strcmp(model_tensor(model, 0, ROLE_EMBEDDING)->name, "lm_head.weight") == 0);
    CHECK(model_tensor(model, 0, ROLE_OUTPUT) == model_tensor(model, 0, ROLE_EMBEDDING));
    model_close(model);
    CHECK(!another_model(
        from,
        &(struct change){
            .extra = &changed, .count = 1, .left_out = "model.embed_tokens.weight", .tie = "false"},
        &error));
    CHECK_TEXT(error.text, "\"model.embed_tokens.weight\" (embedding, [64, 32]) is missing");
    changed.shape[0] = 32, changed.shape[1] = 64;
    CHECK(!another_model(from, &(struct change){.extra = &changed, .count = 1, .tie = "true"}, &error));
    CHECK_TEXT(error.text, "\"lm_head.weight\" (output) has shape [32, 64], [64, 32] expected");
    safetensors_close(from);
}

/* Under a larger model's prefix it may be left unread where it is the embedding; else the logits would be
 * wrong. */
TEST(model_folder_output_with_prefix)
{
    static char name[] = "language_model.lm_head.weight", near[] = "my_lm_head.weight";
    static char bytes[64 * 32 * 4];
    struct error error;
    struct safetensors *from;
    REQUIRE_OK(safetensors_open("tests/golden/mistral", &from, &error));
    const struct tensor *embedding = safetensors_find(from, "model.embed_tokens.weight");
    REQUIRE(embedding && embedding->bytes <= sizeof bytes);
    memcpy(bytes, embedding->data, embedding->bytes);
    struct tensor output = *embedding;
    output.name = name;
    output.data = bytes;
    const struct change change = {.extra = &output, .count = 1, .tie = "true"};
    struct model *model = another_model(from, &change, &error);
    REQUIRE(model);
    model_close(model);
    output.name = near;
    CHECK(!another_model(from, &change, &error));
    CHECK_TEXT(error.text, "\"my_lm_head.weight\" [64, 32] does not belong in");
    output.name = name;
    bytes[embedding->bytes - 1] ^= 1;
    CHECK(!another_model(from, &change, &error));
    CHECK_TEXT(error.text, "\"language_model.lm_head.weight\" [64, 32] does not belong in");
    safetensors_close(from);
}

/* The same in GGUF, where an output weight that is there goes untied without a word. */
TEST(model_gguf_output)
{
    static uint16_t values[2][16 * 32];
    for (int i = 0; i < 16 * 32; i++) {
        values[0][i] = (uint16_t)(0x3c00 + i);
        values[1][i] = (uint16_t)(0x3c00 + i + (i == 16 * 32 - 1));
    }
    for (int differs = 0; differs < 2; differs++) {
        struct gguf_maker maker;
        struct error error;
        struct model *model;
        maker_llama(&maker);
        maker_tensor(&maker, "token_embd.weight", GGML_F16, 2, (uint64_t[]){32, 16}, values[0], 1024);
        maker_tensor(&maker, "output.weight", GGML_F16, 2, (uint64_t[]){32, 16}, values[differs], 1024);
        REQUIRE_OK(open_maker(&maker, &model, &error));
        CHECK(model_config(model)->tied == !differs);
        CHECK(strcmp(model_tensor(model, 0, ROLE_OUTPUT)->name,
                     differs ? "output.weight" : "token_embd.weight") == 0);
        model_close(model);
    }
}

TEST_MAIN
