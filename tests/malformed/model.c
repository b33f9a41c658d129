/* Model files that are cut short, damaged, or made to do harm: an error, never a crash, never an
 * allocation that a number in the file asks for. */
#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/model/model.h"
#include "common/model/safetensors.h"
#include "tests/make_gguf.h"
#include "tests/test.h"

/* Reads everything a program would read of a model. */
static void use_model(const struct model *model)
{
    const struct model_config *config = model_config(model);
    struct error error;
    char fingerprint[17];
    float *values;
    if (array_alloc(&values, (size_t)config->head_size * 3, &error) == 0)
        config_rope_table(config, 3, values);
    free(values);
    if (model_fingerprint(model, fingerprint, &error) < 0)
        test_fail(__FILE__, __LINE__, "%s", error.text);
    for (int layer = 0; layer < config->layers; layer++) {
        for (int role = 0; role < ROLE_COUNT; role++) {
            const struct tensor *tensor = model_tensor(model, layer, (enum tensor_role)role);
            int64_t cols = tensor ? tensor->shape[tensor->dims - 1] : 0;
            if (!tensor || array_alloc(&values, cols, &error) < 0)
                continue;
            dtype_to_f32(tensor->type, tensor->data, cols, values);
            free(values);
        }
    }
}

/* Opens; whatever opens is used. True when it opened. */
static bool try_model(const char *path, struct error *error)
{
    struct model *model;
    if (model_open(path, &model, error) < 0)
        return false;
    use_model(model);
    model_close(model);
    return true;
}

static const char *folder_file(const char *folder, const char *name)
{
    static char path[4400];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* A GGUF file with a key of every kind, arrays and strings among them. */
static struct string small_gguf(void)
{
    struct gguf_maker maker;
    maker_llama(&maker);
    struct string *texts = maker_array(&maker, "tokenizer.ggml.tokens", GGUF_STRING, 2);
    maker_string_bytes(texts, "a");
    maker_string_bytes(texts, "bc");
    maker_bytes(maker_array(&maker, "scores", GGUF_F32, 2), "\0\0\0\0\0\0\0\0", 8);
    maker_u32(&maker, "general.alignment", 32);
    maker_tensor(&maker, "rope_freqs.weight", GGML_F32, 1, (uint64_t[]){4}, NULL, 16);
    return maker_finish(&maker);
}

TEST(malformed_gguf_cut_short)
{
    struct string file = small_gguf();
    struct error error;
    const char *path = folder_file(test_folder(), "a.gguf");
    make_file(path, file.data, file.length);
    if (!try_model(path, &error))
        test_fail(__FILE__, __LINE__, "whole: %s", error.text);
    for (size_t size = 0; size < file.length; size++) {
        make_file(path, file.data, size);
        if (try_model(path, &error))
            test_fail(__FILE__, __LINE__, "accepted when cut to %zu of %zu bytes", size, file.length);
        else
            CHECK_TEXT(error.text, path);
    }
    string_free(&file);
}

/* Puts one byte at offset `at` of a file. */
static void poke(FILE *file, size_t at, int byte)
{
    if (fseek(file, (long)at, SEEK_SET) != 0 || fputc(byte, file) == EOF || fflush(file) != 0)
        test_fail(__FILE__, __LINE__, "a byte could not be written");
}

/* Changes every byte in from .. to-1 of the file at `path` in nine ways, and opens `opened` each time. */
static void damage_bytes(const char *path, const struct string *file, size_t from, size_t to,
                         const char *opened)
{
    struct error error;
    make_file(path, file->data, file->length);
    FILE *writable = fopen(path, "r+b");
    if (!writable) {
        test_fail(__FILE__, __LINE__, "%s cannot be opened", path);
        return;
    }
    for (size_t at = from; at < to; at++) {
        int before = (unsigned char)file->data[at];
        for (int way = 0; way < 9; way++) {
            poke(writable, at, way < 8 ? before ^ 1 << way : before ^ 0xff);
            try_model(opened, &error);
        }
        poke(writable, at, before);
    }
    fclose(writable);
}

TEST(malformed_gguf_damaged)
{
    struct string file = small_gguf();
    const char *path = folder_file(test_folder(), "a.gguf");
    size_t header = 0; /* where the last tensor's entry ends */
    for (size_t i = 0; i + 17 < file.length; i++)
        if (memcmp(file.data + i, "rope_freqs.weight", 17) == 0)
            header = i + 17 + 24;
    CHECK(header > 1000);
    damage_bytes(path, &file, 0, header, path);
    string_free(&file);
}

/* ---- GGUF files made to do harm ---- */

static struct maker_tensor *some_tensor(struct gguf_maker *maker)
{
    return maker_find(maker, "blk.0.ffn_up.weight");
}

static void spoil_key_count(struct gguf_maker *maker)
{
    maker->key_count = INT64_MAX;
}
static void spoil_key_count_by_one(struct gguf_maker *maker)
{
    maker->key_count = maker->keys + 1;
}
static void spoil_tensor_count(struct gguf_maker *maker)
{
    maker->tensor_count = -1;
}
static void spoil_version(struct gguf_maker *maker)
{
    maker->version = 1;
}
static void spoil_order(struct gguf_maker *maker)
{
    maker->version = 3u << 24;
}
static void spoil_string(struct gguf_maker *maker)
{
    maker_u64_bytes(maker_key(maker, "x", GGUF_STRING), UINT64_MAX);
}
static void spoil_array_length(struct gguf_maker *maker)
{
    maker_array(maker, "x", GGUF_U64, UINT64_MAX / 8 + 2);
}
static void spoil_string_array(struct gguf_maker *maker)
{
    maker_array(maker, "x", GGUF_STRING, 1ull << 40);
}
static void spoil_array_type(struct gguf_maker *maker)
{
    maker_array(maker, "x", 99, 1);
}
static void spoil_nesting(struct gguf_maker *maker)
{
    struct string *value = maker_key(maker, "x", GGUF_ARRAY);
    for (int i = 0; i < 100; i++) {
        maker_u32_bytes(value, GGUF_ARRAY);
        maker_u64_bytes(value, 1);
    }
}
static void spoil_value_type(struct gguf_maker *maker)
{
    maker_key(maker, "x", 13);
}
static void spoil_key_name(struct gguf_maker *maker)
{
    maker_u32(maker, "bad\nname", 1);
}
static void spoil_key_twice(struct gguf_maker *maker)
{
    maker_u32(maker, "x", 1);
    maker_u32(maker, "y", 1);
    snprintf(maker->key[maker->keys - 1].name, sizeof maker->key[0].name, "x");
}
static void spoil_alignment(struct gguf_maker *maker)
{
    maker_u32(maker, "general.alignment", 0);
}
static void spoil_alignment_power(struct gguf_maker *maker)
{
    maker_u32(maker, "general.alignment", 48);
}
static void spoil_alignment_huge(struct gguf_maker *maker)
{
    maker_u32(maker, "general.alignment", 0x80000000);
}
static void spoil_alignment_type(struct gguf_maker *maker)
{
    maker_string(maker, "general.alignment", "32");
}
static void spoil_dims(struct gguf_maker *maker)
{
    some_tensor(maker)->dims = 5;
}
static void spoil_no_dims(struct gguf_maker *maker)
{
    some_tensor(maker)->dims = 0;
}
static void spoil_no_size(struct gguf_maker *maker)
{
    some_tensor(maker)->shape[1] = 0;
}
static void spoil_huge_shape(struct gguf_maker *maker)
{
    some_tensor(maker)->shape[0] = some_tensor(maker)->shape[1] = 1ull << 33;
}
static void spoil_large_shape(struct gguf_maker *maker)
{
    some_tensor(maker)->shape[1] = 1ull << 50;
}
static void spoil_negative_shape(struct gguf_maker *maker)
{
    some_tensor(maker)->shape[1] = UINT64_MAX;
}
static void spoil_blocks(struct gguf_maker *maker)
{
    maker_find(maker, "blk.0.attn_q.weight")->shape[0] = 33;
}
static void spoil_type(struct gguf_maker *maker)
{
    some_tensor(maker)->type = GGML_Q4_K;
}
static void spoil_type_number(struct gguf_maker *maker)
{
    some_tensor(maker)->type = 4;
}
static void spoil_type_huge(struct gguf_maker *maker)
{
    some_tensor(maker)->type = UINT32_MAX;
}
static void spoil_offset(struct gguf_maker *maker)
{
    some_tensor(maker)->offset = 33;
}
static void spoil_offset_huge(struct gguf_maker *maker)
{
    some_tensor(maker)->offset = INT64_MAX - 31;
}
static void spoil_offset_end(struct gguf_maker *maker)
{
    some_tensor(maker)->offset = 9984;
}
static void spoil_overlap(struct gguf_maker *maker)
{
    some_tensor(maker)->offset = 32;
}
static void spoil_name_twice(struct gguf_maker *maker)
{
    maker_tensor(maker, "blk.0.ffn_uP.weight", GGML_F32, 1, (uint64_t[]){32}, NULL, 128);
    snprintf(maker->tensor[maker->tensors - 1].name, 80, "blk.0.ffn_up.weight");
}
static void spoil_name(struct gguf_maker *maker)
{
    some_tensor(maker)->name[3] = 0x1b;
}
static void spoil_name_empty(struct gguf_maker *maker)
{
    some_tensor(maker)->name_length = 0;
}
static void spoil_name_long(struct gguf_maker *maker)
{
    some_tensor(maker)->name_length = 70;
}
static void spoil_no_tensors(struct gguf_maker *maker)
{
    maker->tensors = 0;
}
static void spoil_architecture(struct gguf_maker *maker)
{
    maker_string(maker, "general.architecture", "a\x1b[31mb");
}
static void spoil_no_architecture(struct gguf_maker *maker)
{
    maker_drop_key(maker, "general.architecture");
}
static void spoil_layers(struct gguf_maker *maker)
{
    maker_u32(maker, "llama.block_count", INT32_MAX);
}
static void spoil_layers_type(struct gguf_maker *maker)
{
    maker_f32(maker, "llama.block_count", 1);
}
static void spoil_heads(struct gguf_maker *maker)
{
    maker_u32(maker, "llama.attention.head_count", 0);
}
static void spoil_key_heads(struct gguf_maker *maker)
{
    maker_u32(maker, "llama.attention.head_count_kv", 0);
}
static void spoil_head_size(struct gguf_maker *maker)
{
    maker_u32(maker, "llama.attention.key_length", INT32_MAX);
    maker_u32(maker, "llama.attention.value_length", INT32_MAX);
}
static void spoil_value_size(struct gguf_maker *maker)
{
    maker_u32(maker, "llama.attention.value_length", 16);
}
static void spoil_rotation(struct gguf_maker *maker)
{
    maker_u32(maker, "llama.rope.dimension_count", 4);
}
static void spoil_epsilon(struct gguf_maker *maker)
{
    maker_f32(maker, "llama.attention.layer_norm_rms_epsilon", NAN);
}
static void spoil_theta(struct gguf_maker *maker)
{
    maker_f32(maker, "llama.rope.freq_base", INFINITY);
}
static void spoil_vocab(struct gguf_maker *maker)
{
    maker_u32(maker, "llama.vocab_size", 1 << 20);
}
static void spoil_scaling(struct gguf_maker *maker)
{
    maker_string(maker, "llama.rope.scaling.type", "yarn");
}
static void spoil_factor(struct gguf_maker *maker)
{
    maker_f32(maker, "llama.rope.scaling.factor", NAN);
}
static void spoil_divisors(struct gguf_maker *maker)
{
    static const float zeros[4];
    maker_tensor(maker, "rope_freqs.weight", GGML_F32, 1, (uint64_t[]){4}, zeros, 16);
}
static void spoil_parts(struct gguf_maker *maker)
{
    maker_u32(maker, "split.count", 3);
}
static void spoil_capping(struct gguf_maker *maker)
{
    maker_f32(maker, "llama.final_logit_softcapping", 30);
}

static void spoil_experts(struct gguf_maker *maker)
{
    maker_u32(maker, "llama.expert_count", 8);
}

TEST(malformed_gguf_hostile)
{
    static const struct {
        void (*spoil)(struct gguf_maker *maker);
        const char *expected;
    } cases[] = {
        {spoil_key_count, "byte 16: 9223372036854775807 keys, but only"},
        {spoil_key_count_by_one, "byte"},
        {spoil_tensor_count, "byte 8: 18446744073709551615 tensors, but only"},
        {spoil_version, "byte 4: GGUF version 1; versions 2 and 3 are read"},
        {spoil_order, "byte 4: a big-endian GGUF file"},
        {spoil_string, "key \"x\": a string of 18446744073709551615 bytes, but only"},
        {spoil_array_length, "key \"x\": an array of 2305843009213693953 u64 values, but only"},
        {spoil_string_array, "key \"x\": an array of 1099511627776 string values, but only"},
        {spoil_array_type, "an array's element type is 99"},
        {spoil_nesting, "key \"x\": arrays nest deeper than 4"},
        {spoil_value_type, "key \"x\": a value's type is 13"},
        {spoil_key_name, "a key holds the control byte 0x0a"},
        {spoil_key_twice, "key \"x\": there are two of this name"},
        {spoil_alignment, "key \"general.alignment\" is 0, not in 1 .. 1048576"},
        {spoil_alignment_power, "key \"general.alignment\" is 48, not a power of 2"},
        {spoil_alignment_huge, "key \"general.alignment\" is 2147483648, not in"},
        {spoil_alignment_type, "key \"general.alignment\" is of type string, an integer expected"},
        {spoil_dims, "tensor \"blk.0.ffn_up.weight\": 5 dimensions (1 to 4 are allowed)"},
        {spoil_no_dims, "tensor \"blk.0.ffn_up.weight\": 0 dimensions (1 to 4 are allowed)"},
        {spoil_no_size, "tensor \"blk.0.ffn_up.weight\": a dimension of 0"},
        {spoil_huge_shape, "tensor \"blk.0.ffn_up.weight\": a dimension of 8589934592"},
        {spoil_large_shape, "tensor \"blk.0.ffn_up.weight\" needs"},
        {spoil_negative_shape, "a dimension of 18446744073709551615"},
        {spoil_blocks, "rows of 33 values cannot be of type q8_0"},
        {spoil_type, "tensor \"blk.0.ffn_up.weight\": type Q4_K is not supported; use a file of F32"},
        {spoil_type_number, "type number 4, which ggml does not define"},
        {spoil_type_huge, "type number 4294967295, which ggml does not define"},
        {spoil_offset, "offset 33 is not a multiple of the alignment 32"},
        {spoil_offset_huge, "lies past the end of the file"},
        {spoil_offset_end, "but the file ends at byte"},
        {spoil_overlap, "tensors \"token_embd.weight\" and \"blk.0.ffn_up.weight\" overlap"},
        {spoil_name_twice, "tensor \"blk.0.ffn_up.weight\" is there twice"},
        {spoil_name, "a tensor's name holds the control byte 0x1b"},
        {spoil_name_empty, "a tensor's name of 0 bytes"},
        {spoil_name_long, "a tensor's name of 70 bytes (1 to 64 are allowed)"},
        {spoil_no_tensors, "tensor \"token_embd.weight\" is missing"},
        {spoil_architecture, "architecture \"a?[31mb\" is not supported"},
        {spoil_no_architecture, "key \"general.architecture\" is missing"},
        {spoil_layers, "layers is 2.14748e+09, not in 1 .. 10000"},
        {spoil_layers_type, "key \"llama.block_count\" is of type f32, an integer expected"},
        {spoil_heads, "llama.attention.head_count is 0"},
        {spoil_key_heads, "kv_heads is 0"},
        {spoil_head_size, "head_size is 2.14748e+09"},
        {spoil_value_size, "keys of 8 and values of 16; only equal"},
        {spoil_rotation, "llama.rope.dimension_count is 4; only whole attention heads of 8 can be rotated"},
        {spoil_epsilon, "norm_epsilon is nan"},
        {spoil_theta, "rope_theta is inf"},
        {spoil_vocab, "tensor \"token_embd.weight\" (embedding) has shape [16, 32], [1048576, 32] expected"},
        {spoil_scaling, "rope scaling \"yarn\" is not supported (none and linear are)"},
        {spoil_factor, "rope_factor is nan"},
        {spoil_divisors, "rope divisor 0 is 0"},
        {spoil_parts, "one of 3 parts of a model"},
        {spoil_experts, "a mixture of 8 experts"},
        {spoil_capping, "key \"llama.final_logit_softcapping\" is 30: models with soft-capped logits are not"},
    };
    const char *path = folder_file(test_folder(), "a.gguf");
    struct gguf_maker maker;
    struct error error;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        maker_llama(&maker);
        cases[i].spoil(&maker);
        maker_write(&maker, path);
        if (try_model(path, &error)) {
            test_fail(__FILE__, __LINE__, "accepted, where \"%s\" is expected", cases[i].expected);
            continue;
        }
        CHECK_TEXT(error.text, cases[i].expected);
        CHECK_TEXT(error.text, path);
    }
}

/* ---- safetensors ---- */

/* Copies a golden model into folder; returns its model.safetensors. */
static struct string copy_folder(const char *from, const char *folder)
{
    struct error error;
    struct string weights = {0};
    char path[4400], *text;
    size_t size;
    static const char *const names[] = {"config.json", "model.safetensors"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", from, names[i]);
        if (file_read(path, &text, &size, &error) < 0) {
            test_fail(__FILE__, __LINE__, "%s", error.text);
            continue;
        }
        make_file(folder_file(folder, names[i]), text, size);
        if (i == 1)
            string_append(&weights, text, size);
        free(text);
    }
    return weights;
}

/* Bytes of the length and the header. */
static size_t header_size(const struct string *file)
{
    return 8 + (unsigned char)file->data[0] + 256 * (size_t)(unsigned char)file->data[1];
}

TEST(malformed_safetensors_cut_short)
{
    char folder[4200];
    struct error error;
    snprintf(folder, sizeof folder, "%s", test_folder());
    struct string file = copy_folder("tests/golden/qwen2", folder);
    REQUIRE(file.data);
    if (!try_model(folder, &error))
        test_fail(__FILE__, __LINE__, "whole: %s", error.text);
    size_t header = header_size(&file);
    for (size_t size = 0; size < file.length; size += size < header + 64 || size + 65 > file.length ? 1 : 97) {
        make_file(folder_file(folder, "model.safetensors"), file.data, size);
        if (try_model(folder, &error))
            test_fail(__FILE__, __LINE__, "accepted when cut to %zu of %zu bytes", size, file.length);
        else
            CHECK_TEXT(error.text, "model.safetensors");
    }
    make_file(folder_file(folder, "model.safetensors"), file.data, file.length);
    string_append(&file, "", 1); /* one byte more is wrong too */
    make_file(folder_file(folder, "model.safetensors"), file.data, file.length);
    CHECK(!try_model(folder, &error));
    CHECK_TEXT(error.text, "the last 1 bytes belong to no tensor");
    string_free(&file);
}

TEST(malformed_safetensors_damaged)
{
    char folder[4200];
    snprintf(folder, sizeof folder, "%s", test_folder());
    struct string file = copy_folder("tests/golden/qwen2", folder);
    REQUIRE(file.data);
    damage_bytes(folder_file(folder, "model.safetensors"), &file, 0, header_size(&file), folder);
    string_free(&file);
}

TEST(malformed_config_damaged)
{
    char folder[4200], *text;
    struct error error;
    struct string config = {0};
    size_t size;
    snprintf(folder, sizeof folder, "%s", test_folder());
    struct string file = copy_folder("tests/golden/llama", folder);
    REQUIRE_OK(file_read("tests/golden/llama/config.json", &text, &size, &error));
    string_append(&config, text, size);
    free(text);
    damage_bytes(folder_file(folder, "config.json"), &config, 0, config.length, folder);
    string_free(&config);
    string_free(&file);
}

TEST(malformed_safetensors_hostile)
{
#define TENSOR(type, shape, offsets) "\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":" offsets
    static const struct {
        const char *header;
        size_t data; /* bytes behind the header */
        const char *expected;
    } cases[] = {
        {"", 0, "safetensors header: "},
        {"[]", 0, "the header is not a JSON object"},
        {"{}", 0, "it holds no tensor"},
        {"{\"a\":{", 0, "line 1"},
        {"{\"a\":3}", 0, "tensor \"a\" is not a JSON object"},
        {"{\"a\":{}}", 0, "\"dtype\" is not the name of a type"},
        {"{\"a\":{" TENSOR("F8_E4M3", "[2]", "[0,2]") "}}", 2, "tensor \"a\": type F8_E4M3 is not supported"},
        {"{\"a\":{" TENSOR("F\\u001b", "[2]", "[0,2]") "}}", 2, "\"dtype\" is not the name of a type"},
        {"{\"a\":{" TENSOR("F32", "[]", "[0,8]") "}}", 8, "spans 8 bytes, but its shape needs 4"},
        {"{\"a\":{" TENSOR("F32", "[1,1,1,1,1]", "[0,4]") "}}", 4, "not a list of at most 4 numbers"},
        {"{\"a\":{" TENSOR("F32", "7", "[0,4]") "}}", 4, "not a list of at most 4 numbers"},
        {"{\"a\":{" TENSOR("F32", "[-1]", "[0,4]") "}}", 4, "a size that is not a number from 0 on"},
        {"{\"a\":{" TENSOR("F32", "[0]", "[0,4]") "}}", 4, "spans 4 bytes, but its shape needs 0"},
        {"{\"a\":{" TENSOR("F32", "[1.0]", "[0,4]") "}}", 4, "a size that is not a number from 0 on"},
        {"{\"a\":{" TENSOR("F32", "[4294967296,4294967296,4294967296]", "[0,4]") "}}", 4,
         "\"shape\" is too large"},
        {"{\"a\":{" TENSOR("F32", "[9223372036854775807]", "[0,4]") "}}", 4, "\"shape\" is too large"},
        {"{\"a\":{" TENSOR("F32", "[4611686018427387905]", "[0,4]") "}}", 4, "\"shape\" is too large"},
        {"{\"a\":{" TENSOR("F32", "[1]", "[0]") "}}", 4, "not two ascending numbers"},
        {"{\"a\":{" TENSOR("F32", "[1]", "[4,0]") "}}", 4, "not two ascending numbers"},
        {"{\"a\":{" TENSOR("F32", "[1]", "[-4,0]") "}}", 4, "not two ascending numbers"},
        {"{\"a\":{" TENSOR("F32", "[1]", "[0,8]") "}}", 8, "spans 8 bytes, but its shape needs 4"},
        {"{\"a\":{" TENSOR("F32", "[1]", "[9223372036854775800,9223372036854775804]") "}}", 4,
         "it is cut short"},
        {"{\"a\":{" TENSOR("F32", "[2]", "[0,8]") "}}", 4, "it is cut short"},
        {"{\"a\":{" TENSOR("F32", "[1]", "[0,4]") "}}", 8, "the last 4 bytes belong to no tensor"},
        {"{\"a\":{" TENSOR("F32", "[1]", "[4,8]") "}}", 8,
         "the 4 bytes before tensor \"a\" belong to no tensor"},
        {"{\"a\":{" TENSOR("F32", "[2]", "[0,8]") "},\"b\":{" TENSOR("F32", "[2]", "[4,12]") "}}", 12,
         "tensor \"b\" overlaps tensor \"a\""},
        {"{\"a\":{" TENSOR("F32", "[1]", "[0,4]") "},\"a\":{" TENSOR("F32", "[1]", "[4,8]") "}}", 8,
         "the 4 bytes before tensor \"a\" belong to no tensor"},
        {"{\"\":{" TENSOR("F32", "[1]", "[0,4]") "}}", 4, "a tensor's name is empty"},
        {"{\"a\\nb\":{" TENSOR("F32", "[1]", "[0,4]") "}}", 4, "holds control characters"},
        {"{\"__metadata__\":[]}", 0, "\"__metadata__\" is not a JSON object"},
    };
#undef TENSOR
    const char *path = folder_file(test_folder(), "a.safetensors");
    struct error error;
    struct safetensors *opened;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct string file = {0};
        size_t length = strlen(cases[i].header), padded = (length + 7) / 8 * 8;
        maker_u64_bytes(&file, padded);
        maker_bytes(&file, cases[i].header, length);
        for (size_t j = length; j < padded; j++)
            maker_bytes(&file, " ", 1);
        for (size_t j = 0; j < cases[i].data; j++)
            maker_bytes(&file, "", 1);
        make_file(path, file.data, file.length);
        string_free(&file);
        if (safetensors_open(path, &opened, &error) == 0) {
            test_fail(__FILE__, __LINE__, "accepted, where \"%s\" is expected", cases[i].expected);
            safetensors_close(opened);
            continue;
        }
        CHECK_TEXT(error.text, cases[i].expected);
        CHECK_TEXT(error.text, path);
    }
}

/* Lengths that no header can have, and JSON that nests without end. */
TEST(malformed_safetensors_header)
{
    static const uint64_t lengths[] = {UINT64_MAX, INT64_MAX, 1ull << 32, 100000001, 100};
    const char *path = folder_file(test_folder(), "a.safetensors");
    struct error error;
    struct safetensors *opened;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct string file = {0};
        maker_u64_bytes(&file, lengths[i]);
        maker_bytes(&file, "{}", 2);
        make_file(path, file.data, file.length);
        string_free(&file);
        CHECK(safetensors_open(path, &opened, &error) < 0);
        CHECK_TEXT(error.text, i < 4 ? "not a safetensors file" : "it is cut short");
    }
    struct string deep = {0};
    maker_u64_bytes(&deep, 1000000);
    for (int i = 0; i < 1000000; i++)
        maker_bytes(&deep, "[", 1);
    make_file(path, deep.data, deep.length);
    string_free(&deep);
    CHECK(safetensors_open(path, &opened, &error) < 0);
    CHECK_TEXT(error.text, "depth");
}

/* None of the above needed memory that was not there: what a hostile count asks for would have. */
TEST(malformed_memory)
{
    CHECK(memory_peak() < (size_t)1 << 30);
}

TEST_MAIN
