#include "common/store/pages.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LMDB_MAGIC        0xBEEFC0DE
#define LMDB_DATA_VERSION 1
#define PAGE_META         0x08

struct page_header {
    uint64_t number;
    uint16_t unused, flags;
    uint16_t lower, upper; /* tree pages: free space; overflow pages: both together, the page count */
};

struct tree {
    uint32_t page_size; /* in the first tree of a meta page only */
    uint16_t flags, depth;
    uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};

struct meta_page {
    struct page_header header;
    uint32_t magic, version;
    uint64_t address, map_size;
    struct tree free, main; /* of freed pages; of named databases */
    uint64_t last_page, transaction;
};

_Static_assert(sizeof(struct page_header) == 16 && sizeof(struct tree) == 48 && sizeof(struct meta_page) == 152,
               "LMDB's layout on 64-bit machines");

static int read_meta(int file, const char *path, uint64_t offset, uint64_t number, struct meta_page *page,
                     struct error *error)
{
    ssize_t got = pread(file, page, sizeof *page, (off_t)offset);
    if (got < 0)
        return error_system(error, "%s", path);
    if (got < (ssize_t)sizeof *page)
        return error_set(error, "%s: the file is cut short: it ends in the meta pages", path);
    uint32_t size = page->free.page_size;
    if (page->magic != LMDB_MAGIC || page->header.number != number || !(page->header.flags & PAGE_META) ||
        size < 512 || size > 65536 || (size & (size - 1)))
        return error_set(error, "%s: meta page %" PRIu64 " is damaged, or this is no LMDB file", path, number);
    if (page->version != LMDB_DATA_VERSION)
        return error_set(error, "%s: LMDB data version %" PRIu32 "; this program reads %d", path, page->version,
                         LMDB_DATA_VERSION);
    return 0;
}

/* The meta page that counts. */
static int read_head(int file, const char *path, struct meta_page *head, struct error *error)
{
    struct meta_page pages[2];
    struct stat status;
    if (read_meta(file, path, 0, 0, &pages[0], error) < 0 ||
        read_meta(file, path, pages[0].free.page_size, 1, &pages[1], error) < 0)
        return -1;
    uint64_t even = pages[0].transaction, odd = pages[1].transaction;
    if (pages[0].free.page_size != pages[1].free.page_size || even % 2 != 0 || odd % 2 != 1 ||
        (even > odd ? even - odd : odd - even) != 1)
        return error_set(error,
                         "%s: the meta pages disagree (transactions %" PRIu64 " and %" PRIu64
                         "): the file is damaged",
                         path, even, odd);
    *head = pages[odd > even];

    /* The size is asked for after the meta page was read: a writer writes them the other way round. */
    if (fstat(file, &status) < 0)
        return error_system(error, "%s", path);
    uint64_t pages_there = (uint64_t)status.st_size / head->free.page_size;
    if (head->last_page >= pages_there)
        return error_set(error,
                         "%s: the file is cut short: it has %" PRIu64 " whole pages and needs %" PRIu64
                         "; copy it again from where it came",
                         path, pages_there, head->last_page + 1);
    return 0;
}

int pages_check_head(const char *path, struct error *error)
{
    struct meta_page head;
    int file = open(path, O_RDONLY | O_CLOEXEC), result = -1;
    if (file < 0)
        return error_system(error, "%s", path);
    /* A page read while its writer is in the middle of it looks damaged: damage is there to stay. */
    for (int attempt = 0; attempt < 4 && result < 0; attempt++) {
        const struct timespec pause = {.tv_nsec = 20000000};
        if (attempt > 0)
            nanosleep(&pause, NULL);
        result = read_head(file, path, &head, error);
    }
    close(file);
    return result;
}
