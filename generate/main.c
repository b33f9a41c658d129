/* generate: text from a model, each token from the first exit that is sure enough. */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/memory.h"
#include "common/device/device.h"
#include "generate/prompt.h"
#include "generate/show.h"
#include "generate/stream.h"

struct run {
    struct model *model;
    struct tokenizer *tokenizer;
    struct backend *backend;
    uint64_t memory; /* free bytes of the device, before anything was put there; 0: it has none */
    int positions; /* of the sequence: prompt and new tokens, at most */
    struct exits exits;
    struct engine *engine;
    struct engine_sequence *sequence;
    struct sampler sampler;
    struct generator *generator;
    struct token_list prompt;
    struct run_record record;
};

static int open_exits(struct run *run, const struct generate_options *options, struct error *error)
{
    struct policy policy;
    char fingerprint[17];
    if (!options->policy || options->exit_off)
        return 0;
    if (policy_read(options->policy, &policy, error) < 0)
        return error_prefix(error, "--policy");
    int result = model_fingerprint(run->model, fingerprint, error);
    if (result == 0)
        result = exits_load(&policy, fingerprint, model_config(run->model), run->backend, options->threshold,
                            &run->exits, error);
    if (result == 0 && policy.exits == 0) {
        char reason[512];
        policy_reason(&policy, reason, sizeof reason);
        cli_say("the policy has no exits: %s; the full model runs", reason);
    }
    policy_free(&policy);
    return result;
}

/* Says what is wrong with the model's files but does not stop anything. */
static void print_warnings(const struct tokenizer *tokenizer)
{
    const char *warning = tokenizer_warning(tokenizer), *unnamed = tokenizer_frame_warning(tokenizer);
    if (unnamed)
        cli_say("warning: %s", unnamed);
    if (warning)
        cli_say("warning: %s", warning);
}

/* Opens everything; returns how many tokens there is room for. */
static int open_run(struct run *run, const struct generate_options *options, const struct string *text,
                    struct error *error)
{
    if (model_open(options->model, &run->model, error) < 0)
        return -1;
    const struct model_config *config = model_config(run->model);
    const struct gguf *gguf = model_gguf(run->model);
    if (tokenizer_open(gguf, gguf ? NULL : options->model, &run->tokenizer, error) < 0)
        return -1;
    print_warnings(run->tokenizer);
    if (prompt_encode(run->tokenizer, text, &run->prompt, error) < 0 ||
        device_open(&options->device, &run->backend, error) < 0)
        return -1;
    run->memory = backend_memory(run->backend);
    if (open_exits(run, options, error) < 0)
        return -1;
    if (run->prompt.count >= (size_t)config->context)
        return error_set(error, "the prompt has %zu tokens, but the model's context is %d: shorten it",
                         run->prompt.count, config->context);
    const int room = config->context - (int)run->prompt.count;
    const int tokens = options->tokens < room ? options->tokens : room;
    run->positions = (int)run->prompt.count + tokens;
    if (engine_open(run->model, run->backend, run->positions, &run->engine, error) < 0 ||
        exits_attach(&run->exits, run->engine, error) < 0 ||
        engine_sequence_create(run->engine, run->positions, &run->sequence, error) < 0 ||
        sampler_create(&run->sampler, options->temperature, options->top_k, options->top_p, options->seed,
                       config->vocab, error) < 0 ||
        generator_create(run->engine, run->sequence, &run->exits, &run->sampler, config, &run->generator,
                         error) < 0)
        return -1;
    run->record =
        (struct run_record){.tokenizer = run->tokenizer, .exits = &run->exits, .sequence = run->sequence};
    run->record.prompt = (int)run->prompt.count;
    return array_alloc(&run->record.generated, tokens, error) < 0 ? -1 : tokens;
}

/* Where the device's memory ran out, adds to the error what takes it, and what takes less. */
static void explain_memory(const struct run *run, struct error *error)
{
    char there[32], weights[32], keys[32];
    if (!run->backend || backend_ran_out(run->backend) == RAN_OUT_NOTHING)
        return;
    const uint64_t weight_bytes = engine_bytes(run->model, backend_math(run->backend));
    const uint64_t key_bytes = sequence_bytes(model_config(run->model), run->positions);
    error_set_kind(
        error, error->kind,
        "%s. The device had %s of memory free. The weights take %s. Keys and values of %d positions take "
        "%s. Working memory and exits take more. %s --device cpu",
        error->text, format_bytes((double)run->memory, there, sizeof there),
        format_bytes((double)weight_bytes, weights, sizeof weights), run->positions,
        format_bytes((double)key_bytes, keys, sizeof keys),
        weight_bytes < run->memory ? "Give fewer --tokens or a shorter prompt, or" : "Give");
}

static void close_run(struct run *run)
{
    free(run->record.generated);
    free(run->prompt.data);
    generator_destroy(run->generator);
    sampler_free(&run->sampler);
    sequence_destroy(run->sequence);
    engine_close(run->engine);
    exits_free(&run->exits);
    backend_close(run->backend);
    tokenizer_close(run->tokenizer);
    model_close(run->model);
}

/* A model may know more tokens than its tokenizer: vocabularies are often padded. */
static int check_token(const struct run *run, int32_t token, struct error *error)
{
    if (token < tokenizer_size(run->tokenizer))
        return 0;
    return error_set(error, "the model gave token %d, but its tokenizer knows 0 .. %d only", token,
                     tokenizer_size(run->tokenizer) - 1);
}

/* stream: where the text goes as it comes, or NULL. */
static int generate(struct run *run, int tokens, struct stream *stream, struct error *error)
{
    struct run_record *record = &run->record;
    double started = clock_seconds();
    if (generator_prompt(run->generator, run->prompt.data, (int)run->prompt.count, error) < 0)
        return -1;
    while (record->count < tokens && !record->ended && !cli_interrupted()) {
        struct generated *generated = &record->generated[record->count];
        const char *bytes;
        size_t size;
        if (generator_next(run->generator, generated, error) < 0 ||
            check_token(run, generated->token, error) < 0)
            return -1;
        if (record->count++ == 0) {
            record->prompt_seconds = clock_seconds() - started;
            started = clock_seconds();
        }
        record->ended = tokenizer_is_end(run->tokenizer, generated->token);
        tokenizer_decode(run->tokenizer, generated->token, &bytes, &size);
        if (stream && !record->ended && stream_write(stream, bytes, size, error) < 0)
            return -1;
    }
    record->seconds = clock_seconds() - started;
    return stream ? stream_finish(stream, error) : 0;
}

static int print_results(const struct run *run, const struct generate_options *options, struct error *error)
{
    if (options->json && show_json(&run->record, stdout, error) < 0)
        return -1;
    if (!options->json)
        fputc('\n', stdout);
    if (options->show) {
        fputc('\n', stdout);
        show_table(&run->record, stdout);
    }
    if (cli_finish_output(error) < 0)
        return -1;
    show_summary(&run->record, stderr);
    if (cli_interrupted())
        return error_set_kind(error, ERROR_INTERRUPTED, "interrupted after %d tokens", run->record.count);
    return 0;
}

int main(int argc, char **argv)
{
    struct generate_options options;
    struct stream stream = {.file = stdout};
    struct run run = {0};
    struct string text = {0};
    struct error error;
    int result, tokens = 0;
    cli_start();
    generate_options_parse(argc, argv, &options);
    result = prompt_read(&options, &text, &error);
    if (result == 0)
        result = tokens = open_run(&run, &options, &text, &error);
    if (result >= 0)
        result = generate(&run, tokens, options.json ? NULL : &stream, &error);
    if (result == 0)
        result = print_results(&run, &options, &error);
    if (result < 0) {
        explain_memory(&run, &error);
        cli_say("%s", error.text);
    }
    close_run(&run);
    string_free(&text);
    return cli_exit_code(result, &error);
}
