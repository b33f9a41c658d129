/* What the parts of a sweep have learned is put together once all have ended; and folders of parts are told from whole runs. */
#include "tests/test.h"

#include <stdlib.h>

#include "common/base/file.h"
#include "common/base/json.h"
#include "train/parts.h"

static struct error error;

/* A part that notes what `text` says, and ends where `ended`. */
static void leave_part(const char *folder, int index, int count, const char *text, bool ended)
{
    const struct run_share share = {.part = {index, count}};
    const struct sweep none = {0};
    struct run_folder run;
    json_t *learned = json_parse("a part", text, strlen(text), &error), *value;
    const char *name;
    REQUIRE(learned != NULL);
    REQUIRE_OK(run_folder_open_share(folder, &share, &run, &error));
    REQUIRE_OK(run_folder_fix(&run, "steps", json_integer(8), &error));
    REQUIRE_OK(run_folder_begin(&run, &error));
    json_object_foreach(learned, name, value)
        CHECK(run_folder_note(&run, name, json_incref(value), &error) == 0);
    CHECK((ended ? parts_end(&run, &none, &error) : run_folder_save(&run, &error)) == 0);
    run_folder_close(&run);
    json_decref(learned);
}

static bool fact_is(const struct run_folder *run, const char *name, const char *text)
{
    json_t *wanted = json_loads(text, JSON_DECODE_ANY, NULL);
    const json_t *fact = json_object_get(run->facts, name);
    const bool same = json_is_number(wanted) ? json_number_value(wanted) == json_number_value(fact)
                                             : json_equal(wanted, fact);
    json_decref(wanted);
    return same;
}

TEST(parts_are_added_up)
{
    const char *const folder = test_folder();
    const struct run_share collect = {.collect = true};
    const struct sweep sweep = {.trials = 3};
    struct run_folder run;
    leave_part(folder, 1, 3,
               "{\"seconds\": 2, \"stall_seconds\": 0.5, \"peak_memory\": 9, \"full_loss\": 3, \"numerics\": "
               "[\"b\", \"a\"]}",
               true);
    leave_part(folder, 0, 3,
               "{\"seconds\": 1, \"stall_seconds\": 0.25, \"peak_memory\": 7, \"full_loss\": 2.5, "
               "\"numerics\": [\"a\"], "
               "\"costs\": {\"x\": 1}}",
               true);
    leave_part(folder, 2, 3, "{\"device_in_seconds\": 4, \"device_memory\": 5, \"costs\": {\"y\": 2}}", true);
    for (int time = 0; time < 2; time++) { /* of one that was killed nothing is counted twice */
        REQUIRE_OK(run_folder_open_share(folder, &collect, &run, &error));
        CHECK(run.share.part.count == 3 && !run_is_whole(&run) && !run_is_part(&run));
        REQUIRE_OK(parts_gather(&run, &sweep, &error));
        CHECK(fact_is(&run, "seconds", "3") && fact_is(&run, "stall_seconds", "0.75") &&
              fact_is(&run, "peak_memory", "9"));
        CHECK(fact_is(&run, "full_loss", "2.5") && fact_is(&run, "numerics", "[\"a\", \"b\"]"));
        CHECK(fact_is(&run, "device_in_seconds", "4") && fact_is(&run, "device_memory", "5"));
        CHECK(fact_is(&run, "costs", "{\"x\": 1, \"y\": 2}") && fact_is(&run, "steps", "8"));
        CHECK(!json_object_get(run.facts, "ended"));
        REQUIRE_OK(run_folder_save(&run, &error));
        run_folder_close(&run);
    }
    /* Those that are collected are a whole run. */
    REQUIRE_OK(run_folder_open_share(folder, &collect, &run, &error));
    parts_dissolve(&run);
    REQUIRE_OK(run_folder_note(&run, "result", json_object(), &error));
    REQUIRE_OK(run_folder_save(&run, &error));
    REQUIRE_OK(parts_remove(&run, &error));
    run_folder_close(&run);
    REQUIRE_OK(run_folder_open_share(folder, &collect, &run, &error));
    CHECK(run_is_whole(&run));
    run_folder_close(&run);
}

/* Who works there is known by the folder. */
TEST(parts_are_told_from_whole_runs)
{
    const char *const folder = test_folder();
    const struct run_share collect = {.collect = true}, part = {.part = {1, 2}}, other = {.part = {1, 3}};
    struct run_folder run, second;
    CHECK(run_folder_open_share(folder, &collect, &run, &error) < 0);
    CHECK_TEXT(error.text, "holds no run whose parts");
    leave_part(folder, 0, 2, "{}", false);
    CHECK(run_folder_open(folder, &run, &error) < 0);
    CHECK_TEXT(error.text, "is trained in 2 parts");
    CHECK(run_folder_open_share(folder, &other, &run, &error) < 0);
    CHECK_TEXT(error.text, "in 2 parts, not 3");
    REQUIRE_OK(run_folder_open_share(folder, &part, &run, &error));
    CHECK(run_folder_open_share(folder, &part, &second, &error) < 0);
    CHECK_TEXT(error.text, "part 1 of 2: another train is at work there");
    CHECK(run_folder_check_claim(&run, &error) == 0);
    char *claim = run_folder_part_path(&run, 1, "claim.1", &error);
    REQUIRE_OK(file_remove(claim, &error));
    CHECK(run_folder_check_claim(&run, &error) < 0);
    CHECK(run_folder_save(&run, &error) < 0);
    CHECK_TEXT(error.text, "has taken over part 1 of 2");
    free(claim);
    run_folder_close(&run);
    REQUIRE_OK(run_folder_open_share(folder, &collect, &run, &error));
    CHECK(run_folder_open_share(folder, &collect, &second, &error) < 0);
    CHECK_TEXT(error.text, "collecting 2 parts: another train");
    run_folder_close(&run);
}

/* Two that begin at once: the second compares what it would have written with what is there. */
TEST(parts_begin_as_the_first)
{
    const char *const folder = test_folder();
    const struct run_share shares[] = {{.part = {0, 3}}, {.part = {1, 3}}, {.part = {2, 3}}};
    const int seeds[] = {4, 5, 4};
    struct run_folder run[3];
    for (int i = 0; i < 3; i++) {
        REQUIRE_OK(run_folder_open_share(folder, &shares[i], &run[i], &error));
        REQUIRE_OK(run_folder_fix(&run[i], "seed", json_integer(seeds[i]), &error));
    }
    REQUIRE_OK(run_folder_begin(&run[0], &error));
    CHECK(run_folder_begin(&run[1], &error) < 0);
    CHECK_TEXT(error.text, "begun with seed 4, not 5");
    REQUIRE_OK(run_folder_begin(&run[2], &error));
    REQUIRE_OK(run_folder_keep_sweep(&run[0], "a\nb\n", 4, &error));
    REQUIRE_OK(run_folder_keep_sweep(&run[2], "a\nb\n", 4, &error));
    CHECK(run_folder_keep_sweep(&run[2], "a\nc\n", 4, &error) < 0);
    CHECK_TEXT(error.text, "differs from line 2 on");
    for (int i = 0; i < 3; i++)
        run_folder_close(&run[i]);
}

/* A run of one process that begins beside them is one of them, or the parts are it. */
TEST(parts_and_a_whole_run_do_not_begin_together)
{
    const struct run_share part = {.part = {0, 2}};
    struct run_folder run, whole;
    const char *folder = test_folder();
    REQUIRE_OK(run_folder_open(folder, &whole, &error));
    REQUIRE_OK(run_folder_open_share(folder, &part, &run, &error));
    REQUIRE_OK(run_folder_begin(&run, &error));
    CHECK(run_folder_begin(&whole, &error) < 0);
    CHECK_TEXT(error.text, "is trained in 2 parts");
    run_folder_close(&run);
    run_folder_close(&whole);
    folder = test_folder();
    REQUIRE_OK(run_folder_open(folder, &whole, &error));
    REQUIRE_OK(run_folder_open_share(folder, &part, &run, &error));
    REQUIRE_OK(run_folder_begin(&whole, &error));
    CHECK(run_folder_begin(&run, &error) < 0);
    CHECK_TEXT(error.text, "is not trained in parts");
    run_folder_close(&run);
    run_folder_close(&whole);
}

TEST_MAIN
