/* layout.h: LMDB's page format, and the walk over its trees. Only this folder includes it: pages.c (is the file
 * whole?) and wreck.c (what can be had of one that is not?). README.md draws it, and says of which LMDB it is
 * true.
 */
#ifndef OFFRAMP_LMDB_LAYOUT_H
#define OFFRAMP_LMDB_LAYOUT_H

#include <string.h>

#include "common/lmdb/pages.h"

#define LMDB_MAGIC 0xBEEFC0DE
#define NO_PAGE    UINT64_MAX /* the root of an empty tree */

/* Flags of pages, of trees, of nodes. */
enum { PAGE_BRANCH = 0x01, PAGE_LEAF = 0x02, PAGE_OVERFLOW = 0x04, PAGE_META = 0x08 };
enum { TREE_INTEGER_KEYS = 0x08, TREE_SINGLE_FILE = 0x4000 };
enum { NODE_LARGE = 0x01, NODE_TREE = 0x02 };

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

/* Followed by the key, then in a leaf by the value: itself, a page number (NODE_LARGE) or a struct tree
 * (NODE_TREE). In a branch the first three fields are the child's page number, lowest bits first. */
struct node {
    uint16_t low, high; /* of the value's size */
    uint16_t flags, key_size;
};

_Static_assert(sizeof(struct page_header) == 16 && sizeof(struct tree) == 48 && sizeof(struct meta_page) == 152,
               "LMDB's layout on 64-bit machines");
_Static_assert(PAGES_VALUE_HEADER == sizeof(struct page_header), "a large value lies behind a page header");

/* Bytes of a leaf's value, wherever it lies. */
static inline size_t node_value_size(struct node node)
{
    return (size_t)node.low | (size_t)node.high << 16;
}

/* How many pages a large value takes. */
uint64_t pages_of_value(size_t page_size, size_t size);

/* ---- walking ---- */

struct bytes {
    const unsigned char *data; /* NULL: no bound */
    size_t size;
};

enum tree_kind {
    TREE_OF_VALUES,
    TREE_OF_TREES, /* LMDB's main tree: the named databases */
    TREE_OF_FREED /* lists of freed pages by transaction */
};

/* Called with an entry of a named database, or of the freed pages. A large value's pages lie in the file and
 * belong to nothing else; more is not known of them. */
typedef void walk_visit(void *visitor, struct bytes key, struct bytes value);

struct walk {
    const unsigned char *file;
    size_t page_size;
    uint64_t last; /* page */
    unsigned char *used; /* a bit for each page */
    const char *tree; /* name of the tree being walked, for problems */
    enum tree_kind kind;
    struct tree found; /* its counts */
    pages_report *report;
    void *context;
    int problems;
    walk_visit *visit; /* NULL: nobody wants them */
    void *visitor;
};

static inline bool page_is_used(const unsigned char *used, uint64_t page)
{
    return used[page / 8] & (1 << page % 8);
}

static inline void page_use(unsigned char *used, uint64_t page)
{
    used[page / 8] |= (unsigned char)(1 << page % 8);
}

/* Walks a tree with all that hangs from it. Reports what is wrong, and visits what can be reached. The file
 * holds the pages 0 .. last. */
void walk_tree(struct walk *walk, const char *name, enum tree_kind kind, const struct tree *tree);

/* The offset in its page of an entry's node, as the page says. */
static inline size_t entry_offset(const unsigned char *page, unsigned entry)
{
    uint16_t offset;
    memcpy(&offset, page + sizeof(struct page_header) + entry * sizeof offset, sizeof offset);
    return offset;
}

/* The node at an offset of a page. Returns its bytes in the page, or 0 when it does not lie inside it. */
size_t node_in_page(const unsigned char *page, size_t page_size, size_t offset, bool branch, struct node *node,
                    struct bytes *key, const unsigned char **value);

#endif
