#include "generate/generator.h"

#include "common/base/cli.h"
#include "common/base/memory.h"

struct generator {
    struct session *session;
    const struct exits *exits;
    struct sampler *sampler;
    const struct model_config *config;
    struct predictor *predictor;
    int32_t unread; /* the last token given out, -1: none */
};

int generator_create(struct session *session, const struct exits *exits, struct sampler *sampler,
                     const struct model_config *config, struct generator **result, struct error *error)
{
    struct generator *generator = NULL;
    *result = NULL;
    if (array_alloc(&generator, 1, error) < 0)
        return -1;
    *generator = (struct generator){session, exits, sampler, config, NULL, -1};
    if (predictor_create(session_queue(session), config->hidden, config->vocab, sampler->temperature > 0,
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

int generator_prompt(struct generator *generator, const int32_t *ids, int count, struct error *error)
{
    struct session *session = generator->session;
    if (session_append(session, ids, count, error) < 0)
        return -1;
    for (int step = 1; step <= session_steps(session); step++) {
        if (cli_interrupted())
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted before the first token");
        session_run(session, step);
    }
    return queue_wait(session_queue(session), error);
}

/* The last row's prediction from the top of the model. */
static int predict_full(struct generator *generator, struct prediction *prediction, struct error *error)
{
    struct session *session = generator->session;
    const struct ends *ends = session_ends(session);
    const struct vocab weight = {.tied = ends_output(ends), .own = matrix_none()};
    session_run(session, session_steps(session));
    op_norm(session_queue(session), session_state(session), ends_final_norm(ends),
            generator->config->norm_epsilon, predictor_input(generator->predictor));
    return predictor_run(generator->predictor, &weight, prediction, error);
}

/* Up the model until an exit's head is sure enough; *exit -1 when none is. */
static int predict_early(struct generator *generator, struct prediction *prediction, int *exit,
                         struct error *error)
{
    bool leaves = false;
    *exit = -1;
    for (int e = 0; e < generator->exits->count && !leaves; e++) {
        const struct exit_point *point = &generator->exits->exit[e];
        session_run(generator->session, tap_step(point->tap));
        if (exit_check(point, generator->session, generator->predictor, prediction, &leaves, error) < 0)
            return -1;
        if (leaves)
            *exit = e;
    }
    return 0;
}

int generator_next(struct generator *generator, struct generated *generated, struct error *error)
{
    struct session *session = generator->session;
    struct prediction prediction;
    int exit = -1;
    if (generator->unread >= 0) {
        if (session_append(session, &generator->unread, 1, error) < 0 ||
            predict_early(generator, &prediction, &exit, error) < 0)
            return -1;
    }
    if (exit < 0 && predict_full(generator, &prediction, error) < 0)
        return -1;
    *generated = (struct generated){prediction.token, exit, session_depth(session), prediction.probability};
    if (generator->sampler->temperature > 0)
        generated->token = sampler_pick(generator->sampler, prediction.logits, generator->config->vocab);
    generator->unread = generated->token;
    return 0;
}
