#include "extract/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "common/base/memory.h"

#define INPUT_BYTES ((size_t)256 << 10)
#define GZIP_WINDOW (15 + 16) /* the largest, in gzip's wrapping */
#define ZSTD_WINDOW 27 /* bits: what the zstd program takes without --long */

struct stream {
    const char *path;
    int descriptor;
    enum compression compression;
    uint64_t size, loaded; /* bytes of the file, and of those, read */
    bool ended; /* it has no more */
    unsigned char *input; /* what is compressed; [begin, end) is to be unpacked */
    size_t begin, end;
    bool inside; /* of a member or a frame */
    uint64_t parts; /* members or frames that have ended */
    bool unpacks; /* gzip has been set up */
    z_stream gzip;
    ZSTD_DStream *zstd;
};

enum compression compression_of(const unsigned char *bytes, size_t size)
{
    if (size >= 3 && memcmp(bytes, "\x1f\x8b\x08", 3) == 0)
        return COMPRESSION_GZIP;
    if (size >= 4 &&
        (memcmp(bytes, "\x28\xb5\x2f\xfd", 4) == 0 ||
         ((bytes[0] & 0xf0) == 0x50 && memcmp(bytes + 1, "\x2a\x4d\x18", 3) == 0))) /* a frame to skip */
        return COMPRESSION_ZSTD;
    return COMPRESSION_NONE;
}

static int set_up(struct stream *stream, struct error *error)
{
    if (stream->compression == COMPRESSION_NONE)
        return 0;
    if (array_alloc(&stream->input, INPUT_BYTES, error) < 0)
        return -1;
    if (stream->compression == COMPRESSION_GZIP) {
        stream->unpacks = inflateInit2(&stream->gzip, GZIP_WINDOW) == Z_OK;
        return stream->unpacks ? 0 : error_set_kind(error, ERROR_NO_MEMORY, "out of memory to unpack gzip");
    }
    stream->zstd = ZSTD_createDStream();
    if (!stream->zstd || ZSTD_isError(ZSTD_DCtx_setParameter(stream->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW)))
        return error_set_kind(error, ERROR_NO_MEMORY, "out of memory to unpack Zstandard");
    return 0;
}

int stream_open(const char *path, enum compression compression, uint64_t size, struct stream **result,
                struct error *error)
{
    struct stream *stream = memory_alloc(1, sizeof *stream, error);
    *result = NULL;
    if (!stream)
        return -1;
    *stream = (struct stream){.path = path, .compression = compression, .size = size};
    stream->descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (stream->descriptor < 0)
        error_system(error, "%s", path);
    if (stream->descriptor < 0 || set_up(stream, error) < 0) {
        stream_close(stream);
        return -1;
    }
    *result = stream;
    return 0;
}

void stream_close(struct stream *stream)
{
    if (!stream)
        return;
    if (stream->descriptor >= 0)
        close(stream->descriptor);
    if (stream->unpacks)
        inflateEnd(&stream->gzip);
    ZSTD_freeDStream(stream->zstd);
    free(stream->input);
    free(stream);
}

/* From the file; less than `size` only at its end. */
static int load(struct stream *stream, void *buffer, size_t size, size_t *got, struct error *error)
{
    for (*got = 0; *got < size && !stream->ended;) {
        const ssize_t count = read(stream->descriptor, (char *)buffer + *got, size - *got);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return error_system(error, "%s: byte %llu", stream->path, (unsigned long long)stream->loaded);
        stream->ended = count == 0;
        stream->loaded += (uint64_t)count;
        *got += (size_t)count;
    }
    if (stream->loaded > stream->size || (stream->ended && stream->loaded < stream->size))
        return error_set(error, "%s: changed while it was read", stream->path);
    return 0;
}

static int refuse(const struct stream *stream, const char *what, struct error *error)
{
    return error_set_kind(error, ERROR_DAMAGED,
                          "%s: byte %llu: its compressed data is damaged here (%s): get the file again",
                          stream->path, (unsigned long long)stream_taken(stream), what);
}

static int unpack_gzip(struct stream *stream, char *out, size_t size, size_t *made, struct error *error)
{
    z_stream *gzip = &stream->gzip;
    while (!stream->inside && stream->parts > 0 && stream->begin < stream->end &&
           stream->input[stream->begin] == 0)
        stream->begin++;
    *made = 0;
    if (!stream->inside && stream->begin == stream->end)
        return 0;
    if (!stream->inside && inflateReset(gzip) != Z_OK)
        return refuse(stream, "it cannot be begun", error);
    stream->inside = true;
    const size_t room = size < INPUT_BYTES ? size : INPUT_BYTES;
    gzip->next_in = stream->input + stream->begin;
    gzip->avail_in = (uInt)(stream->end - stream->begin);
    gzip->next_out = (unsigned char *)out;
    gzip->avail_out = (uInt)room;
    const int result = inflate(gzip, Z_NO_FLUSH);
    stream->begin = stream->end - gzip->avail_in;
    *made = room - gzip->avail_out;
    if (result == Z_STREAM_END) {
        stream->inside = false;
        stream->parts++;
    } else if (result == Z_MEM_ERROR) {
        return error_set_kind(error, ERROR_NO_MEMORY, "%s: out of memory to unpack it", stream->path);
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
        return refuse(stream, gzip->msg ? gzip->msg : "gzip", error);
    }
    return 0;
}

static int unpack_zstd(struct stream *stream, char *out, size_t size, size_t *made, struct error *error)
{
    ZSTD_inBuffer from = {stream->input, stream->end, stream->begin};
    ZSTD_outBuffer to = {out, size, 0};
    const size_t result = ZSTD_decompressStream(stream->zstd, &to, &from);
    stream->begin = from.pos;
    *made = to.pos;
    if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge)
        return error_set(error,
                         "%s: byte %llu: has a window of more than %d MB: unpack it first (zstd -d --long=31)",
                         stream->path, (unsigned long long)stream_taken(stream), 1 << (ZSTD_WINDOW - 20));
    if (ZSTD_isError(result))
        return refuse(stream, ZSTD_getErrorName(result), error);
    stream->inside = result > 0;
    stream->parts += result == 0;
    return 0;
}

int stream_read(struct stream *stream, void *buffer, size_t size, size_t *got, struct error *error)
{
    if (stream->compression == COMPRESSION_NONE)
        return load(stream, buffer, size, got, error);
    for (*got = 0; *got < size;) {
        if (stream->begin == stream->end && !stream->ended) {
            stream->begin = 0;
            if (load(stream, stream->input, INPUT_BYTES, &stream->end, error) < 0)
                return -1;
        }
        if (!stream->inside && stream->begin == stream->end)
            break;
        const size_t before = stream->begin;
        size_t made = 0;
        char *out = (char *)buffer + *got;
        if ((stream->compression == COMPRESSION_GZIP ? unpack_gzip(stream, out, size - *got, &made, error)
                                                     : unpack_zstd(stream, out, size - *got, &made, error)) < 0)
            return -1;
        *got += made;
        if (made == 0 && stream->begin == before && stream->ended && stream->inside)
            return error_set_kind(error, ERROR_DAMAGED,
                                  "%s: byte %llu: the compressed file is cut short here: get it again",
                                  stream->path, (unsigned long long)stream->size);
    }
    return 0;
}

int stream_skip(struct stream *stream, uint64_t offset, struct error *error)
{
    char part[4096];
    if (stream->compression == COMPRESSION_NONE) {
        stream->loaded = offset;
        return lseek(stream->descriptor, (off_t)offset, SEEK_SET) < 0
                   ? error_system(error, "%s: byte %llu", stream->path, (unsigned long long)offset)
                   : 0;
    }
    while (offset > 0) {
        size_t got;
        if (stream_read(stream, part, offset < sizeof part ? (size_t)offset : sizeof part, &got, error) < 0)
            return -1;
        if (got == 0)
            return error_set(error, "%s: changed: it unpacks to less than before", stream->path);
        offset -= got;
    }
    return 0;
}

uint64_t stream_taken(const struct stream *stream)
{
    return stream->loaded - (stream->end - stream->begin);
}
