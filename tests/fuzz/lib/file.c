#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

int fuzz_file(const uint8_t *data, size_t size, char path[32])
{
    int file = memfd_create("input", MFD_CLOEXEC);
    if (file < 0 || write(file, data, size) != (ssize_t)size) {
        perror("fuzz: a file in memory");
        exit(1);
    }
    snprintf(path, 32, "/proc/self/fd/%d", file);
    return file;
}
