/* What a run takes is added up over its processes, and noted once. */
#include "tests/test.h"

#include <time.h>

#include "train/cost.h"

static double fact(const struct run_folder *run, const char *name)
{
    return json_number_value(json_object_get(run->facts, name));
}

static void sleep_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

TEST(cost_is_added_up)
{
    const char *const folder = test_folder();
    struct error error = {0};
    struct run_folder run;
    REQUIRE_OK(run_folder_open(folder, &run, &error));
    struct cost cost = cost_start();
    sleep_a_little();
    cost.stalled = 0.25;
    REQUIRE_OK(cost_note(&cost, &run, &error));
    const double first = fact(&run, "seconds");
    CHECK(first >= 0.02 && first < 10 && fact(&run, "stall_seconds") == 0.25);
    CHECK(fact(&run, "peak_memory") > 1e5);
    CHECK(!json_object_get(run.facts, "device_memory") && !json_object_get(run.facts, "device_in_seconds"));
    /* What has been noted is not noted again. */
    REQUIRE_OK(cost_note(&cost, &run, &error));
    CHECK(fact(&run, "seconds") < first + 0.02 + 1 && fact(&run, "stall_seconds") == 0.25);
    /* Another process of the same run, by what is on the disk. */
    run_folder_close(&run);
    REQUIRE_OK(run_folder_open(folder, &run, &error));
    const double before = fact(&run, "seconds");
    CHECK(before >= first);
    REQUIRE_OK(run_folder_note(&run, "peak_memory", json_real(1e15), &error));
    cost = cost_start();
    cost.stalled = 0.5;
    sleep_a_little();
    REQUIRE_OK(cost_note(&cost, &run, &error));
    CHECK(fact(&run, "seconds") >= before + 0.02 && fact(&run, "stall_seconds") == 0.75);
    CHECK(fact(&run, "peak_memory") == 1e15);
    run_folder_close(&run);
}

static void check_printed(struct run_folder *run, const char *text)
{
    char *printed = NULL;
    size_t size;
    FILE *stream = open_memstream(&printed, &size);
    REQUIRE(stream != NULL);
    cost_print(run, stream);
    fclose(stream);
    CHECK_TEXT(printed, text);
    free(printed);
}

TEST(cost_says_what_bounds_a_run)
{
    struct error error = {0};
    struct run_folder run;
    REQUIRE_OK(run_folder_open(test_folder(), &run, &error));
    REQUIRE_OK(run_folder_note(&run, "seconds", json_real(100), &error));
    REQUIRE_OK(run_folder_note(&run, "stall_seconds", json_real(20), &error));
    check_printed(&run, "bound by computing;");
    REQUIRE_OK(run_folder_note(&run, "stall_seconds", json_real(70), &error));
    check_printed(&run, "bound by reading the store;");
    REQUIRE_OK(run_folder_note(&run, "device_compute_seconds", json_real(60), &error));
    REQUIRE_OK(run_folder_note(&run, "device_in_seconds", json_real(80), &error));
    check_printed(&run, "bound by bringing to the device;");
    check_printed(&run, "The device computed for 60.0 s, received data for 80.0 s");
    run_folder_close(&run);
}

TEST_MAIN
