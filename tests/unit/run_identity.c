/* A run that was begun otherwise is refused by name; only its steps may grow. What is left of it is read from
 * its folder. */
#include "tests/trial_bench.h"

#include <stdlib.h>

#include "common/base/file.h"
#include "train/run_identity.h"
#include "train/run_left.h"

static int run_open(const struct bench *bench, struct run_folder *run, struct error *error)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/run", bench->folder);
    return run_folder_open(path, run, error);
}

TEST(run_identity_refuses_another_run_by_name)
{
    struct error error = {0};
    struct bench bench;
    struct run_folder run;
    struct sweep sweep = {.seed = 4, .sequences = 2};
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(run_open(&bench, &run, &error));
    REQUIRE_OK(run_identity_check(&run, &bench.stores, &sweep, &error));
    REQUIRE_OK(run_identity_check(&run, &bench.stores, &sweep, &error));
    sweep.seed = 5;
    CHECK(run_identity_check(&run, &bench.stores, &sweep, &error) < 0);
    CHECK_TEXT(error.text, "seed 4");
    sweep.seed = 4;
    sweep.sequences = 3;
    CHECK(run_identity_check(&run, &bench.stores, &sweep, &error) < 0);
    CHECK_TEXT(error.text, "sequences 2");
    sweep.sequences = 2;
    sweep.halving = 3;
    CHECK(run_identity_check(&run, &bench.stores, &sweep, &error) < 0);
    CHECK_TEXT(error.text, "halving 0");
    sweep.halving = 0;
    sweep.patience = 4;
    CHECK(run_identity_check(&run, &bench.stores, &sweep, &error) < 0);
    CHECK_TEXT(error.text, "patience 0");
    sweep.patience = 0;
    struct stores other = bench.stores;
    other.fingerprint[3] ^= 1;
    CHECK(run_identity_check(&run, &other, &sweep, &error) < 0);
    CHECK_TEXT(error.text, "model");
    /* Nothing of what was refused is kept. */
    REQUIRE_OK(run_identity_check(&run, &bench.stores, &sweep, &error));
    run_folder_close(&run);
    bench_close(&bench);
}

/* A run of before halving and patience is one without them. */
TEST(run_identity_of_an_older_run)
{
    struct error error = {0};
    struct bench bench;
    struct run_folder run;
    struct sweep sweep = {.seed = 4, .sequences = 2};
    bool more;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(run_open(&bench, &run, &error));
    REQUIRE_OK(run_identity_check(&run, &bench.stores, &sweep, &error));
    REQUIRE_OK(run_identity_check_steps(&run, 20, &more, &error));
    json_object_del(run.facts, "halving");
    json_object_del(run.facts, "patience");
    sweep.patience = 2;
    CHECK(run_identity_check(&run, &bench.stores, &sweep, &error) < 0);
    CHECK_TEXT(error.text, "patience 0");
    sweep.patience = 0;
    REQUIRE_OK(run_identity_check(&run, &bench.stores, &sweep, &error));
    run_folder_close(&run);
    bench_close(&bench);
}

/* One trial was begun by a program that knew no subset, one by this one, one is new; one leaves it to the program,
 * and one asks for something else. */
TEST(run_identity_keeps_the_vocabulary)
{
    static const char *const kept[] = {"{\"rate\": 1}", "{\"vocabulary\": \"subset\"}", NULL,
                                       "{\"vocabulary\": \"subset\"}", "{\"vocabulary\": \"all\"}"};
    struct error error = {0};
    struct bench bench;
    struct run_folder run;
    struct trial_config configs[5] = {{.id = "a", .vocabulary = VOCABULARY_SUBSET},
                                      {.id = "b", .vocabulary = VOCABULARY_SUBSET},
                                      {.id = "c", .vocabulary = VOCABULARY_SUBSET},
                                      {.id = "d", .vocabulary = VOCABULARY_ALL, .vocabulary_auto = true},
                                      {.id = "e", .vocabulary = VOCABULARY_SUBSET}};
    struct sweep sweep = {.trial = configs, .trials = 5};
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(run_open(&bench, &run, &error));
    for (int i = 0; i < 5; i++) {
        char *folder = run_folder_trial_path(&run, configs[i].id, NULL, &error);
        char *path = run_folder_trial_path(&run, configs[i].id, "config.json", &error);
        REQUIRE(folder && path);
        REQUIRE_OK(directory_create(folder, &error));
        if (kept[i])
            REQUIRE_OK(file_write(path, kept[i], strlen(kept[i]), &error));
        free(folder);
        free(path);
    }
    REQUIRE_OK(run_identity_keep_vocabulary(&run, &sweep, &error));
    CHECK(configs[0].vocabulary == VOCABULARY_ALL);
    CHECK(configs[1].vocabulary == VOCABULARY_SUBSET && configs[2].vocabulary == VOCABULARY_SUBSET);
    CHECK(configs[3].vocabulary == VOCABULARY_SUBSET); /* auto means something else by now */
    CHECK(configs[4].vocabulary == VOCABULARY_SUBSET); /* asked for: resume.c refuses it */
    run_folder_close(&run);
    bench_close(&bench);
}

TEST(run_identity_steps_may_grow)
{
    struct error error = {0};
    struct bench bench;
    struct run_folder run;
    bool more = true;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(run_open(&bench, &run, &error));
    REQUIRE_OK(run_identity_check_steps(&run, 20, &more, &error));
    CHECK(!more && run_identity_ends_at(&run, 20) && !run_identity_ends_at(&run, 10));
    CHECK(run_identity_check_steps(&run, 10, &more, &error) < 0 && !more);
    CHECK_TEXT(error.text, "steps 20");
    REQUIRE_OK(run_identity_check_steps(&run, 30, &more, &error));
    CHECK(more && run_identity_ends_at(&run, 20) && run_identity_ends_at(&run, 30));
    REQUIRE_OK(run_identity_check_steps(&run, 30, &more, &error));
    CHECK(!more);
    REQUIRE_OK(run_identity_check_steps(&run, 31, &more, &error));
    CHECK(more && run_identity_ends_at(&run, 20) && run_identity_ends_at(&run, 30));
    CHECK(!run_identity_ends_at(&run, 25));
    run_folder_close(&run);
    bench_close(&bench);
}

TEST(run_identity_notes_the_device)
{
    struct error error = {0};
    struct bench bench;
    struct run_folder run;
    REQUIRE_OK(bench_open(&bench, &error));
    REQUIRE_OK(run_open(&bench, &run, &error));
    REQUIRE_OK(run_identity_check_device(&run, bench.backend, &error));
    REQUIRE_OK(run_identity_check_device(&run, bench.backend, &error));
    const json_t *numerics = json_object_get(run.facts, "numerics");
    CHECK(json_array_size(numerics) == 1);
    CHECK(!strcmp(json_string_value(json_array_get(numerics, 0)), backend_identity(bench.backend)));
    CHECK(!strcmp(json_string_value(json_object_get(run.facts, "math")), "f32"));
    REQUIRE_OK(run_folder_note(&run, "math", json_string("bf16"), &error));
    CHECK(run_identity_check_device(&run, bench.backend, &error) < 0);
    CHECK_TEXT(error.text, "math \"bf16\"");
    run_folder_close(&run);
    bench_close(&bench);
}

static int write_trial(const struct run_folder *run, const char *id, const char *metrics, struct error *error)
{
    const char *const names[] = {"config.json", "metrics.jsonl"}, *const texts[] = {"{}", metrics};
    char *folder = run_folder_trial_path(run, id, NULL, error);
    int result = folder ? directory_create(folder, error) : -1;
    for (int i = 0; i < 2 && result == 0; i++) {
        char *path = run_folder_trial_path(run, id, names[i], error);
        result = path ? file_write(path, texts[i], strlen(texts[i]), error) : -1;
        free(path);
    }
    free(folder);
    return result;
}

/* Of failed trials nothing is left but the lines that say so: the head is what the others are asked for,
 * too. */
TEST(run_is_finished_with_just_its_trials)
{
    static const char failed[] = "{\"step\": 3, \"failed\": \"a test\"}\n";
    static const char ended[] =
        "{\"step\": 9, \"tokens\": 4, \"held_out_loss\": 1, \"kl\": 1, \"agreement\": 1}\n";
    struct error error = {0};
    struct run_folder run;
    struct trial_config config[2] = {{.id = "a"}, {.id = "b"}};
    const struct sweep one = {.trial = config, .trials = 1}, both = {.trial = config, .trials = 2};
    REQUIRE_OK(run_folder_open(test_folder(), &run, &error));
    REQUIRE_OK(run_folder_note(&run, "steps", json_integer(9), &error));
    CHECK(!run_is_finished(&run, &both));
    REQUIRE_OK(write_trial(&run, "a", failed, &error));
    REQUIRE_OK(write_trial(&run, "b", failed, &error));
    CHECK(!run_is_finished(&run, &both)); /* it did not get to its results */
    REQUIRE_OK(run_folder_note(&run, "result", json_pack("{s[ss]}", "trials", "a", "b"), &error));
    CHECK(run_is_finished(&run, &both) && !run_is_finished(&run, &one));
    CHECK(!run_has_results(&run));
    REQUIRE_OK(write_trial(&run, "b", ended, &error)); /* its head is gone */
    CHECK(!run_is_finished(&run, &both));
    run_folder_close(&run);
}

TEST_MAIN
