/* make_policy MODEL FOLDER TAP:THRESHOLD[:KIND]...: a policy of untrained exits, for tests and benchmarks that need
 * one at once: heads copied from the model, mlp at taps L.mid, norm elsewhere where no kind is given. A bridge leads to
 * where bridges lead that are told nothing. Taps ascending. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/head/head.h"
#include "common/head/policy.h"
#include "common/model/model.h"
#include "tests/model_source.h"

static int save_exit(struct model *model, struct backend *backend, struct queue *queue, const char *folder,
                     const char *fingerprint, struct policy_exit *exit, struct error *error)
{
    const struct model_config *config = model_config(model);
    const struct head_source source = {model_source, model};
    struct head_spec spec = {
        .kind = head_kind_find(exit->head.kind, error), .output = OUTPUT_TIED, .tap = exit->tap};
    struct head *head = NULL;
    char tap[TAP_NAME_SIZE], *path = NULL;
    int result = -1;
    if (!spec.kind)
        return -1;
    spec.to = head_spec_standard_to(spec.kind, config);
    tap_name(exit->tap, config->layers, tap);
    snprintf(exit->head.output, sizeof exit->head.output, "tied");
    snprintf(exit->head.file, sizeof exit->head.file, "%s.safetensors", tap);
    path = path_join(folder, exit->head.file, error);
    if (path && head_create(&spec, config, backend, &head, error) == 0 &&
        head_initialise(head, INIT_COPY, 0, &source, error) == 0 &&
        head_save(head, queue, path, fingerprint, error) == 0)
        result = policy_hash_file(path, exit->head.hash, error);
    head_destroy(head);
    free(path);
    return result;
}

/* "12:0.9" or "12:0.9:block" */
static int parse_exit(char *text, int layers, struct policy_exit *exit, struct error *error)
{
    char *colon = strchr(text, ':');
    if (!colon)
        return error_set(error, "\"%s\" is not TAP:THRESHOLD[:KIND]", text);
    *colon = 0;
    if (tap_parse(text, layers, &exit->tap, error) < 0)
        return -1;
    char *kind = strchr(colon + 1, ':');
    if (kind)
        *kind++ = 0;
    snprintf(exit->head.kind, sizeof exit->head.kind, "%s", kind ? kind : exit->tap.mid ? "mlp" : "norm");
    return parse_number(colon + 1, 0, 1, &exit->rule.threshold, error);
}

static int make_policy(const char *path, const char *folder, char **texts, int count, struct error *error)
{
    struct model *model = NULL;
    struct backend *backend = NULL;
    struct queue *queue = NULL;
    struct policy policy = {.exits = count};
    int result = -1;
    if (array_alloc(&policy.exit, count, error) < 0 || model_open(path, &model, error) < 0 ||
        model_fingerprint(model, policy.fingerprint, error) < 0 || directory_create(folder, error) < 0 ||
        backend_open("ref", &(struct backend_options){0}, &backend, error) < 0 ||
        queue_create(backend, &queue, error) < 0)
        goto done;
    policy.layers = model_config(model)->layers;
    for (int e = 0; e < count; e++) {
        if (parse_exit(texts[e], policy.layers, &policy.exit[e], error) < 0 ||
            save_exit(model, backend, queue, folder, policy.fingerprint, &policy.exit[e], error) < 0)
            goto done;
    }
    result = policy_write(folder, &policy, error);
done:
    queue_destroy(queue);
    backend_close(backend);
    model_close(model);
    policy_free(&policy);
    return result;
}

int main(int argc, char **argv)
{
    struct error error;
    if (argc < 4) {
        fprintf(stderr, "usage: make_policy MODEL FOLDER TAP:THRESHOLD[:KIND]...\n");
        return EXIT_WRONG_USAGE;
    }
    if (make_policy(argv[1], argv[2], argv + 3, argc - 3, &error) < 0) {
        fprintf(stderr, "make_policy: %s\n", error.text);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}
