/* extract.c: extract killed at random moments, or asked to stop, and gone on with: the store must hold the
 * same bytes as that of a run that was left alone; and it must not matter how many threads there were. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/random.h"
#include "common/model/model.h"
#include "common/store/store.h"
#include "extract/plan.h"
#include "tests/make_model.h"
#include "tests/test.h"

#define TAPS "0,5.mid,5,12.mid,final"
enum { KILLS = 20, TOKENS = 50000, HELD_OUT = 6000, VOCAB = 200, ROWS = 64 };

extern char **environ;
static struct error error;

/* Large enough that a run takes a second or so on a slow machine and makes several commits. */
static const struct made_model model = {.layers = 12,
                                        .hidden = 96,
                                        .heads = 4,
                                        .kv_heads = 2,
                                        .head_size = 24,
                                        .intermediate = 256,
                                        .vocab = VOCAB,
                                        .context = 128,
                                        .seed = 11};

struct paths {
    char model[512], train[512], held_out[512], whole[512], broken[512], log[512];
};

static int write_tokens(const char *path, int count, uint64_t seed)
{
    struct random random = {seed};
    uint16_t *ids;
    if (array_alloc(&ids, count, &error) < 0)
        return -1;
    for (int i = 0; i < count; i++)
        ids[i] = (uint16_t)(random_next(&random) % VOCAB); /* an end of text every 200 tokens or so */
    int result = file_write(path, ids, (size_t)count * sizeof *ids, &error);
    free(ids);
    return result;
}

static int prepare(struct paths *paths)
{
    const char *folder = test_folder();
    snprintf(paths->model, sizeof paths->model, "%s/model", folder);
    snprintf(paths->train, sizeof paths->train, "%s/train.u16", folder);
    snprintf(paths->held_out, sizeof paths->held_out, "%s/held_out.u16", folder);
    snprintf(paths->whole, sizeof paths->whole, "%s/whole", folder);
    snprintf(paths->broken, sizeof paths->broken, "%s/broken", folder);
    snprintf(paths->log, sizeof paths->log, "%s/log", folder);
    return make_model(&model, paths->model, &error) < 0 || write_tokens(paths->train, TOKENS, 1) < 0 ||
                   write_tokens(paths->held_out, HELD_OUT, 2) < 0
               ? -1
               : 0;
}

/* ---- running the program ---- */

/* Starts extract into `out`; its output goes to the log. */
static pid_t start(const struct paths *paths, const char *out, const char *threads, const char *memory)
{
    char program[512];
    const char *build = getenv("BUILD");
    snprintf(program, sizeof program, "%s/extract", build ? build : "build");
    const char *arguments[] = {program,
                               "--model",
                               paths->model,
                               "--corpus",
                               paths->train,
                               "--held-out-corpus",
                               paths->held_out,
                               "--taps",
                               TAPS,
                               "--seq-len",
                               "64",
                               "--out",
                               out,
                               "--threads",
                               threads,
                               "--memory",
                               memory,
                               NULL};
    posix_spawn_file_actions_t actions;
    pid_t process = -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, paths->log, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    int code = posix_spawn(&process, program, &actions, NULL, (char *const *)(uintptr_t)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (code != 0)
        test_fail(__FILE__, __LINE__, "%s: %s", program, strerror(code));
    return code == 0 ? process : -1;
}

static int finish(pid_t process)
{
    int status;
    while (waitpid(process, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return status;
}

static void print_log(const struct paths *paths)
{
    char *text;
    size_t size;
    if (file_read(paths->log, &text, &size, &error) == 0)
        printf("%s", text);
    free(text);
}

/* A run that nothing disturbs must end well. */
static bool run_to_end(const struct paths *paths, const char *out, const char *threads, const char *memory)
{
    int status = finish(start(paths, out, threads, memory));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    test_fail(__FILE__, __LINE__, "extract ended with status %x", (unsigned)status);
    print_log(paths);
    return false;
}

/* Sends the signal after so many seconds; true when it found the program still at work. */
static bool run_until(const struct paths *paths, double seconds, int number, int *status)
{
    pid_t process = start(paths, paths->broken, "2", "8G");
    struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    if (process < 0)
        return false;
    nanosleep(&time, NULL);
    kill(process, number);
    *status = finish(process);
    return number == SIGKILL ? WIFSIGNALED(*status) : !(WIFEXITED(*status) && WEXITSTATUS(*status) == 0);
}

/* ---- comparing stores ---- */

static void compare_tap(struct reader *a, struct reader *b, int tap, struct sequence sequence)
{
    const void *first, *second;
    size_t first_size, second_size;
    REQUIRE_OK(reader_record(a, tap, sequence, &first, &first_size, &error));
    REQUIRE_OK(reader_record(b, tap, sequence, &second, &second_size, &error));
    if (first_size != second_size || memcmp(first, second, first_size) != 0)
        test_fail(__FILE__, __LINE__, "tap %d, %s sequence %llu differs", tap, split_name(sequence.split),
                  (unsigned long long)sequence.index);
}

static void compare_sequences(struct store *a, struct store *b, struct reader *first, struct reader *second)
{
    static int32_t ids[1024], others[1024];
    const struct store_info *info = store_info(a);
    for (int split = 0; split < SPLIT_COUNT; split++) {
        const uint64_t count = store_sequences(a, (enum split)split);
        REQUIRE(count == store_sequences(b, (enum split)split) && count > 0);
        for (uint64_t i = 0; i < count; i++) {
            const struct sequence sequence = {(enum split)split, i};
            REQUIRE_OK(reader_tokens(first, sequence, ids, &error));
            REQUIRE_OK(reader_tokens(second, sequence, others, &error));
            CHECK(memcmp(ids, others, (size_t)(info->rows + 1) * sizeof *ids) == 0);
            for (int tap = 0; tap < info->taps; tap++)
                compare_tap(first, second, tap, sequence);
        }
    }
}

/* Both are finished and hold the same tokens and records, byte for byte. */
static void compare_stores(const char *one, const char *other)
{
    struct store *a = NULL, *b = NULL;
    struct reader *first = NULL, *second = NULL;
    if (store_open(one, STORE_READ, &a, &error) < 0 || store_open(other, STORE_READ, &b, &error) < 0 ||
        reader_open(a, &first, &error) < 0 || reader_open(b, &second, &error) < 0) {
        test_fail(__FILE__, __LINE__, "%s", error.text);
    } else {
        CHECK(store_is_sealed(a) && store_is_sealed(b));
        compare_sequences(a, b, first, second);
    }
    reader_close(first);
    reader_close(second);
    store_close(a);
    store_close(b);
}

static void remove_store(const char *path)
{
    char command[600];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    if (system(command) != 0)
        test_fail(__FILE__, __LINE__, "%s", command);
}

/* ---- tests ---- */

TEST(extract_killed_at_random_moments)
{
    struct paths paths;
    struct random random = {(uint64_t)time(NULL)};
    REQUIRE_OK(prepare(&paths));
    const double started = clock_seconds();
    REQUIRE(run_to_end(&paths, paths.whole, "2", "8G"));
    const double whole = clock_seconds() - started;
    printf("  seed %llu, a whole run takes %.2f s\n", (unsigned long long)random.state, whole);
    int finished = 0, status;
    for (int kills = 0; kills < KILLS;) {
        if (run_until(&paths, 0.8 * whole * random_uniform(&random), SIGKILL, &status)) {
            kills++;
            continue;
        }
        REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* it was faster than the kill */
        compare_stores(paths.whole, paths.broken);
        remove_store(paths.broken);
        finished++;
    }
    REQUIRE(run_to_end(&paths, paths.broken, "1", "8G"));
    compare_stores(paths.whole, paths.broken);
    printf("  %d stores were finished between %d kills\n", finished + 1, KILLS);
}

TEST(extract_asked_to_stop)
{
    struct paths paths;
    struct random random = {(uint64_t)time(NULL)};
    char *text;
    size_t size;
    int status;
    REQUIRE_OK(prepare(&paths));
    const double started = clock_seconds();
    REQUIRE(run_to_end(&paths, paths.whole, "2", "8G"));
    const double whole = clock_seconds() - started;
    for (int stops = 0; stops < 4; stops++) {
        const int number = stops % 2 ? SIGTERM : SIGINT;
        if (!run_until(&paths, whole * (0.1 + 0.8 * random_uniform(&random)), number, &status))
            break;
        if (!WIFEXITED(status))
            continue; /* before the program had asked to hear of signals */
        CHECK(WEXITSTATUS(status) == 1);
        REQUIRE_OK(file_read(paths.log, &text, &size, &error));
        CHECK_TEXT(text, "the same command goes on from there");
        free(text);
    }
    REQUIRE(run_to_end(&paths, paths.broken, "2", "8G"));
    compare_stores(paths.whole, paths.broken);
}

/* A little less memory than keeping all weights takes. */
static void choose_memory(const struct paths *paths, char text[32])
{
    struct model *opened;
    struct plan plan;
    struct tap taps[] = {{0, false}, {5, true}, {5, false}, {12, true}, {12, false}}; /* TAPS */
    const struct store_info info = {.hidden = model.hidden, .rows = ROWS, .taps = 5, .tap = taps};
    REQUIRE_OK(model_open(paths->model, &opened, &error));
    REQUIRE_OK(plan_make(model_config(opened), &info, MATH_F32, 2, 0, &plan, &error));
    CHECK(plan.resident);
    snprintf(text, 32, "%llu", (unsigned long long)plan.peak - 1);
    REQUIRE_OK(plan_make(model_config(opened), &info, MATH_F32, 2, plan.peak - 1, &plan, &error));
    CHECK(!plan.resident && plan.group > 1);
    model_close(opened);
}

/* 1 and 2 threads; all weights resident and one layer at a time. */
TEST(extract_threads_and_memory_do_not_matter)
{
    struct paths paths;
    char memory[32] = "";
    REQUIRE_OK(prepare(&paths));
    REQUIRE(run_to_end(&paths, paths.whole, "1", "8G"));
    REQUIRE(run_to_end(&paths, paths.broken, "2", "8G"));
    compare_stores(paths.whole, paths.broken);
    remove_store(paths.broken);
    choose_memory(&paths, memory);
    REQUIRE(run_to_end(&paths, paths.broken, "2", memory));
    compare_stores(paths.whole, paths.broken);
}

TEST_MAIN
