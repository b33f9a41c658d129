/* session.c: generation with early exits against its definition: a full pass over the tokens so far for
 * every token, without a cache, on the ref backend, and the exits' rule on what the last row is at each
 * tap. Small random models made on the spot. */
#include <math.h>
#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/random.h"
#include "common/head/policy.h"
#include "common/model/safetensors.h"
#include "generate/generator.h"
#include "tests/test.h"

enum { LAYERS = 4, H = 32, HEADS = 4, KV_HEADS = 2, D = 8, I = 48, V = 97, CONTEXT = 1024, STEPS = 2 * LAYERS };
enum { TENSORS_A_LAYER = 9, TENSORS = TENSORS_A_LAYER * LAYERS + 3, PROMPT = 6, TOKENS = 60 };

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

/* The model's tensor of a name as stores have it: "final_norm", "2/mlp_gate". */
static int get_tensor(void *context, const char *name, float **values, int64_t *rows, int64_t *cols,
                      struct error *error)
{
    const char *slash = strchr(name, '/');
    const int layer = slash ? atoi(name) - 1 : 0;
    for (int role = 0; role < ROLE_COUNT; role++) {
        const struct tensor *tensor = model_tensor(context, layer, (enum tensor_role)role);
        if (!tensor || strcmp(role_name((enum tensor_role)role), slash ? slash + 1 : name) != 0)
            continue;
        *rows = tensor->dims == 2 ? tensor->shape[0] : 1;
        *cols = tensor->shape[tensor->dims - 1];
        if (array_alloc(values, *rows * *cols, error) < 0)
            return -1;
        dtype_to_f32(tensor->type, tensor->data, *rows * *cols, *values);
        return 0;
    }
    return error_set(error, "no tensor %s", name);
}

/* Of every kind, output and sort of tap. The thresholds make each leave some tokens and pass others. */
static const struct {
    const char *tap, *kind;
    enum head_output output;
    double threshold;
} exit_table[] = {
    {"0", "norm", OUTPUT_TIED, 0.7},    {"1", "affine", OUTPUT_UNTIED, 0.5},
    {"2.mid", "mlp", OUTPUT_TIED, 0.5}, {"3.mid", "norm", OUTPUT_TIED, 0.5},
    {"3", "norm", OUTPUT_TIED, 0.5},
};
enum { EXITS = sizeof exit_table / sizeof exit_table[0] };

static int write_head(const char *folder, const struct model *model, int place, const char *fingerprint,
                      struct policy_exit *exit, struct error *error)
{
    const struct head_source source = {get_tensor, (void *)(uintptr_t)model};
    struct head_spec spec = {head_kind_find(exit_table[place].kind, error), exit_table[place].output, {0}};
    struct backend *backend = NULL;
    struct queue *queue = NULL;
    struct head *head = NULL;
    char path[4096];
    int result = -1;
    snprintf(exit->head.kind, sizeof exit->head.kind, "%s", exit_table[place].kind);
    snprintf(exit->head.output, sizeof exit->head.output, "%s", head_output_name(spec.output));
    snprintf(exit->head.file, sizeof exit->head.file, "%s.safetensors", exit_table[place].tap);
    snprintf(path, sizeof path, "%s/%s", folder, exit->head.file);
    exit->rule.threshold = exit_table[place].threshold;
    if (tap_parse(exit_table[place].tap, LAYERS, &exit->tap, error) < 0)
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
    struct buffer *ids, *states, *row;
    struct predictor *predictor;
    struct exits exits;
    float step[STEPS + 1][H]; /* the last row after each half-layer */
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
    buffer_destroy(oracle->row);
    scratch_destroy(oracle->scratch);
    ends_destroy(oracle->ends);
    for (int l = 0; l < LAYERS; l++)
        layer_destroy(oracle->layer[l]);
    queue_destroy(oracle->queue);
    backend_close(oracle->backend);
}

/* Every token through every layer; keeps what the last one is on the way. */
static int oracle_run(struct oracle *oracle, const int32_t *ids, int count, struct error *error)
{
    const struct matrix place = matrix_i32(oracle->ids, count, 1), x = matrix_f32(oracle->states, count, H);
    const struct span whole = {.rows = count};
    op_write(oracle->queue, place, ids);
    ends_embed(oracle->ends, oracle->queue, place, x);
    op_read(oracle->queue, matrix_rows(x, count - 1, 1), oracle->step[0]);
    for (int l = 0; l < LAYERS; l++) {
        layer_attention(oracle->layer[l], oracle->queue, oracle->scratch, &whole, 1, x);
        op_read(oracle->queue, matrix_rows(x, count - 1, 1), oracle->step[2 * l + 1]);
        layer_mlp(oracle->layer[l], oracle->queue, oracle->scratch, x);
        op_read(oracle->queue, matrix_rows(x, count - 1, 1), oracle->step[2 * l + 2]);
    }
    return queue_wait(oracle->queue, error);
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
        const int step = 2 * exit->tap.layer - exit->tap.mid;
        const struct vocab weight = head_vocab(exit->head, full.tied);
        op_write(oracle->queue, row, oracle->step[step]);
        head_forward(exit->head, oracle->queue, exit->scratch, row, input);
        if (predictor_run(oracle->predictor, &weight, &prediction, error) < 0)
            return -1;
        CHECK(fabs(prediction.probability - exit->rule.threshold) > margin);
        if (prediction.probability >= exit->rule.threshold) {
            *next = (struct generated){prediction.token, e, step, prediction.probability};
            return 0;
        }
    }
    op_write(oracle->queue, row, oracle->step[STEPS]);
    op_norm(oracle->queue, row, ends_final_norm(oracle->ends), 1e-5f, input);
    if (predictor_run(oracle->predictor, &full, &prediction, error) < 0)
        return -1;
    *next = (struct generated){prediction.token, -1, STEPS, prediction.probability};
    return 0;
}

/* ---- what is tested, with everything it needs ---- */

struct subject {
    struct model *model;
    struct backend *backend;
    struct session *session;
    struct exits exits;
    struct sampler sampler;
    struct generator *generator;
};

static void subject_close(struct subject *subject)
{
    generator_destroy(subject->generator);
    sampler_free(&subject->sampler);
    session_destroy(subject->session);
    exits_free(&subject->exits);
    backend_close(subject->backend);
}

/* threshold: NaN for the policy's own, negative for no exits. */
static int subject_open(struct subject *subject, const char *folder, struct model *model, const char *device,
                        double threshold, double temperature, uint64_t seed, struct error *error)
{
    *subject = (struct subject){.model = model};
    if (backend_open(device, &(struct backend_options){.threads = 2}, &subject->backend, error) < 0 ||
        session_create(model, subject->backend, CONTEXT, &subject->session, error) < 0 ||
        sampler_create(&subject->sampler, temperature, 0, 1, seed, V, error) < 0 ||
        generator_create(subject->session, &subject->exits, &subject->sampler, model_config(model),
                         &subject->generator, error) < 0)
        return -1;
    return threshold < 0 ? 0 : load_exits(folder, model, subject->backend, threshold, &subject->exits, error);
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
static void check_work(struct session *session)
{
    struct error error;
    for (int s = 1; s <= STEPS; s++)
        CHECK(session_work(session, s) <= session_rows(session) && session_work(session, s) >= PROMPT);
    for (int s = 1; s < STEPS; s++)
        CHECK(session_work(session, s) >= session_work(session, s + 1));
    session_run(session, STEPS);
    REQUIRE_OK(queue_wait(session_queue(session), &error));
    for (int s = 0; s <= STEPS; s++)
        CHECK(session_work(session, s) == session_rows(session));
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
        CHECK(found[i].step == expected.step);
        CHECK(fabs(found[i].probability - expected.probability) < margin);
        ids[PROMPT + i] = expected.token;
        left[expected.exit + 1]++;
    }
    for (int e = 0; e <= EXITS; e++) { /* or the test says nothing about that exit */
        if (left[e] == 0)
            test_fail(__FILE__, __LINE__, "no token left at exit %d", e - 1);
    }
    check_work(subject.session);
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
            CHECK(found[i].token == expected.token && found[i].step == STEPS && found[i].exit == -1);
            CHECK(same[i].token == found[i].token && same[i].probability == found[i].probability);
            CHECK(same[i].step == STEPS && same[i].exit == -1);
            ids[PROMPT + i] = expected.token;
        }
        check_work(full.session);
        check_work(never.session);
        subject_close(&full);
        subject_close(&never);
    }
    oracle_close(&oracle);
    model_close(model);
}

/* Largest difference of the last row to a full pass over the same tokens, in units of its largest value. */
static double state_error(struct session *session, struct oracle *oracle, const int32_t *ids, int count)
{
    struct error error;
    float found[H];
    double worst = 0, largest = 0;
    op_read(session_queue(session), session_state(session), found);
    if (queue_wait(session_queue(session), &error) < 0 || oracle_run(oracle, ids, count, &error) < 0) {
        test_fail(__FILE__, __LINE__, "%s", error.text);
        return INFINITY;
    }
    for (int i = 0; i < H; i++) {
        const double expected = (double)oracle->step[session_depth(session)][i];
        worst = fmax(worst, fabs((double)found[i] - expected));
        largest = fmax(largest, fabs(expected));
    }
    return worst / largest;
}

/* Rows stop at any depth in any order; whoever goes deeper finds its keys. The prompt is longer than
 * one piece of the prefill, and more rows wait than the few-row kernels take. */
static void check_depths(const char *device)
{
    enum { LONG = 530, MORE = 60 };
    struct error error;
    struct model *model = NULL;
    struct oracle oracle;
    struct subject subject;
    struct random random = {23};
    int32_t ids[LONG + MORE];
    const char *folder = test_folder();
    make_prompt(ids, LONG + MORE);
    REQUIRE_OK(make_model(folder, 0, &model, &error));
    REQUIRE_OK(oracle_open(&oracle, model, &error));
    REQUIRE_OK(subject_open(&subject, folder, model, device, -1, 0, 0, &error));
    REQUIRE_OK(session_append(subject.session, ids, LONG, &error));
    session_run(subject.session, STEPS);
    CHECK(state_error(subject.session, &oracle, ids, LONG) < 1e-4); /* f32 through four layers */
    for (int i = 0; i < MORE; i++) {
        const int step = i == MORE - 1 ? STEPS : (int)(random_next(&random) % (i < 30 ? 3 : STEPS));
        REQUIRE_OK(session_append(subject.session, ids + LONG + i, 1, &error));
        CHECK(session_depth(subject.session) == 0);
        session_run(subject.session, step);
        CHECK(session_depth(subject.session) == step);
        if (i % 6 == 5)
            CHECK(state_error(subject.session, &oracle, ids, LONG + i + 1) < 1e-4);
    }
    for (int s = 0; s <= STEPS; s++)
        CHECK(session_work(subject.session, s) == LONG + MORE);
    subject_close(&subject);
    oracle_close(&oracle);
    model_close(model);
}

TEST(session_any_depths)
{
    check_depths("ref");
    check_depths("cpu");
}

/* The state of the last of `count` tokens, appended in two parts of which the first has `first`; one part: 0. */
static int last_state(const struct subject *opened, const int32_t *ids, int count, int first, float state[H],
                      struct error *error)
{
    struct session *session = opened->session;
    if (first > 0 && session_append(session, ids, first, error) < 0)
        return -1;
    if (session_append(session, ids + first, count - first, error) < 0)
        return -1;
    session_run(session, STEPS);
    op_read(session_queue(session), session_state(session), state);
    return queue_wait(session_queue(session), error);
}

/* A prompt of any length goes through the kernels of many rows to its last row: what that comes to is, to the last
 * bit, what it is behind a prompt of other pieces. */
TEST(session_prompts_of_any_length)
{
    static const int lengths[] = {511, 512, 513, 516, 520, 521, 530, CONTEXT};
    struct error error;
    struct model *model = NULL;
    int32_t ids[CONTEXT];
    const char *folder = test_folder();
    make_prompt(ids, CONTEXT);
    REQUIRE_OK(make_model(folder, 0, &model, &error));
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        float whole[H], parts[H];
        struct subject subject;
        for (int apart = 0; apart < 2; apart++) {
            const int first = apart ? lengths[i] / 3 : 0;
            REQUIRE_OK(subject_open(&subject, folder, model, "cpu", -1, 0, 0, &error));
            REQUIRE_OK(last_state(&subject, ids, lengths[i], first, apart ? parts : whole, &error));
            subject_close(&subject);
        }
        if (memcmp(whole, parts, sizeof whole) != 0)
            test_fail(__FILE__, __LINE__, "the last of %d tokens", lengths[i]);
    }
    model_close(model);
}

/* Rows that waited, however many and with whomever, are to the last bit what they are without waiting. */
TEST(session_waiting_changes_nothing)
{
    enum { LONG = 530, ALONE = 25, FEW = 6, MANY = 21, ALL = LONG + 2 * ALONE + FEW + MANY };
    static const int counts[] = {LONG, ALONE, FEW, ALONE, MANY};
    struct error error;
    struct model *model = NULL;
    struct subject prompt, waiting;
    int32_t ids[ALL];
    float expected[H], found[H];
    const char *folder = test_folder();
    make_prompt(ids, ALL);
    REQUIRE_OK(make_model(folder, 0, &model, &error));
    for (int until = 1; until <= 5; until++) { /* the last append that waits with the earlier ones */
        int rows = 0;
        REQUIRE_OK(subject_open(&prompt, folder, model, "cpu", -1, 0, 0, &error));
        REQUIRE_OK(subject_open(&waiting, folder, model, "cpu", -1, 0, 0, &error));
        for (int c = 0; c < until; c++) {
            const int at_once = counts[c] == ALONE ? 1 : counts[c];
            for (int i = 0; i < counts[c]; i += at_once, rows += at_once) {
                REQUIRE_OK(session_append(prompt.session, ids + rows, at_once, &error));
                REQUIRE_OK(session_append(waiting.session, ids + rows, at_once, &error));
                session_run(prompt.session, STEPS);
                session_run(waiting.session, (c + i) % 4);
            }
        }
        session_run(waiting.session, STEPS);
        op_read(session_queue(prompt.session), session_state(prompt.session), expected);
        op_read(session_queue(waiting.session), session_state(waiting.session), found);
        REQUIRE_OK(queue_wait(session_queue(prompt.session), &error));
        REQUIRE_OK(queue_wait(session_queue(waiting.session), &error));
        CHECK(memcmp(expected, found, sizeof found) == 0);
        subject_close(&prompt);
        subject_close(&waiting);
    }
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
            check_work(subject.session);
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

/* What is said of a device's memory is what its weights hold. */
static void check_bytes(const struct model *model, enum math math)
{
    const size_t vectors = 2 * H * sizeof(float), embedding = V * H * sizeof(float);
    struct error error;
    struct backend *backend;
    struct layer *layer;
    struct ends *ends;
    uint64_t held = embedding;
    REQUIRE_OK(backend_open("cuda", &(struct backend_options){.math = math}, &backend, &error));
    for (int l = 0; l < LAYERS; l++) {
        REQUIRE_OK(layer_load(model, l, backend, WEIGHT_FORWARD | WEIGHT_ROWS, &layer, &error));
        held += layer_bytes(layer) - vectors;
        layer_destroy(layer);
    }
    REQUIRE_OK(ends_load(model, backend, true, WEIGHT_FORWARD | WEIGHT_ROWS, &ends, &error));
    held += weight_bytes(ends_output(ends));
    const struct session_bytes bytes = session_bytes(model, math, 10);
    CHECK(bytes.weights == held);
    CHECK(bytes.keys == LAYERS * 2 * 10 * KV_HEADS * D * sizeof(float));
    ends_destroy(ends);
    backend_close(backend);
}

TEST(session_bytes_of_a_device)
{
    struct error error;
    struct model *model = NULL;
    if (!test_wants_device("cuda"))
        return;
    REQUIRE_OK(make_model(test_folder(), 0, &model, &error));
    check_bytes(model, MATH_F32);
    check_bytes(model, MATH_BF16);
    model_close(model);
}

TEST(session_refuses)
{
    struct error error;
    struct model *model = NULL;
    struct backend *backend;
    struct session *session;
    const int32_t ids[4] = {0, V - 1, V, -1};
    const char *folder = test_folder();
    REQUIRE_OK(make_model(folder, 0, &model, &error));
    REQUIRE_OK(backend_open("ref", &(struct backend_options){0}, &backend, &error));
    CHECK(session_create(model, backend, CONTEXT + 1, &session, &error) < 0);
    CHECK_TEXT(error.text, "1025 positions");
    REQUIRE_OK(session_create(model, backend, 3, &session, &error));
    CHECK(session_append(session, ids, 4, &error) < 0);
    CHECK_TEXT(error.text, "4 tokens do not fit behind 0 of 3");
    CHECK(session_append(session, ids + 2, 1, &error) < 0);
    CHECK_TEXT(error.text, "token 97");
    CHECK(session_append(session, ids + 3, 1, &error) < 0);
    REQUIRE_OK(session_append(session, ids, 2, &error));
    CHECK(session_append(session, ids, 2, &error) < 0);
    CHECK(session_rows(session) == 2);
    session_destroy(session);
    backend_close(backend);
    model_close(model);
}

TEST_MAIN
