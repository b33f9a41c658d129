#include "generate/generator.h"

#include "common/base/cli.h"
#include "common/base/memory.h"

struct generator {
    struct engine *engine;
    struct engine_sequence *sequence;
    const struct exits *exits;
    struct sampler *sampler;
    const struct model_config *config;
    struct predictor *predictor;
    int32_t unread; /* the last token given out, -1: none */
};

int generator_create(struct engine *engine, struct engine_sequence *sequence, const struct exits *exits,
                     struct sampler *sampler, const struct model_config *config, struct generator **result,
                     struct error *error)
{
    struct generator *generator = NULL;
    *result = NULL;
    if (array_alloc(&generator, 1, error) < 0)
        return -1;
    *generator = (struct generator){engine, sequence, exits, sampler, config, NULL, -1};
    if (predictor_create(engine_queue(engine), config->hidden, config->vocab, sampler->temperature > 0,
                         &generator->predictor, error) < 0) {
        free(generator);
        return -1;
    }
    *result = generator;
    return 0;
}

void generator_destroy(struct generator *generator)
{
    if (!generator)
        return;
    predictor_destroy(generator->predictor);
    free(generator);
}

/* Brings the last row to a half; its state there, [1, H]. */
static struct matrix run_last(struct generator *generator, int half)
{
    const struct engine_row row = {generator->sequence, sequence_rows(generator->sequence) - 1, half, true};
    return engine_run(generator->engine, &row, 1);
}

int generator_prompt(struct generator *generator, const int32_t *ids, int count, struct error *error)
{
    if (sequence_append(generator->sequence, ids, count, error) < 0)
        return -1;
    for (int half = 1; half <= sequence_halves(generator->sequence); half++) {
        if (cli_interrupted())
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted before the first token");
        run_last(generator, half);
    }
    return queue_wait(engine_queue(generator->engine), error);
}

/* The last row's prediction from the top of the model. */
static int predict_full(struct generator *generator, struct prediction *prediction, struct error *error)
{
    const struct ends *ends = engine_ends(generator->engine);
    const struct vocab weight = {.tied = ends_output(ends), .own = matrix_none()};
    const struct matrix state = run_last(generator, sequence_halves(generator->sequence));
    op_norm(engine_queue(generator->engine), state, ends_final_norm(ends), generator->config->norm_epsilon,
            predictor_input(generator->predictor));
    return predictor_run(generator->predictor, &weight, prediction, error);
}

/* Up the model until an exit's rule lets the last row leave; *exit -1 when none does. */
static int predict_early(struct generator *generator, struct prediction *prediction, int *exit,
                         struct error *error)
{
    bool leaves = false;
    *exit = -1;
    for (int e = 0; e < generator->exits->count && !leaves; e++) {
        const struct exit_point *point = &generator->exits->exit[e];
        const struct matrix state = run_last(generator, tap_half(point->tap));
        if (exit_check(point, generator->engine, generator->sequence, state, generator->predictor, prediction,
                       &leaves, error) < 0)
            return -1;
        if (leaves)
            *exit = e;
    }
    return 0;
}

int generator_next(struct generator *generator, struct generated *generated, struct error *error)
{
    struct engine_sequence *sequence = generator->sequence;
    struct prediction prediction;
    int exit = -1;
    if (generator->unread >= 0) {
        if (sequence_append(sequence, &generator->unread, 1, error) < 0 ||
            predict_early(generator, &prediction, &exit, error) < 0)
            return -1;
    }
    if (exit < 0 && predict_full(generator, &prediction, error) < 0)
        return -1;
    *generated = (struct generated){
        prediction.token, exit, sequence_depth(sequence, sequence_rows(sequence) - 1), prediction.probability};
    if (generator->sampler->temperature > 0)
        generated->token = sampler_pick(generator->sampler, prediction.logits, generator->config->vocab);
    generator->unread = generated->token;
    return 0;
}
