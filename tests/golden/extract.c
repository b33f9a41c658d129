/* extract.c: the whole of extract against Hugging Face transformers: the golden tokens as a token file,
 * every tap through raw:f32, read back from the store; and the target, against what transformers' logits
 * come to in double. */
#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/model/model.h"
#include "common/model/safetensors.h"
#include "common/store/target.h"
#include "tests/test.h"

#define FOLDER "tests/golden/"
#define TAPS   "0,1.mid,1,2.mid,final"

/* As in golden/model.c: both sides compute in f32, in different orders. */
#define TOLERANCE        1e-4
#define TARGET_TOLERANCE 1e-4 /* of nats, of a probability, of a row's RMS of u */

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
             " --codec raw:f32 --math f32 --device %s --out %s >/dev/null 2>%s.log",
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

/* What one row's logits come to, with W [vocab, hidden] f32. */
static void expect_row(const float *logits, int vocab, const float *w, int hidden, int32_t label,
                       struct target_row *values, double *u)
{
    double sum = 0, most = logits[0], expected = 0;
    memset(u, 0, (size_t)hidden * sizeof *u);
    *values = (struct target_row){0};
    for (int v = 1; v < vocab; v++)
        if (logits[v] > most) {
            most = logits[v];
            values->top = v;
        }
    for (int v = 0; v < vocab; v++)
        sum += exp(logits[v] - most);
    for (int v = 0; v < vocab; v++) {
        const double q = exp(logits[v] - most) / sum;
        expected += q * logits[v];
        for (int c = 0; c < hidden; c++)
            u[c] += q * w[(size_t)v * (size_t)hidden + (size_t)c];
    }
    values->probability = (float)(1 / sum);
    values->entropy = (float)(most + log(sum) - expected);
    values->loss = (float)(most + log(sum) - logits[label]);
}

static bool is_near(double found, double expected, double scale)
{
    return fabs(found - expected) <= TARGET_TOLERANCE * scale;
}

/* How many of a row's best tokens or their probabilities, which are kept as f16, are off. */
static int check_best(const float *logits, int vocab, const struct target_row *found)
{
    int wrong = 0;
    int32_t expected[TARGET_BEST];
    double sum = 0;
    for (int v = 0; v < vocab; v++)
        sum += exp(logits[v]);
    for (int k = 0; k < TARGET_BEST; k++) {
        int best = -1;
        for (int v = 0; v < vocab; v++) {
            bool taken = false;
            for (int other = 0; other < k; other++)
                taken |= expected[other] == v;
            if (!taken && (best < 0 || logits[v] > logits[best]))
                best = v;
        }
        expected[k] = best;
        const double q = exp(logits[best]) / sum;
        wrong += found->best[k] != best || fabs(found->best_probability[k] - q) > TARGET_TOLERANCE + q / 2048;
    }
    return wrong;
}

/* Of one sequence: logits [length, vocab]. */
static int check_target_rows(const struct golden *golden, struct reader *reader, uint64_t index,
                             const float *logits, int vocab, const float *w, const char *model,
                             const char *device)
{
    const int rows = golden->length, hidden = golden->hidden;
    const struct sequence sequence = {SPLIT_TRAIN, index};
    struct target_row *values, expected;
    float *u;
    double *expected_u;
    int32_t *ids;
    int wrong = 0;
    if (array_alloc(&values, rows, &error) < 0 || array_alloc(&u, rows * hidden, &error) < 0 ||
        array_alloc(&expected_u, hidden, &error) < 0 || array_alloc(&ids, rows + 1, &error) < 0 ||
        reader_tokens(reader, sequence, ids, &error) < 0 ||
        reader_target(reader, sequence, values, u, &error) < 0)
        return -1;
    for (int r = 0; r < rows; r++) {
        double squares = 0;
        expect_row(logits + (size_t)r * (size_t)vocab, vocab, w, hidden, ids[r + 1], &expected, expected_u);
        wrong += values[r].top != expected.top || !is_near(values[r].probability, expected.probability, 1) ||
                 !is_near(values[r].entropy, expected.entropy, 1) || !is_near(values[r].loss, expected.loss, 1);
        wrong += check_best(logits + (size_t)r * (size_t)vocab, vocab, &values[r]);
        for (int c = 0; c < hidden; c++)
            squares += expected_u[c] * expected_u[c];
        for (int c = 0; c < hidden; c++)
            wrong += !is_near(u[r * hidden + c], expected_u[c], sqrt(squares / hidden));
    }
    if (wrong > 0)
        test_fail(__FILE__, __LINE__, "%s on %s: %d values of the target of sequence %d are off", model, device,
                  wrong, (int)index);
    free(values);
    free(u);
    free(expected_u);
    free(ids);
    return 0;
}

static int check_target(const struct golden *golden, struct reader *reader, const char *path,
                        const char *device)
{
    const struct tensor *logits = safetensors_find(golden->file, "logits");
    struct model *model;
    float *w = NULL;
    int result = 0;
    if (!logits || model_open(path, &model, &error) < 0)
        return -1;
    const struct tensor *output = model_tensor(model, 0, ROLE_OUTPUT);
    const int vocab = (int)output->shape[0];
    const int64_t count = output->shape[0] * output->shape[1];
    if (logits->shape[1] != vocab || array_alloc(&w, count, &error) < 0)
        result = -1;
    else
        dtype_to_f32(output->type, output->data, count, w);
    for (int s = 0; s < golden->sequences && result == 0; s++)
        result = check_target_rows(golden, reader, (uint64_t)s,
                                   (const float *)logits->data + (size_t)(s * golden->length * vocab), vocab, w,
                                   path, device);
    free(w);
    model_close(model);
    return result;
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
        store_sequences(store, SPLIT_HELD_OUT) != 0 || info->taps != 6 || store_find_target(info) != 5)
        error_set(&error, "%llu sequences, %d taps", (unsigned long long)store_sequences(store, SPLIT_TRAIN),
                  info->taps);
    else
        result = reader_open(store, &reader, &error);
    for (int tap = 0; tap < 5 && result == 0; tap++) {
        char name[TAP_NAME_SIZE];
        tap_name(info->tap[tap], info->layers, name);
        result = check_tap(golden, reader, tap, name, model, device);
    }
    if (result == 0)
        result = check_target(golden, reader, model, device);
    reader_close(reader);
    store_close(store);
    return result;
}

static void check_model(const char *model, const char *states)
{
    static const char *const devices[] = {"ref", "cpu", "cuda"};
    for (int i = 0; i < 3; i++) {
        struct golden golden = {0};
        if (!test_wants_device(devices[i]))
            continue;
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
