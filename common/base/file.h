/* file.h: whole files, mapped files, and files that appear whole or not at all. */
#ifndef OFFRAMP_BASE_FILE_H
#define OFFRAMP_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"

struct file_map {
    const unsigned char *data; /* NULL for an empty file */
    size_t size; /* bytes */
};

/* Maps a regular file read-only. Closed with file_unmap, which takes a zeroed map too. */
int file_map(const char *path, struct file_map *map, struct error *error);
void file_unmap(struct file_map *map);

/* The whole file in memory, with a zero byte behind it that *size does not count. free() it. */
int file_read(const char *path, char **text, size_t *size, struct error *error);

/* For programs that write only after long work: -1 when file_write would refuse `path`. That is when the name
 * is empty, when a folder, a device, a pipe or a socket is there, or when its folder is missing or cannot be
 * written to. */
int file_check_output(const char *path, struct error *error);

/* -1 when writing `out` would change what is read: when it is `input`, lies in the folder `input`, or is what a
 * link in that folder names. Neither has to exist. */
int file_check_apart(const char *out, const char *input, struct error *error);

/* After a crash the file is the old one or the new one: it is written beside `path`, fsynced and renamed, and
 * the folder is fsynced. Where `path` is a link, this replaces what the link names, and the link stays. */
int file_write(const char *path, const void *data, size_t size, struct error *error);

/* file_write by whoever comes first: of processes that call it at once, on one machine or on several, one makes
 * the file, and *first is true for it alone. What is at `path` already is left as it is. The file system must have
 * hard links: link(2) is what network file systems do whole or not at all. */
int file_write_first(const char *path, const void *data, size_t size, bool *first, struct error *error);

/* file_write part by part, for what is too large for memory. Nothing is at `path` before file_writer_finish.
 *
 *     struct file_writer *writer;
 *     if (file_writer_open(path, &writer, error) < 0) ...
 *     if (file_writer_append(writer, data, size, error) < 0) { file_writer_abandon(writer); ... }
 *     if (file_writer_finish(writer, error) < 0) ...          // frees the writer either way
 */
struct file_writer;
int file_writer_open(const char *path, struct file_writer **writer, struct error *error);
int file_writer_append(struct file_writer *writer, const void *data, size_t size, struct error *error);
int file_writer_finish(struct file_writer *writer, struct error *error);
/* Removes the temporary file and frees the writer; NULL is fine. */
void file_writer_abandon(struct file_writer *writer);

/* rename(2), unlink(2) and rmdir(2). They fsync the folder, so that a crash later does not undo them. It is not
 * an error when there is nothing to remove, or when a folder stays because it is not empty. file_rename
 * replaces regular files only. */
int file_rename(const char *from, const char *to, struct error *error);
int file_remove(const char *path, struct error *error);
int directory_remove(const char *path, struct error *error);

/* True when something is at `path`. */
bool file_exists(const char *path);
bool path_is_directory(const char *path);
/* Also of a symbolic link that leads nowhere. */
bool path_is_link(const char *path);

/* For programs that make a folder after long work: -1 when `path` is empty, or something other than a folder is
 * there. */
int directory_check(const char *path, struct error *error);

/* mkdir -p, each new folder fsynced into its parent. An existing folder is fine. */
int directory_create(const char *path, struct error *error);

/* Whether a folder holds anything that is not in the list of names, which NULL ends; `other` gets one such
 * name. False when the folder does not exist. */
enum { DIRECTORY_NAME_SIZE = 256 };
bool directory_holds_other(const char *path, const char *const *names, char other[DIRECTORY_NAME_SIZE]);

/* Replaces the folder `to`, if there is one, by the folder `from`. At any moment one of the two is whole at
 * `to`, but for file systems that cannot exchange folders: there the old one is called `to`.old for a moment,
 * and readers take that where `to` is missing. Both folders hold files only. */
#define DIRECTORY_OLD ".old"
int directory_replace(const char *from, const char *to, struct error *error);
/* Removes a folder that holds only files, and the files. It is fine when there is no such folder. */
int directory_delete(const char *path, struct error *error);

/* Free bytes for an ordinary user on the file system that holds `path` (or its nearest existing parent). */
int disk_free(const char *path, uint64_t *bytes, struct error *error);

/* The path from the root, with links replaced by what they name, freshly allocated. Parts that do not exist
 * stay as they are. */
char *path_resolve(const char *path, struct error *error);

/* "folder/name", freshly allocated; free() it. NULL with `error` set. */
char *path_join(const char *folder, const char *name, struct error *error);

#endif
