#include "common/lmdb/pages.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/lmdb/layout.h"

#define LMDB_DATA_VERSION 1
#define PROBLEMS_MAX      100

static int read_meta(int file, const char *path, uint64_t offset, uint64_t number, struct meta_page *page,
                     struct error *error)
{
    ssize_t got = pread(file, page, sizeof *page, (off_t)offset);
    if (got < 0)
        return error_system(error, "%s", path);
    if (got < (ssize_t)sizeof *page)
        return error_set_kind(error, ERROR_DAMAGED, "%s: the file is cut short: it ends in the meta pages",
                              path);
    uint32_t size = page->free.page_size;
    if (page->magic != LMDB_MAGIC || page->header.number != number || !(page->header.flags & PAGE_META) ||
        size < 512 || size > 65536 || (size & (size - 1)))
        return error_set_kind(error, ERROR_DAMAGED,
                              "%s: meta page %" PRIu64 " is damaged, or this is not an LMDB file", path,
                              number);
    if (page->version != LMDB_DATA_VERSION)
        return error_set(error, "%s: LMDB data version %" PRIu32 "; this program reads %d", path, page->version,
                         LMDB_DATA_VERSION);
    return 0;
}

/* The meta page of `transaction`, or the newer one when that is 0. */
static int read_newest(int file, const char *path, uint64_t transaction, struct meta_page *meta,
                       struct error *error)
{
    struct meta_page pages[2];
    struct stat status;
    if (read_meta(file, path, 0, 0, &pages[0], error) < 0 ||
        read_meta(file, path, pages[0].free.page_size, 1, &pages[1], error) < 0)
        return -1;
    uint64_t even = pages[0].transaction, odd = pages[1].transaction;
    const struct meta_page *newer = &pages[odd > even], *older = &pages[even > odd];
    if (pages[0].free.page_size != pages[1].free.page_size || older->last_page > newer->last_page ||
        even % 2 != 0 || odd % 2 != 1 || (even > odd ? even - odd : odd - even) != 1)
        return error_set_kind(error, ERROR_DAMAGED,
                              "%s: the meta pages disagree (transactions %" PRIu64 " and %" PRIu64
                              "): the file is damaged",
                              path, even, odd);
    *meta = transaction ? pages[transaction % 2] : *newer;
    if (transaction && meta->transaction != transaction)
        return error_set(error, "%s: transaction %" PRIu64 " is gone: the store was written meanwhile", path,
                         transaction);

    /* First the meta page, then the size: a writer makes the file larger before it writes the meta page. */
    if (fstat(file, &status) < 0)
        return error_system(error, "%s", path);
    uint64_t pages_there = (uint64_t)status.st_size / meta->free.page_size;
    if (meta->last_page >= pages_there)
        return error_set_kind(error, ERROR_DAMAGED,
                              "%s: the file is cut short: it has %" PRIu64 " whole pages and needs %" PRIu64
                              "; copy it again from where it came",
                              path, pages_there, meta->last_page + 1);
    return 0;
}

static int open_newest(const char *path, uint64_t transaction, struct meta_page *meta, struct error *error)
{
    int file = open(path, O_RDONLY | O_CLOEXEC), result = -1;
    if (file < 0)
        return error_system(error, "%s", path);
    /* A page that is being written may look damaged. Damage stays, so another look tells them apart. */
    for (int attempt = 0; attempt < 4 && result < 0; attempt++) {
        const struct timespec pause = {.tv_nsec = 2000000};
        if (attempt > 0)
            nanosleep(&pause, NULL);
        result = read_newest(file, path, transaction, meta, error);
    }
    close(file);
    return result;
}

int pages_check_meta(const char *path, struct error *error)
{
    struct meta_page meta;
    return open_newest(path, 0, &meta, error);
}

/* ---- large values ---- */

uint64_t pages_of_value(size_t page_size, size_t size)
{
    return (sizeof(struct page_header) - 1 + size) / page_size + 1;
}

struct pages_map pages_map_of(const void *address, size_t page_size)
{
    struct page_header header;
    const unsigned char *page = (const unsigned char *)address - (uintptr_t)address % page_size;
    memcpy(&header, page, sizeof header);
    return (struct pages_map){page_size, (uintptr_t)page - header.number * page_size};
}

bool pages_value_is_right(const struct pages_map *map, const void *value, size_t size)
{
    struct page_header header;
    if ((uintptr_t)value % map->page_size != sizeof header)
        return true;
    memcpy(&header, (const unsigned char *)value - sizeof header, sizeof header);
    return header.flags == PAGE_OVERFLOW && pages_map_of(value, map->page_size).origin == map->origin &&
           (header.lower | (uint32_t)header.upper << 16) == pages_of_value(map->page_size, size);
}

int pages_mend_value(const struct pages_map *map, const char *path, const void *value, size_t size,
                     struct error *error)
{
    const uint64_t offset = (uintptr_t)value - sizeof(struct page_header) - map->origin;
    const uint64_t pages = pages_of_value(map->page_size, size);
    const struct page_header header = {.number = offset / map->page_size,
                                       .flags = PAGE_OVERFLOW,
                                       .lower = (uint16_t)pages,
                                       .upper = (uint16_t)(pages >> 16)};
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return error_system(error, "%s", path);
    int result = pwrite(file, &header, sizeof header, (off_t)offset) == sizeof header && fdatasync(file) == 0
                     ? 0
                     : error_system(error, "%s: page %" PRIu64, path, header.number);
    close(file);
    return result;
}

/* ---- room ---- */

/* Bytes of an entry in a leaf page, without the value: its offset, its node, its key. */
static size_t entry_bytes(size_t key_size)
{
    return sizeof(uint16_t) + sizeof(struct node) + key_size;
}

static bool is_large(size_t page_size, size_t key_size, size_t size)
{
    return entry_bytes(key_size) + size > (page_size - sizeof(struct page_header)) / 2;
}

double pages_value_bytes(size_t page_size, size_t key_size, size_t size)
{
    const size_t room = page_size - sizeof(struct page_header), entry = entry_bytes(key_size);
    if (!is_large(page_size, key_size, size))
        return (double)page_size / (double)(room / (entry + size));
    const size_t own = (size_t)pages_of_value(page_size, size) * page_size;
    return (double)own + (double)page_size / (double)(room / (entry + sizeof(uint64_t)));
}

size_t pages_value_slack(size_t page_size, size_t key_size, size_t size)
{
    return is_large(page_size, key_size, size)
               ? (size_t)pages_of_value(page_size, size) * page_size - sizeof(struct page_header) - size
               : 0;
}

/* ---- walking ---- */

__attribute__((format(printf, 2, 3))) static void problem(struct walk *walk, const char *format, ...)
{
    char what[256], line[400];
    va_list list;
    if (walk->problems >= PROBLEMS_MAX)
        return;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    snprintf(line, sizeof line, "%s: %s", walk->tree, what);
    walk->report(walk->context, line);
    walk->problems++;
}

/* Takes pages for the tree; false when they are out of range or taken. */
static bool take_pages(struct walk *walk, uint64_t first, uint64_t count)
{
    if (first < 2 || first > walk->last || count > walk->last - first + 1) {
        problem(walk, "page %" PRIu64 " (%" PRIu64 " pages) is outside the file", first, count);
        return false;
    }
    for (uint64_t page = first; page < first + count; page++) {
        if (page_is_used(walk->used, page)) {
            problem(walk, "page %" PRIu64 " is used twice", page);
            return false;
        }
        page_use(walk->used, page);
    }
    return true;
}

static const unsigned char *page_at(const struct walk *walk, uint64_t number, struct page_header *header)
{
    const unsigned char *page = walk->file + number * walk->page_size;
    memcpy(header, page, sizeof *header);
    return page;
}

/* < 0, 0, > 0 as LMDB orders keys: by bytes, or by number in the tree of freed pages. */
static int compare_keys(enum tree_kind kind, struct bytes a, struct bytes b)
{
    uint64_t x, y;
    if (kind == TREE_OF_FREED && a.size == sizeof x && b.size == sizeof y) {
        memcpy(&x, a.data, sizeof x);
        memcpy(&y, b.data, sizeof y);
        return x < y ? -1 : x > y;
    }
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* Takes the pages of a large value. NULL: they are out of range or taken. The header is checked only of LMDB's
 * own lists. Of other values, those who read them check it (pages_value_is_right). */
static const unsigned char *take_value(struct walk *walk, uint64_t number, size_t size)
{
    uint64_t count = pages_of_value(walk->page_size, size);
    if (!take_pages(walk, number, count))
        return NULL;
    walk->found.overflow_pages += count;
    const unsigned char *value = walk->file + number * walk->page_size + sizeof(struct page_header);
    const struct pages_map map = {walk->page_size, (uintptr_t)walk->file};
    if (walk->kind == TREE_OF_FREED && !pages_value_is_right(&map, value, size)) {
        problem(walk, "page %" PRIu64 " does not begin a value of %zu bytes", number, size);
        return NULL;
    }
    return value;
}

/* A list of freed pages: how many, then their numbers. */
static void take_freed(struct walk *walk, const unsigned char *value, size_t size)
{
    uint64_t count = 0, number;
    if (size >= sizeof count)
        memcpy(&count, value, sizeof count);
    if (size % sizeof number != 0 || size / sizeof number != count + 1) {
        problem(walk, "a list of %zu bytes is damaged", size);
        return;
    }
    for (uint64_t i = 1; i <= count; i++) {
        memcpy(&number, value + i * sizeof number, sizeof number);
        take_pages(walk, number, 1);
    }
}

/* An entry of the main tree: a database. */
static void walk_database(struct walk *walk, struct bytes key, const unsigned char *value, size_t size)
{
    struct tree tree;
    char name[64];
    if (size != sizeof tree) {
        problem(walk, "a database has a description of %zu bytes", size);
        return;
    }
    memcpy(&tree, value, sizeof tree);
    snprintf(name, sizeof name, "database %.*s", (int)(key.size < 40 ? key.size : 40), (const char *)key.data);
    for (char *at = name; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
    walk_tree(walk, name, TREE_OF_VALUES, &tree);
}

static void walk_leaf_node(struct walk *walk, struct node node, struct bytes key, const unsigned char *value)
{
    const size_t size = node_value_size(node);
    walk->found.entries++;
    if (node.flags != (walk->kind == TREE_OF_TREES ? NODE_TREE : node.flags & NODE_LARGE)) {
        problem(walk, "a value has flags %u", node.flags);
        return;
    }
    if (node.flags == NODE_LARGE) {
        uint64_t number;
        memcpy(&number, value, sizeof number);
        value = take_value(walk, number, size);
    }
    if (!value)
        return;
    if (walk->kind == TREE_OF_TREES)
        walk_database(walk, key, value, size);
    else if (walk->kind == TREE_OF_FREED)
        take_freed(walk, value, size);
    if (walk->visit && walk->kind != TREE_OF_TREES)
        walk->visit(walk->visitor, key, (struct bytes){value, size});
}

size_t node_in_page(const unsigned char *page, size_t page_size, size_t offset, bool branch, struct node *node,
                    struct bytes *key, const unsigned char **value)
{
    if (offset % 2 != 0 || offset > page_size - sizeof *node)
        return 0;
    memcpy(node, page + offset, sizeof *node);
    size_t inside = branch ? 0 : node->flags & NODE_LARGE ? sizeof(uint64_t) : node_value_size(*node);
    size_t whole = sizeof *node + node->key_size + inside;
    if (whole > page_size - offset)
        return 0;
    *key = (struct bytes){page + offset + sizeof *node, node->key_size};
    *value = key->data + key->size;
    return whole + whole % 2;
}

static void walk_page(struct walk *walk, uint64_t number, unsigned depth, struct bytes low, struct bytes high);

/* Keys ascend from `low` to below `high`. The first one may equal `low`. */
static bool key_in_order(struct walk *walk, uint64_t page, unsigned entry, struct bytes key, struct bytes low,
                         bool first, struct bytes high)
{
    if ((!low.data || compare_keys(walk->kind, key, low) >= (first ? 0 : 1)) &&
        (!high.data || compare_keys(walk->kind, key, high) < 0))
        return true;
    problem(walk, "page %" PRIu64 ": key %u is out of order", page, entry);
    return false;
}

/* Walks the entries of a page, and in a branch page their children, each with the keys that bound it. Entries
 * fill the page from `upper` to its end without a gap. */
static void walk_entries(struct walk *walk, const unsigned char *page, struct page_header header,
                         unsigned depth, struct bytes low, struct bytes high)
{
    const bool branch = depth > 1;
    const unsigned entries = (unsigned)(header.lower - sizeof header) / 2;
    size_t filled = 0;
    uint64_t child = 0; /* of the entry before, whose keys end where this entry's begin */
    for (unsigned i = 0; i < entries; i++) {
        struct node node;
        struct bytes key;
        const unsigned char *value;
        size_t size = node_in_page(page, walk->page_size, entry_offset(page, i), branch, &node, &key, &value);
        if (size == 0) {
            problem(walk, "page %" PRIu64 ": entry %u is outside the page", header.number, i);
            return;
        }
        filled += size;
        if (!branch || i > 0) { /* the first key of a branch page has no meaning */
            if (!key_in_order(walk, header.number, i, key, low, i == (branch ? 1 : 0), high))
                return;
            if (branch)
                walk_page(walk, child, depth - 1, low, key);
            else
                walk_leaf_node(walk, node, key, value);
            low = key;
        }
        child = node.low | (uint64_t)node.high << 16 | (uint64_t)node.flags << 32;
    }
    if (branch)
        walk_page(walk, child, depth - 1, low, high);
    if (filled != walk->page_size - header.upper)
        problem(walk, "page %" PRIu64 ": %zu bytes of entries where %zu belong", header.number, filled,
                walk->page_size - header.upper);
}

static void walk_page(struct walk *walk, uint64_t number, unsigned depth, struct bytes low, struct bytes high)
{
    struct page_header header;
    if (walk->problems >= PROBLEMS_MAX || !take_pages(walk, number, 1))
        return;
    const unsigned char *page = page_at(walk, number, &header);
    if (header.number != number || header.flags != (depth > 1 ? PAGE_BRANCH : PAGE_LEAF) ||
        header.lower < sizeof header + 2 || header.lower % 2 != 0 || header.upper < header.lower ||
        header.upper > walk->page_size) {
        problem(walk, "page %" PRIu64 " is not the %s page it should be", number,
                depth > 1 ? "branch" : "leaf");
        return;
    }
    if (depth > 1)
        walk->found.branch_pages++;
    else
        walk->found.leaf_pages++;
    walk_entries(walk, page, header, depth, low, high);
}

static bool has_counts(const struct tree *found, const struct tree *tree)
{
    return found->branch_pages == tree->branch_pages && found->leaf_pages == tree->leaf_pages &&
           found->overflow_pages == tree->overflow_pages && found->entries == tree->entries;
}

/* Flags that are wrong: there and should not be, or missing. The tree of freed pages has the environment's
 * flags, too. One of them is left out: it says that the file was made outside a folder, which no longer
 * matters. */
static unsigned tree_flags(enum tree_kind kind, const struct tree *tree)
{
    return kind == TREE_OF_FREED ? (tree->flags & ~TREE_SINGLE_FILE) ^ TREE_INTEGER_KEYS : tree->flags;
}

void walk_tree(struct walk *walk, const char *name, enum tree_kind kind, const struct tree *tree)
{
    const struct bytes unbound = {NULL, 0};
    const struct walk outer = *walk;
    walk->tree = name;
    walk->kind = kind;
    walk->found = (struct tree){0};
    if (tree_flags(kind, tree) != 0 || tree->depth > 32 || (tree->root == NO_PAGE) != (tree->depth == 0))
        problem(walk, "its description is damaged");
    else if (tree->depth > 0)
        walk_page(walk, tree->root, tree->depth, unbound, unbound);
    if (walk->problems == outer.problems && !has_counts(&walk->found, tree))
        problem(walk,
                "it has %" PRIu64 " entries and %" PRIu64 " pages of large values, and says %" PRIu64
                " and %" PRIu64,
                walk->found.entries, walk->found.overflow_pages, tree->entries, tree->overflow_pages);
    walk->tree = outer.tree;
    walk->kind = outer.kind;
    walk->found = outer.found;
}

static void count_unused(struct walk *walk)
{
    uint64_t unused = 0;
    for (uint64_t page = 2; page <= walk->last; page++)
        unused += !page_is_used(walk->used, page);
    walk->tree = "pages";
    if (unused > 0 && walk->problems == 0)
        problem(walk, "%" PRIu64 " belong to nothing", unused);
}

int pages_check(const char *path, uint64_t transaction, pages_report *report, void *context, int *problems,
                struct error *error)
{
    struct meta_page meta;
    struct file_map map = {0};
    *problems = 0;
    if (open_newest(path, transaction, &meta, error) < 0 || file_map(path, &map, error) < 0)
        return -1;
    struct walk walk = {
        .file = map.data,
        .page_size = meta.free.page_size,
        .last = meta.last_page,
        .report = report,
        .context = context,
    };
    int result = array_alloc(&walk.used, meta.last_page / 8 + 1, error);
    if (result == 0) {
        walk_tree(&walk, "main", TREE_OF_TREES, &meta.main);
        walk_tree(&walk, "free pages", TREE_OF_FREED, &meta.free);
        count_unused(&walk);
        *problems = walk.problems;
        free(walk.used);
    }
    file_unmap(&map);
    return result;
}
