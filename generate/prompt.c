#include "generate/prompt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/cli.h"
#include "common/base/file.h"
#include "common/base/memory.h"
#include "common/text/unicode.h"

/* A read from a terminal gives what was typed up to the end of a line or up to Ctrl-D. Ctrl-D alone gives
 * nothing. */
static int read_input(struct string *text, struct error *error)
{
    char part[1 << 14]; /* more than a terminal gives in a line */
    const bool terminal = isatty(STDIN_FILENO);
    ssize_t size = 1;
    if (terminal)
        cli_say("type the prompt, end it with Ctrl-D");
    while (size > 0) {
        if (!cli_await(STDIN_FILENO, AWAIT_READ))
            return error_set_kind(error, ERROR_INTERRUPTED, "interrupted while the prompt was read");
        size = read(STDIN_FILENO, part, sizeof part);
        if (size < 0 && (errno == EINTR || errno == EAGAIN))
            size = 1;
        else if (size < 0)
            return error_system(error, "standard input");
        else
            string_append(text, part, (size_t)size);
        if (terminal && text->length > 0 && text->data[text->length - 1] != '\n')
            break;
    }
    return string_failed(text, error) ? -1 : 0;
}

static void leave_out_line_end(struct string *text)
{
    if (text->length == 0 || text->data[text->length - 1] != '\n')
        return;
    text->length -= text->length > 1 && text->data[text->length - 2] == '\r' ? 2 : 1;
    text->data[text->length] = 0;
}

/* The tokenizer makes tokens of anything, such as a picture, an archive or UTF-16. So what is not text is
 * refused here. */
static int check_text(const char *name, const struct string *text, struct error *error)
{
    const size_t valid = utf8_valid_size(text->data, text->length);
    if (string_failed(text, error))
        return -1;
    if (valid == text->length)
        return 0;
    return error_set(error, "%s: byte %zu (0x%02x) is not UTF-8: give the prompt as a text in UTF-8", name,
                     valid + 1, (unsigned char)text->data[valid]);
}

int prompt_read(const struct generate_options *options, struct string *text, struct error *error)
{
    char *bytes;
    size_t size;
    if (options->prompt) {
        string_append(text, options->prompt, strlen(options->prompt));
        return string_failed(text, error) ? -1 : 0;
    }
    if (!options->prompt_file) {
        if (read_input(text, error) < 0)
            return -1;
        leave_out_line_end(text);
        return check_text("standard input", text, error);
    }
    if (file_read(options->prompt_file, &bytes, &size, error) < 0)
        return error_prefix(error, "--prompt-file");
    string_append(text, bytes, size);
    free(bytes);
    leave_out_line_end(text);
    return check_text(options->prompt_file, text, error) < 0 ? error_prefix(error, "--prompt-file") : 0;
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
