/* Options: one typed table for command-line flags, recipe keys, --set, --help and defaults.
 *
 *     static const option rows[] = {
 *       {.flag = "epochs", .key = "distill.epochs", .type = OPTION_INT, .at = offsetof(mpistill_train_options, epochs),
 *        .initial = "10", .min = 1, .max = 1e9, .help = "passes over the data"},
 *       {0}};
 *
 * Values are text converted with end and range checks; nan, inf, octal ("010"), "1x" are refused. All problems of one command line or
 * recipe are listed at once (one a line), each with the nearest valid name; a recipe's with line and column. */
#ifndef MPISTILL_BASE_OPTIONS_H
#define MPISTILL_BASE_OPTIONS_H

#include "base/status.h"

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
  OPTION_CHOICE,  /* char *, owned: one of `choices` */
  OPTION_STRINGS, /* mpistill_strings: a repeatable flag; a YAML sequence of scalars */
  OPTION_PATHS,   /* the same, of paths */
  OPTION_INTS,    /* mpistill_ints: "3,32,32" or "3x32x32"; a YAML sequence */
  OPTION_REALS,   /* mpistill_reals: "0.5,0.5"; a YAML sequence */
  OPTION_ITEMS    /* {size_t n; void *items}: a repeatable flag parsed by `parse_item`; a YAML sequence of mappings read by `fields` */
} option_type;

typedef struct option option;
struct option {
  const char *flag;            /* without "--"; NULL: recipe only */
  const char *key;             /* "distill.optimizer.learning_rate"; NULL: flag only */
  option_type type;
  size_t at;                   /* offsetof in the config struct */
  const char *initial;         /* default as text; NULL: zero, NULL, empty */
  double min, max;             /* numbers; both 0: no limits */
  const char *(*choice)(int i);/* CHOICE: names by position, NULL at the end (reads another table: no list is kept twice) */
  const char *value;           /* "FILE", "N": for --help */
  const char *help;
  bool required;
  const option *fields;        /* ITEMS: rows with key = the name in the mapping */
  size_t item_bytes;
  status (*parse_item)(const char *text, void *item); /* ITEMS on the command line: "NAME=FILE", "kd:0.9:temperature=4" */
};

/* Local. Defaults of all rows into config (zeroed by this call for the rows' fields). */
status options_defaults(const option *rows, void *config);
/* Local. argv[0..argc) without the command. "--name value" and "--name=value", "--" ends. What is not a flag goes to *positional, borrowed pointers
 * (mpistill_strings with items owned by mem_free); NULL: refused. Values replace defaults; repeatable flags append. */
struct mpistill_strings;
status options_parse(const option *rows, void *config, int argc, char *const *argv, void *positional);
/* Local. A recipe: YAML text of `name` for messages. Then the "key=value" settings in order. `folder` is put before relative paths. `folder_set`
 * the same for those of --set (the working directory: ""). */
status options_recipe(const option *rows, void *config, const char *name, const char *text, size_t n, const char *folder,
                      const char *const *set, size_t n_set);
/* Local. The rows of --help with defaults, aligned. */
void options_help(const option *rows, FILE *out);
/* Local. Frees what the rows own inside config. */
void options_free(const option *rows, void *config);
/* Local. The nearest of names (NULL at the end) to a misspelt word within a sensible distance, NULL if none. */
const char *nearest_name(const char *word, const char *(*name)(const void *table, int i), const void *table);

/* Local. Text to number with end and range checks, for importers as well. */
bool text_to_int(const char *text, int64_t *out);
bool text_to_real(const char *text, double *out); /* refuses nan, inf and hexadecimal */

#endif
