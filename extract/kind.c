#include "extract/kind.h"

#include <string.h>
#include <strings.h>

#include "common/text/unicode.h"

#define BEGINNING_BYTES 4096

/* ---- by the name ---- */

static const struct suffix {
    const char *text;
    enum corpus_kind kind;
    int token_bytes;
} suffixes[] = {
    {".jsonl", CORPUS_JSON_LINES, 0}, {".ndjson", CORPUS_JSON_LINES, 0}, {".jsonlines", CORPUS_JSON_LINES, 0},
    {".json", CORPUS_JSON, 0},        {".u16", CORPUS_TOKENS, 2},        {".u32", CORPUS_TOKENS, 4},
    {".bin", CORPUS_TOKENS, 0}};

static const char *const packed[] = {".gz", ".gzip", ".zst", ".zstd"};

static bool ends_with(const char *name, size_t length, const char *suffix)
{
    const size_t wanted = strlen(suffix);
    return length > wanted && strncasecmp(name + length - wanted, suffix, wanted) == 0;
}

/* Bytes of the name before the ending of a compressed file. */
static size_t plain_length(const char *name)
{
    const size_t length = strlen(name);
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++)
        if (ends_with(name, length, packed[i]))
            return length - strlen(packed[i]);
    return length;
}

static void expect_kind(struct corpus_file *file)
{
    const size_t length = plain_length(file->path);
    file->kind = CORPUS_TEXT;
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++)
        if (ends_with(file->path, length, suffixes[i].text)) {
            file->kind = suffixes[i].kind;
            file->token_bytes = suffixes[i].token_bytes;
        }
}

/* ---- by the first bytes ---- */

#define UNPACK "; unpack it first"
#define PARQUET                                                                                                \
    "a Parquet file; write its text as JSON lines: pandas.read_parquet(FILE).to_json(\"text.jsonl\", "         \
    "orient=\"records\", lines=True)"
#define ARROW                                                                                                  \
    "an Arrow file; write its text as JSON lines: datasets.Dataset.from_file(FILE).to_json(\"text.jsonl\")"
#define NUMPY                                                                                                  \
    "a NumPy array; of token ids, write the bare numbers: "                                                    \
    "numpy.load(FILE).astype(\"<u4\").tofile(\"ids.u32\")"
#define PICKLE "a Python pickle, as PyTorch writes them; write its text or token ids to a file of their own"

static const struct signature {
    size_t offset, size;
    const char *bytes, *name;
} signatures[] = {
    {0, 4, "PAR1", PARQUET},
    {0, 6, "ARROW1", ARROW},
    {0, 4, "\xff\xff\xff\xff", ARROW},
    {0, 4, "FEA1", "a Feather file; write its text as JSON lines"},
    {0, 4, "Obj\x01", "an Avro file; write its text as JSON lines"},
    {0, 3, "ORC", "an ORC file; write its text as JSON lines"},
    {0, 6, "\x93NUMPY", NUMPY},
    {0, 4, "PK\3\4", "a zip archive (.docx, .epub, .npz and PyTorch's .pt are, too)" UNPACK},
    {0, 4, "PK\5\6", "an empty zip archive"},
    {0, 5, "%PDF-", "a PDF document; take the text out first: pdftotext"},
    {0, 4, "%!PS", "a PostScript document; take the text out first: ps2ascii"},
    {0, 34, "version https://git-lfs.github.com",
     "a pointer of Git LFS; fetch the file that it stands for: git lfs pull"},
    {0, 5, "{\\rtf", "an RTF document; write it as plain text"},
    {0, 8, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a document of an old Office program; write it as plain text"},
    {0, 8, "\x89PNG\r\n\x1a\n", "a PNG picture"},
    {0, 3, "\xff\xd8\xff", "a JPEG picture"},
    {0, 6, "GIF87a", "a GIF picture"},
    {0, 6, "GIF89a", "a GIF picture"},
    {0, 4, "II*\0", "a TIFF picture"},
    {0, 4, "MM\0*", "a TIFF picture"},
    {0, 4, "RIFF", "a RIFF file (WebP, WAV or AVI)"},
    {4, 4, "ftyp", "an MP4 film or HEIF picture"},
    {0, 4, "OggS", "an Ogg file"},
    {0, 3, "ID3", "an MP3 file"},
    {0, 4, "fLaC", "a FLAC file"},
    {0, 4, "\x1a\x45\xdf\xa3", "a Matroska or WebM film"},
    {0, 16, "SQLite format 3\0", "an SQLite database; write its text as JSON lines"},
    {16, 4, "\xde\xc0\xef\xbe", "an LMDB database, such as a store of extract"},
    {0, 8, "\x89HDF\r\n\x1a\n", "an HDF5 file"},
    {0, 4, "GGUF", "a model in GGUF"},
    {8, 2, "{\"", "a model in safetensors"}, /* behind the length of its header, of which the last byte is 0 */
    {0, 4,
     "\x7f"
     "ELF",
     "a program or library (ELF)"},
    {0, 4, "\xcf\xfa\xed\xfe", "a program or library (Mach-O)"},
    {0, 4, "\xca\xfe\xba\xbe", "a program or library (Java or Mach-O)"},
    {0, 4, "\0asm", "a program (WebAssembly)"},
    {0, 4, "MZ\x90\0", "a program or library (Windows)"},
    {0, 3, "BZh", "compressed by bzip2" UNPACK},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "compressed by xz" UNPACK},
    {0, 4, "\x04\x22\x4d\x18", "compressed by LZ4" UNPACK},
    {0, 6, "7z\xbc\xaf\x27\x1c", "a 7-Zip archive" UNPACK},
    {0, 6, "Rar!\x1a\x07", "a RAR archive" UNPACK},
    {0, 2, "\x1f\x9d", "compressed by compress" UNPACK},
    {257, 5, "ustar", "a tar archive" UNPACK},
    {0, 8, "MMIDIDX\0",
     "the index of a Megatron data set; the token ids are in the .bin beside it (--token-type)"},
    {0, 2, "\x80\2", PICKLE},
    {0, 2, "\x80\3", PICKLE},
    {0, 2, "\x80\4", PICKLE},
    {0, 2, "\x80\5", PICKLE},
};

static bool has_signature(const struct signature *signature, const unsigned char *beginning, size_t size)
{
    return size >= signature->offset + signature->size &&
           memcmp(beginning + signature->offset, signature->bytes, signature->size) == 0 &&
           (signature->offset != 8 || beginning[7] == 0);
}

bool kind_has_controls(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c < ' ' && !(c >= '\b' && c <= '\r') && c != 0x1b)
            return true;
    }
    return false;
}

static bool looks_like_text(const unsigned char *beginning, size_t size)
{
    size_t at = 0, length = 0;
    while (at < size && utf8_decode((const char *)beginning + at, size - at, &length) >= 0)
        at += length;
    return (at == size || at + length == size) && !kind_has_controls((const char *)beginning, at);
}

/* PDF, PostScript, RTF and Git LFS; all others have bytes that no text has. */
static bool may_be_plain(const struct signature *signature)
{
    return signature->offset == 0 && strchr("%{v", signature->bytes[0]) && signature->bytes[0];
}

/* Of `least` bytes or more. A text may begin with the letters of some of them. */
static const char *find_signature(const unsigned char *beginning, size_t size, size_t least)
{
    const bool text = looks_like_text(beginning, size);
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
        if (signatures[i].size >= least && (!text || may_be_plain(&signatures[i])) &&
            has_signature(&signatures[i], beginning, size))
            return signatures[i].name;
    return NULL;
}

/* At least three quarters of `count`. */
static bool are_most(size_t part, size_t count)
{
    return part > 0 && part >= count - count / 4;
}

/* 16-bit characters of alphabets have a small number at one of two positions, and zeros (white space at least)
 * nowhere else; 32-bit characters have zeros at two of four. A text with a stray zero has neither. */
static const char *find_wide(const unsigned char *beginning, size_t size)
{
    size_t zeros[4] = {0}, small[2] = {0};
    if (size < 4)
        return NULL;
    for (size_t i = 0; i < size; i++) {
        zeros[i % 4] += beginning[i] == 0;
        small[i % 2] += beginning[i] < ' ';
    }
    const size_t even = zeros[0] + zeros[2], odd = zeros[1] + zeros[3];
    if (are_most(zeros[3], size / 4) && are_most(zeros[2], size / 4) && !zeros[0])
        return "UTF-32LE";
    if (are_most(zeros[0], size / 4) && are_most(zeros[1], size / 4) && !zeros[3])
        return "UTF-32BE";
    if (odd && !even && are_most(small[1], size / 2))
        return "UTF-16LE";
    return even && !odd && are_most(small[0], size / 2) ? "UTF-16BE" : NULL;
}

static const char *find_wide_mark(const unsigned char *beginning, size_t size)
{
    if (size >= 4 && memcmp(beginning, "\xff\xfe\0\0", 4) == 0)
        return "UTF-32";
    if (size >= 4 && memcmp(beginning, "\0\0\xfe\xff", 4) == 0)
        return "UTF-32";
    return size >= 2 && (memcmp(beginning, "\xff\xfe", 2) == 0 || memcmp(beginning, "\xfe\xff", 2) == 0)
               ? "UTF-16"
               : NULL;
}

static int check_text(const struct corpus_file *file, const unsigned char *beginning, size_t size,
                      struct error *error)
{
    const char *wide = find_wide_mark(beginning, size),
               *other = wide ? NULL : find_signature(beginning, size, 0);
    if (other)
        return error_set(error, "%s: is not text but %s", file->path, other);
    if (!wide)
        wide = find_wide(beginning, size);
    if (wide)
        return error_set(error, "%s: is %s; write it as UTF-8: iconv -f %s -t UTF-8", file->path, wide, wide);
    if (memchr(beginning, 0, size))
        return error_set(error, "%s: is not text: byte %zu is zero", file->path,
                         (size_t)((const unsigned char *)memchr(beginning, 0, size) - beginning));
    return 0;
}

/* ---- JSON ---- */

static int look_at_json(struct corpus_file *file, const unsigned char *beginning, size_t size,
                        struct error *error)
{
    size_t i = (size_t)file->begin;
    while (i < size && strchr(" \t\r\n", beginning[i]))
        i++;
    file->array = i < size && beginning[i] == '[';
    if (i == size || strchr("[{\"", beginning[i]))
        return 0;
    return error_set(error, "%s: is called JSON but begins with neither an array, an object nor a text",
                     file->path);
}

/* ---- token files ---- */

#define LLMC_HEADER 1024

static uint32_t read_word(const unsigned char *bytes)
{
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* A file of llm.c: 256 words, the first of them the kind, the version, and how many ids follow. */
static int look_at_header(struct corpus_file *file, const unsigned char *beginning, size_t size,
                          struct error *error)
{
    static const struct {
        uint32_t magic, version;
        int token_bytes; /* 0: no token file */
    } kinds[] = {{20240520, 1, 2}, {20240801, 7, 4}, {20240326, 0, 0}, {20240327, 0, 0}, {20240522, 0, 0}};
    size_t i = 0;
    while (size >= 12 && i < sizeof kinds / sizeof *kinds && kinds[i].magic != read_word(beginning))
        i++;
    if (size < 12 || i == sizeof kinds / sizeof *kinds)
        return 0;
    if (kinds[i].token_bytes == 0)
        return error_set(error, "%s: is a model, a state or a test of llm.c, not a token file", file->path);
    if (read_word(beginning + 4) != kinds[i].version)
        return error_set(error, "%s: is a token file of llm.c of version %u; version %u is known", file->path,
                         read_word(beginning + 4), kinds[i].version);
    if (file->token_bytes > 0 && file->token_bytes != kinds[i].token_bytes)
        return error_set(error,
                         "%s: its header (llm.c's) says that ids have %d bytes, its name or --token-type %d",
                         file->path, kinds[i].token_bytes, file->token_bytes);
    file->token_bytes = kinds[i].token_bytes;
    file->begin = LLMC_HEADER;
    file->ids = read_word(beginning + 8);
    if (file->compression == COMPRESSION_NONE &&
        file->size != LLMC_HEADER + file->ids * (uint64_t)file->token_bytes)
        return error_set(error,
                         "%s: its header (llm.c's) says that %llu ids follow, but the file has %llu bytes",
                         file->path, (unsigned long long)file->ids, (unsigned long long)file->size);
    file->counted = true;
    return 0;
}

static int look_at_tokens(struct corpus_file *file, int token_bytes, const unsigned char *beginning,
                          size_t size, struct error *error)
{
    const char *other = find_signature(beginning, size, 4);
    if (file->token_bytes == 0)
        file->token_bytes = token_bytes;
    if (other)
        return error_set(error, "%s: is not a token file but %s", file->path, other);
    if (look_at_header(file, beginning, size, error) < 0)
        return -1;
    if (file->token_bytes == 0)
        return error_set(error, "%s: is a token file: say with --token-type whether its ids are u16 or u32",
                         file->path);
    if (file->compression == COMPRESSION_NONE && file->size % (uint64_t)file->token_bytes != 0)
        return error_set(error, "%s: %llu bytes are not a whole number of %d-byte token ids", file->path,
                         (unsigned long long)file->size, file->token_bytes);
    return 0;
}

/* ---- all ---- */

/* The first bytes as they are unpacked. Ids may begin like a compressed file: those are compressed when their
 * name says so. */
static int read_beginning(struct corpus_file *file, unsigned char beginning[BEGINNING_BYTES], size_t *size,
                          struct error *error)
{
    struct stream *stream;
    if (stream_open(file->path, COMPRESSION_NONE, file->size, &stream, error) < 0)
        return -1;
    int result = stream_read(stream, beginning, BEGINNING_BYTES, size, error);
    stream_close(stream);
    const bool packed_name = plain_length(file->path) < strlen(file->path);
    if (result < 0 || (file->kind == CORPUS_TOKENS && !packed_name))
        return result;
    file->compression = compression_of(beginning, *size);
    if (file->compression == COMPRESSION_NONE)
        return 0;
    if (stream_open(file->path, file->compression, file->size, &stream, error) < 0)
        return -1;
    result = stream_read(stream, beginning, BEGINNING_BYTES, size, error);
    stream_close(stream);
    return result;
}

int kind_find(struct corpus_file *file, int token_bytes, struct error *error)
{
    static const char mark[] = "\xef\xbb\xbf";
    unsigned char beginning[BEGINNING_BYTES];
    size_t size;
    expect_kind(file);
    if (read_beginning(file, beginning, &size, error) < 0)
        return -1;
    if (file->kind == CORPUS_TOKENS)
        return look_at_tokens(file, token_bytes, beginning, size, error);
    if (size >= 3 && memcmp(beginning, mark, 3) == 0)
        file->begin = 3;
    if (check_text(file, beginning, size, error) < 0)
        return -1;
    return file->kind == CORPUS_JSON ? look_at_json(file, beginning, size, error) : 0;
}
