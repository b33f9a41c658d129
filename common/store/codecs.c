#include "common/store/codecs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/base/cli.h"

/* Cuts "12=klt:3" in two; *tap NULL: the item names no tap. An equals sign behind a colon is the codec's
 * own ("klt:kl=0.005"). */
static const char *split_item(char *item, const char **tap)
{
    char *equals = strchr(item, '=');
    const char *colon = strchr(item, ':');
    *tap = NULL;
    if (!equals || (colon && colon < equals))
        return item;
    *equals = 0;
    *tap = item;
    return equals + 1;
}

#define ANY_LAYERS 99999

/* Whether a name could be a tap's of some model. `codec` is for the error, which quotes the item. */
static int check_tap(const char *name, const char *codec, struct error *error)
{
    struct tap tap;
    return tap_parse_stored(name, ANY_LAYERS, &tap, error) < 0
               ? error_set(
                     error,
                     "\"%s=%s\": %s is not a tap: write TAP=CODEC (12=klt:3, final=klt:kl=0.01), or CODEC",
                     name, codec, name)
               : 0;
}

static int find_tap(const char *name, const struct tap *tap, int taps, int layers, struct error *error)
{
    struct tap wanted;
    if (tap_parse_stored(name, layers, &wanted, error) < 0)
        return -1;
    for (int i = 0; i < taps; i++)
        if (tap_compare(tap[i], wanted) == 0)
            return i;
    return error_set_kind(error, ERROR_USAGE, "tap %s is not one of the store's taps", name);
}

/* Sets `fallback`, or the tap's choice; a choice without a codec is not made yet. */
static int parse_item(char *item, const struct tap *tap, int taps, int layers, struct codec_choice *choices,
                      struct codec_choice *fallback, struct error *error)
{
    const char *name, *codec = split_item(item, &name);
    if (name && check_tap(name, codec, error) < 0)
        return -1;
    const int index = name ? find_tap(name, tap, taps, layers, error) : 0;
    if (index < 0)
        return -1;
    struct codec_choice *choice = name ? &choices[index] : fallback;
    if (choice->codec)
        return error_set_kind(error, ERROR_USAGE, "%s%s has two codecs", name ? "tap " : "the default",
                              name ? name : "");
    return codec_parse(codec, choice, error);
}

/* A bound on what the head loses says nothing about the target, since no head reads it. */
static int check_target(struct codec_choice *choice, struct error *error)
{
    return choice->goal == CODEC_KL ? codec_parse(DEFAULT_CODEC, choice, error) : 0;
}

int codecs_parse(const char *text, const struct tap *tap, int taps, int layers, struct codec_choice *choices,
                 struct error *error)
{
    struct codec_choice fallback = {0};
    char **items;
    int count, result = 0;
    if (parse_list(text, &items, &count, error) < 0) {
        error_narrow(error, ERROR_USAGE);
        return error_prefix(error, "--codec");
    }
    memset(choices, 0, (size_t)taps * sizeof *choices);
    for (int i = 0; i < count && result == 0; i++)
        result = parse_item(items[i], tap, taps, layers, choices, &fallback, error);
    cli_list_free(items, count);
    if (result == 0 && !fallback.codec)
        result = codec_parse(DEFAULT_CODEC, &fallback, error);
    for (int i = 0; i < taps && result == 0; i++)
        if (!choices[i].codec)
            choices[i] = i > 0 && tap[i].layer > layers ? choices[i - 1] : fallback; /* the target as final */
    if (result == 0 && tap[taps - 1].layer > layers)
        result = check_target(&choices[taps - 1], error);
    if (result < 0) {
        error_narrow(error, ERROR_USAGE);
        error_prefix(error, "--codec");
    }
    return result;
}

int codecs_check(const char *text, struct error *error)
{
    struct codec_choice choice;
    char **items;
    const char *tap;
    int count, result = 0;
    if (parse_list(text, &items, &count, error) < 0)
        return -1;
    for (int i = 0; i < count && result == 0; i++) {
        const char *codec = split_item(items[i], &tap);
        result = tap ? check_tap(tap, codec, error) : 0;
        if (result == 0)
            result = codec_parse(codec, &choice, error);
    }
    cli_list_free(items, count);
    return result;
}

#define LIBRARY " zstd-"

void codecs_numerics(const char *backend, const struct codec_choice *codec, int taps, char text[NUMERICS_SIZE])
{
    const char *other = strstr(backend, LIBRARY);
    const int kept = (int)(other ? other - backend : (ptrdiff_t)strlen(backend));
    bool packs = false;
    for (int tap = 0; tap < taps; tap++)
        packs = packs || codec[tap].codec->packs;
    snprintf(text, NUMERICS_SIZE, "%.*s%s%s", kept, backend, packs ? LIBRARY : "",
             packs ? ZSTD_versionString() : "");
}
