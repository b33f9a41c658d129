#include "generate/stream.h"

#include <string.h>

#include "common/base/cli.h"

/* Bytes of the character that a byte begins; 0: none begins with it. */
static size_t character_size(unsigned char first)
{
    if (first < 0x80)
        return 1;
    if (first >= 0xc2 && first < 0xe0)
        return 2;
    if (first >= 0xe0 && first < 0xf0)
        return 3;
    return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

/* Bytes at the end of a text that begin a character without completing it: 0 .. 3. */
static size_t utf8_incomplete(const char *bytes, size_t size)
{
    for (size_t tail = 1; tail <= 3 && tail <= size; tail++) {
        const unsigned char byte = (unsigned char)bytes[size - tail];
        if ((byte & 0xc0) != 0x80) /* no continuation: the last character begins here */
            return character_size(byte) > tail ? tail : 0;
    }
    return 0;
}

static int put(struct stream *stream, const char *bytes, size_t size, struct error *error)
{
    if (size > 0 && fwrite(bytes, 1, size, stream->file) != size)
        return error_system(error, "the text cannot be written");
    return 0;
}

/* A pipe may be full because its reader has stopped: a signal must get through. */
static int flush(struct stream *stream, struct error *error)
{
    const int descriptor = fileno(stream->file);
    if (descriptor >= 0 && !cli_await(descriptor, AWAIT_WRITE))
        return 0;
    if (fflush(stream->file) != 0)
        return error_system(error, "the text cannot be written");
    return 0;
}

int stream_write(struct stream *stream, const char *bytes, size_t size, struct error *error)
{
    while (stream->count > 0 && size > 0) { /* the held character first, byte by byte */
        stream->held[stream->count++] = *bytes++;
        size--;
        const size_t keep = utf8_incomplete(stream->held, stream->count), ready = stream->count - keep;
        if (put(stream, stream->held, ready, error) < 0)
            return -1;
        memmove(stream->held, stream->held + ready, keep);
        stream->count = keep;
    }
    const size_t tail = utf8_incomplete(bytes, size);
    if (put(stream, bytes, size - tail, error) < 0)
        return -1;
    if (tail > 0) {
        memcpy(stream->held, bytes + size - tail, tail);
        stream->count = tail;
    }
    return flush(stream, error);
}

int stream_finish(struct stream *stream, struct error *error)
{
    int result = put(stream, stream->held, stream->count, error);
    stream->count = 0;
    return result == 0 ? flush(stream, error) : -1;
}
