/* damage.h: stores to be damaged, what damages them, and whether they read as they were: for the fault tests of
 * stores.
 */
#ifndef OFFRAMP_TESTS_FAULTS_DAMAGE_H
#define OFFRAMP_TESTS_FAULTS_DAMAGE_H

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/random.h"
#include "common/repair/verify.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

static char path[4200], data[4300];

static inline void new_path(void)
{
    snprintf(path, sizeof path, "%s/store", test_folder());
    snprintf(data, sizeof data, "%s/data.mdb", path);
}

static inline int campaign(const char *variable, int usual)
{
    const char *text = getenv(variable);
    return text && atoi(text) > 0 ? atoi(text) : usual;
}

static inline int create(struct error *error)
{
    struct store *store;
    json_t *manifest = fixture_manifest(0, 1);
    int result = store_create(path, manifest, &store, error);
    json_decref(manifest);
    store_close(store);
    return result;
}

/* ---- injected failures ---- */

/* LMDB writes through these; the one whose turn it is fails. 0: none. */
static atomic_int calls_until_failure;
static enum { FAIL_FULL, FAIL_SHORT, FAIL_SYNC } failure;

static inline bool fails_now(bool sync)
{
    return sync == (failure == FAIL_SYNC) && atomic_load(&calls_until_failure) > 0 &&
           atomic_fetch_sub(&calls_until_failure, 1) == 1;
}

ssize_t pwrite(int file, const void *bytes, size_t size, off_t offset)
{
    if (fails_now(false)) {
        if (failure == FAIL_SHORT)
            return syscall(SYS_pwrite64, file, bytes, size / 2, offset);
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, file, bytes, size, offset);
}

ssize_t writev(int file, const struct iovec *parts, int count)
{
    if (fails_now(false)) {
        if (failure == FAIL_SHORT)
            return syscall(SYS_writev, file, parts, 1);
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_writev, file, parts, count);
}

int fdatasync(int file)
{
    if (fails_now(true)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, file);
}

/* A store with 40 sequences at `path`, sealed or not. */
static inline int create_filled(bool sealed, struct error *error)
{
    struct store *store;
    if (create(error) < 0 || store_open(path, STORE_WRITE, &store, error) < 0)
        return -1;
    int result = fixture_fill(store, SPLIT_TRAIN, 40, error);
    if (result == 0 && sealed)
        result = store_seal(store, error);
    store_close(store);
    return result;
}

/* ---- damage ---- */

static inline void flip(off_t bit)
{
    unsigned char byte = 0;
    int file = open(data, O_RDWR | O_CLOEXEC);
    CHECK(file >= 0 && pread(file, &byte, 1, bit / 8) == 1);
    byte ^= (unsigned char)(1 << bit % 8);
    CHECK(pwrite(file, &byte, 1, bit / 8) == 1);
    close(file);
}

enum { FLIP_TRAIN = 150, FLIP_HELD_OUT = 40 };

/* In a child, since nothing says yet that the store can be read: everything in it is what was written. */
static inline bool reads_all_equal(void)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        struct error error;
        struct store *store;
        struct source_shape shape;
        void *tensor, *note;
        size_t size;
        bool equal = store_open(path, STORE_READ, &store, &error) == 0 &&
                     store_sequences(store, SPLIT_TRAIN) == FLIP_TRAIN &&
                     store_sequences(store, SPLIT_HELD_OUT) == FLIP_HELD_OUT && store_is_sealed(store) &&
                     fixture_check_all(store, &error) == 0 &&
                     store_get_source(store, "output", &shape, &tensor, &error) == 0 && shape.rows == 40 &&
                     store_get_note(store, "position", &note, &size, &error) == 0 && size == 4;
        for (int tap = 0; equal && tap < FIXTURE_TAPS; tap++)
            equal = store_progress(store, tap, SPLIT_TRAIN) == FLIP_TRAIN &&
                    store_progress(store, tap, SPLIT_HELD_OUT) == FLIP_HELD_OUT;
        _exit(equal ? 0 : 1);
    }
    return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static inline bool verify_finds_something(void)
{
    struct error error;
    struct verify_result result;
    const struct verify_options options = {.processes = 1};
    return store_verify(path, &options, &result, &error) < 0 || result.problems > 0;
}

static inline int create_to_flip(struct error *error)
{
    static float tensor[40][64];
    struct store *store;
    new_path();
    if (create(error) < 0 || store_open(path, STORE_WRITE, &store, error) < 0)
        return -1;
    int result = fixture_fill(store, SPLIT_TRAIN, FLIP_TRAIN, error) < 0 ||
                         fixture_fill(store, SPLIT_HELD_OUT, FLIP_HELD_OUT, error) < 0
                     ? -1
                     : 0;
    if (result == 0 && store_begin(store, error) == 0 &&
        store_put_source(store, "output", (struct source_shape){DTYPE_F32, 40, 64}, tensor, error) == 0 &&
        store_put_note(store, "position", "here", 4, error) == 0)
        result = store_commit(store, error) < 0 ? -1 : store_seal(store, error);
    store_close(store);
    return result;
}

/* A bit of a page that LMDB's structure is made of: a meta, branch or leaf page (their flags say so). */
static inline off_t structure_bit(struct random *random, off_t pages)
{
    for (;;) {
        off_t page = (off_t)(random_next(random) % (uint64_t)pages);
        uint16_t flags = 0;
        int file = open(data, O_RDONLY | O_CLOEXEC);
        CHECK(pread(file, &flags, sizeof flags, page * 4096 + 10) == sizeof flags);
        close(file);
        if (flags == 1 || flags == 2 || flags == 8)
            return page * 32768 + (off_t)(random_next(random) % 32768);
    }
}

#endif
