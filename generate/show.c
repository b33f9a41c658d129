#include "generate/show.h"

#include <ctype.h>
#include <jansson.h>
#include <stdlib.h>

#include "common/base/json.h"
#include "common/base/string.h"
#include "common/text/unicode.h"

enum { BAR = 30 }; /* characters for the whole model */

static int layers_of(const struct run_record *record)
{
    return sequence_halves(record->sequence) / 2;
}

/* The tap's name, or "top" for the full model. */
static void exit_name(const struct run_record *record, int exit, char name[TAP_NAME_SIZE])
{
    if (exit < 0)
        snprintf(name, TAP_NAME_SIZE, "top");
    else
        tap_name(record->exits->exit[exit].tap, layers_of(record), name);
}

static double mean_depth(const struct run_record *record)
{
    double halves = 0;
    for (int i = 0; i < record->count; i++)
        halves += record->generated[i].half;
    return record->count ? halves / 2 / record->count : 0;
}

/* Layers run per row behind the prompt: the states that were caught up later count here. */
static double mean_work(const struct run_record *record)
{
    const int rows = sequence_rows(record->sequence) - record->prompt;
    double halves = 0;
    for (int half = 1; half <= sequence_halves(record->sequence); half++)
        halves += (double)(sequence_work(record->sequence, half) - record->prompt);
    return rows > 0 ? halves / 2 / rows : 0;
}

static double rate(int count, double seconds)
{
    return seconds > 0 ? count / seconds : 0;
}

/* The tokens that were computed from one new row each: all but the first, which the prompt's gave. */
static int decoded(const struct run_record *record)
{
    return record->count > 0 ? record->count - 1 : 0;
}

static int left_at(const struct run_record *record, int exit)
{
    int count = 0;
    for (int i = 0; i < record->count; i++)
        count += record->generated[i].exit == exit;
    return count;
}

/* ---- for people ---- */

static void print_quoted(const char *bytes, size_t size, FILE *file)
{
    fputc('"', file);
    for (size_t at = 0, length; at < size; at += length) {
        const unsigned char byte = (unsigned char)bytes[at];
        if (utf8_decode(bytes + at, size - at, &length) < 0) {
            for (size_t i = 0; i < length; i++)
                fprintf(file, "\\x%02x", (unsigned char)bytes[at + i]);
        } else if (byte == '"' || byte == '\\') {
            fprintf(file, "\\%c", byte);
        } else if (byte == '\n') {
            fputs("\\n", file);
        } else if (iscntrl(byte)) {
            fprintf(file, "\\x%02x", byte);
        } else {
            fwrite(bytes + at, 1, length, file);
        }
    }
    fputc('"', file);
}

void show_table(const struct run_record *record, FILE *file)
{
    const int halves = sequence_halves(record->sequence);
    fprintf(file, "%5s  %-8s %6s  %-*s  %5s  %s\n", "token", "left at", "layers", BAR, "", "sure", "text");
    for (int i = 0; i < record->count; i++) {
        const struct generated *generated = &record->generated[i];
        const int filled = (BAR * generated->half + halves - 1) / halves;
        char name[TAP_NAME_SIZE], bar[BAR + 1];
        const char *bytes;
        size_t size;
        exit_name(record, generated->exit, name);
        for (int b = 0; b < BAR; b++)
            bar[b] = b < filled ? '#' : '.';
        bar[BAR] = 0;
        fprintf(file, "%5d  %-8s %6.3g  %s  %5.2f  ", i + 1, name, generated->half / 2.0, bar,
                generated->probability);
        tokenizer_decode(record->tokenizer, generated->token, &bytes, &size);
        print_quoted(bytes, size, file);
        fputc('\n', file);
    }
}

static void print_frame(const struct run_record *record, FILE *file)
{
    const struct frame *frame = tokenizer_frame(record->tokenizer);
    char text[200];
    if (frame->before.count == 0)
        return;
    tokenizer_frame_text(record->tokenizer, &frame->before, text, sizeof text);
    fprintf(file, "           with %s before the text, by %s\n", text, frame->source);
}

void show_summary(const struct run_record *record, FILE *file)
{
    fprintf(file, "prompt     %d tokens in %.2f s: %.1f tokens/s\n", record->prompt, record->prompt_seconds,
            rate(record->prompt, record->prompt_seconds));
    print_frame(record, file);
    fprintf(file, "generated  %d tokens; %.1f tokens/s after the first\n", record->count,
            rate(decoded(record), record->seconds));
    fprintf(file, "depth      mean %.2f of %d layers where tokens left; %.2f run per token, with catching up\n",
            mean_depth(record), layers_of(record), mean_work(record));
    if (record->exits->count == 0)
        return;
    fprintf(file, "left at    ");
    for (int e = 0; e < record->exits->count; e++) {
        char name[TAP_NAME_SIZE];
        exit_name(record, e, name);
        fprintf(file, "%s: %d, ", name, left_at(record, e));
    }
    fprintf(file, "top: %d\n", left_at(record, -1));
}

/* ---- for programs ---- */

/* Bytes as JSON text; bytes that are not UTF-8 become U+FFFD. */
static json_t *text_to_json(const char *bytes, size_t size, struct error *error)
{
    char *copy;
    if (utf8_repair(&bytes, &size, &copy, error) < 0)
        return NULL;
    json_t *text = json_stringn(bytes, size);
    free(copy);
    if (!text)
        error_set_kind(error, ERROR_NO_MEMORY, "out of memory");
    return text;
}

static json_t *token_to_json(const struct run_record *record, const struct generated *generated,
                             struct error *error)
{
    char name[TAP_NAME_SIZE];
    const char *bytes;
    size_t size;
    exit_name(record, generated->exit, name);
    tokenizer_decode(record->tokenizer, generated->token, &bytes, &size);
    json_t *text = text_to_json(bytes, size, error);
    return text ? json_pack("{si so ss sf sf}", "id", generated->token, "text", text, "left_at", name, "layers",
                            generated->half / 2.0, "probability", generated->probability)
                : NULL;
}

static json_t *whole_text(const struct run_record *record, struct error *error)
{
    struct string text = {0};
    json_t *value = NULL;
    for (int i = 0; i < record->count - record->ended; i++) {
        const char *bytes;
        size_t size;
        tokenizer_decode(record->tokenizer, record->generated[i].token, &bytes, &size);
        string_append(&text, bytes, size);
    }
    if (!string_failed(&text, error))
        value = text_to_json(text.data ? text.data : "", text.length, error);
    string_free(&text);
    return value;
}

int show_json(const struct run_record *record, FILE *file, struct error *error)
{
    const struct frame *frame = tokenizer_frame(record->tokenizer);
    json_t *tokens = json_array();
    json_t *text = whole_text(record, error);
    if (!tokens || !text)
        goto failed;
    for (int i = 0; i < record->count; i++) {
        json_t *token = token_to_json(record, &record->generated[i], error);
        if (!token || json_array_append_new(tokens, token) < 0)
            goto failed;
    }
    json_t *before = json_array();
    for (int i = 0; i < frame->before.count; i++)
        json_array_append_new(before, json_integer(frame->before.id[i]));
    json_t *object = json_pack(
        "{so so si sf sf sf si sf sf so}", "text", text, "before_prompt", before, "prompt_tokens",
        record->prompt, "prompt_seconds", record->prompt_seconds, "seconds", record->seconds,
        "tokens_per_second", rate(decoded(record), record->seconds), "layers", layers_of(record), "mean_depth",
        mean_depth(record), "layers_run_per_token", mean_work(record), "tokens", tokens);
    return json_print("the result", object, file, error);
failed:
    json_decref(tokens);
    json_decref(text);
    return -1;
}
