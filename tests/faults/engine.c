/* Memory runs out at every allocation of an engine and its sequences in turn: each call fails with a reason or
 * does its work, nothing crashes, and (under the address sanitizer) nothing leaks. */
#include <stdio.h>

#include "generate/engine.h"
#include "tests/failing_memory.h"
#include "tests/make_model.h"
#include "tests/test.h"

/* ---- what runs out of memory ---- */

enum { LAYERS = 2, POSITIONS = 40, PROMPT = 12 };

static int run_two(struct engine *engine, struct engine_sequence *one, struct engine_sequence **two,
                   struct error *error)
{
    static const int32_t ids[PROMPT] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct engine_row rows[2] = {{one, PROMPT - 1, 1, false}, {one, PROMPT - 1, 2 * LAYERS, true}};
    if (sequence_append(one, ids, PROMPT, error) < 0)
        return -1;
    engine_run(engine, rows, 1);
    if (sequence_fork(one, POSITIONS, two, error) < 0 || sequence_append(one, ids, 2, error) < 0 ||
        sequence_truncate(one, PROMPT + 1, error) < 0 || sequence_append(*two, ids, 1, error) < 0)
        return -1;
    rows[0] = (struct engine_row){*two, PROMPT, 3, true};
    engine_run(engine, rows, 2);
    return queue_wait(engine_queue(engine), error);
}

static int use_engine(const struct model *model, struct backend *backend, struct error *error)
{
    struct engine *engine;
    struct engine_sequence *one = NULL, *two = NULL;
    if (engine_open(model, backend, POSITIONS, &engine, error) < 0)
        return -1;
    int result = engine_sequence_create(engine, POSITIONS, &one, error);
    if (result == 0)
        result = run_two(engine, one, &two, error);
    sequence_destroy(one);
    sequence_destroy(two);
    engine_close(engine);
    return result;
}

static void fail_in_turn(const char *device)
{
    const struct made_model made = {LAYERS, 32, 4, 2, 8, 48, 97, POSITIONS, 5, false};
    struct model *model;
    struct backend *backend;
    struct error error;
    char folder[4000];
    int turn = 0, refused = 0;
    snprintf(folder, sizeof folder, "%s/model", test_folder());
    REQUIRE_OK(make_model(&made, folder, &error));
    REQUIRE_OK(model_open(folder, &model, &error));
    REQUIRE_OK(backend_open(device, &(struct backend_options){.threads = 2}, &backend, &error));
    do {
        error = (struct error){0};
        failed = false;
        until_failure = ++turn;
        const int result = use_engine(model, backend, &error);
        until_failure = 0;
        refused += result < 0;
        if (result < 0 && (!failed || !*error.text || error.kind != ERROR_NO_MEMORY))
            test_fail(__FILE__, __LINE__, "turn %d on %s: not for want of memory: %s", turn, device,
                      error.text);
        if (result == 0 && failed && strcmp(device, "ref") == 0)
            test_fail(__FILE__, __LINE__, "turn %d on %s: no error", turn, device);
    } while (failed && turn < 10000);
    CHECK(turn < 10000 && refused > 30);
    backend_close(backend);
    model_close(model);
}

TEST(memory_engine)
{
    fail_in_turn("ref");
    fail_in_turn("cpu");
}

TEST_MAIN
