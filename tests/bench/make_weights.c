/* make_weights.c: a Llama model of any shape with random weights in bf16, as Hugging Face lays it out in
 * several files: for models larger than memory, at the speed of the disk.
 *
 *     make_weights FOLDER LAYERS HIDDEN INTERMEDIATE HEADS KV_HEADS HEAD_SIZE VOCAB [BYTES PER FILE]
 *     make_weights /tmp/3b 28 3072 8192 24 8 128 128256 4e9       the shape of Llama 3.2 3B
 */
#include <math.h>
#include <stdio.h>

#include "tests/make_model.h"

enum { BLOCK = 1 << 17 }; /* words of 8 bytes */

struct weights {
    const char *folder;
    struct made_model made;
    double file_bytes; /* at most, but for a tensor that has more */
    struct random random;
    json_t *map; /* tensor -> file */
    size_t total;
    uint64_t words[BLOCK];
};

/* Weights of both signs whose magnitudes lie between 2^e and 2^(e+2), e such that a product of unit
 * vectors keeps about their size; norms are ones. Four values a word: sign, lowest bit of the exponent and
 * fraction are random. */
static uint64_t base_bits(int64_t cols)
{
    const int exponent = (int)floor(log2(0.2 / sqrt((double)cols)));
    return (uint64_t)((127 + exponent) & ~1) << 7;
}

static int write_tensor(struct weights *weights, struct safetensors_writer *writer, int64_t rows, int64_t cols,
                        struct error *error)
{
    const uint64_t lanes = 0x0001000100010001;
    const uint64_t keep = rows ? 0x80ff * lanes : 0, base = (rows ? base_bits(cols) : 0x3f80) * lanes;
    size_t left = (size_t)(rows ? rows * cols : cols) * 2;
    while (left > 0) {
        const size_t bytes = left < sizeof weights->words ? left : sizeof weights->words;
        for (size_t i = 0; i < (bytes + 7) / 8; i++)
            weights->words[i] = (random_next(&weights->random) & keep) | base;
        if (safetensors_write(writer, weights->words, bytes, error) < 0)
            return -1;
        left -= bytes;
    }
    return 0;
}

/* Tensors from `first` on, as many as a file takes; returns the first that is left. */
static int write_file(struct weights *weights, int number, int first, int count, struct error *error)
{
    struct safetensors_writer *writer = NULL;
    struct tensor *tensors;
    char(*names)[64], file[64], path[4096];
    int64_t rows, cols;
    double bytes = 0;
    int end = first, result = -1;
    snprintf(file, sizeof file, "model-%05d.safetensors", number);
    snprintf(path, sizeof path, "%s/%s", weights->folder, file);
    if (array_alloc(&tensors, count, error) < 0)
        return -1;
    if (array_alloc(&names, count, error) < 0)
        goto done;
    for (; end < count; end++) {
        struct tensor *tensor = &tensors[end - first];
        made_tensor(&weights->made, end, names[end], &rows, &cols);
        const double size = 2.0 * (double)(rows ? rows : 1) * (double)cols;
        if (end > first && bytes + size > weights->file_bytes)
            break;
        bytes += size;
        *tensor = (struct tensor){.name = names[end], .type = DTYPE_BF16, .dims = rows ? 2 : 1};
        tensor->shape[0] = rows ? rows : cols;
        tensor->shape[1] = cols;
        json_object_set_new(weights->map, names[end], json_string(file));
    }
    if (safetensors_create(path, tensors, (size_t)(end - first), NULL, &writer, error) < 0)
        goto done;
    for (int i = first; i < end; i++) {
        made_tensor(&weights->made, i, names[i], &rows, &cols);
        if (write_tensor(weights, writer, rows, cols, error) < 0) {
            safetensors_abandon(writer);
            goto done;
        }
    }
    result = safetensors_finish(writer, error);
    weights->total += (size_t)bytes;
done:
    free(tensors);
    free(names);
    return result < 0 ? -1 : end;
}

static int write_index(struct weights *weights, struct error *error)
{
    char path[4096];
    json_t *index = json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)weights->total,
                              "weight_map", weights->map);
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", weights->folder);
    int result = json_write(path, index, error);
    json_decref(index);
    return result;
}

static int make_weights(struct weights *weights, struct error *error)
{
    const int count = 2 + weights->made.layers * MADE_LAYER_TENSORS;
    if (directory_create(weights->folder, error) < 0 ||
        made_write_config(&weights->made, weights->folder, error) < 0)
        return -1;
    for (int number = 1, first = 0; first < count; number++) {
        first = write_file(weights, number, first, count, error);
        if (first < 0)
            return -1;
    }
    return write_index(weights, error);
}

int main(int argc, char **argv)
{
    static struct weights weights = {.file_bytes = 4e9, .random = {1}};
    struct made_model *made = &weights.made;
    int *const fields[] = {&made->layers,   &made->hidden,    &made->intermediate, &made->attention_heads,
                           &made->kv_heads, &made->head_size, &made->vocab};
    struct error error;
    if (argc < 9 || argc > 10) {
        fprintf(stderr, "usage: make_weights FOLDER LAYERS HIDDEN INTERMEDIATE HEADS KV_HEADS HEAD_SIZE VOCAB "
                        "[BYTES PER FILE]\n");
        return 2;
    }
    weights.folder = argv[1];
    for (int i = 0; i < 7; i++)
        *fields[i] = atoi(argv[2 + i]);
    made->context = 8192;
    if (argc > 9)
        weights.file_bytes = atof(argv[9]);
    weights.map = json_object();
    int result = make_weights(&weights, &error);
    json_decref(weights.map);
    if (result < 0)
        fprintf(stderr, "make_weights: %s\n", error.text);
    return result < 0;
}
