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

/* -1 when file_write would refuse `path`: it is empty, a folder, a device, a pipe or a socket is there, or its folder is missing or
 * not to be written to. For programs that write only after long work. */
int file_check_output(const char *path, struct error *error);

/* -1 when `out`, a file or folder that is to be written, is `input`, which is read, or lies in that folder, or is what a
 * link in it names. Neither need be there. */
int file_check_apart(const char *out, const char *input, struct error *error);

/* Writes to a temporary name beside `path`, fsyncs, renames over `path`, fsyncs the folder: after
 * a crash the file is the old one or the new one. Where `path` is a link, so is what it names, and the link stays. */
int file_write(const char *path, const void *data, size_t size, struct error *error);

/* The same in pieces, for what is too large to hold: nothing is at `path` before file_writer_finish.
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

/* rename(2), unlink(2) and rmdir(2), kept by a crash once they return: the folder is fsynced. What is not there is
 * removed, and a folder that is not empty stays, without an error. Only a regular file is replaced by a file. */
int file_rename(const char *from, const char *to, struct error *error);
int file_remove(const char *path, struct error *error);
int directory_remove(const char *path, struct error *error);

/* True when something is at `path`. */
bool file_exists(const char *path);
bool path_is_directory(const char *path);

/* -1 when no folder can be at `path`: it is empty, or something else is there. For programs that make it after long
 * work. */
int directory_check(const char *path, struct error *error);

/* mkdir -p, each new folder fsynced into its parent. An existing folder is fine. */
int directory_create(const char *path, struct error *error);

/* Whether a folder holds something beside the names, which NULL ends; `other` is then one such. False where there is no
 * folder. */
enum { DIRECTORY_NAME_SIZE = 256 };
bool directory_holds_other(const char *path, const char *const *names, char other[DIRECTORY_NAME_SIZE]);

/* Puts the folder `from` in the place of the folder `to`, which is gone then, or need not be there: at any moment one of
 * the two is whole at `to`. Where the file system cannot exchange them, `to` has the name `to`.old for a moment in
 * between: readers take that where there is no `to`. Both hold files only. */
#define DIRECTORY_OLD ".old"
int directory_replace(const char *from, const char *to, struct error *error);
/* Removes a folder and the files in it, which has no folders. One that is not there is fine. */
int directory_delete(const char *path, struct error *error);

/* Free bytes for an ordinary user on the file system that holds `path` (or its nearest existing parent). */
int disk_free(const char *path, uint64_t *bytes, struct error *error);

/* The path without links from the root on, freshly allocated; what does not exist of it stays as it is. */
char *path_resolve(const char *path, struct error *error);

/* "folder/name", freshly allocated; free() it. NULL with `error` set. */
char *path_join(const char *folder, const char *name, struct error *error);

#endif
