/* extract.c: the whole of extract against Hugging Face transformers: the golden tokens as a token file,
 * every tap through raw:f32, read back from the store. */
#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/model/safetensors.h"
#include "common/store/store.h"
#include "tests/test.h"

#define FOLDER "tests/golden/"
#define TAPS   "0,1.mid,1,2.mid,final"

/* As in golden/model.c: both sides compute in f32, in different orders. */
#define TOLERANCE 1e-4

static struct error error;

struct golden {
    struct safetensors *file;
    int sequences, length, hidden;
    int end; /* an id that the tokens have not: they are one document */
    char tokens[512], store[512];
};

/* Opens what transformers gave and writes its tokens as a token file. */
static int golden_open(struct golden *golden, const char *path)
{
    const char *folder = test_folder();
    const struct tensor *tokens, *states;
    if (safetensors_open(path, &golden->file, &error) < 0)
        return -1;
    tokens = safetensors_find(golden->file, "tokens");
    states = safetensors_find(golden->file, "0");
    if (!tokens || tokens->type != DTYPE_I32 || tokens->dims != 2 || !states || states->dims != 2)
        return error_set(&error, "%s: not what make_golden.py writes", path);
    golden->sequences = (int)tokens->shape[0];
    golden->length = (int)tokens->shape[1];
    golden->hidden = (int)states->shape[1];
    const int32_t *ids = (const int32_t *)tokens->data;
    for (int i = 0; i < golden->sequences * golden->length; i++)
        if (ids[i] == golden->end) {
            golden->end++;
            i = -1;
        }
    snprintf(golden->tokens, sizeof golden->tokens, "%s/tokens.u32", folder);
    snprintf(golden->store, sizeof golden->store, "%s/store", folder);
    return file_write(golden->tokens, tokens->data, tokens->bytes, &error);
}

static int run_extract(const struct golden *golden, const char *model, const char *device)
{
    char command[4096];
    const char *build = getenv("BUILD");
    snprintf(command, sizeof command,
             "%s/extract --model %s --corpus %s --end-of-text %d --held-out 0 --seq-len %d --taps " TAPS
             " --codec raw:f32 --device %s --out %s >/dev/null 2>%s.log",
             build ? build : "build", model, golden->tokens, golden->end, golden->length, device, golden->store,
             golden->store);
    return system(command) == 0 ? 0 : error_set(&error, "failed: %s", command);
}

/* One tap of all sequences. */
static int check_tap(const struct golden *golden, struct reader *reader, int tap, const char *name,
                     const char *model, const char *device)
{
    const size_t count = (size_t)golden->length * (size_t)golden->hidden;
    const struct tensor *expected = safetensors_find(golden->file, strcmp(name, "final") ? name : "2");
    double largest = 0, squares = 0;
    float *states;
    if (!expected || array_alloc(&states, count, &error) < 0)
        return -1;
    for (int s = 0; s < golden->sequences; s++) {
        const float *want = (const float *)expected->data + (size_t)s * count;
        if (reader_states(reader, tap, (struct sequence){SPLIT_TRAIN, (uint64_t)s}, states, &error) < 0) {
            free(states);
            return -1;
        }
        for (size_t i = 0; i < count; i++) {
            const double difference = fabs((double)states[i] - (double)want[i]);
            largest = difference > largest || isnan(difference) ? difference : largest;
            squares += (double)want[i] * (double)want[i];
        }
    }
    free(states);
    const double rms = sqrt(squares / (double)(count * (size_t)golden->sequences));
    if (!(largest <= TOLERANCE * rms) || rms == 0)
        test_fail(__FILE__, __LINE__, "%s on %s: tap %s is off by %.2g of its RMS", model, device, name,
                  largest / rms);
    return 0;
}

static int check_store(const struct golden *golden, const char *model, const char *device)
{
    struct store *store;
    struct reader *reader = NULL;
    int result = -1;
    if (store_open(golden->store, STORE_READ, &store, &error) < 0)
        return -1;
    const struct store_info *info = store_info(store);
    if (store_sequences(store, SPLIT_TRAIN) != (uint64_t)golden->sequences ||
        store_sequences(store, SPLIT_HELD_OUT) != 0 || info->taps != 5)
        error_set(&error, "%llu sequences, %d taps", (unsigned long long)store_sequences(store, SPLIT_TRAIN),
                  info->taps);
    else
        result = reader_open(store, &reader, &error);
    for (int tap = 0; tap < info->taps && result == 0; tap++) {
        char name[TAP_NAME_SIZE];
        tap_name(info->tap[tap], info->layers, name);
        result = check_tap(golden, reader, tap, name, model, device);
    }
    reader_close(reader);
    store_close(store);
    return result;
}

static void check_model(const char *model, const char *states)
{
    static const char *const devices[] = {"ref", "cpu"};
    for (int i = 0; i < 2; i++) {
        struct golden golden = {0};
        if (golden_open(&golden, states) < 0 || run_extract(&golden, model, devices[i]) < 0 ||
            check_store(&golden, model, devices[i]) < 0)
            test_fail(__FILE__, __LINE__, "%s on %s: %s", model, devices[i], error.text);
        safetensors_close(golden.file);
    }
}

TEST(extract_golden_llama)
{
    check_model(FOLDER "llama", FOLDER "llama/states.safetensors");
}

TEST(extract_golden_mistral)
{
    check_model(FOLDER "mistral", FOLDER "mistral/states.safetensors");
}

TEST(extract_golden_qwen2)
{
    check_model(FOLDER "qwen2", FOLDER "qwen2/states.safetensors");
}

TEST(extract_golden_qwen3)
{
    check_model(FOLDER "qwen3", FOLDER "qwen3/states.safetensors");
}

TEST(extract_golden_bias)
{
    check_model(FOLDER "bias", FOLDER "bias/states.safetensors");
}

TEST(extract_golden_gguf_llama)
{
    check_model(FOLDER "gguf-llama.gguf", FOLDER "gguf-llama.states.safetensors");
}

TEST(extract_golden_gguf_qwen2)
{
    check_model(FOLDER "gguf-qwen2.gguf", FOLDER "gguf-qwen2.states.safetensors");
}

TEST(extract_golden_gguf_qwen3)
{
    check_model(FOLDER "gguf-qwen3.gguf", FOLDER "gguf-qwen3.states.safetensors");
}

TEST_MAIN
