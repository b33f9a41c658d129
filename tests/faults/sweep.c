/* Memory runs out at every allocation of a sweep file's reading in turn: it says so, nothing crashes, and (under the
 * address sanitizer) nothing leaks. The parser's own allocations are not among them. */
#include "train/sweep.h"
#include "tests/failing_memory.h"
#include "tests/small_config.h"
#include "tests/test.h"

static const char text[] = "defaults: {head: affine}\n"
                           "grid: [{tap: [1, 2], rate: [1e-3, 1e-2]}, {tap: 3}]\n"
                           "trials: [{tap: 4}]\n"
                           "random: {count: 40, tap: [1, 2, 3], rate: {log_uniform: [1e-4, 1e-2]}}\n";

static int use_sweep(const char *file, size_t size, struct error *error)
{
    struct sweep sweep;
    int result = sweep_parse("s.yaml", file, size, &sweep, error);
    if (result == 0)
        result = sweep_resolve(&sweep, &small, error);
    sweep_free(&sweep);
    return result;
}

TEST(sweep_runs_out_of_memory)
{
    struct error error;
    int result, failures = 0;
    for (int n = 1;; n++) {
        until_failure = n;
        failed = false;
        result = use_sweep(text, sizeof text - 1, &error);
        until_failure = 0;
        if (!failed)
            break;
        failures++;
        CHECK(result == -1 && error.kind == ERROR_NO_MEMORY);
    }
    CHECK(result == 0 && failures > 10);
}

/* What is said of a wrong key takes memory, too. */
TEST(sweep_refusal_runs_out_of_memory)
{
    static const char wrong[] = "trials: [{tap: 4, haed: norm}]\n";
    struct error error;
    for (int n = 1;; n++) {
        until_failure = n;
        failed = false;
        CHECK(use_sweep(wrong, sizeof wrong - 1, &error) == -1);
        until_failure = 0;
        if (!failed)
            break;
        CHECK(error.kind == ERROR_NO_MEMORY);
    }
    CHECK_TEXT(error.text, "did you mean \"head\"?");
}

TEST_MAIN
