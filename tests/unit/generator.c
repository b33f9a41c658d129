/* generator.c: generation with early exits against its definition: for every token the whole sequence so far
 * goes through all layers, without a cache, on the ref backend, and the exits' rules look at what the last row
 * is at each tap. Small random models made on the spot. */
#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/head/policy.h"
#include "common/model/safetensors.h"
#include "generate/generator.h"
#include "tests/model_source.h"
#include "tests/test.h"

enum {
    LAYERS = 4,
    H = 32,
    HEADS = 4,
    KV_HEADS = 2,
    D = 8,
    I = 48,
    V = 97,
    CONTEXT = 1024,
    HALVES = 2 * LAYERS
};
enum { TENSORS_A_LAYER = 9, TENSORS = TENSORS_A_LAYER * LAYERS + 3, PROMPT = 6, TOKENS = 120 };

/* ---- a model ---- */

static const struct {
    const char *name;
    int64_t rows, cols; /* rows 0: a vector */
    double deviation; /* of a matrix; vectors are about 1 */
} layer_tensors[TENSORS_A_LAYER] = {
    {"input_layernorm", 0, H, 0},
    {"self_attn.q_proj", HEADS *D, H, 0.3},
    {"self_attn.k_proj", KV_HEADS *D, H, 0.3},
    {"self_attn.v_proj", KV_HEADS *D, H, 0.3},
    {"self_attn.o_proj", H, HEADS *D, 0.3},
    {"post_attention_layernorm", 0, H, 0},
    {"mlp.gate_proj", I, H, 0.2},
    {"mlp.up_proj", I, H, 0.2},
    {"mlp.down_proj", H, I, 0.2},
};

static void name_tensor(struct tensor *tensor, char name[64], int64_t rows, int64_t cols)
{
    *tensor = (struct tensor){.name = name, .type = DTYPE_F32, .dims = rows ? 2 : 1};
    tensor->shape[0] = rows ? rows : cols;
    tensor->shape[1] = cols;
    tensor->bytes = (size_t)((rows ? rows : 1) * cols) * sizeof(float);
}

static int write_weights(const char *path, struct error *error)
{
    static char names[TENSORS][64];
    struct tensor tensors[TENSORS];
    double deviation[TENSORS] = {0.5, 0.4, 0};
    struct safetensors_writer *writer;
    struct random random = {5};
    snprintf(names[0], 64, "model.embed_tokens.weight");
    name_tensor(&tensors[0], names[0], V, H);
    snprintf(names[1], 64, "lm_head.weight"); /* tied, a random model repeats the last token for ever */
    name_tensor(&tensors[1], names[1], V, H);
    snprintf(names[2], 64, "model.norm.weight");
    name_tensor(&tensors[2], names[2], 0, H);
    for (int t = 3; t < TENSORS; t++) {
        const int l = (t - 3) / TENSORS_A_LAYER, part = (t - 3) % TENSORS_A_LAYER;
        snprintf(names[t], 64, "model.layers.%d.%s.weight", l, layer_tensors[part].name);
        name_tensor(&tensors[t], names[t], layer_tensors[part].rows, layer_tensors[part].cols);
        deviation[t] = layer_tensors[part].deviation;
    }
    if (safetensors_create(path, tensors, TENSORS, NULL, &writer, error) < 0)
        return -1;
    for (int t = 0; t < TENSORS; t++) {
        for (size_t i = 0; i < tensors[t].bytes / sizeof(float); i++) {
            const double normal = random_normal(&random);
            const float value = (float)(deviation[t] > 0 ? deviation[t] * normal : 1 + 0.1 * normal);
            if (safetensors_write(writer, &value, sizeof value, error) < 0) {
                safetensors_abandon(writer);
                return -1;
            }
        }
    }
    return safetensors_finish(writer, error);
}

/* A folder as Hugging Face has it. window 0: Llama, else Mistral. */
static int make_model(const char *folder, int window, struct model **model, struct error *error)
{
    char path[4096];
    json_t *config =
        json_pack("{ss si si si si si si si si sb sf}", "model_type", window ? "mistral" : "llama",
                  "num_hidden_layers", LAYERS, "hidden_size", H, "intermediate_size", I, "num_attention_heads",
                  HEADS, "num_key_value_heads", KV_HEADS, "head_dim", D, "vocab_size", V,
                  "max_position_embeddings", CONTEXT, "tie_word_embeddings", 0, "rms_norm_eps", 1e-5);
    json_object_set_new(config, "sliding_window", window ? json_integer(window) : json_null());
    snprintf(path, sizeof path, "%s/config.json", folder);
    int result = json_write(path, config, error);
    json_decref(config);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    if (result < 0 || write_weights(path, error) < 0)
        return -1;
    return model_open(folder, model, error);
}

/* ---- exits ---- */

/* Of every kind, output and sort of tap. The thresholds make each leave some tokens and pass others. */
static const struct {
    const char *tap, *kind;
    enum head_output output;
    double threshold;
    int to; /* of a bridge */
} exit_table[] = {
    {"0", "norm", OUTPUT_TIED, 0.6, 0},     {"1.mid", "affine", OUTPUT_UNTIED, 0.5, 0},
    {"1", "block", OUTPUT_TIED, 0.6, 0},    {"2.mid", "mlp", OUTPUT_TIED, 0.5, 0},
    {"2", "bridge", OUTPUT_UNTIED, 0.6, 2}, {"3.mid", "norm", OUTPUT_TIED, 0.5, 0},
    {"3", "norm", OUTPUT_TIED, 0.5, 0},
};
enum { EXITS = sizeof exit_table / sizeof exit_table[0] };

static int write_head(const char *folder, const struct model *model, int index, const char *fingerprint,
                      struct policy_exit *exit, struct error *error)
{
    const struct head_source source = {model_source, (void *)(uintptr_t)model};
    struct head_spec spec = {.kind = head_kind_find(exit_table[index].kind, error),
                             .output = exit_table[index].output,
                             .to = exit_table[index].to};
    struct backend *backend = NULL;
    struct queue *queue = NULL;
    struct head *head = NULL;
    char path[4096];
    int result = -1;
    snprintf(exit->head.kind, sizeof exit->head.kind, "%s", exit_table[index].kind);
    snprintf(exit->head.output, sizeof exit->head.output, "%s", head_output_name(spec.output));
    snprintf(exit->head.file, sizeof exit->head.file, "%s.safetensors", exit_table[index].tap);
    snprintf(path, sizeof path, "%s/%s", folder, exit->head.file);
    exit->rule.threshold = exit_table[index].threshold;
    if (tap_parse(exit_table[index].tap, LAYERS, &exit->tap, error) < 0)
        return -1;
    spec.tap = exit->tap;
    if (backend_open("ref", &(struct backend_options){0}, &backend, error) == 0 &&
        queue_create(backend, &queue, error) == 0 &&
        head_create(&spec, model_config(model), backend, &head, error) == 0 &&
        head_initialise(head, INIT_COPY, 3, &source, error) == 0 &&
        head_save(head, queue, path, fingerprint, error) == 0)
        result = policy_hash_file(path, exit->head.hash, error);
    head_destroy(head);
    queue_destroy(queue);
    backend_close(backend);
    return result;
}

static int make_policy(const char *folder, const struct model *model, struct error *error)
{
    struct policy_exit exits[EXITS] = {0};
    struct policy policy = {.layers = LAYERS, .exits = EXITS, .exit = exits};
    if (model_fingerprint(model, policy.fingerprint, error) < 0)
        return -1;
    for (int e = 0; e < EXITS; e++) {
        if (write_head(folder, model, e, policy.fingerprint, &exits[e], error) < 0)
            return -1;
    }
    return policy_write(folder, &policy, error);
}

static int load_exits(const char *folder, const struct model *model, struct backend *backend, double threshold,
                      struct exits *exits, struct error *error)
{
    struct policy policy;
    char fingerprint[17];
    if (policy_read(folder, &policy, error) < 0)
        return -1;
    int result = model_fingerprint(model, fingerprint, error);
    if (result == 0)
        result = exits_load(&policy, fingerprint, model_config(model), backend, threshold, exits, error);
    policy_free(&policy);
    return result;
}

/* ---- the oracle ---- */

struct oracle {
    struct backend *backend;
    struct queue *queue;
    struct layer *layer[LAYERS];
    struct ends *ends;
    struct layer_scratch *scratch;
    struct buffer *ids, *states, *made, *row;
    struct predictor *predictor;
    struct exits exits;
    float half[HALVES + 1][(PROMPT + TOKENS) * H]; /* every row after each half-layer */
};

static int oracle_open(struct oracle *oracle, const struct model *model, struct error *error)
{
    *oracle = (struct oracle){0};
    if (backend_open("ref", &(struct backend_options){0}, &oracle->backend, error) < 0 ||
        queue_create(oracle->backend, &oracle->queue, error) < 0 ||
        ends_load(model, oracle->backend, true, WEIGHT_FORWARD | WEIGHT_ROWS, &oracle->ends, error) < 0 ||
        scratch_create(model_config(model), oracle->backend, CONTEXT, 1, CONTEXT, &oracle->scratch, error) <
            0 ||
        buffer_create(oracle->backend, CONTEXT * sizeof(int32_t), &oracle->ids, error) < 0 ||
        buffer_create(oracle->backend, CONTEXT * H * sizeof(float), &oracle->states, error) < 0 ||
        buffer_create(oracle->backend, CONTEXT * H * sizeof(float), &oracle->made, error) < 0 ||
        buffer_create(oracle->backend, H * sizeof(float), &oracle->row, error) < 0 ||
        predictor_create(oracle->queue, H, V, false, &oracle->predictor, error) < 0)
        return -1;
    for (int l = 0; l < LAYERS; l++) {
        if (layer_load(model, l, oracle->backend, WEIGHT_FORWARD | WEIGHT_ROWS, &oracle->layer[l], error) < 0)
            return -1;
    }
    return 0;
}

static void oracle_close(struct oracle *oracle)
{
    exits_free(&oracle->exits);
    predictor_destroy(oracle->predictor);
    buffer_destroy(oracle->ids);
    buffer_destroy(oracle->states);
    buffer_destroy(oracle->made);
    buffer_destroy(oracle->row);
    scratch_destroy(oracle->scratch);
    ends_destroy(oracle->ends);
    for (int l = 0; l < LAYERS; l++)
        layer_destroy(oracle->layer[l]);
    queue_destroy(oracle->queue);
    backend_close(oracle->backend);
}

/* Every token through every layer; keeps what they are on the way. */
static int oracle_run(struct oracle *oracle, const int32_t *ids, int count, struct error *error)
{
    const struct matrix tokens = matrix_i32(oracle->ids, count, 1), x = matrix_f32(oracle->states, count, H);
    const struct span whole = {.rows = count};
    op_write(oracle->queue, tokens, ids);
    ends_embed(oracle->ends, oracle->queue, tokens, x);
    op_read(oracle->queue, x, oracle->half[0]);
    for (int l = 0; l < LAYERS; l++) {
        layer_attention(oracle->layer[l], oracle->queue, oracle->scratch, &whole, 1, x);
        op_read(oracle->queue, x, oracle->half[2 * l + 1]);
        layer_mlp(oracle->layer[l], oracle->queue, oracle->scratch, x);
        op_read(oracle->queue, x, oracle->half[2 * l + 2]);
    }
    return queue_wait(oracle->queue, error);
}

/* What an exit's head makes of the last row: a head with attention gets the whole sequence at once. */
static int oracle_head(struct oracle *oracle, const struct exit_point *exit, const float *states, int count,
                       struct matrix h, struct error *error)
{
    const struct span whole = {.rows = count};
    const struct matrix x = matrix_f32(oracle->states, count, H), all = matrix_f32(oracle->made, count, H);
    struct head_scratch *scratch;
    if (head_scratch_create(exit->head, count, count, false, &scratch, error) < 0)
        return -1;
    const struct head_run run = {
        .head = exit->head, .scratch = scratch, .x = x, .spans = &whole, .span_count = 1, .h = all};
    op_write(oracle->queue, x, states);
    heads_forward(oracle->queue, &run, 1);
    op_copy(oracle->queue, matrix_rows(all, count - 1, 1), h);
    const int result = queue_wait(oracle->queue, error);
    head_scratch_destroy(scratch);
    return result;
}

/* A probability so near a threshold that backends may differ would make the test say nothing. */
static const double margin = 1e-4;

static int oracle_next(struct oracle *oracle, const int32_t *ids, int count, bool first, struct generated *next,
                       struct error *error)
{
    const struct matrix row = matrix_f32(oracle->row, 1, H), input = predictor_input(oracle->predictor);
    const struct vocab full = {.tied = ends_output(oracle->ends)};
    struct prediction prediction;
    if (oracle_run(oracle, ids, count, error) < 0)
        return -1;
    for (int e = 0; e < (first ? 0 : oracle->exits.count); e++) {
        const struct exit_point *exit = &oracle->exits.exit[e];
        const int half = 2 * exit->tap.layer - exit->tap.mid;
        const struct vocab weight = head_vocab(exit->head, full.tied);
        if (oracle_head(oracle, exit, oracle->half[half], count, input, error) < 0 ||
            predictor_run(oracle->predictor, &weight, &prediction, error) < 0)
            return -1;
        CHECK(fabs(prediction.probability - exit->rule.threshold) > margin);
        if (prediction.probability >= exit->rule.threshold) {
            *next = (struct generated){prediction.token, e, half, prediction.probability};
            return 0;
        }
    }
    op_write(oracle->queue, row, oracle->half[HALVES] + (count - 1) * H);
    op_norm(oracle->queue, row, ends_final_norm(oracle->ends), 1e-5f, input);
    if (predictor_run(oracle->predictor, &full, &prediction, error) < 0)
        return -1;
    *next = (struct generated){prediction.token, -1, HALVES, prediction.probability};
    return 0;
}

/* ---- what is tested, with everything it needs ---- */

struct subject {
    struct model *model;
    struct backend *backend;
    struct engine *engine;
    struct engine_sequence *sequence;
    struct exits exits;
    struct sampler sampler;
    struct generator *generator;
};

static void subject_close(struct subject *subject)
{
    generator_destroy(subject->generator);
    sampler_free(&subject->sampler);
    sequence_destroy(subject->sequence);
    engine_close(subject->engine);
    exits_free(&subject->exits);
    backend_close(subject->backend);
}

/* threshold: NaN for the policy's own, negative for no exits. */
static int subject_open(struct subject *subject, const char *folder, struct model *model, const char *device,
                        double threshold, double temperature, uint64_t seed, struct error *error)
{
    *subject = (struct subject){.model = model};
    if (backend_open(device, &(struct backend_options){.threads = 2}, &subject->backend, error) < 0 ||
        engine_open(model, subject->backend, CONTEXT, &subject->engine, error) < 0 ||
        (!(threshold < 0) &&
         load_exits(folder, model, subject->backend, threshold, &subject->exits, error) < 0) ||
        exits_attach(&subject->exits, subject->engine, error) < 0 ||
        engine_sequence_create(subject->engine, CONTEXT, &subject->sequence, error) < 0 ||
        sampler_create(&subject->sampler, temperature, 0, 1, seed, V, error) < 0 ||
        generator_create(subject->engine, subject->sequence, &subject->exits, &subject->sampler,
                         model_config(model), &subject->generator, error) < 0)
        return -1;
    return 0;
}

static void make_prompt(int32_t *ids, int count)
{
    struct random random = {17};
    for (int i = 0; i < count; i++)
        ids[i] = (int32_t)(random_next(&random) % V);
}

static int generate_tokens(struct subject *subject, struct generated *generated, int count, struct error *error)
{
    int32_t prompt[PROMPT];
    make_prompt(prompt, PROMPT);
    if (generator_prompt(subject->generator, prompt, PROMPT, error) < 0)
        return -1;
    for (int i = 0; i < count; i++) {
        if (generator_next(subject->generator, &generated[i], error) < 0)
            return -1;
    }
    return 0;
}

/* No row takes a half-layer twice; brought to the top, every row has taken each once. */
static void check_work(const struct subject *subject)
{
    const struct engine_sequence *sequence = subject->sequence;
    const int rows = sequence_rows(sequence);
    struct error error;
    for (int half = 1; half <= HALVES; half++)
        CHECK(sequence_work(sequence, half) <= rows && sequence_work(sequence, half) >= PROMPT);
    for (int half = 1; half < HALVES; half++)
        CHECK(sequence_work(sequence, half) >= sequence_work(sequence, half + 1));
    engine_run(subject->engine, &(struct engine_row){subject->sequence, rows - 1, HALVES, false}, 1);
    REQUIRE_OK(queue_wait(engine_queue(subject->engine), &error));
    for (int half = 0; half <= HALVES; half++)
        CHECK(sequence_work(sequence, half) == rows);
}

static void check_generation(const char *device, int window)
{
    struct error error;
    struct model *model = NULL;
    struct oracle oracle;
    struct subject subject;
    struct generated found[TOKENS], expected;
    int32_t ids[PROMPT + TOKENS];
    int left[EXITS + 1] = {0};
    const char *folder = test_folder();
    REQUIRE_OK(make_model(folder, window, &model, &error));
    REQUIRE_OK(make_policy(folder, model, &error));
    REQUIRE_OK(oracle_open(&oracle, model, &error));
    REQUIRE_OK(subject_open(&subject, folder, model, device, NAN, 0, 0, &error));
    REQUIRE_OK(load_exits(folder, model, oracle.backend, NAN, &oracle.exits, &error));
    REQUIRE_OK(generate_tokens(&subject, found, TOKENS, &error));
    make_prompt(ids, PROMPT);
    for (int i = 0; i < TOKENS; i++) {
        REQUIRE_OK(oracle_next(&oracle, ids, PROMPT + i, i == 0, &expected, &error));
        CHECK(found[i].token == expected.token && found[i].exit == expected.exit);
        CHECK(found[i].half == expected.half);
        CHECK(fabs(found[i].probability - expected.probability) < margin);
        ids[PROMPT + i] = expected.token;
        left[expected.exit + 1]++;
    }
    for (int e = 0; e <= EXITS; e++) { /* or the test says nothing about that exit */
        if (left[e] == 0)
            test_fail(__FILE__, __LINE__, "no token left at exit %d", e - 1);
    }
    check_work(&subject);
    subject_close(&subject);
    oracle_close(&oracle);
    model_close(model);
}

TEST(generate_is_its_definition)
{
    check_generation("ref", 0);
    check_generation("cpu", 0);
}

TEST(generate_with_a_window)
{
    check_generation("ref", 5);
    check_generation("cpu", 5);
}

/* A threshold above 1 checks every exit and takes none: to the last bit what the full model gives,
 * which is what a full pass without a cache gives. */
TEST(generate_full_model)
{
    struct error error;
    struct model *model = NULL;
    struct oracle oracle;
    struct subject full, never;
    struct generated found[TOKENS], same[TOKENS], expected;
    int32_t ids[PROMPT + TOKENS];
    const char *folder = test_folder();
    REQUIRE_OK(make_model(folder, 0, &model, &error));
    REQUIRE_OK(make_policy(folder, model, &error));
    REQUIRE_OK(oracle_open(&oracle, model, &error));
    for (int d = 0; d < 2; d++) {
        const char *device = d ? "cpu" : "ref";
        REQUIRE_OK(subject_open(&full, folder, model, device, -1, 0, 0, &error));
        REQUIRE_OK(subject_open(&never, folder, model, device, 2, 0, 0, &error));
        REQUIRE_OK(generate_tokens(&full, found, TOKENS, &error));
        REQUIRE_OK(generate_tokens(&never, same, TOKENS, &error));
        make_prompt(ids, PROMPT);
        for (int i = 0; i < TOKENS; i++) {
            REQUIRE_OK(oracle_next(&oracle, ids, PROMPT + i, true, &expected, &error));
            CHECK(found[i].token == expected.token && found[i].half == HALVES && found[i].exit == -1);
            CHECK(same[i].token == found[i].token && same[i].probability == found[i].probability);
            CHECK(same[i].half == HALVES && same[i].exit == -1);
            ids[PROMPT + i] = expected.token;
        }
        check_work(&full);
        check_work(&never);
        subject_close(&full);
        subject_close(&never);
    }
    oracle_close(&oracle);
    model_close(model);
}

TEST(generate_samples)
{
    struct error error;
    struct model *model = NULL;
    struct generated runs[4][TOKENS];
    static const struct {
        double temperature;
        int top_k;
        uint64_t seed;
    } cases[4] = {{0, 0, 1}, {1, 1, 1}, {1.5, 0, 2}, {1.5, 0, 3}};
    const char *folder = test_folder();
    REQUIRE_OK(make_model(folder, 0, &model, &error));
    REQUIRE_OK(make_policy(folder, model, &error));
    for (int c = 0; c < 4; c++) {
        for (int repeat = 0; repeat < 2; repeat++) { /* the same seed twice gives the same twice */
            struct subject subject;
            struct generated found[TOKENS];
            REQUIRE_OK(
                subject_open(&subject, folder, model, "cpu", NAN, cases[c].temperature, cases[c].seed, &error));
            subject.sampler.top_k = cases[c].top_k;
            REQUIRE_OK(generate_tokens(&subject, found, TOKENS, &error));
            for (int i = 0; i < TOKENS; i++)
                CHECK(repeat == 0 || found[i].token == runs[c][i].token);
            memcpy(runs[c], found, sizeof found);
            check_work(&subject);
            subject_close(&subject);
        }
    }
    int different = 0;
    for (int i = 0; i < TOKENS; i++) {
        CHECK(runs[1][i].token == runs[0][i].token); /* the likeliest one only is greedy */
        different += runs[2][i].token != runs[3][i].token;
    }
    CHECK(different > 0);
    model_close(model);
}

/* Writes the policy again with one exit changed by `change`, and tells why it is refused. */
static void check_refused(const char *folder, struct model *model, void (*change)(struct policy *policy),
                          const char *reason)
{
    struct error error;
    struct policy policy;
    struct exits exits;
    struct backend *backend;
    char model_own[17];
    REQUIRE_OK(make_policy(folder, model, &error));
    REQUIRE_OK(policy_read(folder, &policy, &error));
    REQUIRE_OK(model_fingerprint(model, model_own, &error));
    REQUIRE_OK(backend_open("ref", &(struct backend_options){0}, &backend, &error));
    change(&policy);
    if (exits_load(&policy, model_own, model_config(model), backend, NAN, &exits, &error) == 0) {
        test_fail(__FILE__, __LINE__, "not refused: %s", reason);
        exits_free(&exits);
    } else {
        CHECK_TEXT(error.text, reason);
    }
    backend_close(backend);
    policy_free(&policy);
}

static void change_model(struct policy *policy)
{
    memcpy(policy->fingerprint, "00000000deadbeef", 17);
}

static void change_tap(struct policy *policy)
{
    policy->exit[0].tap.layer = 2;
}

static void change_kind(struct policy *policy)
{
    strcpy(policy->exit[0].head.kind, "mlp");
}

static void change_file(struct policy *policy)
{
    strcpy(policy->exit[0].head.file, "gone.safetensors");
}

TEST(exits_refused)
{
    struct error error;
    struct model *model = NULL;
    const char *folder = test_folder();
    REQUIRE_OK(make_model(folder, 0, &model, &error));
    check_refused(folder, model, change_model, "made for the model 00000000deadbeef, but this one is ");
    check_refused(folder, model, change_tap, "holds a head norm, output tied, at tap 0");
    check_refused(folder, model, change_kind, "0.safetensors: holds a head norm");
    check_refused(folder, model, change_file, "gone.safetensors");
    model_close(model);
}

TEST_MAIN
