/* codecs.h: what --codec says: how each tap is stored.
 *
 *     klt:4                              all taps
 *     lossless,12=klt:3,final=klt:4      tap 12, final, and all others (lossless, when none is named)
 *     klt:kl=0.01,0=raw                  an equals sign behind a colon is the codec's own
 *
 * The target ("target") is stored as final when it is not named, but losslessly under klt:kl=NATS.
 *
 * The target is coded like final unless target=CODEC says otherwise.
 */
#ifndef OFFRAMP_STORE_CODECS_H
#define OFFRAMP_STORE_CODECS_H

#include "common/base/error.h"
#include "common/codec/codec.h"
#include "common/store/tap.h"

#define DEFAULT_CODEC "lossless"

/* Whether every codec named is one, and every tap some model's. */
int codecs_check(const char *text, struct error *error);

/* The codec of each of the taps [taps]: choices [taps]. A tap that is named and not among them is an error. */
int codecs_parse(const char *text, const struct tap *tap, int taps, int layers, struct codec_choice *choices,
                 struct error *error);

#define NUMERICS_SIZE 256

/* The numerics of a store: those of the backend that computes its states ("cpu avx512 f32 onednn-2.6.3"), and where one
 * of its codecs packs, the library's version ("zstd-1.5.4"). Such a word that is in `backend` already, as in another
 * store's numerics, is left out. */
void codecs_numerics(const char *backend, const struct codec_choice *codec, int taps, char text[NUMERICS_SIZE]);

#endif
