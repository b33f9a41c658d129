#include "common/base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "common/base/memory.h"

enum { LINKS_MOST = 40, SYNC_BYTES = 16 << 20 };

/* Opens a regular file for reading and tells its size. */
static int open_regular(const char *path, int *descriptor, size_t *size, struct error *error)
{
    struct stat status;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe's other end may never come */
    if (file < 0)
        return error_system(error, "%s", path);
    if (fstat(file, &status) < 0) {
        error_system(error, "%s", path);
        close(file);
        return -1;
    }
    if (!S_ISREG(status.st_mode)) {
        close(file);
        return error_set(error, "%s: is not a regular file", path);
    }
    *descriptor = file;
    *size = (size_t)status.st_size;
    return 0;
}

int file_map(const char *path, struct file_map *map, struct error *error)
{
    int file;
    size_t size;
    *map = (struct file_map){0};
    if (open_regular(path, &file, &size, error) < 0)
        return -1;
    if (size > 0) {
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
        if (data == MAP_FAILED) {
            error_system(error, "%s: cannot be mapped", path);
            close(file);
            return -1;
        }
        map->data = data;
        map->size = size;
    }
    close(file);
    return 0;
}

void file_unmap(struct file_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct file_map){0};
}

int file_read(const char *path, char **text, size_t *size, struct error *error)
{
    int file;
    size_t length, done = 0;
    *text = NULL;
    if (open_regular(path, &file, &length, error) < 0)
        return -1;
    char *block = memory_alloc(length + 1, 1, error);
    while (block && done < length) {
        ssize_t count = read(file, block + done, length - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            if (count < 0)
                error_system(error, "%s: byte %zu", path, done);
            else
                error_set(error, "%s: became shorter while it was read", path);
            free(block);
            block = NULL;
        } else {
            done += (size_t)count;
        }
    }
    close(file);
    if (!block)
        return -1;
    *text = block;
    *size = length;
    return 0;
}

/* What happens to a name is only safe on disk once its folder is. */
static int sync_parent(const char *path, struct error *error)
{
    char *folder = string_copy(path, error), *slash;
    if (!folder)
        return -1;
    while ((slash = strrchr(folder, '/')) && slash > folder && !slash[1])
        *slash = 0;
    if (slash)
        slash[slash == folder] = 0;
    int file = open(slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = file < 0 || (fsync(file) < 0 && errno != EINVAL) ? error_system(error, "%s", folder) : 0;
    if (file >= 0)
        close(file);
    free(folder);
    return result;
}

static int refuse_kind(const char *path, struct error *error)
{
    return error_set(error, "%s: is not a regular file; name one, or a new one", path);
}

static int check_name(const char *path, struct error *error)
{
    return *path ? 0 : error_set_kind(error, ERROR_USAGE, "the name is empty: name a file or a folder");
}

/* Whether what is at `path`, if anything, is replaced. */
static int check_kind(const char *path, struct error *error)
{
    struct stat status;
    if (check_name(path, error) < 0)
        return -1;
    if (stat(path, &status) < 0)
        return errno == ENOENT ? 0 : error_system(error, "%s", path);
    if (S_ISDIR(status.st_mode))
        return error_set(error, "%s: is a folder: name a file in it", path);
    if (!S_ISREG(status.st_mode))
        return refuse_kind(path, error);
    return 0;
}

int file_rename(const char *from, const char *to, struct error *error)
{
    if (!path_is_directory(from) && check_kind(to, error) < 0)
        return -1;
    if (rename(from, to) < 0)
        return error_system(error, "%s: cannot be renamed to %s", from, to);
    if (sync_parent(to, error) < 0)
        return -1;
    return sync_parent(from, error);
}

int file_remove(const char *path, struct error *error)
{
    if (unlink(path) == 0)
        return sync_parent(path, error);
    return errno == ENOENT ? 0 : error_system(error, "%s: cannot be removed", path);
}

int directory_remove(const char *path, struct error *error)
{
    if (rmdir(path) == 0)
        return sync_parent(path, error);
    if (errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST)
        return 0;
    return error_system(error, "%s: cannot be removed", path);
}

struct file_writer {
    char *path, *temporary; /* no link; beside it */
    FILE *stream;
    off_t begun; /* bytes whose way to the disk has begun */
};

static void writer_free(struct file_writer *writer)
{
    free(writer->path);
    free(writer->temporary);
    free(writer);
}

/* The name that the links of `path` lead to, freshly allocated; nothing need be there. */
static char *follow_links(const char *path, struct error *error)
{
    char target[PATH_MAX], *name = string_copy(path, error);
    for (int links = 0; name && links < LINKS_MOST; links++) {
        const ssize_t length = readlink(name, target, sizeof target - 1);
        if (length < 0) /* not a link, or not there */
            return name;
        target[length] = 0;
        if (!strncmp(name, "/proc/", 6)) { /* /dev/stdout: a file that is open, not a name */
            refuse_kind(path, error);
            free(name);
            return NULL;
        }
        const char *slash = strrchr(name, '/');
        const int folder = slash && *target != '/' ? (int)(slash - name) + 1 : 0;
        char *next;
        if (asprintf(&next, "%.*s%s", folder, name, target) < 0)
            next = NULL;
        free(name);
        if (!(name = next))
            error_set_kind(error, ERROR_NO_MEMORY, "out of memory: what %s links to", path);
    }
    if (name)
        error_set(error, "%s: is a link that leads nowhere", path);
    free(name);
    return NULL;
}

int file_check_output(const char *path, struct error *error)
{
    char *name = check_kind(path, error) < 0 ? NULL : follow_links(path, error);
    if (!name)
        return -1;
    char *slash = strrchr(name, '/');
    if (slash)
        slash[slash == name] = 0;
    int result = access(slash ? name : ".", W_OK | X_OK);
    if (result < 0)
        error_system(error, "%s: a file cannot be made there", path);
    free(name);
    return result;
}

/* A new file beside `path`, under a name that no other process has: not on another machine either. given:
 * the path as errors name it. */
static FILE *open_beside(const char *path, const char *given, char **name, struct error *error)
{
    int file = -1;
    *name = NULL;
    do {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        free(*name);
        if (asprintf(name, "%s.tmp%ld%09ld", path, (long)getpid(), now.tv_nsec) < 0) {
            *name = NULL;
            error_set_kind(error, ERROR_NO_MEMORY, "out of memory: a temporary name for %s", given);
            return NULL;
        }
        file = open(*name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    } while (file < 0 && errno == EEXIST);
    FILE *stream = file < 0 ? NULL : fdopen(file, "wb");
    if (!stream) {
        error_system(error, "%s: a file cannot be made there", given);
        if (file >= 0)
            close(file);
    }
    return stream;
}

int file_writer_open(const char *path, struct file_writer **result, struct error *error)
{
    struct file_writer *writer;
    *result = NULL;
    if (array_alloc(&writer, 1, error) < 0)
        return -1;
    if (check_kind(path, error) < 0 || !(writer->path = follow_links(path, error)))
        goto failed;
    if (!(writer->stream = open_beside(writer->path, path, &writer->temporary, error)))
        goto failed;
    *result = writer;
    return 0;
failed:
    writer_free(writer);
    return -1;
}

/* Of a large file, what was written goes to the disk while the next part is made, so that the sync at its end has
 * little left to do. What this comes to is seen there. */
static void begin_to_sync(struct file_writer *writer)
{
    const off_t end = ftello(writer->stream);
    if (end - writer->begun < SYNC_BYTES)
        return;
    sync_file_range(fileno(writer->stream), 0, writer->begun, SYNC_FILE_RANGE_WAIT_BEFORE);
    sync_file_range(fileno(writer->stream), writer->begun, end - writer->begun, SYNC_FILE_RANGE_WRITE);
    writer->begun = end;
}

int file_writer_append(struct file_writer *writer, const void *data, size_t size, struct error *error)
{
    if (size > 0 && fwrite(data, 1, size, writer->stream) != size)
        return error_system(error, "%s: cannot be written", writer->temporary);
    begin_to_sync(writer);
    return 0;
}

/* The temporary file as it will be; it is closed in any case. */
static int close_written(struct file_writer *writer, struct error *error)
{
    int result = 0;
    if (fflush(writer->stream) != 0)
        result = error_system(error, "%s: cannot be written", writer->temporary);
    if (result == 0 && fsync(fileno(writer->stream)) < 0)
        result = error_system(error, "%s: cannot be synced", writer->temporary);
    if (fclose(writer->stream) != 0 && result == 0)
        result = error_system(error, "%s: cannot be closed", writer->temporary);
    return result;
}

int file_writer_finish(struct file_writer *writer, struct error *error)
{
    int result = close_written(writer, error);
    if (result == 0)
        result = file_rename(writer->temporary, writer->path, error);
    if (result < 0)
        unlink(writer->temporary);
    writer_free(writer);
    return result;
}

void file_writer_abandon(struct file_writer *writer)
{
    if (!writer)
        return;
    fclose(writer->stream);
    unlink(writer->temporary);
    writer_free(writer);
}

int file_write(const char *path, const void *data, size_t size, struct error *error)
{
    struct file_writer *writer;
    if (file_writer_open(path, &writer, error) < 0)
        return -1;
    if (file_writer_append(writer, data, size, error) < 0) {
        file_writer_abandon(writer);
        return -1;
    }
    return file_writer_finish(writer, error);
}

/* Whether link(2) has made `path`. Over NFS it may say that it has not: the answer was lost, and the call was made
 * again. */
static int link_first(const char *temporary, const char *path, bool *first, struct error *error)
{
    struct stat status;
    if (link(temporary, path) == 0)
        *first = true;
    else if (errno == EPERM || errno == EOPNOTSUPP || errno == ENOSYS)
        return error_set(error,
                         "%s: the file system has no hard links, without which processes cannot share a folder",
                         path);
    else if (errno != EEXIST)
        return error_system(error, "%s", path);
    else
        *first = stat(temporary, &status) == 0 && status.st_nlink == 2;
    return 0;
}

int file_write_first(const char *path, const void *data, size_t size, bool *first, struct error *error)
{
    struct file_writer *writer;
    *first = false;
    if (file_writer_open(path, &writer, error) < 0)
        return -1;
    if (file_writer_append(writer, data, size, error) < 0) {
        file_writer_abandon(writer);
        return -1;
    }
    int result = close_written(writer, error);
    if (result == 0)
        result = link_first(writer->temporary, writer->path, first, error);
    unlink(writer->temporary);
    if (result == 0)
        result = sync_parent(writer->path, error);
    writer_free(writer);
    return result;
}

bool file_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0;
}

bool path_is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool path_is_link(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0 && S_ISLNK(status.st_mode);
}

int directory_check(const char *path, struct error *error)
{
    struct stat status;
    if (check_name(path, error) < 0)
        return -1;
    if (stat(path, &status) == 0)
        return S_ISDIR(status.st_mode) ? 0 : error_set(error, "%s: is not a folder", path);
    const int reason = errno;
    if ((reason == ENOENT || reason == ELOOP) && lstat(path, &status) == 0)
        return error_set(error, "%s: is a link that leads nowhere", path);
    errno = reason;
    return reason == ENOENT ? 0 : error_system(error, "%s: a folder cannot be there", path);
}

/* mkdir(2), where no folder is. */
static int create_one(const char *path, struct error *error)
{
    if (mkdir(path, 0777) == 0)
        return sync_parent(path, error);
    const int reason = errno; /* looking at what is there has its own */
    if (path_is_directory(path))
        return 0;
    if (reason == EEXIST && directory_check(path, error) < 0)
        return -1;
    errno = reason;
    return error_system(error, "%s: cannot be made", path);
}

int directory_create(const char *path, struct error *error)
{
    char *copy = check_name(path, error) < 0 ? NULL : string_copy(path, error);
    if (!copy)
        return -1;
    int result = 0;
    for (char *slash = copy + (*copy == '/'); result == 0; slash++) {
        slash += strcspn(slash, "/");
        char end = *slash;
        *slash = 0;
        result = create_one(copy, error);
        *slash = end;
        if (!end)
            break;
    }
    free(copy);
    return result;
}

bool directory_holds_other(const char *path, const char *const *names, char other[DIRECTORY_NAME_SIZE])
{
    bool found = false;
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && !found && (entry = readdir(folder));) {
        found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
        for (int i = 0; names[i] && found; i++)
            found = strcmp(entry->d_name, names[i]) != 0;
        if (found)
            snprintf(other, DIRECTORY_NAME_SIZE, "%s", entry->d_name);
    }
    if (folder)
        closedir(folder);
    return found;
}

char *path_resolve(const char *path, struct error *error)
{
    char *begin = string_copy(path, error), *result = NULL;
    if (!begin)
        return NULL;
    size_t length = strlen(begin);
    char *there = NULL; /* what exists of it: its first `length` bytes */
    while (!(there = realpath(length > 0 ? begin : *path == '/' ? "/" : ".", NULL)) && length > 0) {
        while (length > 0 && begin[length - 1] == '/')
            length--;
        while (length > 0 && begin[length - 1] != '/')
            length--;
        begin[length] = 0;
    }
    const bool root = there && !there[1];
    if (!there || asprintf(&result, "%s%s%s", there, path[length] && !root ? "/" : "", path + length) < 0) {
        result = NULL;
        error_system(error, "%s", path);
    }
    free(there);
    free(begin);
    return result;
}

static bool is_same(const char *path, const struct stat *other)
{
    struct stat status;
    return stat(path, &status) == 0 && status.st_dev == other->st_dev && status.st_ino == other->st_ino;
}

/* Whether the folder has it, by whatever name, or a link to it. */
static bool folder_holds(const char *path, const struct stat *file)
{
    bool found = false;
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder && !found && (entry = readdir(folder));) {
        struct stat status;
        found = fstatat(dirfd(folder), entry->d_name, &status, 0) == 0 && S_ISREG(status.st_mode) &&
                status.st_dev == file->st_dev && status.st_ino == file->st_ino;
    }
    if (folder)
        closedir(folder);
    return found;
}

int file_check_apart(const char *out, const char *input, struct error *error)
{
    char *read = path_resolve(input, error), *name = read ? follow_links(out, error) : NULL;
    char *written = name ? path_resolve(name, error) : NULL;
    struct stat status;
    int result = written ? 0 : -1;
    if (result == 0) {
        const size_t length = read[1] ? strlen(read) : 0; /* of the root, none */
        bool found = strncmp(read, written, length) == 0 && (written[length] == '/' || !written[length]);
        if (!found && stat(out, &status) == 0)
            found = is_same(input, &status) || (S_ISREG(status.st_mode) && folder_holds(input, &status));
        if (found)
            result = error_set_kind(error, ERROR_USAGE, "%s: is a part of what is read, %s; name another place",
                                    out, input);
    }
    free(read);
    free(name);
    free(written);
    return result;
}

int directory_delete(const char *path, struct error *error)
{
    DIR *folder = opendir(path);
    int result = 0;
    if (!folder)
        return errno == ENOENT ? 0 : error_system(error, "%s", path);
    for (struct dirent *entry; result == 0 && (entry = readdir(folder));) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(dirfd(folder), entry->d_name, 0) < 0)
            result = error_system(error, "%s/%s: cannot be removed", path, entry->d_name);
    }
    closedir(folder);
    return result < 0 ? -1 : directory_remove(path, error);
}

/* By way of another name, where the file system has no exchange. */
static int replace_in_steps(const char *from, const char *to, const char *old, struct error *error)
{
    if (directory_delete(old, error) < 0 || file_rename(to, old, error) < 0)
        return -1;
    return file_rename(from, to, error);
}

int directory_replace(const char *from, const char *to, struct error *error)
{
    char *old;
    int result = 0;
    if (asprintf(&old, "%s%s", to, DIRECTORY_OLD) < 0)
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory: a name for %s", to);
    if (!file_exists(to))
        result = file_rename(from, to, error);
    else if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_EXCHANGE) == 0)
        result = sync_parent(to, error);
    else if (errno == ENOSYS || errno == EINVAL || errno == ENOTSUP)
        result = replace_in_steps(from, to, old, error);
    else
        result = error_system(error, "%s: cannot be put in the place of %s", from, to);
    if (result == 0 && (directory_delete(from, error) < 0 || directory_delete(old, error) < 0))
        result = -1;
    free(old);
    return result;
}

int disk_free(const char *path, uint64_t *bytes, struct error *error)
{
    struct statvfs status;
    char *copy = string_copy(path, error);
    if (!copy)
        return -1;
    int result;
    while ((result = statvfs(copy, &status)) < 0 && errno == ENOENT) {
        char *slash = strrchr(copy, '/');
        if (!slash) {
            result = statvfs(".", &status);
            break;
        }
        if (slash == copy) {
            result = statvfs("/", &status);
            break;
        }
        *slash = 0;
    }
    if (result < 0)
        error_system(error, "%s: free space", path);
    else
        *bytes = (uint64_t)status.f_bavail * status.f_frsize;
    free(copy);
    return result < 0 ? -1 : 0;
}

char *path_join(const char *folder, const char *name, struct error *error)
{
    size_t length = strlen(folder);
    const char *slash = length > 0 && folder[length - 1] == '/' ? "" : "/";
    char *path = NULL;
    if (asprintf(&path, "%s%s%s", folder, slash, name) < 0) {
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory: the path of %s", name);
        return NULL;
    }
    return path;
}
