/* The table of codecs, their names, and coders. */
#include "common/codec/codec.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/hash.h"
#include "common/base/memory.h"
#include "common/codec/worker.h"

#define LEAST_BITS 1
#define MOST_BITS  12
#define LEAST_KL   1e-6
#define MOST_KL    10

static const struct codec *const table[] = {&codec_raw_f32, &codec_raw, &codec_lossless,
                                            &codec_q8,      &codec_klt, NULL};

const struct codec *const *codec_table(void)
{
    return table;
}

const struct codec *codec_find_id(uint16_t id)
{
    for (int i = 0; table[i]; i++)
        if (table[i]->id == id)
            return table[i];
    return NULL;
}

/* ---- names ---- */

static int report_unknown(const char *text, struct error *error)
{
    struct string names = {0};
    for (int i = 0; table[i]; i++)
        string_print(&names, "%s%s", i ? ", " : "", table[i]->usage ? table[i]->usage : table[i]->name);
    if (!string_failed(&names, error))
        error_set(error, "there is no codec \"%s\"; choose one of %s", text, names.data);
    string_free(&names);
    return -1;
}

static int parse_goal(const char *text, struct codec_choice *choice, struct error *error)
{
    const char *const name = choice->codec->name;
    const bool kl = strncmp(text, "kl=", 3) == 0;
    choice->goal = kl ? CODEC_KL : CODEC_BITS;
    if (parse_number(kl ? text + 3 : text, kl ? LEAST_KL : LEAST_BITS, kl ? MOST_KL : MOST_BITS, &choice->value,
                     error) < 0)
        return error_prefix(error, "%s:%s", name, text);
    snprintf(choice->name, sizeof choice->name, "%s:%s%.9g", name, kl ? "kl=" : "", choice->value);
    return 0;
}

int codec_parse(const char *text, struct codec_choice *choice, struct error *error)
{
    for (int i = 0; table[i]; i++) {
        const size_t length = strlen(table[i]->name);
        *choice = (struct codec_choice){.codec = table[i]};
        if (table[i]->usage && strncmp(text, table[i]->name, length) == 0 && text[length] == ':')
            return parse_goal(text + length + 1, choice, error);
        if (strcmp(text, table[i]->name) != 0)
            continue;
        if (table[i]->usage)
            return error_set(error, "%s: say how fine, as %s", text, table[i]->usage);
        snprintf(choice->name, sizeof choice->name, "%s", table[i]->name);
        return 0;
    }
    return report_unknown(text, error);
}

/* ---- coders ---- */

struct coder {
    const struct codec *codec;
    int64_t cols;
    uint64_t hash;
    void *prepared;
};

/* 0 means: no parameters. */
static uint64_t parameters_hash(const void *parameters, size_t size)
{
    uint64_t hash = hash_bytes(parameters, size, 0);
    return hash ? hash : 1;
}

int coder_create(const struct codec *codec, const void *parameters, size_t size, int64_t cols,
                 struct coder **result, struct error *error)
{
    struct coder *coder = memory_alloc(1, sizeof *coder, error);
    *result = NULL;
    if (!coder)
        return -1;
    coder->codec = codec;
    coder->cols = cols;
    if (codec->prepare) {
        coder->hash = parameters_hash(parameters, size);
        if (codec->prepare(parameters, size, cols, &coder->prepared, error) < 0) {
            free(coder);
            return error_prefix(error, "parameters of %s", codec->name);
        }
    }
    *result = coder;
    return 0;
}

void coder_destroy(struct coder *coder)
{
    if (!coder)
        return;
    if (coder->codec->release)
        coder->codec->release(coder->prepared);
    free(coder);
}

const struct codec *coder_codec(const struct coder *coder)
{
    return coder->codec;
}

int64_t coder_cols(const struct coder *coder)
{
    return coder->cols;
}

uint64_t coder_hash(const struct coder *coder)
{
    return coder->hash;
}

struct codec_setting coder_setting(const struct coder *coder)
{
    const struct codec *codec = coder->codec;
    return codec->setting ? codec->setting(coder->prepared) : (struct codec_setting){0};
}

size_t coder_bound(const struct coder *coder, int64_t rows)
{
    return coder->codec->bound(rows, coder->cols);
}

static struct codec_call call_of(const struct coder *coder, struct codec_worker *worker, int64_t rows)
{
    return (struct codec_call){worker, coder->prepared, rows, coder->cols};
}

int coder_encode(const struct coder *coder, struct codec_worker *worker, const float *states, int64_t rows,
                 struct codec_payload *payload, struct error *error)
{
    const struct codec_call call = call_of(coder, worker, rows);
    payload->loss = 0;
    if (codec_check(coder->codec->name, rows, coder->cols, payload->capacity, coder_bound(coder, rows), error) <
        0)
        return -1;
    return coder->codec->encode(&call, states, payload, error);
}

struct codec_transform coder_transform(const struct coder *coder)
{
    return coder->codec->transform ? coder->codec->transform(coder->prepared, coder->cols)
                                   : (struct codec_transform){.kind = CODEC_NO_TRANSFORM};
}

int coder_encode_transformed(const struct coder *coder, struct codec_worker *worker, const void *transformed,
                             int64_t rows, struct codec_payload *payload, struct error *error)
{
    const struct codec_call call = call_of(coder, worker, rows);
    payload->loss = 0;
    if (codec_check(coder->codec->name, rows, coder->cols, payload->capacity, coder_bound(coder, rows), error) <
        0)
        return -1;
    return coder->codec->encode_transformed(&call, transformed, payload, error);
}

int coder_decode(const struct coder *coder, struct codec_worker *worker, const void *payload, size_t size,
                 int64_t rows, float *states, struct error *error)
{
    const struct codec_call call = call_of(coder, worker, rows);
    if (codec_check(coder->codec->name, rows, coder->cols, 0, 0, error) < 0)
        return -1;
    return coder->codec->decode(&call, payload, size, states, error);
}

int coder_view(const struct coder *coder, struct codec_worker *worker, const void *payload, size_t size,
               int64_t rows, float *states, struct states_view *view, struct error *error)
{
    const struct codec *codec = coder->codec;
    const struct codec_call call = call_of(coder, worker, rows);
    if (codec->check_plain) {
        *view = (struct states_view){codec->type, payload};
        return codec->check_plain(size, rows, coder->cols, error);
    }
    *view = (struct states_view){codec->decode_bf16 ? DTYPE_BF16 : DTYPE_F32, states};
    if (!codec->decode_bf16)
        return coder_decode(coder, worker, payload, size, rows, states, error);
    return codec->decode_bf16(&call, payload, size, (uint16_t *)(void *)states, error);
}
