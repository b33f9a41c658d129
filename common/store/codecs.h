/* codecs.h: what --codec says: the codec of each tap.
 *
 *     klt:4                              all taps
 *     lossless,12=klt:3,final=klt:4      tap 12, final, and all others
 *     klt:kl=0.01,0=raw                  an equals sign behind a colon belongs to the codec
 *
 * Taps that are not named get the codec without a name, or DEFAULT_CODEC. "target" is a tap, too: where it is
 * not named, it is coded as final is, but losslessly where final is klt:kl=NATS.
 */
#ifndef OFFRAMP_STORE_CODECS_H
#define OFFRAMP_STORE_CODECS_H

#include "common/base/error.h"
#include "common/codec/codec.h"
#include "common/store/tap.h"

#define DEFAULT_CODEC "lossless"

/* For the command line, before there is a store: every codec must exist, and every tap could be some
 * model's. */
int codecs_check(const char *text, struct error *error);

/* choices [taps]: the codec of each tap. A tap that is named and is not one of them is an error. */
int codecs_parse(const char *text, const struct tap *tap, int taps, int layers, struct codec_choice *choices,
                 struct error *error);

#define NUMERICS_SIZE 256

/* The numerics identity of a store. `backend`: that of the backend which computes the states ("cpu avx512 f32
 * onednn-2.6.3"), or another store's. Where a codec packs, the library's version is added ("zstd-1.5.4"),
 * and replaces another. */
void codecs_numerics(const char *backend, const struct codec_choice *codec, int taps, char text[NUMERICS_SIZE]);

#endif
