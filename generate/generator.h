/* generator.h: one token after another, each from the first exit that is sure enough, or from the top.
 *
 *     generator_create(engine, sequence, &exits, &sampler, config, &generator, error);
 *     generator_prompt(generator, ids, count, error);
 *     while (generator_next(generator, &generated, error) == 0 && generated.token != end) ...
 */
#ifndef OFFRAMP_GENERATE_GENERATOR_H
#define OFFRAMP_GENERATE_GENERATOR_H

#include "generate/decide.h"
#include "generate/engine.h"
#include "generate/sample.h"

/* A token and where it came from. */
struct generated {
    int32_t token;
    int exit; /* index in exits, or -1: the full model */
    int half; /* which its row had reached by then */
    double probability; /* of the top token there */
};

struct generator;

/* exits with count 0: the full model alone. What is passed must outlive it. */
int generator_create(struct engine *engine, struct engine_sequence *sequence, const struct exits *exits,
                     struct sampler *sampler, const struct model_config *config, struct generator **generator,
                     struct error *error);
void generator_destroy(struct generator *generator); /* NULL is fine */

/* Takes the prompt through all layers: its last row predicts from the top. Once, first. */
int generator_prompt(struct generator *generator, const int32_t *ids, int count, struct error *error);

/* The next token; it is read by the call after. */
int generator_next(struct generator *generator, struct generated *generated, struct error *error);

#endif
