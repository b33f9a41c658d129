/* make_gguf.h: small GGUF files for tests, right or wrong on purpose.
 *
 *     struct gguf_maker maker = {.version = 3, .alignment = 32};
 *     maker_llama(&maker);                                      // a whole tiny model, or key by key:
 *     maker_u32(&maker, "llama.block_count", 1);
 *     maker_tensor(&maker, "output_norm.weight", GGML_F32, 1, (uint64_t[]){32}, NULL, 128);
 *     maker_write(&maker, path);                                // also frees
 *
 * Setting a key or a tensor again replaces it, so that a test can take the tiny model and spoil one thing.
 */
#ifndef OFFRAMP_TESTS_MAKE_GGUF_H
#define OFFRAMP_TESTS_MAKE_GGUF_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/string.h"

/* ggml's and GGUF's numbers. */
enum {
    GGML_F32 = 0,
    GGML_F16 = 1,
    GGML_Q4_0 = 2,
    GGML_Q4_1 = 3,
    GGML_Q8_0 = 8,
    GGML_Q4_K = 12,
    GGML_BF16 = 30
};
enum {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};

#define MAKER_MAX 64

struct maker_key {
    char name[64];
    uint32_t type;
    struct string value; /* as it lies in the file, without the type */
};

struct maker_tensor {
    char name[80];
    size_t name_length;
    uint32_t type, dims;
    uint64_t shape[5]; /* fastest first, as in the file */
    uint64_t bytes; /* of its data in the file */
    int64_t offset; /* in the file's words; -1: where it comes to lie */
    const void *data; /* NULL: a fixed pattern */
};

struct gguf_maker {
    uint32_t version;
    uint32_t alignment; /* of the data; not written as a key */
    int64_t key_count, tensor_count; /* in the header when not 0 */
    int keys, tensors;
    struct maker_key key[MAKER_MAX];
    struct maker_tensor tensor[MAKER_MAX];
};

static inline void maker_bytes(struct string *string, const void *data, size_t size)
{
    string_append(string, (const char *)data, size);
}

static inline void maker_u64_bytes(struct string *string, uint64_t value)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
    maker_bytes(string, bytes, 8);
}

static inline void maker_u32_bytes(struct string *string, uint32_t value)
{
    unsigned char bytes[4];
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> 8 * i);
    maker_bytes(string, bytes, 4);
}

static inline void maker_string_bytes(struct string *string, const char *text)
{
    maker_u64_bytes(string, strlen(text));
    maker_bytes(string, text, strlen(text));
}

/* A key whose value the caller appends to the result. */
static inline struct string *maker_key(struct gguf_maker *maker, const char *name, uint32_t type)
{
    int i = 0;
    while (i < maker->keys && strcmp(maker->key[i].name, name) != 0)
        i++;
    if (i == maker->keys)
        maker->keys++;
    if (i >= MAKER_MAX)
        abort();
    string_free(&maker->key[i].value);
    maker->key[i] = (struct maker_key){.type = type};
    snprintf(maker->key[i].name, sizeof maker->key[i].name, "%s", name);
    return &maker->key[i].value;
}

static inline void maker_u32(struct gguf_maker *maker, const char *name, uint32_t value)
{
    maker_u32_bytes(maker_key(maker, name, GGUF_U32), value);
}

static inline void maker_f32(struct gguf_maker *maker, const char *name, float value)
{
    maker_bytes(maker_key(maker, name, GGUF_F32), &value, sizeof value);
}

static inline void maker_string(struct gguf_maker *maker, const char *name, const char *text)
{
    maker_string_bytes(maker_key(maker, name, GGUF_STRING), text);
}

/* An array whose elements the caller appends. */
static inline struct string *maker_array(struct gguf_maker *maker, const char *name, uint32_t type,
                                         uint64_t count)
{
    struct string *value = maker_key(maker, name, GGUF_ARRAY);
    maker_u32_bytes(value, type);
    maker_u64_bytes(value, count);
    return value;
}

static inline void maker_drop_key(struct gguf_maker *maker, const char *name)
{
    for (int i = 0; i < maker->keys; i++) {
        if (strcmp(maker->key[i].name, name) == 0) {
            string_free(&maker->key[i].value);
            maker->key[i] = maker->key[--maker->keys];
            return;
        }
    }
    abort();
}

static inline struct maker_tensor *maker_find(struct gguf_maker *maker, const char *name)
{
    for (int i = 0; i < maker->tensors; i++)
        if (strcmp(maker->tensor[i].name, name) == 0)
            return &maker->tensor[i];
    return NULL;
}

static inline struct maker_tensor *maker_tensor(struct gguf_maker *maker, const char *name, uint32_t type,
                                                uint32_t dims, const uint64_t *shape, const void *data,
                                                uint64_t bytes)
{
    struct maker_tensor *tensor = maker_find(maker, name);
    if (!tensor) {
        if (maker->tensors == MAKER_MAX)
            abort();
        tensor = &maker->tensor[maker->tensors++];
    }
    *tensor = (struct maker_tensor){.type = type, .dims = dims, .bytes = bytes, .offset = -1, .data = data};
    snprintf(tensor->name, sizeof tensor->name, "%s", name);
    tensor->name_length = strlen(tensor->name);
    for (uint32_t i = 0; i < dims && i < 5; i++)
        tensor->shape[i] = shape[i];
    return tensor;
}

static inline void maker_drop_tensor(struct gguf_maker *maker, const char *name)
{
    *maker_find(maker, name) = maker->tensor[--maker->tensors];
}

static inline void maker_data(struct string *file, const struct maker_tensor *tensor)
{
    if (tensor->data) {
        maker_bytes(file, tensor->data, tensor->bytes);
        return;
    }
    for (uint64_t i = 0; i < tensor->bytes; i++) /* small positive numbers in every type */
        string_append(file, i % 4 == 3 ? "\x3c" : i % 2 ? "\x38" : "\x11", 1);
}

/* The file's bytes; frees what the maker holds. */
static inline struct string maker_finish(struct gguf_maker *maker)
{
    static const char zeros[64];
    struct string file = {0};
    uint64_t offset = 0;
    maker_bytes(&file, "GGUF", 4);
    maker_u32_bytes(&file, maker->version);
    maker_u64_bytes(&file, maker->tensor_count ? (uint64_t)maker->tensor_count : (uint64_t)maker->tensors);
    maker_u64_bytes(&file, maker->key_count ? (uint64_t)maker->key_count : (uint64_t)maker->keys);
    for (int i = 0; i < maker->keys; i++) {
        maker_string_bytes(&file, maker->key[i].name);
        maker_u32_bytes(&file, maker->key[i].type);
        maker_bytes(&file, maker->key[i].value.data, maker->key[i].value.length);
        string_free(&maker->key[i].value);
    }
    for (int i = 0; i < maker->tensors; i++) {
        const struct maker_tensor *tensor = &maker->tensor[i];
        maker_u64_bytes(&file, tensor->name_length);
        maker_bytes(&file, tensor->name, tensor->name_length);
        maker_u32_bytes(&file, tensor->dims);
        for (uint32_t j = 0; j < tensor->dims && j < 5; j++)
            maker_u64_bytes(&file, tensor->shape[j]);
        maker_u32_bytes(&file, tensor->type);
        maker_u64_bytes(&file, tensor->offset < 0 ? offset : (uint64_t)tensor->offset);
        offset += (tensor->bytes + maker->alignment - 1) / maker->alignment * maker->alignment;
    }
    for (int i = 0; i < maker->tensors; i++) { /* nothing is padded behind the last */
        while (file.length % maker->alignment != 0)
            maker_bytes(&file, zeros, 1);
        maker_data(&file, &maker->tensor[i]);
    }
    maker->keys = maker->tensors = 0;
    return file;
}

static inline void make_file(const char *path, const void *data, size_t size)
{
    remove(path); /* to write over a file can wait for the disk, a new one does not */
    FILE *file = fopen(path, "wb");
    if (!file || (size > 0 && fwrite(data, 1, size, file) != size) || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static inline void maker_write(struct gguf_maker *maker, const char *path)
{
    struct string file = maker_finish(maker);
    make_file(path, file.data, file.length);
    string_free(&file);
}

/* A whole model of the llama architecture, tied: 1 layer, hidden 32, 4 heads of 8, 2 key heads, intermediate
 * 32, vocabulary 16. */
static inline void maker_llama(struct gguf_maker *maker)
{
    static const struct {
        const char *name;
        uint64_t cols, rows;
    } matrices[] = {
        {"token_embd.weight", 32, 16},        {"blk.0.attn_q.weight", 32, 32},
        {"blk.0.attn_k.weight", 32, 16},      {"blk.0.attn_v.weight", 32, 16},
        {"blk.0.attn_output.weight", 32, 32}, {"blk.0.ffn_gate.weight", 32, 32},
        {"blk.0.ffn_up.weight", 32, 32},      {"blk.0.ffn_down.weight", 32, 32},
    };
    static const char *const norms[] = {"output_norm.weight", "blk.0.attn_norm.weight",
                                        "blk.0.ffn_norm.weight"};
    *maker = (struct gguf_maker){.version = 3, .alignment = 32};
    maker_string(maker, "general.architecture", "llama");
    maker_u32(maker, "llama.block_count", 1);
    maker_u32(maker, "llama.context_length", 64);
    maker_u32(maker, "llama.embedding_length", 32);
    maker_u32(maker, "llama.feed_forward_length", 32);
    maker_u32(maker, "llama.attention.head_count", 4);
    maker_u32(maker, "llama.attention.head_count_kv", 2);
    maker_f32(maker, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    maker_f32(maker, "llama.rope.freq_base", 10000);
    maker_u32(maker, "tokenizer.ggml.bos_token_id", 1);
    maker_u32(maker, "tokenizer.ggml.eos_token_id", 2);
    for (size_t i = 0; i < sizeof matrices / sizeof *matrices; i++)
        maker_tensor(maker, matrices[i].name, i % 2 ? GGML_Q8_0 : GGML_F16, 2,
                     (uint64_t[]){matrices[i].cols, matrices[i].rows}, NULL,
                     matrices[i].rows * (i % 2 ? 34 : 64));
    for (size_t i = 0; i < sizeof norms / sizeof *norms; i++)
        maker_tensor(maker, norms[i], GGML_F32, 1, (uint64_t[]){32}, NULL, 128);
}

#endif
