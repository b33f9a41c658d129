/* codec.h: turns a matrix of states into bytes and back. A codec knows matrices and bytes, nothing else.
 *
 *     raw:f32   the values as they are                        32 bits a value, exact
 *     raw       rounded to bf16                               16
 *     lossless  rounded to bf16, byte planes, packed          about 10.6
 *     q8        int8 with a scale per token and per channel   about 7.5
 *     klt:4     rotated into a tap's own basis, one spacing   about 4, as asked for
 *
 * "Exact" for raw and lossless means: decoding gives the bf16 rounding of what was encoded.
 *
 * A codec with parameters (klt) is fitted to a pilot first (fit.h). The parameters are bytes that are made once
 * and kept beside the records; every record carries their hash. A coder is a codec with its parameters, ready
 * for use. Use does not change it: any number of threads may share it, each with a worker of its own.
 *
 *     struct codec_choice choice;
 *     codec_parse("klt:4", &choice, error);
 *     coder_create(choice.codec, parameters, size, cols, &coder, error);
 *     payload.capacity = coder_bound(coder, rows), payload.bytes = malloc(payload.capacity);
 *     coder_encode(coder, worker, states, rows, &payload, error);
 *     coder_decode(coder, worker, payload.bytes, payload.size, rows, states, error);
 *     coder_view(coder, worker, payload.bytes, payload.size, rows, states, &view, error); // copied only where it must be
 */
#ifndef OFFRAMP_CODEC_CODEC_H
#define OFFRAMP_CODEC_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/string.h"
#include "kernels/dtype.h"

struct moments;

/* Working memory of one thread (tables, planes); codecs grow it as they need. */
struct codec_worker;
int codec_worker_create(struct codec_worker **worker, struct error *error);
void codec_worker_destroy(struct codec_worker *worker); /* NULL is fine */
/* Seconds of entropy coding so far, in encoding and decoding. */
double codec_worker_entropy_seconds(const struct codec_worker *worker);

/* What is made of the states of a record. */
struct codec_payload {
    unsigned char *bytes;
    size_t size, capacity; /* of bytes */
    double loss; /* the mean over rows of |x - decoded|^2 / |x|^2; 0 for exact codecs */
};

/* Values of states, one row behind the other, in memory of somebody else, at any address. */
struct states_view {
    enum dtype type; /* DTYPE_F32 or DTYPE_BF16 */
    const void *values;
};

/* ---- the first half of encoding, elsewhere ----
 *
 * States in a device's memory need not leave it as they are. An op on the device can make what the entropy
 * coder takes of each row (common/transform does that). */

enum codec_transform_kind {
    CODEC_NO_TRANSFORM,
    CODEC_QUANTISE, /* op_quantise of kernels/ops.h; a row: i16 q[cols], up to a multiple of 4 bytes, f32 scale, f32 lost */
    CODEC_SPLIT /* op_split_planes; a row: u8 high[cols], u8 low[cols], up to a multiple of 4 bytes */
};

struct codec_transform {
    enum codec_transform_kind kind;
    size_t row; /* bytes of a transformed row; no more than cols f32 */
    /* Of CODEC_QUANTISE, the coder's own: */
    const float *basis; /* [cols, cols] */
    const float *offset; /* [cols] */
    float spacing;
};

/* ---- the table ---- */

/* How finely a codec with parameters codes, and what that gave on its pilot. */
struct codec_setting {
    double spacing; /* in units of a token's RMS */
    double bits; /* per value of records; 0: not known */
    double loss; /* as struct codec_payload's */
};

/* Record headers hold these numbers. A new codec gets the next one; no number is ever used for another
 * codec. */
enum codec_id { CODEC_RAW_F32 = 1, CODEC_RAW = 2, CODEC_LOSSLESS = 3, CODEC_Q8 = 4, CODEC_KLT = 5 };

/* What a codec's functions work with. */
struct codec_call {
    struct codec_worker *worker;
    const void *prepared; /* NULL without parameters */
    int64_t rows, cols;
};

struct codec {
    const char *name; /* as --codec and the manifest write it, without arguments */
    uint16_t id; /* enum codec_id */
    enum dtype type; /* what its values are worth: DTYPE_F32 or DTYPE_BF16 */
    bool packs; /* its bytes also depend on the version of zstd (codecs_numerics) */
    bool exact; /* decoding gives the values rounded to `type` */
    const char *
        usage; /* how it is written where arguments follow the name: "klt:BITS or klt:kl=NATS"; NULL: by its name */
    const char *summary; /* one line for --help */

    /* The most bytes encode can write for rows x cols; 0 when the shape is out of range. */
    size_t (*bound)(int64_t rows, int64_t cols);

    /* parameters, not trusted, -> what encode and decode get; NULL in a codec without parameters. */
    int (*prepare)(const void *parameters, size_t size, int64_t cols, void **prepared, struct error *error);
    void (*release)(void *prepared);

    /* See coder_encode and coder_decode. The payload's loss is 0 before. */
    int (*encode)(const struct codec_call *call, const float *states, struct codec_payload *payload,
                  struct error *error);
    int (*decode)(const struct codec_call *call, const void *payload, size_t size, float *states,
                  struct error *error);
    /* NULL but where a payload is the values themselves, as `type`, row after row: checks that it is. */
    int (*check_plain)(size_t size, int64_t rows, int64_t cols, struct error *error);
    /* NULL but where decoding gives numbers of bf16: as decode, to [rows, cols] of them. */
    int (*decode_bf16)(const struct codec_call *call, const void *payload, size_t size, uint16_t *states,
                       struct error *error);

    /* Both NULL: encode takes states only. See coder_transform and coder_encode_transformed. */
    struct codec_transform (*transform)(const void *prepared, int64_t cols);
    int (*encode_transformed)(const struct codec_call *call, const unsigned char *transformed,
                              struct codec_payload *payload, struct error *error);

    /* NULL in a codec without parameters; see fit.h. */
    struct codec_setting (*setting)(const void *prepared);
    int (*fit)(const struct moments *moments, struct string *parameters, struct error *error);
    int (*choose_spacing)(const void *parameters, size_t size, const float *states, int64_t rows, double bits,
                          double *spacing, struct error *error);
    int (*set)(void *parameters, size_t size, const struct codec_setting *setting, struct error *error);
};

const struct codec *codec_find_id(uint16_t id); /* NULL: unknown */
/* The table, ended by NULL. */
const struct codec *const *codec_table(void);

/* ---- names ---- */

enum codec_goal {
    CODEC_NO_GOAL, /* nothing to choose */
    CODEC_BITS, /* "klt:4": nominal bits per value */
    CODEC_KL /* "klt:kl=0.005": nats per token that the head loses, at most */
};

#define CODEC_NAME_SIZE 48

/* A codec, and how finely it codes. */
struct codec_choice {
    const struct codec *codec;
    enum codec_goal goal;
    double value; /* of the goal */
    char name[CODEC_NAME_SIZE]; /* "klt:4", one way to write each choice */
};

/* An error lists the names there are. */
int codec_parse(const char *text, struct codec_choice *choice, struct error *error);

/* ---- coders ---- */

struct coder;

/* parameters: NULL and 0 for a codec without; they are copied. */
int coder_create(const struct codec *codec, const void *parameters, size_t size, int64_t cols,
                 struct coder **coder, struct error *error);
void coder_destroy(struct coder *coder); /* NULL is fine */

const struct codec *coder_codec(const struct coder *coder);
int64_t coder_cols(const struct coder *coder);
/* XXH3-64 of the parameters, 0: there are none. */
uint64_t coder_hash(const struct coder *coder);
/* All 0 for a codec without parameters. */
struct codec_setting coder_setting(const struct coder *coder);

/* The most bytes encode can write; 0 when the shape is out of range. */
size_t coder_bound(const struct coder *coder, int64_t rows);

/* states [rows, cols] f32 -> the payload's size and loss; its bytes have room for coder_bound. The same states
 * give the same bytes, whatever was encoded before and however many threads there are. States that are not
 * finite are an error of lossy codecs. */
int coder_encode(const struct coder *coder, struct codec_worker *worker, const float *states, int64_t rows,
                 struct codec_payload *payload, struct error *error);

/* What a device may do of encoding; CODEC_NO_TRANSFORM: nothing. Lives as long as the coder. */
struct codec_transform coder_transform(const struct coder *coder);
/* As coder_encode, of rows as coder_transform describes them, one behind the other. The payload of an exact
 * codec is the same as the host's. That of another may differ where a rounding of the product moves a value to
 * the neighbouring integer; it decodes as well. States that are not finite are an error. */
int coder_encode_transformed(const struct coder *coder, struct codec_worker *worker, const void *transformed,
                             int64_t rows, struct codec_payload *payload, struct error *error);

/* payload -> states [rows, cols] f32. The payload is not trusted: whatever its bytes are, nothing is read or
 * written outside, and the work is bounded. */
int coder_decode(const struct coder *coder, struct codec_worker *worker, const void *payload, size_t size,
                 int64_t rows, float *states, struct error *error);

/* As coder_decode, but does not copy a payload that is the values themselves (check_plain): *view is of the
 * payload then, and `states` is not used. Otherwise *view is of `states`; where decoding gives bf16, these fill
 * its first half. */
int coder_view(const struct coder *coder, struct codec_worker *worker, const void *payload, size_t size,
               int64_t rows, float *states, struct states_view *view, struct error *error);

#endif
