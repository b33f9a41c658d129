#include "generate/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/memory.h"

static int read_input(struct string *text, struct error *error)
{
    char piece[4096];
    ssize_t size = 1;
    if (isatty(STDIN_FILENO))
        fprintf(stderr, "generate: type the prompt, end it with Ctrl-D\n");
    while (size > 0) {
        if (!cli_await(STDIN_FILENO, AWAIT_READ))
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted while the prompt was read");
        size = read(STDIN_FILENO, piece, sizeof piece);
        if (size < 0 && (errno == EINTR || errno == EAGAIN))
            size = 1;
        else if (size < 0)
            return error_system(error, "standard input");
        else
            string_append(text, piece, (size_t)size);
    }
    return string_failed(text, error) ? -1 : 0;
}

int prompt_read(const struct generate_options *options, struct string *text, struct error *error)
{
    char *bytes;
    size_t size;
    if (options->prompt) {
        string_append(text, options->prompt, strlen(options->prompt));
        return string_failed(text, error) ? -1 : 0;
    }
    if (!options->prompt_file)
        return read_input(text, error);
    if (file_read(options->prompt_file, &bytes, &size, error) < 0)
        return error_prefix(error, "--prompt-file");
    string_append(text, bytes, size);
    free(bytes);
    return string_failed(text, error) ? -1 : 0;
}

int prompt_encode(const struct tokenizer *tokenizer, const struct string *text, struct token_list *ids,
                  struct error *error)
{
    const int flags = TOKENIZER_SPECIAL | TOKENIZER_BEGIN;
    if (tokenizer_encode(tokenizer, text->data ? text->data : "", text->length, flags, ids, error) < 0)
        return error_prefix(error, "the prompt");
    if (ids->count > 0)
        return 0;
    if (tokenizer_end(tokenizer) < 0)
        return error_set(error, "the prompt is empty, and the model has no end-of-text token to begin with");
    return token_list_append(ids, tokenizer_end(tokenizer), error);
}
