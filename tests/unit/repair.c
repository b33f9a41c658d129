/* Repair calls the store, which knows nothing of it: a change of a finished store, what may look at its puts,
 * and the pages that LMDB frees when a value is replaced. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/repair/repair.h"
#include "common/store/internal.h"
#include "tests/store_fixture.h"
#include "tests/test.h"

enum { TAP = 0 /* 2.mid, raw: its records are large values */ };
static const struct sequence sequence = {SPLIT_TRAIN, 3};
static char path[4200], data[4300], mark[4300];

static int create_sealed(struct error *error)
{
    struct store *store;
    json_t *manifest = fixture_manifest(0, 1);
    snprintf(path, sizeof path, "%s/store", test_folder());
    snprintf(data, sizeof data, "%s/data.mdb", path);
    snprintf(mark, sizeof mark, "%s/sealed", path);
    int result = store_create(path, manifest, &store, error);
    json_decref(manifest);
    if (result == 0)
        result = fixture_fill(store, SPLIT_TRAIN, 10, error);
    if (result == 0)
        result = store_seal(store, error);
    store_close(store);
    return result;
}

static int put_again(struct store *store, struct error *error)
{
    struct codec_worker *worker;
    if (codec_worker_create(&worker, error) < 0)
        return -1;
    const int result = fixture_put_record(store, worker, TAP, sequence, error);
    codec_worker_destroy(worker);
    return result;
}

/* ---- the hook ---- */

static int hooked;
static bool refuse;

static int look_at_put(struct store *store, MDB_dbi database, const MDB_val *key, struct error *error)
{
    CHECK(database == store->tap[TAP] && key->mv_size == 8);
    hooked++;
    return refuse ? error_set(error, "this put is refused") : 0;
}

TEST(change_of_a_finished_store)
{
    struct error error;
    struct store *store;
    REQUIRE_OK(create_sealed(&error));
    REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
    CHECK(store_begin(store, &error) < 0);
    CHECK_TEXT(error.text, "finished and sealed");
    CHECK(access(mark, F_OK) == 0);

    hooked = 0;
    refuse = false;
    REQUIRE_OK(store_begin_change(store, look_at_put, &error));
    CHECK(access(mark, F_OK) != 0);
    REQUIRE_OK(put_again(store, &error));
    REQUIRE_OK(store_commit(store, &error));
    REQUIRE_OK(store_begin(store, &error)); /* a further transaction of the change */
    refuse = true;
    CHECK(put_again(store, &error) < 0);
    CHECK_TEXT(error.text, "this put is refused");
    CHECK(hooked == 2);
    REQUIRE_OK(store_commit(store, &error));
    REQUIRE_OK(store_end_change(store, &error));
    CHECK(access(mark, F_OK) == 0);
    CHECK(store_begin(store, &error) < 0);

    REQUIRE_OK(store_begin_change(store, NULL, &error));
    REQUIRE_OK(put_again(store, &error));
    CHECK(hooked == 2);
    REQUIRE_OK(store_commit(store, &error));
    REQUIRE_OK(store_end_change(store, &error));
    REQUIRE_OK(fixture_check_all(store, &error));
    store_close(store);
}

/* ---- pages ---- */

/* Where in the file the header of the record's pages lies; 0: not found. */
static off_t find_page(struct error *error)
{
    struct store *store;
    struct reader *reader = NULL;
    struct pages_map map;
    const void *record;
    size_t size;
    off_t offset = 0;
    if (store_open(path, STORE_READ, &store, error) == 0 && reader_open(store, &reader, error) == 0 &&
        store_find_map(store, reader->snapshot, &map, error) == 0 &&
        reader_record(reader, TAP, sequence, &record, &size, error) == 0 &&
        pages_value_is_right(&map, record, size))
        offset = (off_t)((uintptr_t)record - map.origin) - PAGES_VALUE_HEADER;
    reader_close(reader);
    store_close(store);
    return offset % 4096 == 0 ? offset : 0;
}

static void flip(off_t bit)
{
    unsigned char byte;
    int file = open(data, O_RDWR | O_CLOEXEC);
    CHECK(pread(file, &byte, 1, bit / 8) == 1);
    byte ^= (unsigned char)(1 << bit % 8);
    CHECK(pwrite(file, &byte, 1, bit / 8) == 1);
    close(file);
}

/* How many pages the value takes, as its header says: LMDB would free so many when the record is replaced. */
TEST(repair_mends_pages_that_lmdb_frees)
{
    struct error error;
    struct store *store;
    const off_t counts[] = {12 * 8, 12 * 8 + 1, 12 * 8 + 5};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        REQUIRE_OK(create_sealed(&error));
        const off_t page = find_page(&error);
        REQUIRE(page > 0);
        flip(page * 8 + counts[i]);
        CHECK(find_page(&error) == 0);
        REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error));
        REQUIRE_OK(repair_begin(store, &error));
        REQUIRE_OK(put_again(store, &error));
        REQUIRE_OK(store_commit(store, &error));
        REQUIRE_OK(repair_finish(store, &error));
        REQUIRE_OK(fixture_check_all(store, &error));
        store_close(store);
        REQUIRE_OK(store_open(path, STORE_WRITE, &store, &error)); /* walks all trees and the freed pages */
        store_close(store);
        REQUIRE_OK(store_remove(path, &error));
    }
}

TEST_MAIN
