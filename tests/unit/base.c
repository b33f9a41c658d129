#include "tests/screen.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/channel.h"
#include "common/base/cli.h"
#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/file.h"
#include "common/base/hash_index.h"
#include "common/base/json.h"
#include "common/base/memory.h"
#include "common/base/piece.h"
#include "common/base/pool.h"
#include "common/base/progress.h"
#include "common/base/random.h"
#include "common/base/spelling.h"
#include "common/base/string.h"

static struct error error;

TEST(error_prefix_keeps_the_reason_and_its_bounds)
{
    char big[3000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = 0;
    CHECK(error_set(&error, "row %d", 7) == -1);
    CHECK(error_prefix(&error, "tap %s", "12") == -1);
    CHECK(strcmp(error.text, "tap 12: row 7") == 0);
    error_prefix(&error, "%s", big);
    CHECK(strlen(error.text) == sizeof error.text - 1);
    error_set(&error, "again: %s", error.text);
    CHECK(strncmp(error.text, "again: xxx", 10) == 0);
}

TEST(an_error_has_a_kind_that_prefixes_keep)
{
    error_set_kind(&error, ERROR_DEVICE, "the device is lost");
    error_prefix(&error, "trial %d", 3);
    CHECK(error.kind == ERROR_DEVICE);
    CHECK(strcmp(error.text, "trial 3: the device is lost") == 0);
    CHECK(error_set_kind(&error, ERROR_INTERRUPTED, "again: %s", error.text) == -1);
    CHECK(error.kind == ERROR_INTERRUPTED && strncmp(error.text, "again: trial 3", 14) == 0);
    error_set(&error, "no such file");
    CHECK(error.kind == ERROR_INPUT);
}

TEST(a_program_ends_with_the_code_of_the_kind)
{
    static const struct {
        enum error_kind kind, narrowed; /* by a caller that takes it for usage */
        int code;
        bool machines;
    } rows[] = {{ERROR_INPUT, ERROR_USAGE, 1, false},
                {ERROR_USAGE, ERROR_USAGE, 2, false},
                {ERROR_DAMAGED, ERROR_DAMAGED, 1, false},
                {ERROR_NO_SPACE, ERROR_NO_SPACE, 1, true},
                {ERROR_NO_MEMORY, ERROR_NO_MEMORY, 1, true},
                {ERROR_DEVICE, ERROR_DEVICE, 1, true},
                {ERROR_INTERRUPTED, ERROR_INTERRUPTED, 1, true},
                {ERROR_INTERNAL, ERROR_INTERNAL, 1, true}};
    CHECK(sizeof rows / sizeof *rows == ERROR_INTERNAL + 1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        error_set_kind(&error, rows[i].kind, "x");
        CHECK(cli_exit_code(-1, &error) == rows[i].code);
        CHECK(cli_exit_code(0, &error) == 0);
        CHECK(error_is_machines(&error) == rows[i].machines);
        CHECK(error_narrow(&error, ERROR_USAGE) == -1);
        CHECK(error.kind == rows[i].narrowed);
    }
}

TEST(an_error_of_the_system_has_the_kind_of_its_number)
{
    static const struct {
        int number;
        enum error_kind kind;
    } rows[] = {{ENOSPC, ERROR_NO_SPACE},  {EDQUOT, ERROR_NO_SPACE}, {EFBIG, ERROR_NO_SPACE},
                {ENOMEM, ERROR_NO_MEMORY}, {EIO, ERROR_DEVICE},      {EINTR, ERROR_INTERRUPTED},
                {ENOENT, ERROR_INPUT},     {EACCES, ERROR_INPUT}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        errno = rows[i].number;
        CHECK(error_system(&error, "x") == -1);
        CHECK(error.kind == rows[i].kind);
    }
}

/* Entries of a key, as bits of a mask; the most is 64. */
static uint64_t entries_of(const struct hash_index *index, uint64_t key)
{
    struct hash_probe probe = {.key = key};
    uint64_t found = 0;
    for (uint32_t entry; (entry = hash_index_next(index, &probe)) != HASH_INDEX_END;)
        found |= UINT64_C(1) << entry;
    return found;
}

TEST(hash_index_finds_all_entries_of_a_key_and_no_other)
{
    static const uint64_t keys[] = {0, UINT64_MAX, 7}; /* none of them stands for a free slot */
    struct hash_index index = {0};
    CHECK(entries_of(&index, 0) == 0);
    for (uint32_t i = 0; i < 64; i++)
        REQUIRE_OK(hash_index_put(&index, keys[i % 3], i, &error));
    CHECK(index.count == 64);
    for (uint64_t k = 0; k < 3; k++)
        CHECK(entries_of(&index, keys[k]) == UINT64_C(0x9249249249249249) << k);
    CHECK(entries_of(&index, 1) == 0);
    hash_index_free(&index);
    CHECK(index.count == 0 && entries_of(&index, 7) == 0);
}

TEST(hash_index_grows_and_stays_half_empty)
{
    enum { COUNT = 100000 };
    struct hash_index index = {0};
    for (uint32_t i = 0; i < COUNT; i++) {
        REQUIRE_OK(hash_index_put(&index, (uint64_t)i << 40, i, &error)); /* low bits alike */
        REQUIRE(index.count <= (index.mask + 1) / 2);
    }
    for (uint32_t i = 0; i < COUNT; i++) {
        struct hash_probe probe = {.key = (uint64_t)i << 40};
        REQUIRE(hash_index_next(&index, &probe) == i);
        REQUIRE(hash_index_next(&index, &probe) == HASH_INDEX_END);
    }
    hash_index_free(&index);
}

TEST(memory_that_is_refused_has_its_own_kind)
{
    void *block = NULL;
    size_t capacity = 0;
    CHECK(memory_alloc(SIZE_MAX / 4, 8, &error) == NULL && error.kind == ERROR_NO_MEMORY);
    error_set(&error, "other");
    CHECK(memory_alloc((size_t)1 << 62, 1, &error) == NULL && error.kind == ERROR_NO_MEMORY);
    error_set(&error, "other");
    CHECK(memory_grow(&block, &capacity, (size_t)1 << 62, 1, &error) == -1 && error.kind == ERROR_NO_MEMORY);
}

#if defined __SANITIZE_ADDRESS__
#define OWN_HEAP 1
#elif defined __has_feature
#define OWN_HEAP __has_feature(address_sanitizer)
#else
#define OWN_HEAP 0
#endif

/* Bytes that the process has in memory. */
static size_t resident(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    CHECK(file && fscanf(file, "%*u %zu", &pages) == 1);
    if (file)
        fclose(file);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Every second block stays, so that what is free lies between: the end of the heap does not move. */
TEST(memory_that_was_freed_is_given_back)
{
    enum { BLOCKS = 2000, BLOCK = 32768 };
    static char *block[BLOCKS];
    if (OWN_HEAP)
        return; /* the sanitizer's, which keeps what is freed */
    for (int i = 0; i < BLOCKS; i++) {
        block[i] = malloc(BLOCK);
        REQUIRE(block[i]);
        memset(block[i], 1, BLOCK);
    }
    const size_t before = resident();
    for (int i = 0; i < BLOCKS; i += 2)
        free(block[i]);
    memory_give_back();
    CHECK(resident() + BLOCKS / 4 * (size_t)BLOCK < before);
    for (int i = 1; i < BLOCKS; i += 2)
        free(block[i]);
}

TEST(sizes_that_overflow_are_refused)
{
    size_t result = 5;
    CHECK(!size_multiply(SIZE_MAX / 2, 3, &result) && result == 5);
    CHECK(!size_add(SIZE_MAX, 1, &result) && result == 5);
    CHECK(size_multiply(6, 7, &result) && result == 42);
    CHECK(memory_alloc(SIZE_MAX / 4, 8, &error) == NULL);
    CHECK_TEXT(error.text, "out of memory");
    int *list = NULL;
    size_t capacity = 0;
    REQUIRE_OK(array_grow(&list, &capacity, 100, &error));
    CHECK(capacity >= 100 && list[99] == 0);
    CHECK(array_grow(&list, &capacity, SIZE_MAX / 2, &error) == -1);
    free(list);
}

TEST(files_are_written_whole_and_read_back)
{
    char *path = path_join(test_folder(), "a.bin", &error), *text;
    struct file_map map;
    size_t size;
    REQUIRE(path);
    REQUIRE_OK(file_write(path, "one\0two", 7, &error));
    REQUIRE_OK(file_write(path, "three", 5, &error));
    REQUIRE_OK(file_read(path, &text, &size, &error));
    CHECK(size == 5 && strcmp(text, "three") == 0);
    free(text);
    REQUIRE_OK(file_map(path, &map, &error));
    CHECK(map.size == 5 && memcmp(map.data, "three", 5) == 0);
    file_unmap(&map);
    free(path);
    CHECK(file_read("/nonexistent/x", &text, &size, &error) == -1);
    CHECK_TEXT(error.text, "/nonexistent/x: No such file");
    CHECK(file_map("/", &map, &error) == -1);
    CHECK_TEXT(error.text, "not a regular file");
    CHECK(file_write("/nonexistent/x", "a", 1, &error) == -1);
}

/* Of processes that want to make a file, one does, and nobody sees less than the whole. */
TEST(files_are_written_by_whoever_comes_first)
{
    enum { PROCESSES = 6, SIZE = 100000 };
    const char *folder = test_folder();
    char *path = path_join(folder, "first", &error), *text = malloc(SIZE), other[DIRECTORY_NAME_SIZE];
    const char *const names[] = {"first", NULL};
    bool first = true;
    size_t size;
    int status, made = 0;
    REQUIRE(path && text);
    for (int i = 0; i < PROCESSES; i++) {
        memset(text, 'a' + i, SIZE);
        if (fork() == 0)
            _exit(file_write_first(path, text, SIZE, &first, &error) < 0 ? 2 : first);
    }
    for (int i = 0; i < PROCESSES; i++) {
        REQUIRE(wait(&status) > 0 && WIFEXITED(status) && WEXITSTATUS(status) < 2);
        made += WEXITSTATUS(status);
    }
    free(text);
    CHECK(made == 1);
    REQUIRE_OK(file_read(path, &text, &size, &error));
    CHECK(size == SIZE && memcmp(text, text + 1, SIZE - 1) == 0);
    CHECK(!directory_holds_other(folder, names, other));
    free(text);
    REQUIRE_OK(file_write_first(path, "x", 1, &first, &error));
    CHECK(!first);
    CHECK(file_write_first("/nonexistent/x", "a", 1, &first, &error) == -1 && !first);
    free(path);
}

static char *path_in(const char *folder, const char *name)
{
    return path_join(folder, name, &error);
}

/* Neither what reads nor what writes waits for the other end of a pipe. */
TEST(files_do_not_replace_what_is_not_a_file)
{
    const char *folder = test_folder();
    char *fifo = path_in(folder, "fifo"), *link = path_in(folder, "link"), *device = path_in(folder, "full"),
         *text;
    struct stat status;
    size_t size;
    REQUIRE(mkfifo(fifo, 0600) == 0 && symlink("fifo", link) == 0);
    CHECK(file_write(fifo, "x", 1, &error) == -1);
    CHECK_TEXT(error.text, "fifo: is not a regular file");
    CHECK(file_write(link, "x", 1, &error) == -1);
    CHECK_TEXT(error.text, "link: is not a regular file");
    CHECK(file_read(fifo, &text, &size, &error) == -1);
    CHECK(lstat(fifo, &status) == 0 && S_ISFIFO(status.st_mode));
    CHECK(file_write(folder, "x", 1, &error) == -1);
    CHECK_TEXT(error.text, "is a folder");
    REQUIRE_OK(file_write(device, "x", 1, &error));
    CHECK(file_rename(device, fifo, &error) == -1);
    CHECK(unlink(device) == 0);
    CHECK(file_check_output("/dev/null", &error) == -1);
    CHECK_TEXT(error.text, "/dev/null: is not a regular file");
    REQUIRE_OK(file_check_output(device, &error));
    CHECK(file_check_output("no such folder/x", &error) == -1);
    CHECK_TEXT(error.text, "no such folder/x: a file cannot be made there: No such file");
    if (mknod(device, S_IFCHR | 0666, makedev(1, 7)) == 0) { /* root may */
        CHECK(file_write(device, "x", 1, &error) == -1);
        CHECK(lstat(device, &status) == 0 && S_ISCHR(status.st_mode));
    }
    free(fifo);
    free(link);
    free(device);
}

TEST(outputs_stay_apart_from_inputs)
{
    const char *folder = test_folder();
    char *in = path_in(folder, "in"), *file = path_in(in, "file"), *none = path_in(in, "none"),
         *beside = path_in(folder, "in2"), *blob = path_in(folder, "blob"), *to_blob = path_in(in, "blob"),
         *dangling = path_in(folder, "dangling"), *elsewhere = path_in(folder, "elsewhere");
    REQUIRE_OK(directory_create(in, &error));
    REQUIRE_OK(file_write(file, "x", 1, &error));
    REQUIRE_OK(file_write(blob, "x", 1, &error));
    REQUIRE(symlink("../blob", to_blob) == 0 && symlink("in/none", dangling) == 0 &&
            symlink("in", elsewhere) == 0);
    const char *const refused[] = {in, file, none, blob, to_blob, dangling, elsewhere};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        CHECK(file_check_apart(refused[i], in, &error) == -1);
        CHECK_TEXT(error.text, "is a part of what is read");
        CHECK(file_check_apart(refused[i], elsewhere, &error) == -1);
    }
    CHECK(file_check_apart(file, "/", &error) == -1);
    CHECK(file_check_apart(file, file, &error) == -1);
    REQUIRE_OK(file_check_apart(beside, in, &error));
    REQUIRE_OK(file_check_apart(none, file, &error));
    REQUIRE_OK(file_check_apart(folder, in, &error));
    REQUIRE_OK(file_check_apart(file, beside, &error));
    free(in);
    free(file);
    free(none);
    free(beside);
    free(blob);
    free(to_blob);
    free(dangling);
    free(elsewhere);
}

/* What is behind a link is replaced, or made; the link stays. */
TEST(files_are_written_through_links)
{
    const char *folder = test_folder();
    char *below = path_in(folder, "below"), *first = path_in(folder, "first"),
         *second = path_in(below, "second"), *target = path_in(folder, "target"),
         *loop = path_in(folder, "loop"), *text;
    struct stat status;
    size_t size;
    REQUIRE_OK(directory_create(below, &error));
    REQUIRE(symlink("below/second", first) == 0 && symlink("../target", second) == 0 &&
            symlink(loop, loop) == 0);
    for (int i = 0; i < 2; i++) { /* first it dangles */
        REQUIRE_OK(file_write(first, i ? "new" : "old", 3, &error));
        CHECK(lstat(first, &status) == 0 && S_ISLNK(status.st_mode));
        CHECK(lstat(second, &status) == 0 && S_ISLNK(status.st_mode));
        CHECK(lstat(target, &status) == 0 && S_ISREG(status.st_mode));
        REQUIRE_OK(file_read(target, &text, &size, &error));
        CHECK(size == 3 && !memcmp(text, i ? "new" : "old", 3));
        free(text);
    }
    CHECK(file_write(loop, "x", 1, &error) == -1);
    CHECK_TEXT(error.text, "loop: ");
    free(below);
    free(first);
    free(second);
    free(target);
    free(loop);
}

TEST(directories_are_made_with_their_parents)
{
    char path[5000];
    uint64_t bytes = 0;
    snprintf(path, sizeof path, "%s/a//b/c/", test_folder());
    REQUIRE_OK(directory_create(path, &error));
    REQUIRE_OK(directory_create(path, &error));
    CHECK(path_is_directory(path));
    strcat(path, "not/yet/there");
    REQUIRE_OK(disk_free(path, &bytes, &error));
    CHECK(bytes > 0);
    CHECK(directory_create("/dev/null/x", &error) == -1);
    CHECK_TEXT(error.text, "/dev/null: is not a folder");
}

/* What is in a folder's place is named, and so is an empty name. */
TEST(folders_that_cannot_be_made_say_why)
{
    const char *folder = test_folder();
    char *plain = path_in(folder, "plain"), *fifo = path_in(folder, "pipe"), *loop = path_in(folder, "circle"),
         *nowhere = path_in(folder, "nowhere");
    REQUIRE_OK(file_write(plain, "x", 1, &error));
    REQUIRE(mkfifo(fifo, 0600) == 0 && symlink(loop, loop) == 0 && symlink("none/none", nowhere) == 0);
    const struct {
        const char *path, *says;
    } rows[] = {{plain, "plain: is not a folder"},
                {fifo, "pipe: is not a folder"},
                {"/dev/null", "/dev/null: is not a folder"},
                {loop, "circle: is a link that leads nowhere"},
                {nowhere, "nowhere: is a link that leads nowhere"},
                {"", "the name is empty"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK(directory_check(rows[i].path, &error) == -1);
        CHECK_TEXT(error.text, rows[i].says);
        CHECK(directory_create(rows[i].path, &error) == -1);
        CHECK_TEXT(error.text, rows[i].says);
    }
    REQUIRE_OK(directory_check(folder, &error));
    REQUIRE_OK(directory_check("/no/such/folder", &error));
    CHECK(file_check_output("", &error) == -1);
    CHECK_TEXT(error.text, "the name is empty");
    CHECK(file_write("", "x", 1, &error) == -1);
    CHECK_TEXT(error.text, "the name is empty");
    free(plain);
    free(fifo);
    free(loop);
    free(nowhere);
}

/* The reason is mkdir's, not that of the look at what is there. */
TEST(folders_that_are_forbidden_say_so)
{
    char *closed = path_in(test_folder(), "closed");
    REQUIRE(mkdir(closed, 0711) == 0);
    int status = 1;
    const pid_t child = geteuid() == 0 ? fork() : -1;
    if (child == 0)
        _exit(chdir(closed) < 0 || setgid(65534) < 0 || setuid(65534) < 0 ||
              directory_create("inside", &error) == 0 || !strstr(error.text, "Permission denied"));
    if (child > 0) {
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK(status == 0);
    }
    free(closed);
}

static void count_task(void *context, int task, int worker)
{
    unsigned char *seen = context;
    (void)worker;
    seen[task]++;
}

TEST(pool_runs_every_piece_once)
{
    struct pool *pool;
    for (int threads = 1; threads <= 4; threads++) {
        REQUIRE_OK(pool_create(threads, &pool, &error));
        CHECK(pool_threads(pool) == threads);
        for (int round = 0; round < 200; round++) {
            unsigned char seen[97] = {0};
            pool_run(pool, 97, count_task, seen);
            for (int i = 0; i < 97; i++)
                CHECK(seen[i] == 1);
        }
        pool_destroy(pool);
    }
}

struct transfer {
    struct channel *channel;
    int *items;
    int count;
};

static void send_or_receive(void *context, int task, int worker)
{
    struct transfer *transfer = context;
    int *item;
    (void)worker;
    if (task == 0) {
        for (int i = 0; i < transfer->count; i++)
            channel_send(transfer->channel, &transfer->items[i], NULL);
        channel_close(transfer->channel);
    } else {
        while ((item = channel_receive(transfer->channel, NULL)))
            *item += 1;
    }
}

TEST(channel_delivers_everything_then_ends)
{
    struct transfer transfer = {.count = 1000};
    struct pool *pool;
    int items[1000] = {0}, wrong = 0;
    transfer.items = items;
    REQUIRE_OK(channel_create(3, &transfer.channel, &error));
    REQUIRE_OK(pool_create(2, &pool, &error));
    pool_run(pool, 2, send_or_receive, &transfer);
    for (int i = 0; i < 1000; i++)
        wrong += items[i] != 1;
    CHECK(wrong == 0);
    CHECK(channel_receive(transfer.channel, NULL) == NULL);
    pool_destroy(pool);
    channel_destroy(transfer.channel);
}

static void *close_later(void *channel)
{
    usleep(20000);
    channel_close(channel);
    return NULL;
}

TEST(channel_waits_until_a_time)
{
    struct channel *channel;
    struct stage stage = {0};
    pthread_t thread;
    int item;
    REQUIRE_OK(channel_create(2, &channel, &error));
    const double started = clock_seconds();
    CHECK(!channel_await(channel, started + 0.05, &stage) && clock_seconds() >= started + 0.05);
    CHECK(!channel_await(channel, started - 1, &stage) && stage.waiting >= 0.05);
    CHECK(channel_send(channel, &item, NULL) && channel_await(channel, started, &stage));
    CHECK(channel_receive(channel, NULL) == &item);
    REQUIRE(pthread_create(&thread, NULL, close_later, channel) == 0);
    CHECK(channel_await(channel, INFINITY, &stage) && channel_receive(channel, NULL) == NULL);
    pthread_join(thread, NULL);
    channel_destroy(channel);
}

TEST(channel_cancel_wakes_and_drops)
{
    struct channel *channel;
    int item;
    REQUIRE_OK(channel_create(1, &channel, &error));
    CHECK(channel_send(channel, &item, NULL));
    channel_cancel(channel, NULL);
    CHECK(!channel_send(channel, &item, NULL));
    CHECK(channel_receive(channel, NULL) == NULL);
    channel_destroy(channel);
}

TEST(permutation_is_a_bijection_and_fixed)
{
    for (uint64_t count = 1; count < 300; count++) {
        bool seen[300] = {false};
        for (uint64_t i = 0; i < count; i++) {
            uint64_t index = random_permute(i, count, 42);
            REQUIRE(index < count && !seen[index]);
            seen[index] = true;
        }
    }
    /* A resumed run relies on the order: these values may never change. */
    CHECK(random_permute(0, 1000, 1) == 599);
    CHECK(random_permute(999, 1000, 1) == 975);
    struct random random = {1234567}; /* SplitMix64's published first values for this seed */
    CHECK(random_next(&random) == 6457827717110365317u);
    CHECK(random_next(&random) == 3203168211198807973u);
}

TEST(command_line_values_are_checked_whole)
{
    int64_t integer;
    double number;
    uint64_t size;
    char **items;
    int count;
    REQUIRE_OK(parse_integer("-12", -20, 20, &integer, &error));
    CHECK(integer == -12);
    CHECK(parse_integer("12x", 0, 20, &integer, &error) == -1);
    CHECK_TEXT(error.text, "\"12x\"");
    CHECK(parse_integer("", 0, 20, &integer, &error) == -1);
    CHECK(parse_integer("99999999999999999999", 0, INT64_MAX, &integer, &error) == -1);
    CHECK(parse_number("nan", 0, 1, &number, &error) == -1);
    REQUIRE_OK(parse_number("0.25", 0, 1, &number, &error));
    CHECK(number == 0.25);
    REQUIRE_OK(parse_size("1.5K", true, &size, &error));
    CHECK(size == 1536);
    REQUIRE_OK(parse_size("2m", false, &size, &error));
    CHECK(size == 2000000);
    CHECK(parse_size("2Q", false, &size, &error) == -1);
    CHECK(parse_size("-1", false, &size, &error) == -1);
    REQUIRE_OK(parse_list("6,12.mid,final", &items, &count, &error));
    CHECK(count == 3 && strcmp(items[1], "12.mid") == 0 && strcmp(items[2], "final") == 0);
    cli_list_free(items, count);
    CHECK(parse_list("6,,7", &items, &count, &error) == -1);
    CHECK(parse_list("", &items, &count, &error) == -1);
    REQUIRE_OK(parse_word("bf16", (const char *const[]){"f32", "bf16", NULL}, &count, &error));
    CHECK(count == 1);
    CHECK(parse_word("f64", (const char *const[]){"f32", "bf16", NULL}, &count, &error) == -1);
    CHECK_TEXT(error.text, "\"f64\" is none of: f32 bf16");
}

TEST(durations_and_bytes_read_well)
{
    char text[64];
    CHECK(strcmp(format_duration(3.21, text, sizeof text), "3.2 s") == 0);
    CHECK(strcmp(format_duration(245, text, sizeof text), "4 min 05 s") == 0);
    CHECK(strcmp(format_duration(7800, text, sizeof text), "2 h 10 min") == 0);
    CHECK(strcmp(format_bytes(812, text, sizeof text), "812 B") == 0);
    CHECK(strcmp(format_bytes(1.4e6, text, sizeof text), "1.40 MB") == 0);
    CHECK(strcmp(format_bytes(98e6, text, sizeof text), "98.0 MB") == 0);
}

/* What jansson alone refuses, and what becomes of it: as Python's json module reads it, or, where no json_t
 * holds that, something that a reader of the member refuses. */
static const struct {
    const char *text, *read;
} foreign_json[] = {
    {"{'n': 1000000000000000019884624838656}", "{'n': 1e30}"},
    {"{'n': 9223372036854775807}", "{'n': 9223372036854775807}"},
    {"{'n': 9223372036854775808}", "{'n': 9.2233720368547758e18}"},
    {"{'n': -9223372036854775809, 'm': -9223372036854775808}",
     "{'n': -9.2233720368547758e18, 'm': -9223372036854775808}"},
    {"{'n': 1e400}", "{'n': [[]]}"},
    {"{'n': -1E+400,'m':1e-400}", "{'n': [[]], 'm': 0.0}"},
    {"[12345678901234567890, 1.5e3, 0.1234567890123456789]",
     "[12345678901234567890.0, 1500.0, 0.12345678901234568]"},
    {"[NaN,Infinity,-Infinity]", "[[[]], [[]], [[]]]"},
    {"{'NaN': 'NaN', 'a 1e999': '12345678901234567890'}", "{'NaN': 'NaN', 'a 1e999': '12345678901234567890'}"},
    {"{'a': 1, 'b': 2, 'a': 3}", "{'a': 3, 'b': 2}"},
    {"\xef\xbb\xbf{'a': 1}", "{'a': 1}"},
    {"['\\ud800', '\\udc00', '\\ud800\\ud800\\udc00', '\\uD83D\\uDE00', '\\ud83dx']",
     "['\\ufffd', '\\ufffd', '\\ufffd\\ud800\\udc00', '\\ud83d\\ude00', '\\ufffdx']"},
    {"{'\\ud800': '\\ud8'}", NULL},
    {"['\\\\ud800', 'a\\\\', '\\\'\\ud800']", "['\\\\ud800', 'a\\\\', '\\\'\\ufffd']"},
    {"{'a\\u0000b' : 'c\\u0000d'}", "{'a\\ufffdb': 'c\\ufffdd'}"},
    {"{'a': 1e400x}", NULL},
    {"{'a': 01234567890123456789}", NULL},
    {"{'a': 12345678901234567890.}", NULL},
    {"{'a': Nan}", NULL},
    {"{NaN: 1}", NULL},
    {"{'a': +Infinity}", NULL},
    {"{'a': NaNNaN}", NULL},
    {"{'a': 1,}", NULL},
    {"{'a': '\\ud800}", NULL},
    {"{'a': '\\", NULL},
    {"{'a': '\\u", NULL},
    {"{'a': '\\uzzzz'}", NULL},
    {"{'a': '\xe9'}", NULL},
    {"{'a': 1} x", NULL},
    {"\xef\xbb\xbf", NULL},
    {"\xef\xbb", NULL},
    {"-", NULL},
    {"", NULL},
};

/* With ' for ", in a block of just its size, so that a sanitizer sees reads past it. */
static char *json_quotes(const char *text, size_t size)
{
    char *copy = malloc(size ? size : 1);
    for (size_t i = 0; copy && i < size; i++)
        copy[i] = text[i] == '\'' ? '"' : text[i];
    return copy;
}

TEST(foreign_json_is_read)
{
    for (size_t i = 0; i < sizeof foreign_json / sizeof *foreign_json; i++) {
        const char *wanted = foreign_json[i].read;
        const size_t size = strlen(foreign_json[i].text), wanted_size = wanted ? strlen(wanted) : 0;
        char *text = json_quotes(foreign_json[i].text, size), *expected = json_quotes(wanted, wanted_size);
        REQUIRE(text && expected);
        json_t *value = json_parse("x.json", text, size, &error);
        json_t *right = wanted ? json_loadb(expected, wanted_size, 0, NULL) : NULL;
        if (!value != !wanted || (value && !json_equal(value, right)))
            test_fail(__FILE__, __LINE__, "%s: %s", foreign_json[i].text,
                      value ? json_dumps(value, JSON_COMPACT | JSON_ENSURE_ASCII) : error.text);
        json_decref(value);
        json_decref(right);
        free(text);
        free(expected);
    }
}

TEST(foreign_json_keeps_nul_where_wanted)
{
    static const char text[] = "{\"a\\u0000\": \"b\\u0000c\", \"d\": \"\\u0000\"}";
    json_error_t position;
    json_t *value = json_decode(text, strlen(text), JSON_ALLOW_NUL, &position);
    REQUIRE(value);
    json_t *member = json_object_get(value, "a\xef\xbf\xbd");
    CHECK(json_string_length(member) == 3 && memcmp(json_string_value(member), "b\0c", 3) == 0);
    CHECK(json_string_length(json_object_get(value, "d")) == 1);
    json_decref(value);
}

TEST(members_that_json_cannot_hold_are_refused_where_read)
{
    static const char text[] = "{\"a\": 1e400, \"b\": NaN, \"c\": 99999999999999999999}";
    int64_t integer;
    double number;
    const char *string;
    json_t *object = json_parse("x.json", text, strlen(text), &error);
    REQUIRE(object);
    CHECK(json_get_number("x.json", object, "a", &number, &error) < 0);
    CHECK_TEXT(error.text, "\"a\" is not a number");
    CHECK(json_get_number("x.json", object, "b", &number, &error) < 0);
    CHECK(json_get_integer("x.json", object, "c", 0, INT64_MAX, &integer, &error) < 0);
    CHECK_TEXT(error.text, "\"c\" is not an integer");
    CHECK(json_get_string("x.json", object, "a", &string, &error) < 0);
    CHECK(json_get_string("x.json", object, "b", &string, &error) < 0);
    CHECK_TEXT(error.text, "\"b\" is not a string");
    json_decref(object);
}

/* Columns of the row that a progress bar draws on a terminal of so many. */
static int drawn_columns(int columns)
{
    struct screen screen;
    struct progress progress;
    if (screen_open(&screen, 24, columns) < 0)
        return -1;
    progress_start(&progress, "extract", "tokens", 1000000);
    progress.started -= 1000;
    progress.printed -= 1000;
    progress_update(&progress, 654321);
    screen_look(&screen);
    const int width = (int)strlen(screen_row(&screen, 0)), used = screen_used(&screen);
    progress_finish(&progress);
    screen_look(&screen);
    screen_close(&screen);
    return used == 1 && screen.row == 1 && screen.column == 0 && !screen.wrapped && !screen.unknown ? width
                                                                                                    : -1;
}

TEST(progress_fits_the_terminal)
{
    CHECK(drawn_columns(200) > 60);
    for (int columns = 2; columns <= 120; columns++) {
        const int drawn = drawn_columns(columns);
        if (drawn < 1 || drawn >= columns)
            test_fail(__FILE__, __LINE__, "%d columns are drawn where there are %d", drawn, columns);
    }
    CHECK(drawn_columns(0) > 60 && drawn_columns(0) < 80); /* nobody knows */
}

/* A message comes where the bar was, and the bar below it. */
TEST(messages_and_progress_do_not_mix)
{
    struct screen screen;
    struct progress progress;
    REQUIRE(screen_open(&screen, 6, 60) == 0);
    progress_start(&progress, "train", "tokens", 100);
    for (int i = 1; i <= 9; i++) {
        progress.started -= 10;
        progress.printed -= 10;
        progress_update(&progress, (uint64_t)i * 10);
        if (i == 4 || i == 5 || i == 8)
            cli_say("message %d", i);
    }
    progress_finish(&progress);
    screen_look(&screen);
    screen_close(&screen);
    CHECK_TEXT(screen_row(&screen, 0), "message 4");
    CHECK_TEXT(screen_row(&screen, 1), "message 5");
    CHECK_TEXT(screen_row(&screen, 2), "message 8");
    CHECK_TEXT(screen_row(&screen, 3), "train [");
    CHECK_TEXT(screen_row(&screen, 3), " 90 %");
    CHECK(screen_used(&screen) == 4 && screen.row == 4 && screen.column == 0);
}

/* Lines of 4 rows and 10 columns, on a terminal that has other lines above. */
TEST(terminal_draws_over_its_own_lines)
{
    struct screen screen;
    struct terminal terminal;
    REQUIRE(screen_open(&screen, 4, 10) == 0);
    for (int i = 0; i < 3; i++)
        fprintf(stderr, "line %d\n", i);
    terminal = terminal_look();
    CHECK(terminal.moves && terminal.bold && terminal.rows == 4 && terminal.columns == 10);
    terminal_draw(&terminal, "a\n" TERMINAL_BOLD "b23456789 123" TERMINAL_PLAIN "\nc\nd\n");
    terminal_draw(&terminal, "A\nB\xc3\xa4\xc3\xa4"
                             "456789 123\nC\nD\n");
    screen_look(&screen);
    CHECK(screen.wrapped == 0 && screen.unknown == 0 && screen.bold == 1);
    CHECK(!strcmp(screen_row(&screen, 0), "line 2") && !strcmp(screen_row(&screen, 1), "A"));
    CHECK(strlen(screen_row(&screen, 2)) == 9 && !strcmp(screen_row(&screen, 3), "C"));
    CHECK(screen.row == 1 && screen.column == 0);
    terminal_draw(&terminal, "x\n"); /* fewer lines: nothing is left of the others */
    screen_look(&screen);
    CHECK(screen_used(&screen) == 2 && !strcmp(screen_row(&screen, 1), "x"));
    screen_resize(&screen, 9, 6);
    terminal = terminal_look();
    terminal_draw(&terminal, "123456789\n2\n3\n4\n5\n");
    terminal_leave(&terminal, "the end is long");
    screen_look(&screen);
    CHECK(screen_used(&screen) == 2 && !strcmp(screen_row(&screen, 1), "the e") && screen.row == 2);
    setenv("NO_COLOR", "1", 1);
    CHECK(terminal_look().moves && !terminal_look().bold);
    setenv("NO_COLOR", "", 1);
    CHECK(terminal_look().bold);
    unsetenv("NO_COLOR");
    setenv("TERM", "dumb", 1);
    CHECK(!terminal_look().moves && !terminal_look().bold);
    screen_close(&screen);
    setenv("TERM", "xterm", 1);
}

TEST(json_errors_name_the_place)
{
    int64_t value;
    CHECK(json_parse("x.json", "{\"a\": 1e999,\n \"b\": 2,}", 23, &error) == NULL);
    CHECK_TEXT(error.text, "x.json: line 2");
    CHECK(json_parse("x.json", "{\"a\": \"\n\x1b\x7f", 10, &error) == NULL);
    CHECK_TEXT(error.text, "x.json: line 1");
    CHECK(!strpbrk(error.text, "\n\x1b\x7f"));
    json_t *object = json_parse("x.json", "{\"a\": 1, \"b\": \"c\"}", 18, &error);
    REQUIRE(object);
    REQUIRE_OK(json_get_integer("x.json", object, "a", 0, 5, &value, &error));
    CHECK(value == 1);
    CHECK(json_get_integer("x.json", object, "a", 2, 5, &value, &error) == -1);
    CHECK_TEXT(error.text, "\"a\" is 1, not in 2 .. 5");
    CHECK(json_get_integer("x.json", object, "b", 2, 5, &value, &error) == -1);
    CHECK_TEXT(error.text, "\"b\" is not an integer");
    CHECK(json_get_integer("x.json", object, "z", 2, 5, &value, &error) == -1);
    CHECK_TEXT(error.text, "\"z\" is missing");
    json_decref(object);
}

/* jansson's allocations fail one after the other: a text is whole or there is none. */
static int until_failure;

static void *failing_malloc(size_t size)
{
    return until_failure > 0 && --until_failure == 0 ? NULL : malloc(size);
}

TEST(json_text_is_whole_or_none)
{
    char long_key[400] = "";
    int refused = 0, turn = 0;
    memset(long_key, 'k', sizeof long_key - 1);
    json_set_alloc_funcs(failing_malloc, free);
    json_t *object = json_pack("{sisfs[iii]s{ss}}", long_key, 1, "b", 0.1, "c", 1, 2, 3, "d", long_key, "text");
    for (bool failed = true; failed && turn < 1000; turn++) {
        until_failure = turn + 1;
        char *text = json_text("x.json", object, JSON_INDENT(2) | JSON_REAL_PRECISION(9), &error);
        failed = until_failure == 0;
        until_failure = 0;
        json_t *again = text ? json_loads(text, 0, NULL) : NULL;
        CHECK(!text || json_equal(again, object));
        refused += !text;
        json_decref(again);
        free(text);
    }
    json_decref(object);
    json_set_alloc_funcs(malloc, free);
    CHECK(refused > 10 && turn < 1000);
    CHECK_TEXT(error.text, "x.json: out of memory");
    CHECK(!json_text("x.json", NULL, 0, &error));
}

/* A file that was fetched and is not JSON is to be fetched again; one that is not there is not. */
TEST(json_read_fetched_says_what_to_do)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *says;
    } cases[] = {
        {"{\"a\": 1,\n}", 10, "x.json: line 2, column 1"},
        {"{\"a\": ", 6, "x.json: line 1"},
        {"", 0, "x.json: line 1"},
        {"\xff\xfe{\0}\0", 6, "x.json: is UTF-16, but JSON must be UTF-8"},
        {"\xfe\xff\0{\0}", 6, "x.json: is UTF-16, but JSON must be UTF-8"},
        {"{\0}", 4, "x.json: is UTF-16, but JSON must be UTF-8"},
        {"\0{\0}", 4, "x.json: is UTF-16, but JSON must be UTF-8"},
    };
    char *path = path_join(test_folder(), "x.json", &error);
    remove(path);
    CHECK(!json_read_fetched(path, &error));
    CHECK(!strstr(error.text, "fetch it again"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        REQUIRE_OK(file_write(path, cases[i].bytes, cases[i].size, &error));
        CHECK(!json_read_fetched(path, &error));
        CHECK(error.kind == ERROR_DAMAGED);
        CHECK_TEXT(error.text, cases[i].says);
        CHECK_TEXT(error.text, "the file is damaged: fetch it again");
    }
    REQUIRE_OK(file_write(path, "{}", 2, &error));
    json_t *object = json_read_fetched(path, &error);
    CHECK(object);
    json_decref(object);
    free(path);
}

/* A token of a byte-level vocabulary may be the byte 0. */
TEST(json_text_holds_nul)
{
    char printed[64] = "";
    json_t *object = json_pack("{so}", "text", json_stringn("a\0b", 3));
    char *text = json_text("x.json", object, JSON_COMPACT, &error);
    REQUIRE(text);
    CHECK(strcmp(text, "{\"text\":\"a\\u0000b\"}") == 0);
    free(text);
    FILE *stream = fmemopen(printed, sizeof printed, "w");
    REQUIRE_OK(json_print("the page", object, stream, &error)); /* takes the object */
    fclose(stream);
    CHECK_TEXT(printed, "\"a\\u0000b\"");
}

/* What is printed is all of it, or the caller knows. */
TEST(json_print_is_whole_or_an_error)
{
    char printed[1024];
    int refused = 0, turn = 0;
    for (bool failed = true; failed && turn < 1000; turn++) {
        FILE *stream = fmemopen(printed, sizeof printed, "w");
        json_set_alloc_funcs(failing_malloc, free);
        json_t *object = json_pack("{s:[i, f, s], s:{s:b}}", "list", 3, 0.5, "text", "more", "flag", 1);
        until_failure = turn + 1;
        const int result = json_print("the page", object, stream, &error);
        failed = until_failure == 0;
        until_failure = 0;
        json_set_alloc_funcs(malloc, free);
        fclose(stream);
        refused += result < 0;
        json_t *again = result == 0 ? json_loads(printed, 0, NULL) : NULL;
        CHECK(result < 0 ||
              (json_object_size(again) == 2 && json_array_size(json_object_get(again, "list")) == 3));
        json_decref(again);
    }
    CHECK(refused > 10 && turn < 1000);
    CHECK_TEXT(error.text, "the page: out of memory");
    CHECK(json_print("the page", NULL, stdout, &error) < 0);
    FILE *full = fopen("/dev/full", "w");
    REQUIRE(full);
    setbuf(full, NULL);
    CHECK(json_print("the page", json_pack("{}"), full, &error) < 0);
    CHECK_TEXT(error.text, "the page: cannot be printed: No space left");
    fclose(full);
}

TEST(strings_grow)
{
    struct string text = {0};
    for (int i = 0; i < 1000; i++)
        string_print(&text, "%d,", i);
    string_append(&text, "end", 3);
    CHECK(!string_failed(&text, &error));
    CHECK(text.length == 3893 && strcmp(text.data + text.length - 7, "999,end") == 0);
    string_free(&text);
}

/* Pieces follow each other, are all there is, the fewest there may be, and of nearly one size. */
TEST(spelling_finds_what_was_meant)
{
    static const char *const words[] = {"rate",  "warmup",  "head",        NULL, "beta1",
                                        "beta2", "epsilon", "log_uniform", "tap"};
    enum { COUNT = sizeof words / sizeof words[0] };
    CHECK(spelling_nearest("rat", words, COUNT) == 0);
    CHECK(spelling_nearest("arte", words, COUNT) == 0);
    CHECK(spelling_nearest("tpa", words, COUNT) == 8);
    CHECK(spelling_nearest("haed", words, COUNT) == 2);
    CHECK(spelling_nearest("warmups", words, COUNT) == 1);
    CHECK(spelling_nearest("beta2", words, COUNT) == 5);
    CHECK(spelling_nearest("loguniform", words, COUNT) == 7);
    CHECK(spelling_nearest("learning_rate", words, COUNT) == 0);
    CHECK(spelling_nearest("eps", words, COUNT) == 6);
    CHECK(spelling_nearest("xyz", words, COUNT) == -1);
    CHECK(spelling_nearest("x", words, COUNT) == -1);
    CHECK(spelling_nearest("", words, COUNT) == -1);
    CHECK(spelling_nearest("rate rate rate rate rate rate rate rate rate rate", words, COUNT) == 0);
}

TEST(pieces_of_rows)
{
    for (int64_t most = 1; most <= 40; most++)
        for (int64_t rows = 1; rows <= 200; rows++) {
            const int64_t pieces = cut_count(rows, most);
            int64_t next = 0;
            for (int64_t p = 0; p < pieces; p++) {
                const struct piece piece = cut_piece(rows, most, p);
                CHECK(piece.first == next && piece.rows <= most && piece.rows >= rows / pieces);
                CHECK(pieces == 1 || piece.rows >= most / 2);
                next += piece.rows;
            }
            CHECK(next == rows && (pieces - 1) * most < rows);
        }
    CHECK(cut_count(0, 7) == 0 && cut_count(INT64_MAX, 2) == INT64_MAX / 2 + 1);
    CHECK(cut_piece(INT64_MAX, INT64_MAX - 1, 1).first == INT64_MAX / 2 + 1);
}

TEST_MAIN
