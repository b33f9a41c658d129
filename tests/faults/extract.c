/* extract.c: extract killed at random moments, or asked to stop, and gone on with: the store must hold the
 * same bytes as that of a run that was left alone; and it must not matter how many threads there were, nor
 * into how many shards it is cut. */
#include <stdlib.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/random.h"
#include "common/model/model.h"
#include "common/store/store.h"
#include "extract/plan.h"
#include "tests/make_model.h"
#include "tests/process.h"

#define TAPS "0,5.mid,5,12.mid,final"
enum { TOKENS = 40000, HELD_OUT = 4000, VOCAB = 200, ROWS = 64 };

static struct error error;

/* Large enough that a run takes a second or so on a slow machine and makes several commits. */
static const struct made_model model = {.layers = 12,
                                        .hidden = 96,
                                        .attention_heads = 4,
                                        .kv_heads = 2,
                                        .head_size = 24,
                                        .intermediate = 256,
                                        .vocab = VOCAB,
                                        .context = 128,
                                        .seed = 11};

/* What all tests share: a model, tokens, and a store that a run with one thread made undisturbed. */
static struct {
    bool ready;
    char model[512], train[512], held_out[512], whole[512], broken[512], log[512];
    char little[32]; /* memory: a little less than keeping all weights takes */
    char shard[16]; /* "I/N": what is run is one of several */
    double seconds; /* that the run took */
} setup;

static const char enough[] = "8G";

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

/* ---- running the program ---- */

enum { ARGUMENTS = 20 };

static void make_arguments(const char *out, const char *threads, const char *memory,
                           const char *arguments[ARGUMENTS])
{
    const char *const made[ARGUMENTS] = {"extract",   "--model",           setup.model,    "--corpus",
                                         setup.train, "--held-out-corpus", setup.held_out, "--taps",
                                         TAPS,        "--seq-len",         "64",           "--out",
                                         out,         "--threads",         threads,        "--memory",
                                         memory,      "--shard",           setup.shard,    NULL};
    memcpy(arguments, made, sizeof made);
}

/* A run that nothing disturbs must end well. */
static bool run_to_end(const char *out, const char *threads, const char *memory)
{
    const char *arguments[ARGUMENTS];
    make_arguments(out, threads, memory, arguments);
    return process_run(arguments, setup.log, setup.log);
}

/* Sends the signal after so many seconds; true when it found the program still at work. */
static bool run_until(double seconds, int number, const char *memory, int *status)
{
    const char *arguments[ARGUMENTS];
    make_arguments(setup.broken, "2", memory, arguments);
    const pid_t process = process_start(arguments, setup.log, setup.log);
    if (process < 0)
        return false;
    wait_seconds(seconds);
    kill(process, number);
    *status = process_await(process);
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

/* b may be a shard of a. */
static void compare_sequences(struct store *a, struct store *b, struct reader *first, struct reader *second)
{
    static int32_t ids[1024], others[1024];
    const struct store_info *info = store_info(b);
    const uint64_t step = (uint64_t)info->shards;
    for (int split = 0; split < SPLIT_COUNT; split++) {
        const uint64_t count = store_sequences(a, (enum split)split);
        uint64_t compared = 0;
        for (uint64_t i = (uint64_t)info->shard; i < count; i += step, compared++) {
            const struct sequence sequence = {(enum split)split, i};
            REQUIRE_OK(reader_tokens(first, sequence, ids, &error));
            REQUIRE_OK(reader_tokens(second, sequence, others, &error));
            CHECK(memcmp(ids, others, (size_t)(info->rows + 1) * sizeof *ids) == 0);
            for (int tap = 0; tap < info->taps; tap++)
                compare_tap(first, second, tap, sequence);
        }
        REQUIRE(compared > 0 && compared == store_sequences(b, (enum split)split));
    }
}

/* Both are finished and hold the same tokens and records, byte for byte; `other` may hold a shard of them. */
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

/* ---- preparing ---- */

static int choose_memory(void)
{
    struct model *opened;
    struct plan plan;
    struct tap taps[] = {{0, false}, {5, true}, {5, false}, {12, true}, {12, false}, tap_target(12)}; /* TAPS */
    const struct store_info info = {
        .layers = model.layers, .hidden = model.hidden, .rows = ROWS, .taps = 6, .tap = taps};
    if (model_open(setup.model, &opened, &error) < 0)
        return -1;
    const struct plan_file file = plan_file(opened);
    struct plan_machine machine = {.math = MATH_F32, .threads = 2, .activations = 64 << 20};
    int result = plan_make(model_config(opened), file, &info, &machine, &plan, &error);
    const uint64_t memory = machine.memory = plan.peak - 1;
    snprintf(setup.little, sizeof setup.little, "%llu", (unsigned long long)memory);
    if (result == 0)
        result = plan_make(model_config(opened), file, &info, &machine, &plan, &error);
    if (result == 0 && (plan.resident || plan.group < 2))
        result = error_set(&error, "%s bytes are enough for all weights", setup.little);
    model_close(opened);
    return result;
}

static int prepare(void)
{
    if (setup.ready) {
        remove_store(setup.broken);
        return 0;
    }
    const char *folder = test_folder();
    snprintf(setup.model, sizeof setup.model, "%s/model", folder);
    snprintf(setup.train, sizeof setup.train, "%s/train.u16", folder);
    snprintf(setup.held_out, sizeof setup.held_out, "%s/held_out.u16", folder);
    snprintf(setup.whole, sizeof setup.whole, "%s/whole", folder);
    snprintf(setup.broken, sizeof setup.broken, "%s/broken", folder);
    snprintf(setup.log, sizeof setup.log, "%s/log", folder);
    if (make_model(&model, setup.model, &error) < 0 || write_tokens(setup.train, TOKENS, 1) < 0 ||
        write_tokens(setup.held_out, HELD_OUT, 2) < 0 || choose_memory() < 0)
        return -1;
    const double started = clock_seconds();
    strcpy(setup.shard, "0/1");
    setup.ready = run_to_end(setup.whole, "1", enough);
    setup.seconds = clock_seconds() - started;
    return setup.ready ? 0 : error_set(&error, "there is nothing to compare with");
}

/* ---- tests ---- */

TEST(extract_threads_and_memory_do_not_matter)
{
    REQUIRE_OK(prepare());
    REQUIRE(run_to_end(setup.broken, "2", enough));
    compare_stores(setup.whole, setup.broken);
    remove_store(setup.broken);
    REQUIRE(run_to_end(setup.broken, "2", setup.little));
    compare_stores(setup.whole, setup.broken);
}

/* Now with all weights resident, now with one layer at a time, where taps are filled one after another. */
TEST(extract_killed_at_random_moments)
{
    struct random random = {(uint64_t)time(NULL)};
    int finished = 0, status;
    REQUIRE_OK(prepare());
    printf("  seed %llu, a whole run takes %.2f s\n", (unsigned long long)random.state, setup.seconds);
    const char *longer = getenv("OFFRAMP_KILLS"); /* make soak */
    const int wanted = longer ? atoi(longer) : 20;
    for (int kills = 0; kills < wanted;) {
        const char *memory = random_next(&random) % 2 ? enough : setup.little;
        if (run_until(0.8 * setup.seconds * random_uniform(&random), SIGKILL, memory, &status)) {
            kills++;
            continue;
        }
        REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == 0); /* it was faster than the kill */
        compare_stores(setup.whole, setup.broken);
        remove_store(setup.broken);
        finished++;
    }
    REQUIRE(run_to_end(setup.broken, "2", enough));
    compare_stores(setup.whole, setup.broken);
    printf("  %d stores were finished between %d kills\n", finished + 1, wanted);
}

/* Each shard is killed once on its way. */
TEST(extract_shards_hold_the_same_records)
{
    struct random random = {(uint64_t)time(NULL)};
    int status;
    REQUIRE_OK(prepare());
    for (int shards = 1; shards <= 3; shards++) {
        for (int shard = 0; shard < shards; shard++) {
            snprintf(setup.shard, sizeof setup.shard, "%d/%d", shard, shards);
            run_until(setup.seconds / shards * random_uniform(&random), SIGKILL, setup.little, &status);
            const bool ended = run_to_end(setup.broken, "2", shard % 2 ? enough : setup.little);
            strcpy(setup.shard, "0/1");
            REQUIRE(ended);
            compare_stores(setup.whole, setup.broken);
            remove_store(setup.broken);
        }
    }
}

TEST(extract_asked_to_stop)
{
    struct random random = {(uint64_t)time(NULL)};
    char *text;
    size_t size;
    int status;
    REQUIRE_OK(prepare());
    for (int stops = 0; stops < 4; stops++) {
        const int number = stops % 2 ? SIGTERM : SIGINT;
        const double seconds = setup.seconds * (0.1 + 0.8 * random_uniform(&random));
        if (!run_until(seconds, number, enough, &status))
            break;
        if (!WIFEXITED(status))
            continue; /* before the program had asked to hear of signals */
        CHECK(WEXITSTATUS(status) == 1);
        REQUIRE_OK(file_read(setup.log, &text, &size, &error));
        CHECK_TEXT(text, "the same command goes on from there");
        free(text);
    }
    REQUIRE(run_to_end(setup.broken, "2", enough));
    compare_stores(setup.whole, setup.broken);
}

TEST_MAIN
