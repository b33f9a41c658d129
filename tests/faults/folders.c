/* What a power cut may undo: a name made, changed or removed in a folder that was not synced afterwards.
 * Whatever a function of files or stores does with names, no folder waits to be synced when it returns. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/repair/repair.h"
#include "common/repair/salvage.h"
#include "common/store/extend.h"
#include "common/store/internal.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

/* ---- folders that wait ---- */

enum { WAITING_MAX = 32 };

static struct {
    char folder[4200];
    char why[4400];
} waiting[WAITING_MAX];
static int waiting_count, syncs;

/* Real paths without links, of a file's folder, or of the folder itself. */
static void real_folder(const char *path, char folder[4200])
{
    char copy[4200], *slash;
    snprintf(copy, sizeof copy, "%s", path);
    while ((slash = strrchr(copy, '/')) && slash > copy && !slash[1])
        *slash = 0;
    if (slash)
        slash[slash == copy] = 0;
    char *real = realpath(slash ? copy : ".", NULL);
    snprintf(folder, 4200, "%s", real ? real : "?");
    free(real);
}

static void note(const char *what, const char *path)
{
    if (waiting_count == WAITING_MAX)
        return;
    real_folder(path, waiting[waiting_count].folder);
    snprintf(waiting[waiting_count++].why, sizeof waiting->why, "%s %s", what, path);
}

static void forget(const char *folder)
{
    int kept = 0;
    for (int i = 0; i < waiting_count; i++)
        if (strcmp(waiting[i].folder, folder) != 0)
            waiting[kept++] = waiting[i];
    waiting_count = kept;
}

int unlink(const char *path)
{
    const int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (result == 0)
        note("unlink", path);
    return result;
}

int rmdir(const char *path)
{
    char folder[4200], *real = realpath(path, NULL);
    snprintf(folder, sizeof folder, "%s", real ? real : "?");
    free(real);
    const int result = (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR);
    if (result == 0) {
        forget(folder); /* it is gone, with what it held */
        note("rmdir", path);
    }
    return result;
}

int rename(const char *from, const char *to)
{
    char folder[4200];
    real_folder(to, folder);
    for (int i = 0; i < waiting_count; i++)
        if (strcmp(waiting[i].folder, folder) == 0)
            test_fail(__FILE__, __LINE__, "renamed to %s before this was synced: %s", to, waiting[i].why);
    const int result = (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    if (result == 0) {
        note("rename from", from);
        note("rename to", to);
    }
    return result;
}

int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags)
{
    const int result = (int)syscall(SYS_renameat2, from_folder, from, to_folder, to, flags);
    if (result == 0) {
        note("exchange of", from);
        note("exchange with", to);
    }
    return result;
}

/* What a folder held is removed only when the folder is known to be away. */
int unlinkat(int folder, const char *name, int flags)
{
    for (int i = 0; i < waiting_count; i++)
        if (strncmp(waiting[i].why, "exchange", 8) == 0)
            test_fail(__FILE__, __LINE__, "%s is removed before this was synced: %s", name, waiting[i].why);
    return (int)syscall(SYS_unlinkat, folder, name, flags);
}

int mkdir(const char *path, mode_t mode)
{
    const int result = (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
    if (result == 0)
        note("mkdir", path);
    return result;
}

int fsync(int file)
{
    char link[64], folder[4200];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    const ssize_t length = readlink(link, folder, sizeof folder - 1);
    if (length > 0) {
        folder[length] = 0;
        forget(folder);
    }
    syncs++;
    return 0;
}

/* Fails, and forgets, where something waits. */
#define CHECK_SYNCED()                                                                                         \
    do {                                                                                                       \
        for (int i = 0; i < waiting_count; i++)                                                                \
            test_fail(__FILE__, __LINE__, "not synced: %s", waiting[i].why);                                   \
        waiting_count = 0;                                                                                     \
    } while (0)

/* ---- files ---- */

TEST(folders_of_files)
{
    struct error error;
    const char *folder = test_folder();
    char a[4300], b[4300], sub[4300];
    snprintf(a, sizeof a, "%s/one/two/", folder);
    REQUIRE_OK(directory_create(a, &error));
    CHECK_SYNCED();
    CHECK(syncs > 0);
    snprintf(a, sizeof a, "%s/one/a", folder);
    snprintf(b, sizeof b, "%s/one/two/b", folder);
    snprintf(sub, sizeof sub, "%s/one/two", folder);
    REQUIRE_OK(file_write(a, "text", 4, &error));
    CHECK_SYNCED();
    REQUIRE_OK(file_rename(a, b, &error));
    CHECK_SYNCED();
    CHECK(!file_exists(a) && file_exists(b));
    REQUIRE_OK(directory_remove(sub, &error)); /* it is not empty */
    CHECK(file_exists(b));
    REQUIRE_OK(file_remove(b, &error));
    CHECK_SYNCED();
    REQUIRE_OK(file_remove(b, &error)); /* it is not there */
    CHECK(!file_exists(b));
    snprintf(sub, sizeof sub, "%s/one/two//", folder);
    REQUIRE_OK(directory_remove(sub, &error));
    CHECK_SYNCED();
    CHECK(!path_is_directory(sub));
    REQUIRE_OK(directory_remove(sub, &error));
    CHECK(file_remove(folder, &error) < 0);
}

/* A folder in another's place, whether one is there or not. */
TEST(folders_that_are_replaced)
{
    struct error error;
    const char *folder = test_folder();
    char to[4300], from[4300], file[4400];
    snprintf(to, sizeof to, "%s/to", folder);
    snprintf(from, sizeof from, "%s/from", folder);
    snprintf(file, sizeof file, "%s/file", from);
    for (int turn = 0; turn < 2; turn++) {
        REQUIRE_OK(directory_create(from, &error));
        REQUIRE_OK(file_write(file, turn ? "new" : "old", 3, &error));
        REQUIRE_OK(directory_replace(from, to, &error));
        CHECK_SYNCED();
        CHECK(!file_exists(from) && file_exists(to));
    }
}

/* ---- stores ---- */

static char path[4200], sealed[4300];

static int create(struct store **store, struct error *error)
{
    json_t *manifest = fixture_manifest(0, 1);
    int result = store_create(path, manifest, store, error);
    json_decref(manifest);
    return result;
}

static int create_sealed(struct store **store, struct error *error)
{
    snprintf(path, sizeof path, "%s/store", test_folder());
    snprintf(sealed, sizeof sealed, "%s/sealed", path);
    if (create(store, error) < 0 || fixture_fill(*store, SPLIT_TRAIN, 3, error) < 0)
        return -1;
    return store_seal(*store, error);
}

/* As growth does: the store is no longer finished, and has lost the sequences behind the first two. */
static int shorten(struct store *store, struct error *error)
{
    const uint64_t sequences[SPLIT_COUNT] = {2, 0};
    json_t *manifest = fixture_manifest(0, 1);
    const int result = extend_begin(store, manifest, sequences, error);
    json_decref(manifest);
    return result;
}

TEST(folders_of_stores)
{
    struct error error;
    struct store *store;
    struct salvage_report report;
    REQUIRE_OK(create_sealed(&store, &error));
    CHECK_SYNCED();
    REQUIRE_OK(repair_begin(store, &error));
    CHECK(!file_exists(sealed));
    CHECK_SYNCED();
    REQUIRE_OK(store_commit(store, &error));
    REQUIRE_OK(repair_finish(store, &error));
    CHECK(file_exists(sealed));
    CHECK_SYNCED();
    REQUIRE_OK(shorten(store, &error));
    CHECK(!file_exists(sealed));
    CHECK_SYNCED();
    REQUIRE_OK(store_commit(store, &error));
    REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, 1, &error));
    REQUIRE_OK(store_seal(store, &error));
    CHECK_SYNCED();
    json_t *manifest = json_deep_copy(store_manifest(store));
    REQUIRE_OK(extend_manifest(store, manifest, &error));
    json_decref(manifest);
    CHECK(file_exists(sealed));
    CHECK_SYNCED();
    store_close(store);
    REQUIRE_OK(store_salvage(path, &report, &error));
    CHECK_SYNCED();
    REQUIRE_OK(store_remove(path, &error));
    CHECK_SYNCED();
    CHECK(!file_exists(path));
}

/* A store that is not whole, in a folder that says it is finished, is salvaged without that word. */
TEST(folders_of_salvage_without_seal)
{
    struct error error;
    struct store *store;
    struct salvage_report report;
    REQUIRE_OK(create_sealed(&store, &error));
    REQUIRE_OK(shorten(store, &error));
    REQUIRE_OK(store_commit(store, &error));
    REQUIRE_OK(store_begin(store, &error));
    REQUIRE_OK(fixture_put_tokens(store, (struct sequence){SPLIT_TRAIN, 2}, &error));
    REQUIRE_OK(store_commit(store, &error));
    store_close(store);
    REQUIRE_OK(file_write(sealed, "", 0, &error));
    REQUIRE_OK(store_salvage(path, &report, &error));
    CHECK(!file_exists(sealed));
    CHECK_SYNCED();
}

/* What a removal that a power cut stopped may have left does not speak for a new store. */
TEST(folders_with_an_old_seal)
{
    struct error error;
    struct store *store;
    REQUIRE_OK(create_sealed(&store, &error));
    store_close(store);
    REQUIRE_OK(store_remove(path, &error));
    REQUIRE_OK(directory_create(path, &error));
    REQUIRE_OK(file_write(sealed, "old", 3, &error));
    CHECK_SYNCED();
    REQUIRE_OK(create(&store, &error));
    CHECK_SYNCED();
    CHECK(!file_exists(sealed));
    REQUIRE_OK(fixture_fill(store, SPLIT_TRAIN, 1, &error));
    store_close(store);
    REQUIRE_OK(store_open(path, STORE_READ, &store, &error));
    store_close(store);
}

TEST_MAIN
