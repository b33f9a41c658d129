/* corpus_fixture.h: files of a corpus, for tests that read them. */
#ifndef OFFRAMP_TESTS_CORPUS_FIXTURE_H
#define OFFRAMP_TESTS_CORPUS_FIXTURE_H

#include <stdio.h>

#include "extract/corpus.h"
#include "tests/test.h"

/* What is read of them unless a test says otherwise: all splits, by these rules. */
static const bool both[SPLIT_COUNT] = {true, true};
static const struct corpus_rules rules = {.field = "text", .end = 0, .vocab = 1000};

/* One folder for all tests of a program: what one writes another may write over. */
static inline const char *corpus_folder(void)
{
    static const char *folder;
    if (!folder)
        folder = test_folder();
    return folder;
}

/* Writes a file into that folder; returns its path, which is good until the next call. Nothing is synced: there
 * may be thousands of files. */
static inline const char *write_bytes(const char *name, const void *data, size_t size)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", corpus_folder(), name);
    FILE *file = fopen(path, "wb");
    const bool written = file && fwrite(data, 1, size, file) == size;
    if ((file && fclose(file) != 0) || !written)
        test_fail(__FILE__, __LINE__, "%s cannot be written", path);
    return path;
}

#endif
