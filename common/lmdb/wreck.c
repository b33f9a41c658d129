#include "common/lmdb/wreck.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/lmdb/layout.h"

/* One of the two commits that a file holds. */
struct commit {
    struct tree main, freed;
    uint64_t last_page;
    uint64_t transaction;
    bool main_whole, freed_whole;
    bool last; /* of both */
};

struct wreck {
    struct file_map file;
    size_t page_size;
    uint64_t last; /* page of the file */
    struct commit commit[2];
    int commits;
    unsigned char *used; /* a bit for each page, for walks */
};

/* ---- opening ---- */

static bool read_meta(const struct wreck *wreck, size_t offset, struct meta_page *meta)
{
    if (offset > wreck->file.size || wreck->file.size - offset < sizeof *meta)
        return false;
    memcpy(meta, wreck->file.data + offset, sizeof *meta);
    return true;
}

/* From the offset of the second meta page, or else from what the first one says: one of them may be damaged. */
static size_t find_page_size(const struct wreck *wreck)
{
    struct meta_page first, second;
    for (size_t size = 512; size <= 65536; size *= 2)
        if (read_meta(wreck, size, &second) && second.magic == LMDB_MAGIC && second.header.number == 1)
            return size;
    if (!read_meta(wreck, 0, &first))
        return 0;
    const size_t said = first.free.page_size;
    return said >= 512 && said <= 65536 && (said & (said - 1)) == 0 ? said : 0;
}

static void ignore_problem(void *context, const char *problem)
{
    (void)context, (void)problem;
}

static struct walk new_walk(struct wreck *wreck)
{
    memset(wreck->used, 0, wreck->last / 8 + 1);
    return (struct walk){.file = wreck->file.data,
                         .page_size = wreck->page_size,
                         .last = wreck->last,
                         .used = wreck->used,
                         .report = ignore_problem};
}

static void keep_highest(void *visitor, struct bytes key, struct bytes value)
{
    uint64_t *highest = visitor, number;
    (void)value;
    if (key.size != sizeof number)
        return;
    memcpy(&number, key.data, sizeof number);
    *highest = number > *highest ? number : *highest;
}

/* A commit lists the pages that it frees under its own number; the first frees none. The number is taken from
 * there, since the one in the meta page may be damaged. */
static void read_commit(struct wreck *wreck, int page, struct commit *commit)
{
    struct meta_page meta;
    uint64_t highest = 0;
    if (!read_meta(wreck, (size_t)page * wreck->page_size, &meta))
        return;
    *commit = (struct commit){meta.main, meta.free, meta.last_page, meta.transaction, false, false, false};
    struct walk walk = new_walk(wreck);
    walk_tree(&walk, "main", TREE_OF_TREES, &meta.main);
    commit->main_whole = walk.problems == 0;
    walk = new_walk(wreck);
    walk.visit = keep_highest;
    walk.visitor = &highest;
    walk_tree(&walk, "free pages", TREE_OF_FREED, &meta.free);
    commit->freed_whole = walk.problems == 0 && meta.last_page <= wreck->last;
    if (commit->freed_whole)
        commit->transaction = highest;
}

static void read_commits(struct wreck *wreck)
{
    struct commit commit[2] = {{.main_whole = false}};
    for (int page = 0; page < 2; page++)
        read_commit(wreck, page, &commit[page]);
    const int newer = commit[1].transaction > commit[0].transaction;
    for (int i = 0; i < 2; i++) {
        struct commit *next = &commit[i == 0 ? newer : !newer];
        next->last = i == 0;
        if (next->main_whole || next->freed_whole)
            wreck->commit[wreck->commits++] = *next;
    }
}

int wreck_open(const char *path, struct wreck **result, struct error *error)
{
    struct wreck *wreck;
    *result = NULL;
    if (array_alloc(&wreck, 1, error) < 0)
        return -1;
    if (file_map(path, &wreck->file, error) < 0)
        goto failed;
    wreck->page_size = find_page_size(wreck);
    if (wreck->page_size == 0 || wreck->file.size / wreck->page_size < 3) {
        error_set_kind(error, ERROR_DAMAGED, "%s: both meta pages are damaged, or this is not an LMDB file",
                       path);
        goto failed;
    }
    wreck->last = wreck->file.size / wreck->page_size - 1;
    if (array_alloc(&wreck->used, wreck->last / 8 + 1, error) < 0)
        goto failed;
    read_commits(wreck);
    *result = wreck;
    return 0;
failed:
    wreck_close(wreck);
    return -1;
}

void wreck_close(struct wreck *wreck)
{
    if (!wreck)
        return;
    file_unmap(&wreck->file);
    free(wreck->used);
    free(wreck);
}

size_t wreck_size(const struct wreck *wreck)
{
    return wreck->file.size;
}

int wreck_commits(const struct wreck *wreck)
{
    return wreck->commits;
}

bool wreck_is_last(const struct wreck *wreck, int commit)
{
    return commit < wreck->commits && wreck->commit[commit].last;
}

/* ---- visiting ---- */

struct visit {
    struct wreck *wreck;
    uint64_t last; /* page of the commit */
    wreck_visitor *visit;
    void *context;
    struct error *error;
    bool stopped;
};

static bool offer(struct visit *visit, struct bytes key, struct bytes value)
{
    const struct wreck *wreck = visit->wreck;
    const size_t page_size = wreck->page_size, inside = (size_t)(value.data - wreck->file.data) % page_size;
    struct wreck_value offered = {key.data, value.data, key.size, value.size, page_size - inside};
    if (value.size > offered.room)
        offered.room = pages_of_value(page_size, value.size) * page_size - inside;
    if (!key.data)
        offered.size = 0;
    const int taken = visit->stopped ? -1 : visit->visit(visit->context, &offered, visit->error);
    visit->stopped = taken < 0;
    return taken > 0;
}

static void visit_entry(void *visitor, struct bytes key, struct bytes value)
{
    offer(visitor, key, value);
}

/* A large value whose entry was found. Its pages count as visited only if the value is right, since the entry
 * may be wrong. */
static void offer_large(struct visit *visit, struct bytes key, uint64_t number, size_t size)
{
    const struct wreck *wreck = visit->wreck;
    const uint64_t count = pages_of_value(wreck->page_size, size);
    if (number < 2 || number > visit->last || count > visit->last - number + 1)
        return;
    const struct bytes value = {wreck->file.data + number * wreck->page_size + sizeof(struct page_header),
                                size};
    if (offer(visit, key, value))
        for (uint64_t page = number; page < number + count; page++)
            page_use(wreck->used, page);
}

/* Whether a page may be a leaf. The flipped bit may be in its header. */
static bool looks_like_leaf(const struct page_header *header, uint64_t page)
{
    const uint64_t off = header->number ^ page;
    if (header->flags == PAGE_LEAF)
        return (off & (off - 1)) == 0;
    return off == 0 && header->flags != PAGE_BRANCH && header->flags != PAGE_OVERFLOW;
}

/* Offers the value of the node at an offset of a leaf page. The node's size may be wrong. */
static void offer_node(struct visit *visit, const unsigned char *page, size_t offset)
{
    const size_t page_size = visit->wreck->page_size;
    struct node node;
    if (offset % 2 != 0 || offset > page_size - sizeof node)
        return;
    memcpy(&node, page + offset, sizeof node);
    const size_t front = sizeof node + node.key_size, size = node_value_size(node);
    if (front > page_size - offset)
        return;
    const size_t room = page_size - offset - front;
    const struct bytes key = {page + offset + sizeof node, node.key_size};
    if ((node.flags & NODE_LARGE) && room >= sizeof(uint64_t)) {
        uint64_t number;
        memcpy(&number, key.data + key.size, sizeof number);
        offer_large(visit, key, number, size);
    } else
        offer(visit, key, (struct bytes){key.data + key.size, size <= room ? size : 0});
}

/* Whether the nodes of a page's entries fill it from `upper` to its end. */
static bool entries_agree(const unsigned char *page, size_t page_size, const struct page_header *header,
                          unsigned entries)
{
    size_t filled = 0;
    for (unsigned i = 0; i < entries; i++) {
        struct node node;
        struct bytes key;
        const unsigned char *value;
        const size_t size = node_in_page(page, page_size, entry_offset(page, i), false, &node, &key, &value);
        if (size == 0)
            return false;
        filled += size;
    }
    return filled == page_size - header->upper;
}

/* Where a page does not agree with itself, a node, or the rest of one, may begin at any offset. The visitor
 * knows a value by its hash. What the entries lead to comes last and so counts, since other nodes may be left
 * from before. */
static void visit_leaf(struct visit *visit, const unsigned char *page, const struct page_header *header)
{
    const size_t page_size = visit->wreck->page_size;
    const size_t lower = header->lower < page_size ? header->lower : page_size;
    const unsigned entries = lower < sizeof *header ? 0 : (unsigned)(lower - sizeof *header) / 2;
    if (!entries_agree(page, page_size, header, entries))
        for (size_t at = header->upper & ~1U; at < page_size && !visit->stopped; at += 2) {
            offer_node(visit, page, at);
            offer(visit, (struct bytes){NULL, 0}, (struct bytes){page + at, 0});
        }
    for (unsigned i = 0; i < entries && !visit->stopped; i++)
        offer_node(visit, page, entry_offset(page, i));
}

/* Offers a large value that no entry has led to. Returns the pages to go on by. */
static uint64_t visit_lost(struct visit *visit, uint64_t page, const struct page_header *header)
{
    const struct wreck *wreck = visit->wreck;
    const uint64_t count = header->lower | (uint64_t)header->upper << 16;
    if (header->number != page || header->flags != PAGE_OVERFLOW || count == 0 ||
        count > visit->last - page + 1)
        return 1;
    const struct bytes value = {wreck->file.data + page * wreck->page_size + sizeof *header,
                                count * wreck->page_size - sizeof *header};
    return offer(visit, (struct bytes){NULL, 0}, value) ? count : 1;
}

/* Visits all pages that are not free: leaf pages first, then large values that those did not lead to. */
static void visit_pages(struct visit *visit)
{
    const struct wreck *wreck = visit->wreck;
    struct page_header header;
    for (uint64_t page = 2; page <= visit->last && !visit->stopped; page++) {
        const unsigned char *at = wreck->file.data + page * wreck->page_size;
        memcpy(&header, at, sizeof header);
        if (!page_is_used(wreck->used, page) && looks_like_leaf(&header, page))
            visit_leaf(visit, at, &header);
    }
    for (uint64_t page = 2, pages; page <= visit->last && !visit->stopped; page += pages) {
        memcpy(&header, wreck->file.data + page * wreck->page_size, sizeof header);
        pages = page_is_used(wreck->used, page) ? 1 : visit_lost(visit, page, &header);
    }
}

int wreck_visit(struct wreck *wreck, int number, wreck_visitor *visitor, void *context, struct error *error)
{
    const struct commit *commit = &wreck->commit[number];
    struct visit visit = {wreck, commit->last_page, visitor, context, error, false};
    struct walk walk = new_walk(wreck);
    if (commit->main_whole) {
        walk.visit = visit_entry;
        walk.visitor = &visit;
        walk_tree(&walk, "main", TREE_OF_TREES, &commit->main);
    } else {
        walk_tree(&walk, "free pages", TREE_OF_FREED, &commit->freed);
        visit_pages(&visit);
    }
    return visit.stopped ? -1 : 0;
}
