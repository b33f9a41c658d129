#include "common/store/environment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/base/file.h"

#define DATABASES_MAX 1100 /* MANIFEST_TAPS_MAX, and room for others */
#define READERS_MAX   1024
#define MAP_LARGE     ((size_t)1 << 40)

/* ---- errors ---- */

static const char *advice(int code)
{
    switch (code) {
    case ENOSPC:
    case EDQUOT: return "; free some space and run the same command again";
    case EIO: return "; is the disk full or failing, or the file limited (ulimit -f)?";
    case EFBIG: return "; the file may not grow: see ulimit -f and the file system's limit";
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_NOTFOUND: return "; the store is damaged";
    case MDB_MAP_RESIZED: return "; the store has grown since it was opened: open it again";
    case MDB_READERS_FULL: return "; too many processes read this store";
    default: return "";
    }
}

void environment_release(MDB_env *env, const struct pages_map *map)
{
    MDB_envinfo info;
    mdb_env_info(env, &info);
    madvise((void *)map->origin, info.me_mapsize, MADV_DONTNEED);
}

static enum error_kind kind_of(int code)
{
    switch (code) {
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_NOTFOUND: return ERROR_DAMAGED;
    case MDB_MAP_FULL: return ERROR_NO_SPACE;
    default: return code > 0 ? error_kind_of(code) : ERROR_INPUT;
    }
}

int environment_error(struct error *error, int code, const char *format, ...)
{
    char text[sizeof error->text];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return error_set_kind(error, kind_of(code), "%s: %s%s", text, mdb_strerror(code), advice(code));
}

/* ---- the writer's lock ---- */

static int open_lock(const char *folder, int flags, struct error *error)
{
    char *path = path_join(folder, WRITER_FILE, error);
    if (!path)
        return -1;
    int file = open(path, flags | O_CLOEXEC, 0644);
    if (file < 0)
        error_system(error, "%s", path);
    free(path);
    return file;
}

static int refuse_second(const char *folder, int file, struct error *error)
{
    char text[24] = "";
    ssize_t got = pread(file, text, sizeof text - 1, 0);
    int process = got > 0 ? atoi(text) : 0;
    char who[48] = "another process";
    if (process > 0)
        snprintf(who, sizeof who, "process %d", process);
    return error_set(error,
                     "%s: %s is writing to this store; wait for it, or stop it and run the command again",
                     folder, who);
}

int writer_lock(const char *folder, int *lock, struct error *error)
{
    char text[24];
    int file = open_lock(folder, O_RDWR | O_CREAT, error);
    if (file < 0)
        return -1;
    if (flock(file, LOCK_EX | LOCK_NB) < 0) {
        if (errno == EWOULDBLOCK)
            refuse_second(folder, file, error);
        else
            error_system(error, "%s: cannot be locked for writing; write the store on a local disk", folder);
        close(file);
        return -1;
    }
    int length = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(file, 0) < 0 || pwrite(file, text, (size_t)length, 0) != length) {
        error_system(error, "%s: " WRITER_FILE, folder);
        close(file);
        return -1;
    }
    *lock = file;
    return 0;
}

/* Whether some process holds the writer's lock. False where the file system has no locks. */
static bool writer_at_work(const char *folder)
{
    struct error ignored;
    int file = open_lock(folder, O_RDONLY, &ignored);
    if (file < 0)
        return false;
    bool held = flock(file, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    close(file);
    return held;
}

/* Each process has a byte of the lock file, far behind its text. Its offset depends on the container, too,
 * since processes of two containers may have the same number. An open file description lock, unlike others,
 * also holds against the process that has it. */
int process_lock(const char *folder, int *lock, struct error *error)
{
    struct error ignored;
    struct stat space;
    struct flock byte = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    byte.l_start = (off_t)1 << 32 | getpid();
    if (stat("/proc/self/ns/pid", &space) == 0)
        byte.l_start += (off_t)(space.st_ino % (1 << 28)) << 33;
    *lock = open_lock(folder, O_RDWR, &ignored);
    if (*lock < 0 || fcntl(*lock, F_OFD_SETLK, &byte) == 0)
        return 0;
    const bool held = errno == EAGAIN || errno == EACCES;
    close(*lock);
    *lock = -1;
    return held ? error_set(error, "%s: this process has the store open already", folder) : 0;
}

/* ---- opening ---- */

static size_t map_size(const char *path, bool large)
{
    struct stat status;
    struct rlimit limit;
    size_t file = stat(path, &status) == 0 ? (size_t)status.st_size : 0;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        large = false;
    size_t size = file + MAP_GROWTH;
    return large && size < MAP_LARGE ? MAP_LARGE : size;
}

size_t environment_map_size(MDB_env *env)
{
    struct stat status = {0};
    int file;
    if (mdb_env_get_fd(env, &file) != 0 || fstat(file, &status) < 0)
        return 0; /* LMDB then takes the writer's size */
    return (size_t)status.st_size + MAP_GROWTH;
}

/* `path` is the folder, or the file itself with MDB_NOSUBDIR; `data` is the file. Returns LMDB's code. */
static int open_mapped(const char *path, const char *data, unsigned flags, bool large, MDB_env **env)
{
    int code = mdb_env_create(env);
    if (code)
        return code;
    if ((code = mdb_env_set_maxdbs(*env, DATABASES_MAX)) == 0 &&
        (code = mdb_env_set_maxreaders(*env, READERS_MAX)) == 0 &&
        (code = mdb_env_set_mapsize(*env, map_size(data, large))) == 0 &&
        (code = mdb_env_open(*env, path, flags | MDB_NOTLS, 0644)) == 0)
        return 0;
    mdb_env_close(*env);
    *env = NULL;
    return code;
}

static int open_environment(const char *path, const char *data, unsigned flags, MDB_env **env)
{
    int code = open_mapped(path, data, flags, true, env);
    return code == ENOMEM ? open_mapped(path, data, flags, false, env) : code;
}

static bool on_read_only_system(const char *folder)
{
    struct statvfs status;
    return statvfs(folder, &status) == 0 && (status.f_flag & ST_RDONLY);
}

static int open_for_reading(const char *folder, const char *data, MDB_env **env, struct error *error)
{
    char *marker = path_join(folder, SEALED_FILE, error);
    if (!marker)
        return -1;
    bool sealed = file_exists(marker);
    free(marker);

    int code = EROFS;
    if (!sealed && !on_read_only_system(folder)) {
        code = open_environment(folder, data, MDB_RDONLY, env);
        if (code <= 0 || code == ENOMEM) /* locks are not the reason */
            return code ? environment_error(error, code, "%s: cannot be opened", folder) : 0;
    }
    if (!sealed && writer_at_work(folder))
        return environment_error(error, code, "%s: is being written, and its locks cannot be used from here",
                                 folder);
    code = open_environment(folder, data, MDB_RDONLY | MDB_NOLOCK, env);
    return code ? environment_error(error, code, "%s: cannot be opened", folder) : 0;
}

static void keep_first(void *context, const char *problem)
{
    struct error *first = context;
    if (!*first->text)
        error_set(first, "%s", problem);
}

/* A writer that believes a damaged list of freed pages writes over live ones. */
static int check_structure(const char *data, struct error *error)
{
    struct error first = {0};
    int problems;
    if (pages_check(data, 0, keep_first, &first, &problems, error) < 0)
        return -1;
    if (problems > 0)
        return error_set_kind(error, ERROR_DAMAGED, "%s: the structure is damaged (%s)", data, first.text);
    return 0;
}

static int open_for_writing(const char *folder, const char *data, MDB_env **env, struct error *error)
{
    if (check_structure(data, error) < 0)
        return -1;
    int code = open_environment(folder, data, 0, env);
    if (code)
        return environment_error(error, code, "%s: cannot be opened for writing", folder);
    /* Readers that died left entries in LMDB's lock file. These keep old pages from being used again. */
    int dead;
    mdb_reader_check(*env, &dead);
    return 0;
}

int environment_open(const char *folder, enum store_mode mode, MDB_env **env, struct error *error)
{
    char *data = path_join(folder, DATA_FILE, error);
    *env = NULL;
    if (!data)
        return -1;
    int result = pages_check_meta(data, error);
    if (result == 0)
        result = mode == STORE_WRITE ? open_for_writing(folder, data, env, error)
                                     : open_for_reading(folder, data, env, error);
    free(data);
    return result;
}

int environment_create(const char *path, MDB_env **env, struct error *error)
{
    int code = open_environment(path, path, MDB_NOSUBDIR | MDB_NOLOCK, env);
    return code ? environment_error(error, code, "%s: cannot be made", path) : 0;
}
