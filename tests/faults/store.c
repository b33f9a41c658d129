/* What may befall a store while it is written and after: kills, full disks, failing syncs, a file cut
 * short, flipped bits. Whatever was acknowledged is there and right; nothing wrong is read as right.
 *
 * OFFRAMP_KILLS and OFFRAMP_FLIPS make the campaigns longer (make soak).
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/string.h"
#include "common/store/extend.h"
#include "common/store/internal.h"
#include "tests/faults/damage.h"

/* A file system that knows no locks, as some network ones. */
static bool no_locks;

int fcntl(int file, int command, ...)
{
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    if (no_locks && (command == F_SETLK || command == F_SETLKW || command == F_GETLK)) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_fcntl, file, command, argument);
}

int flock(int file, int operation)
{
    if (no_locks) {
        errno = ENOLCK;
        return -1;
    }
    return (int)syscall(SYS_flock, file, operation);
}

/* Hashing one of these headers kills the process, as a page that leads astray may. */
static struct record_header deadly_header[3];
static int deadly_count;

uint64_t __real_hash_bytes(const void *bytes, size_t size, uint64_t seed);
uint64_t __wrap_hash_bytes(const void *bytes, size_t size, uint64_t seed);

uint64_t __wrap_hash_bytes(const void *bytes, size_t size, uint64_t seed)
{
    for (int i = 0; i < deadly_count; i++)
        if (size == sizeof deadly_header[i] && memcmp(bytes, &deadly_header[i], sizeof deadly_header[i]) == 0)
            raise(SIGSEGV);
    return __real_hash_bytes(bytes, size, seed);
}

/* Asking the disk for a record ahead kills the process, as finding it in a damaged page may. */
static bool deadly_advice;

int madvise(void *address, size_t size, int advice)
{
    if (deadly_advice && advice == MADV_WILLNEED)
        raise(SIGSEGV);
    return (int)syscall(SYS_madvise, address, size, advice);
}

/* ---- asking a store ---- */

static void print_problem(void *context, const struct verify_problem *problem)
{
    (void)context;
    printf("  verify: %s\n", problem->text);
}

/* Opens, reads everything the marks count, verifies. */
static int check_store(uint64_t *train, struct error *error)
{
    struct store *store;
    struct verify_result verified;
    const struct verify_options options = {.processes = 1, .report = print_problem};
    if (store_open(path, STORE_READ, &store, error) < 0)
        return -1;
    *train = store_sequences(store, SPLIT_TRAIN);
    int result = fixture_check_all(store, error);
    store_close(store);
    if (result == 0)
        result = store_verify(path, &options, &verified, error);
    if (result == 0 && verified.problems > 0)
        result = error_set(error, "verify found problems");
    return result;
}

/* ---- kills ---- */

/* What a writer has been told is on disk, in memory that outlives it. */
struct acknowledged {
    atomic_uint_fast64_t tokens, progress[FIXTURE_TAPS];
};

/* Writes much as extract does: tokens of several sequences, then tap after tap, each in its own commit,
 * sources in between. Never ends. */
static void write_until_killed(struct acknowledged *acknowledged)
{
    struct error error;
    struct store *store;
    struct codec_worker *worker;
    static float tensor[100][64];
    if (store_open(path, STORE_WRITE, &store, &error) < 0 || codec_worker_create(&worker, &error) < 0)
        _exit(1);
    for (;;) {
        uint64_t first = store_progress(store, FIXTURE_TAPS - 1, SPLIT_TRAIN);
        if (store_begin(store, &error) < 0)
            _exit(2);
        while (store_sequences(store, SPLIT_TRAIN) < first + 5)
            if (fixture_put_tokens(store, (struct sequence){SPLIT_TRAIN, store_sequences(store, SPLIT_TRAIN)},
                                   &error) < 0)
                _exit(3);
        if (store_put_source(store, "output", (struct source_shape){DTYPE_F32, 100, 64}, tensor, &error) < 0 ||
            store_put_note(store, "position", &first, sizeof first, &error) < 0 ||
            store_commit(store, &error) < 0)
            _exit(4);
        atomic_store(&acknowledged->tokens, first + 5);
        for (int tap = 0; tap < FIXTURE_TAPS; tap++) {
            if (store_begin(store, &error) < 0)
                _exit(5);
            for (uint64_t i = store_progress(store, tap, SPLIT_TRAIN); i < first + 5; i++)
                if (fixture_put_record(store, worker, tap, (struct sequence){SPLIT_TRAIN, i}, &error) < 0)
                    _exit(6);
            if (store_set_progress(store, tap, SPLIT_TRAIN, first + 5, &error) < 0 ||
                store_commit(store, &error) < 0)
                _exit(7);
            atomic_store(&acknowledged->progress[tap], first + 5);
        }
    }
}

static int check_acknowledged(const struct acknowledged *acknowledged, struct error *error)
{
    struct store *store;
    int result = 0;
    if (store_open(path, STORE_READ, &store, error) < 0)
        return -1;
    if (store_sequences(store, SPLIT_TRAIN) < atomic_load(&acknowledged->tokens))
        result = error_set(error, "acknowledged tokens are lost");
    for (int tap = 0; tap < FIXTURE_TAPS; tap++)
        if (store_progress(store, tap, SPLIT_TRAIN) < atomic_load(&acknowledged->progress[tap]))
            result = error_set(error, "acknowledged records are lost");
    store_close(store);
    return result;
}

TEST(store_survives_kills)
{
    struct error error;
    struct random random = {3};
    uint64_t train = 0;
    int status;
    struct acknowledged *acknowledged =
        mmap(NULL, sizeof *acknowledged, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE(acknowledged != MAP_FAILED);
    new_path();
    REQUIRE_OK(create(&error));
    for (int kill_number = campaign("OFFRAMP_KILLS", 20); kill_number > 0; kill_number--) {
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            write_until_killed(acknowledged);
        do
            usleep((useconds_t)(random_next(&random) % 60000));
        while (kill_number == 1 && atomic_load(&acknowledged->progress[FIXTURE_TAPS - 1]) == 0);
        CHECK(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
        REQUIRE_OK(check_acknowledged(acknowledged, &error));
        REQUIRE_OK(check_store(&train, &error));
    }
    CHECK(train > 0);
    munmap(acknowledged, sizeof *acknowledged);
}

/* ---- failing writes ---- */

/* Every write of a commit fails once: full disk, short write, failing sync. The store is then as before
 * the commit, or as after it. */
static void check_failures(void)
{
    struct error error;
    uint64_t train;
    bool failed = true;
    int turn;
    new_path();
    REQUIRE_OK(create(&error));
    for (turn = 1; failed && turn < 1000; turn++) {
        struct store *store;
        REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
        uint64_t before = store_sequences(store, SPLIT_TRAIN);
        atomic_store(&calls_until_failure, turn);
        failed = fixture_fill(store, SPLIT_TRAIN, 2, &error) < 0;
        atomic_store(&calls_until_failure, 0);
        if (failed) {
            CHECK_TEXT(error.text, failure == FAIL_FULL ? "free some space" : "cannot be written");
            CHECK(store_begin(store, &error) < 0);
            CHECK_TEXT(error.text, "open the store again");
        }
        store_close(store);
        REQUIRE_OK(check_store(&train, &error));
        CHECK(train == before + 2 || (failed && train == before));
    }
    CHECK(!failed && turn > 2);
}

TEST(store_disk_full_at_any_write)
{
    failure = FAIL_FULL;
    check_failures();
}

TEST(store_short_write_at_any_write)
{
    failure = FAIL_SHORT;
    check_failures();
}

TEST(store_sync_fails)
{
    failure = FAIL_SYNC;
    check_failures();
}

/* A seal whose commit failed is not there, however often it is asked for; the store goes on when it is opened
 * again. */
TEST(store_seal_fails)
{
    struct error error;
    struct store *store;
    char marker[4300];
    failure = FAIL_FULL;
    new_path();
    snprintf(marker, sizeof marker, "%s/sealed", path);
    REQUIRE_OK(create_filled(false, &error));
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    for (int again = 0; again < 3; again++) {
        atomic_store(&calls_until_failure, again == 0);
        CHECK(store_seal(store, &error) < 0);
        CHECK_TEXT(error.text, again ? "open the store again" : "free some space");
        CHECK(!file_exists(marker));
    }
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    CHECK(!store_is_sealed(store) && store_seal(store, &error) < 0);
    CHECK_TEXT(error.text, "for reading only");
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    for (int again = 0; again < 2; again++)
        REQUIRE_OK(store_seal(store, &error));
    CHECK(file_exists(marker));
    store_close(store);
}

/* Every write fails once while a finished store gets another manifest: it has the old one or the new one, and
 * is finished. */
TEST(store_manifest_changes_or_stays)
{
    struct error error;
    uint64_t train;
    bool failed = true;
    int turn;
    failure = FAIL_FULL;
    new_path();
    REQUIRE_OK(create_filled(true, &error));
    for (turn = 1; failed && turn < 1000; turn++) {
        struct store *store;
        REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
        json_t *manifest = json_deep_copy(store_manifest(store));
        json_object_set_new(manifest, "turn", json_integer(turn));
        atomic_store(&calls_until_failure, turn);
        failed = extend_manifest(store, manifest, &error) < 0;
        atomic_store(&calls_until_failure, 0);
        if (failed)
            CHECK_TEXT(error.text, "free some space");
        store_close(store);
        REQUIRE_OK(check_store(&train, &error));
        REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
        CHECK(store_is_sealed(store) && train == 40);
        CHECK(failed || json_equal(store_manifest(store), manifest));
        store_close(store);
        json_decref(manifest);
    }
    CHECK(!failed && turn > 2);
}

/* Fills until it fails; then the store, opened again, has all that was committed and can be gone on with
 * where there is room. */
static void fill_until_full(const char *part)
{
    struct error error;
    struct store *store;
    uint64_t train = 0, committed = 0;
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    while (committed < 100000 && fixture_fill(store, SPLIT_TRAIN, 20, &error) == 0)
        committed += 20;
    CHECK_TEXT(error.text, part);
    store_close(store);
    REQUIRE_OK(check_store(&train, &error));
    CHECK(train == committed && committed > 0);
}

TEST(store_file_size_limit)
{
    struct error error;
    struct store *store;
    struct rlimit usual, limit;
    new_path();
    REQUIRE_OK(create(&error));
    REQUIRE(getrlimit(RLIMIT_FSIZE, &usual) == 0);
    limit = (struct rlimit){2 << 20, usual.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    fill_until_full("ulimit -f");
    CHECK(setrlimit(RLIMIT_FSIZE, &usual) == 0);
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, 20, &error));
    REQUIRE_OK(fixture_check_all(store, &error));
    store_close(store);
}

TEST(store_disk_full)
{
    struct error error;
    char folder[4100];
    snprintf(folder, sizeof folder, "%s/small", test_folder());
    REQUIRE_OK(directory_create(folder, &error));
    if (mount("none", folder, "tmpfs", 0, "size=4m") < 0) {
        test_skip("a small tmpfs cannot be mounted here");
        return;
    }
    snprintf(path, sizeof path, "%s/store", folder);
    snprintf(data, sizeof data, "%s/data.mdb", path);
    if (create(&error) == 0)
        fill_until_full("disk full");
    else
        test_fail(__FILE__, __LINE__, "%s", error.text);
    CHECK(umount2(folder, MNT_DETACH) == 0);
}

/* ---- odd file systems ---- */

TEST(store_without_locks)
{
    struct error error;
    struct store *store;
    uint64_t train;
    for (int sealed = 0; sealed < 2; sealed++) {
        new_path();
        REQUIRE_OK(create_filled(sealed, &error));
        no_locks = true;
        int result = check_store(&train, &error);
        CHECK(store_open(path, STORE_WRITE, &store, &error) < 0);
        no_locks = false;
        CHECK_TEXT(error.text, "write the store on a local disk");
        REQUIRE_OK(result);
        CHECK(train == 40);
    }
}

TEST(store_on_a_read_only_file_system)
{
    struct error error;
    struct store *store;
    uint64_t train;
    char folder[4100];
    for (int sealed = 0; sealed < 2; sealed++) {
        snprintf(folder, sizeof folder, "%s/fixed", test_folder());
        REQUIRE_OK(directory_create(folder, &error));
        if (mount("none", folder, "tmpfs", 0, "size=16m") < 0) {
            test_skip("a tmpfs cannot be mounted here");
            return;
        }
        snprintf(path, sizeof path, "%s/store", folder);
        snprintf(data, sizeof data, "%s/data.mdb", path);
        int result = create_filled(sealed, &error);
        CHECK(mount("none", folder, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
        if (result == 0)
            result = check_store(&train, &error);
        if (result < 0)
            test_fail(__FILE__, __LINE__, "%s", error.text);
        CHECK(store_open(path, STORE_WRITE, &store, &error) < 0);
        CHECK_TEXT(error.text, "Read-only file system");
        CHECK(umount2(folder, MNT_DETACH) == 0);
    }
}

/* ---- damage ---- */

/* Half of the flips anywhere, half in LMDB's own pages: each is found, or changes nothing that is read. */
TEST(store_flipped_bits_are_found_or_harmless)
{
    struct error error;
    struct stat status;
    struct random random = {17};
    int found = 0, harmless = 0;
    REQUIRE_OK(create_to_flip(&error));
    CHECK(!verify_finds_something() && reads_all_equal());
    REQUIRE(stat(data, &status) == 0);
    for (int i = campaign("OFFRAMP_FLIPS", 100); i > 0; i--) {
        off_t bit = i % 2 ? (off_t)(random_next(&random) % (uint64_t)(status.st_size * 8))
                          : structure_bit(&random, status.st_size / 4096);
        flip(bit);
        if (verify_finds_something())
            found++;
        else if (reads_all_equal())
            harmless++;
        else
            test_fail(__FILE__, __LINE__, "bit %lld of page %lld changes what is read and is not found",
                      (long long)bit % 32768, (long long)bit / 32768);
        flip(bit);
    }
    printf("  %d flips found, %d harmless\n", found, harmless);
    CHECK(found > 0);
    CHECK(!verify_finds_something() && reads_all_equal());
}

/* The bytes of a value are found wherever they lie; the report names tap, split and sequence. */
static void keep_text(void *context, const struct verify_problem *problem)
{
    struct verify_problem *kept = context;
    *kept = *problem;
}

static void append_text(void *context, const struct verify_problem *problem)
{
    string_print(context, "%s\n", problem->text);
}

static off_t offset_of(int tap, struct sequence sequence, off_t inside)
{
    struct error error;
    struct store *store;
    struct reader *reader;
    const void *record;
    unsigned char bytes[64];
    size_t size;
    off_t found = -1;
    if (store_open(path, STORE_READ, &store, &error) == 0 && reader_open(store, &reader, &error) == 0 &&
        reader_record(reader, tap, sequence, &record, &size, &error) == 0) {
        int file = open(data, O_RDONLY | O_CLOEXEC);
        for (off_t at = 0; found < 0 && pread(file, bytes, sizeof bytes, at) == sizeof bytes; at += 2)
            if (memcmp(bytes, record, sizeof bytes) == 0)
                found = at + inside;
        close(file);
        reader_close(reader);
    }
    store_close(store);
    return found;
}

TEST(store_verify_names_what_is_bad)
{
    struct error error;
    struct verify_problem problem;
    struct verify_result result;
    const struct verify_options options = {.processes = 2, .report = keep_text, .context = &problem};
    REQUIRE_OK(create_to_flip(&error));
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 0);
    CHECK(result.values == (FIXTURE_TAPS + 1) * (FLIP_TRAIN + FLIP_HELD_OUT) + 1);
    off_t bit = 8 * offset_of(1, (struct sequence){SPLIT_HELD_OUT, 33}, 100);
    flip(bit);
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 1 && problem.kind == VERIFY_RECORD && problem.tap == 1);
    CHECK(problem.sequence.split == SPLIT_HELD_OUT && problem.sequence.index == 33);
    CHECK_TEXT(problem.text, "tap 2, held-out sequence 33: the record is damaged");
    flip(bit);
    bit = 8 * offset_of(STORE_TOKENS, (struct sequence){SPLIT_TRAIN, 7}, 40);
    flip(bit);
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 1 && problem.kind == VERIFY_TOKENS && problem.sequence.index == 7);
    CHECK_TEXT(problem.text, "tokens of train sequence 7");
    flip(bit);
    /* LMDB's header of the pages that hold a record: its flags, 6 bytes before the value. */
    bit = 8 * offset_of(2, (struct sequence){SPLIT_TRAIN, 11}, -6);
    flip(bit);
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    CHECK(result.problems == 1 && problem.kind == VERIFY_RECORD && problem.tap == 2);
    CHECK_TEXT(problem.text, "tap final, train sequence 11: the page before the value is damaged");
}

/* The children that read some values die of it: each is named, and all others are read. */
TEST(store_verify_outlives_its_children)
{
    static const struct {
        int tap;
        struct sequence sequence;
    } deadly[] = {{1, {SPLIT_TRAIN, 5}}, {1, {SPLIT_TRAIN, 6}}, {0, {SPLIT_TRAIN, FLIP_TRAIN - 1}}};
    struct error error;
    struct store *store;
    struct reader *reader;
    struct verify_result result;
    const void *record;
    size_t size;
    REQUIRE_OK(create_to_flip(&error));
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    REQUIRE_OK(reader_open(store, &reader, &error));
    for (int i = 0; i < 3; i++) {
        REQUIRE_OK(reader_record(reader, deadly[i].tap, deadly[i].sequence, &record, &size, &error));
        memcpy(&deadly_header[i], record, sizeof deadly_header[i]);
        deadly_header[i].hash = 0;
    }
    reader_close(reader);
    store_close(store);
    for (int processes = 1; processes <= 3; processes++) {
        struct string text = {0};
        const struct verify_options options = {.processes = processes, .report = append_text, .context = &text};
        deadly_count = 3;
        REQUIRE_OK(store_verify(path, &options, &result, &error));
        deadly_count = 0;
        CHECK(result.problems == 3);
        CHECK(result.values == (FIXTURE_TAPS + 1) * (FLIP_TRAIN + FLIP_HELD_OUT) + 1 - 3);
        CHECK_TEXT(text.data, "tap 2, train sequence 5: structure damaged: reading it ended a process");
        CHECK_TEXT(text.data, "tap 2, train sequence 6: structure damaged");
        CHECK_TEXT(text.data, "tap 2.mid, train sequence 149: structure damaged");
        string_free(&text);
    }
}

/* Gives every branch page a wrong number, which LMDB does not look at. */
static int misnumber_branches(struct error *error)
{
    enum { PAGE = 4096, FLAGS = 10, BRANCH = 1 };
    char *bytes;
    size_t size;
    int found = 0;
    if (file_read(data, &bytes, &size, error) < 0)
        return -1;
    for (size_t page = 2 * PAGE; page < size; page += PAGE)
        if (bytes[page + FLAGS] == BRANCH && bytes[page + FLAGS + 1] == 0) {
            bytes[page] ^= 1;
            found++;
        }
    int result = found > 0 ? file_write(data, bytes, size, error) : error_set(error, "there is no branch page");
    free(bytes);
    return result;
}

/* Where pages are damaged nothing is looked up before its turn: who dies of it would be taken for another. */
TEST(store_verify_looks_ahead_in_sound_pages_only)
{
    struct error error;
    struct verify_result result;
    struct string text = {0};
    const struct verify_options options = {.processes = 2, .report = append_text, .context = &text};
    REQUIRE_OK(create_to_flip(&error));
    deadly_advice = true;
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    deadly_advice = false;
    CHECK(result.problems > 0);
    CHECK_TEXT(text.data, "train sequence 0: structure damaged: reading it ended a process");
    string_free(&text);
    REQUIRE_OK(misnumber_branches(&error));
    deadly_advice = true;
    REQUIRE_OK(store_verify(path, &options, &result, &error));
    deadly_advice = false;
    CHECK(result.problems > 0 && result.values == (FIXTURE_TAPS + 1) * (FLIP_TRAIN + FLIP_HELD_OUT));
    CHECK(strstr(text.data, "ended a process") == NULL);
    string_free(&text);
}

TEST(store_cut_short_is_refused)
{
    struct error error;
    struct verify_result result;
    struct store *store;
    struct stat status;
    const struct verify_options options = {.processes = 1};
    REQUIRE_OK(create_to_flip(&error));
    REQUIRE(stat(data, &status) == 0);
    REQUIRE(truncate(data, status.st_size - 4096) == 0);
    CHECK(store_open(path, STORE_READ, &store, &error) < 0);
    CHECK_TEXT(error.text, "cut short");
    CHECK(store_open(path, STORE_WRITE, &store, &error) < 0);
    CHECK(store_verify(path, &options, &result, &error) < 0);
    CHECK_TEXT(error.text, "cut short");
}

TEST_MAIN
