#include "extract/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/hash.h"
#include "common/base/memory.h"

#define SAMPLE       65536
#define DEEPEST      32 /* folders below a folder; more is a loop of links */
#define WHOLE_SAMPLE (3 * SAMPLE)

static int add_file(struct corpus_list *list, const char *path, const struct stat *status, bool held_out,
                    int token_bytes, struct error *error)
{
    struct corpus_file file = {.held_out = held_out,
                               .size = (uint64_t)status->st_size,
                               .device = (uint64_t)status->st_dev,
                               .inode = (uint64_t)status->st_ino};
    if (array_grow(&list->file, &list->capacity, list->count + 1, error) < 0)
        return -1;
    file.path = string_copy(path, error);
    if (!file.path)
        return -1;
    if (kind_find(&file, token_bytes, error) < 0) {
        free(file.path);
        return -1;
    }
    list->file[list->count++] = file;
    list->bytes += file.size;
    return 0;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_path(struct corpus_list *list, const char *path, bool held_out, int token_bytes, int depth,
                    struct error *error)
{
    struct stat status;
    if (stat(path, &status) < 0)
        return error_system(error, "%s", path);
    if (S_ISREG(status.st_mode))
        return add_file(list, path, &status, held_out, token_bytes, error);
    if (!S_ISDIR(status.st_mode))
        return error_set(error, "%s: is neither a file nor a folder", path);
    if (depth == DEEPEST)
        return error_set(error, "%s: is %d folders deep: a loop of links?", path, DEEPEST);

    struct dirent **entry = NULL;
    int count = scandir(path, &entry, is_visible, compare_names), result = 0;
    if (count < 0)
        return error_system(error, "%s", path);
    for (int i = 0; i < count; i++) {
        char *below = result == 0 ? path_join(path, entry[i]->d_name, error) : NULL;
        if (result == 0)
            result = below ? add_path(list, below, held_out, token_bytes, depth + 1, error) : -1;
        free(below);
        free(entry[i]);
    }
    free(entry);
    return result;
}

int corpus_list_add(struct corpus_list *list, const char *path, bool held_out, int token_bytes,
                    struct error *error)
{
    size_t before = list->count;
    if (add_path(list, path, held_out, token_bytes, 0, error) < 0)
        return -1;
    return list->count > before ? 0 : error_set(error, "%s: there are no files in this folder", path);
}

int corpus_check_output(const char *corpus, const char *out, struct error *error)
{
    char *folder = path_resolve(corpus, error), *resolved = folder ? path_resolve(out, error) : NULL;
    int result = resolved ? 0 : -1;
    size_t length = folder ? strlen(folder) : 0;
    if (length == 1) /* the root */
        length = 0;
    if (result == 0 && path_is_directory(folder) && strncmp(folder, resolved, length) == 0 &&
        (resolved[length] == '/' || !resolved[length]) && !strstr(resolved + length, "/."))
        result = error_set_kind(error, ERROR_USAGE,
                                "%s: is in the corpus %s, which would be read with it; give another path", out,
                                corpus);
    free(folder);
    free(resolved);
    return result;
}

static int compare_inodes(const void *a, const void *b)
{
    const struct corpus_file *left = *(const struct corpus_file *const *)a,
                             *right = *(const struct corpus_file *const *)b;
    if (left->device != right->device)
        return left->device < right->device ? -1 : 1;
    if (left->inode != right->inode)
        return left->inode < right->inode ? -1 : 1;
    return (int)left->held_out - (int)right->held_out;
}

static bool are_same(const struct corpus_file *a, const struct corpus_file *b)
{
    return a->device == b->device && a->inode == b->inode;
}

int corpus_list_check_apart(const struct corpus_list *list, struct error *error)
{
    const struct corpus_file **file;
    size_t twice = 0, at = 0;
    int result = 0;
    if (array_alloc(&file, list->count, error) < 0)
        return -1;
    for (size_t i = 0; i < list->count; i++)
        file[i] = &list->file[i];
    qsort(file, list->count, sizeof *file, compare_inodes);
    for (size_t i = 1; i < list->count && result == 0; i++) {
        if (!are_same(file[i], file[i - 1]))
            continue;
        if (file[i]->held_out != file[i - 1]->held_out)
            result = error_set_kind(
                error, ERROR_USAGE,
                "--held-out-corpus: %s is a file of --corpus, too (%s): heads would be measured by "
                "what they were trained on",
                file[i]->path, file[i - 1]->path);
        else if (twice++ == 0)
            at = i;
    }
    if (result == 0 && twice > 0)
        cli_say("warning: %s and %s are one file, whose text is taken twice; files taken again: %zu",
                file[at - 1]->path, file[at]->path, twice);
    free(file);
    return result;
}

void corpus_list_free(struct corpus_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->file[i].path);
    free(list->file);
    *list = (struct corpus_list){0};
}

static int hash_sample(int descriptor, const struct corpus_file *file, uint64_t offset, size_t size,
                       unsigned char *buffer, uint64_t *hash, struct error *error)
{
    size_t have = 0;
    while (have < size) {
        ssize_t got = pread(descriptor, buffer + have, size - have, (off_t)(offset + have));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_system(error, "%s: byte %llu", file->path, (unsigned long long)(offset + have));
        if (got == 0)
            return error_set(error, "%s: became shorter while it was read", file->path);
        have += (size_t)got;
    }
    *hash = hash_bytes(buffer, size, *hash);
    return 0;
}

static int hash_file(const struct corpus_file *file, unsigned char *buffer, uint64_t *hash, struct error *error)
{
    int result;
    uint64_t facts[4] = {file->kind, (uint64_t)file->token_bytes, file->held_out, file->size};
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return error_system(error, "%s", file->path);
    *hash = hash_bytes(facts, sizeof facts, *hash);
    if (file->size <= WHOLE_SAMPLE) {
        result = hash_sample(descriptor, file, 0, (size_t)file->size, buffer, hash, error);
    } else {
        result = hash_sample(descriptor, file, 0, SAMPLE, buffer, hash, error);
        if (result == 0)
            result = hash_sample(descriptor, file, file->size / 2, SAMPLE, buffer, hash, error);
        if (result == 0)
            result = hash_sample(descriptor, file, file->size - SAMPLE, SAMPLE, buffer, hash, error);
    }
    close(descriptor);
    return result;
}

int corpus_list_identify(struct corpus_list *list, struct error *error)
{
    unsigned char *buffer;
    uint64_t hash = 0;
    int result = 0;
    if (array_alloc(&buffer, WHOLE_SAMPLE, error) < 0)
        return -1;
    for (size_t i = 0; i < list->count && result == 0; i++)
        result = cli_interrupted() ? error_set_kind(error, ERROR_INTERRUPTED, "interrupted; nothing was begun")
                                   : hash_file(&list->file[i], buffer, &hash, error);
    hash_print(hash, list->fingerprint);
    free(buffer);
    return result;
}

bool corpus_list_has_text(const struct corpus_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->file[i].kind != CORPUS_TOKENS)
            return true;
    return false;
}

bool corpus_list_is_one_document(const struct corpus_list *list)
{
    for (size_t i = 1; i < list->count; i++)
        if (list->file[i].held_out == list->file[i - 1].held_out)
            return false;
    return !corpus_list_has_text(list);
}
