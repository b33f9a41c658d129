/* Damaged stores are made whole again: their structure is built anew from what is right, and what is then
 * missing is put again. OFFRAMP_FLIPS makes the campaigns longer (make soak).
 */
#include <sys/stat.h>

#include "common/base/file.h"
#include "common/repair/repair.h"
#include "common/repair/salvage.h"
#include "tests/faults/damage.h"

/* ---- what is missing is put again ---- */

enum { PROBLEMS_MAX = 2000 };

struct problems {
    struct verify_problem problem[PROBLEMS_MAX];
    int count, structure;
};

static void keep_problem(void *context, const struct verify_problem *problem)
{
    struct problems *problems = context;
    problems->structure += problem->kind == VERIFY_STRUCTURE;
    if (problems->count < PROBLEMS_MAX)
        problems->problem[problems->count++] = *problem;
}

/* *problems: what is wrong. A store that cannot be opened counts as one with a damaged structure. */
static void find_problems(struct problems *problems)
{
    struct error error;
    struct verify_result result;
    const struct verify_options options = {.processes = 1, .report = keep_problem, .context = problems};
    problems->count = problems->structure = 0;
    if (store_verify(path, &options, &result, &error) < 0)
        problems->structure = 1;
}

static int put_again(struct store *store, struct codec_worker *worker, const struct verify_problem *problem,
                     struct error *error)
{
    static float tensor[40][64];
    bool mended = true;
    switch (problem->kind) {
    case VERIFY_RECORD: return fixture_put_record(store, worker, problem->tap, problem->sequence, error);
    case VERIFY_SOURCE:
        return store_put_source(store, "output", (struct source_shape){DTYPE_F32, 40, 64}, tensor, error);
    case VERIFY_TOKENS:
        if (repair_tokens(store, problem->sequence, &mended, error) < 0)
            return -1;
        return mended ? 0 : error_set(error, "%s: tokens are lost", problem->text);
    default: return error_set(error, "%s: is not put again", problem->text);
    }
}

/* A tensor of which nothing is left is missed by nobody who does not know the model. */
static bool source_is_there(struct store *store)
{
    struct error error;
    struct source_shape shape;
    void *tensor;
    const bool there = store_get_source(store, "output", &shape, &tensor, &error) == 0;
    free(tensor);
    return there;
}

static int put_all_again(const struct problems *problems, struct error *error)
{
    const struct verify_problem source = {.kind = VERIFY_SOURCE};
    struct store *store;
    struct codec_worker *worker = NULL;
    if (store_open(path, STORE_WRITE, &store, error) < 0)
        return -1;
    int result = codec_worker_create(&worker, error) < 0 ? -1 : repair_begin(store, error);
    for (int i = 0; i < problems->count && result == 0; i++)
        result = put_again(store, worker, &problems->problem[i], error);
    if (result == 0 && !source_is_there(store))
        result = put_again(store, worker, &source, error);
    if (result == 0)
        result = store_commit(store, error) < 0 ? -1 : repair_finish(store, error);
    codec_worker_destroy(worker);
    store_close(store);
    return result;
}

/* Whatever bit of the structure is flipped: the store is built anew, no tokens are lost, few records are, and
 * once these are put again all is as it was. */
TEST(store_flipped_structure_is_salvaged)
{
    static struct problems problems;
    struct error error;
    struct stat status;
    struct random random = {23};
    struct salvage_report report;
    char *whole;
    size_t size;
    int salvaged = 0, put = 0;
    REQUIRE_OK(create_to_flip(&error));
    REQUIRE(stat(data, &status) == 0);
    REQUIRE_OK(file_read(data, &whole, &size, &error));
    for (int i = campaign("OFFRAMP_FLIPS", 100); i > 0; i--) {
        off_t bit = structure_bit(&random, status.st_size / 4096);
        if (i % 2)
            bit = bit / 32768 * 32768 + bit % 192; /* the header, and the first offsets of entries */
        flip(bit);
        find_problems(&problems);
        if (problems.structure > 0 && store_salvage(path, &report, &error) < 0)
            test_fail(__FILE__, __LINE__, "bit %lld of page %lld: %s", (long long)bit % 32768,
                      (long long)bit / 32768, error.text);
        else {
            salvaged += problems.structure > 0;
            find_problems(&problems);
            CHECK(problems.structure == 0 && problems.count < FLIP_TRAIN);
            put += problems.count;
            if (problems.count > 0)
                REQUIRE_OK(put_all_again(&problems, &error));
            if (verify_finds_something() || !reads_all_equal())
                test_fail(__FILE__, __LINE__, "bit %lld of page %lld is not mended", (long long)bit % 32768,
                          (long long)bit / 32768);
        }
        REQUIRE_OK(file_write(data, whole, size, &error));
    }
    printf("  %d built anew, %d values put again\n", salvaged, put);
    CHECK(salvaged > 0);
    free(whole);
}

static bool is_structure_page(const char *file, off_t page)
{
    uint16_t flags;
    memcpy(&flags, file + page * 4096 + 10, sizeof flags);
    return flags == 1 || flags == 2 || flags == 8;
}

/* One page after the other is lost as a whole. Small values that lay in it are: tokens, which cannot be had
 * again. */
TEST(store_lost_pages_are_salvaged)
{
    static struct problems problems;
    static const char nothing[4096];
    struct error error;
    struct salvage_report report;
    struct store *store;
    char *whole;
    size_t size;
    int pages = 0, older = 0, poorer = 0;
    REQUIRE_OK(create_to_flip(&error));
    REQUIRE_OK(file_read(data, &whole, &size, &error));
    for (off_t page = 0; page < (off_t)(size / 4096); page++) {
        if (!is_structure_page(whole, page))
            continue;
        int file = open(data, O_RDWR | O_CLOEXEC);
        REQUIRE(pwrite(file, nothing, sizeof nothing, page * 4096) == sizeof nothing);
        close(file);
        find_problems(&problems);
        if (problems.structure > 0) {
            pages++;
            REQUIRE_OK(store_salvage(path, &report, &error));
            older += report.older;
            find_problems(&problems);
            if (put_all_again(&problems, &error) < 0) {
                CHECK(strstr(error.text, "tokens are lost") != NULL);
                poorer++;
            } else if (verify_finds_something() || !reads_all_equal())
                test_fail(__FILE__, __LINE__, "page %lld is not mended", (long long)page);
        }
        REQUIRE_OK(file_write(data, whole, size, &error));
        REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error)); /* which marks it as finished again */
        store_close(store);
    }
    printf("  %d pages lost, %d times the last commit, %d times tokens\n", pages, older, poorer);
    CHECK(pages > 10 && older > 0 && poorer > 0 && poorer < pages / 2);
    free(whole);
}

/* 40 sequences and all their records, as the last commit has left them. */
static bool has_last_commit(void)
{
    struct error error;
    struct store *store;
    if (store_open(path, STORE_READ, &store, &error) < 0)
        return false;
    bool there = store_sequences(store, SPLIT_TRAIN) == 40;
    for (int tap = 0; there && tap < FIXTURE_TAPS; tap++)
        there = store_progress(store, tap, SPLIT_TRAIN) == 40;
    there = there && fixture_check_all(store, &error) == 0;
    store_close(store);
    return there;
}

/* Whichever write or sync of building anew fails, the store has the file it had, and is built anew the next
 * time. */
static void check_failing_salvage(void)
{
    struct error error;
    struct salvage_report report;
    char *before, *after;
    size_t size, size_after;
    bool failed = true;
    int turn;
    new_path();
    REQUIRE_OK(create_filled(false, &error));
    REQUIRE_OK(file_read(data, &before, &size, &error));
    for (turn = 1; failed && turn < 100; turn++) {
        atomic_store(&calls_until_failure, turn);
        failed = store_salvage(path, &report, &error) < 0;
        atomic_store(&calls_until_failure, 0);
        if (failed) {
            REQUIRE_OK(file_read(data, &after, &size_after, &error));
            CHECK(size == size_after && memcmp(before, after, size) == 0);
            free(after);
        }
        CHECK(has_last_commit());
    }
    CHECK(!failed && turn > 2);
    free(before);
}

TEST(store_salvage_fails_at_any_write)
{
    failure = FAIL_FULL;
    check_failing_salvage();
    failure = FAIL_SHORT;
    check_failing_salvage();
    failure = FAIL_SYNC;
    check_failing_salvage();
}

/* A bit of the meta pages, or of the page that has the manifest and the state; -1: there are no more. */
static off_t meta_bit(const char *file, size_t size, int number)
{
    enum { META_FLIPS = 130 };
    if (number < META_FLIPS)
        return number % 2 * 32768 + number / 2 * 19 % (152 * 8);
    off_t page = (off_t)(size / 4096) - 1; /* an older commit's lies before */
    while (page > 1 && !memmem(file + page * 4096, 4096, "manifest", 8))
        page--;
    const off_t bit = page * 32768 + (off_t)(number - META_FLIPS) * 173;
    return page > 1 && bit < (page + 1) * 32768 ? bit : -1;
}

/* Of a store that is being written, the last commit is there whatever bit of what describes it is flipped, and
 * though a bit of some tokens is, too. */
TEST(store_salvage_keeps_the_last_commit)
{
    static struct problems problems;
    struct error error;
    struct salvage_report report;
    char *whole, *tokens;
    size_t size;
    int salvaged = 0;
    off_t bit;
    new_path();
    REQUIRE_OK(create_filled(false, &error));
    REQUIRE_OK(file_read(data, &whole, &size, &error));
    tokens = memmem(whole, size, "OFRT", 4);
    REQUIRE(tokens != NULL);
    for (int i = 0; (bit = meta_bit(whole, size, i)) >= 0; i++) {
        flip(bit);
        flip((tokens - whole + 40) * 8 + i % 8);
        find_problems(&problems);
        if (problems.structure > 0 && store_salvage(path, &report, &error) == 0) {
            salvaged++;
            if (report.older || !has_last_commit())
                test_fail(__FILE__, __LINE__, "bit %lld of page %lld loses the last commit",
                          (long long)bit % 32768, (long long)bit / 32768);
        } else if (problems.structure > 0)
            test_fail(__FILE__, __LINE__, "bit %lld of page %lld: %s", (long long)bit % 32768,
                      (long long)bit / 32768, error.text);
        REQUIRE_OK(file_write(data, whole, size, &error));
    }
    printf("  %d built anew\n", salvaged);
    CHECK(salvaged > 50);
    free(whole);
}

static void break_file(off_t page, size_t size)
{
    static const char nothing[4096];
    int file = open(data, O_RDWR | O_CLOEXEC);
    CHECK(pwrite(file, nothing, size, page * 4096) == (ssize_t)size);
    close(file);
}

/* Nothing is changed where too little is whole. */
TEST(store_salvage_refuses)
{
    struct error error;
    struct salvage_report report;
    struct store *store;
    char *before, *after;
    size_t size, size_after;
    REQUIRE_OK(create_to_flip(&error));
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    CHECK(store_salvage(path, &report, &error) < 0 && strstr(error.text, "is writing to this store"));
    store_close(store);
    break_file(0, 4096);
    break_file(1, 4096);
    REQUIRE_OK(file_read(data, &before, &size, &error));
    CHECK(store_salvage(path, &report, &error) < 0 && strstr(error.text, "both meta pages are damaged"));
    REQUIRE(truncate(data, 4096 * 2) == 0);
    CHECK(store_salvage(path, &report, &error) < 0 && strstr(error.text, "both meta pages are damaged"));
    REQUIRE_OK(file_write(data, before, size, &error));
    REQUIRE_OK(file_read(data, &after, &size_after, &error));
    CHECK(size == size_after && memcmp(before, after, size) == 0);
    free(before);
    free(after);
}

TEST_MAIN
