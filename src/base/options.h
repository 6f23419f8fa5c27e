/* Options: one typed table for command-line flags, recipe keys, --set, --help and defaults.
 *
 *     static const option rows[] = {
 *       {.flag = "epochs", .key = "epochs", .type = OPTION_INT, .at = offsetof(mpistill_train_options,
 * epochs), .initial = "10", .min = 1, .max = 1e9, .help = "passes over the data"}, {0}};
 *
 *     options_defaults(rows, &o);
 *     options_parse(rows, &o, argc, argv, &positional, &seen);      // or options_recipe
 *     ... rules across options: options_given(&seen, &o.momentum)
 *     options_seen_free(&seen);
 *     options_free(rows, &o);
 *
 * Values are text converted with end and range checks; nan, inf, octal ("010"), "1x" are refused. All
 * problems of one command line or recipe are listed at once (one a line), each with the nearest valid name; a
 * recipe's with line and column. */
#ifndef MPISTILL_BASE_OPTIONS_H
#define MPISTILL_BASE_OPTIONS_H

#include "base/status.h"
#include "mpistill/mpistill.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

typedef enum option_type {
  OPTION_FLAG,    /* bool; on the command line without a value */
  OPTION_INT,     /* int64_t */
  OPTION_SEED,    /* uint64_t */
  OPTION_REAL,    /* double */
  OPTION_STRING,  /* char *, owned (mem_free) */
  OPTION_PATH,    /* char *, owned: in a recipe relative to the recipe's folder */
  OPTION_CHOICE,  /* char *, owned: one of `choice` */
  OPTION_STRINGS, /* mpistill_strings: a repeatable flag; a YAML sequence of scalars */
  OPTION_PATHS,   /* the same, of paths */
  OPTION_INTS,    /* mpistill_ints: "3,32,32" or "3x32x32"; a YAML sequence */
  OPTION_REALS,   /* mpistill_reals: "0.5,0.5"; a YAML sequence */
  OPTION_ITEMS,   /* {size_t n; void *items}: a repeatable flag parsed by `parse_item`; a YAML sequence of
                     mappings read by `fields` */
  OPTION_GROUP    /* the rows `fields` at offset `at`; their keys stand in the mapping `key`, or beside the
                     others without one */
} option_type;

typedef struct option option;
struct option {
  const char *flag; /* without "--"; NULL: recipe only */
  const char *key;  /* "optimizer.learning_rate"; NULL: flag only */
  option_type type;
  size_t at;           /* offsetof in the config struct */
  const char *initial; /* default as text; NULL: zero, NULL, empty */
  double min, max;     /* numbers; both 0: no limits */
  bool above_min;      /* min itself is out of range */
  const char *(*choice)(
      int i); /* CHOICE: names by position, NULL at the end (reads another table: no list is kept twice) */
  const char *value; /* "FILE", "N": for --help */
  const char *help;
  bool required;
  const option *fields; /* ITEMS: rows with key = the name in the mapping; GROUP: its rows */
  size_t item_bytes;
  status (*parse_item)(const char *text,
                       void *item); /* ITEMS on the command line: "NAME=FILE", "kd:0.9:temperature=4". The
                                       item has the defaults of `fields` */
};

/* Which fields were given, and where: what the rules across options need. Zero-initialise. */
typedef struct options_seen {
  size_t n;
  struct option_place {
    const void *field;
    char *where; /* "--momentum", "line 12, column 5: distill.optimizer.momentum" */
  } * items;
} options_seen;
/* Local. Where the field was given last (borrowed), NULL if it has its default. Fields of ITEMS only from a
 * recipe. */
const char *options_given(const options_seen *seen, const void *field);
void options_seen_free(options_seen *seen);

/* Local. Defaults of all rows into config, whose fields are overwritten without being freed. */
status options_defaults(const option *rows, void *config);
/* Local. argv[0..argc) without the command. "--name value" and "--name=value", "--" ends. What is not a flag
 * goes to *positional (items owned by mem_free); NULL: refused. Values replace defaults; repeatable flags
 * append, others with a value are refused when given twice. seen may be NULL. */
status options_parse(const option *rows, void *config, int argc, char *const *argv,
                     mpistill_strings *positional, options_seen *seen);
/* Local. A recipe: YAML text of `name` for messages. Then the "key=value" settings in order. `folder` is put
 * before relative paths of the recipe, not before those of the settings. seen may be NULL. */
status options_recipe(const option *rows, void *config, const char *name, const char *text, size_t n,
                      const char *folder, const mpistill_strings *set, options_seen *seen);
/* Local. One value by its key, as in a recipe: what parse_item functions need. Lists other than INTS and
 * REALS are not meant. */
status options_set(const option *rows, void *config, const char *key, const char *text);
/* Local. Ranges, choices and required values of a config that a program has filled in itself, all problems at
 * once. */
status options_check(const option *rows, const void *config);
/* Local. The first path in config, in its lists as well, that is the same file as `output`, but for the
 * string `output` itself; NULL if none. Borrowed. */
const char *options_same_file(const option *rows, const void *config, const char *output);
/* Local. The rows of --help with defaults, aligned. */
void options_help(const option *rows, FILE *out);
/* Local. The same for the keys of a recipe. */
void options_help_keys(const option *rows, FILE *out);
/* Local. Frees what the rows own inside config. */
void options_free(const option *rows, void *config);
/* Local. The nearest of names (NULL at the end) to a misspelt word within a sensible distance, NULL if none.
 */
const char *nearest_name(const char *word, const char *(*name)(const void *table, int i), const void *table);

/* Local. Frees the items as well. */
void strings_free(mpistill_strings *s);

/* Local. Text to number with end and range checks, for importers as well. */
bool text_to_int(const char *text, int64_t *out);
bool text_to_real(const char *text, double *out); /* refuses nan, inf and hexadecimal */

#endif
