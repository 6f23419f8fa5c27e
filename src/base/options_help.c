/* --help, from the same rows. */
#include "base/options_private.h"

#include <string.h>

enum { HELP_COLUMN = 30, HELP_WIDTH = 108 };

/* Help text broken at blanks; the first line starts at column `used`. */
static void write_wrapped(FILE *out, const char *text, int used) {
  if (used >= HELP_COLUMN) {
    fputc('\n', out);
    used = 0;
  }
  fprintf(out, "%*s", HELP_COLUMN - used, "");
  int column = HELP_COLUMN;
  while (*text) {
    int n = (int)strcspn(text, " ");
    if (column > HELP_COLUMN && column + 1 + n > HELP_WIDTH) {
      fprintf(out, "\n%*s", HELP_COLUMN, "");
      column = HELP_COLUMN;
    }
    if (column > HELP_COLUMN) {
      fputc(' ', out);
      column++;
    }
    fprintf(out, "%.*s", n, text);
    column += n;
    text += n;
    text += strspn(text, " ");
  }
  fputc('\n', out);
}

const char *option_placeholder(const option *row) {
  if (row->value) return row->value;
  switch (row->type) {
  case OPTION_INT:
  case OPTION_SEED:
    return "N";
  case OPTION_REAL:
    return "X";
  case OPTION_PATH:
  case OPTION_PATHS:
    return "FILE";
  case OPTION_CHOICE:
    return "KIND";
  default:
    return "TEXT";
  }
}

static void write_row(const option *row, const char *name, const char *value, FILE *out) {
  char help[1024];
  size_t used = (size_t)snprintf(help, sizeof help, "%s", row->help ? row->help : "");
  if (row->type == OPTION_CHOICE) {
    for (int i = 0; row->choice(i) && used < sizeof help; i++)
      used += (size_t)snprintf(help + used, sizeof help - used, "%s%s", i ? ", " : ": ", row->choice(i));
  }
  if (row->required && used < sizeof help)
    snprintf(help + used, sizeof help - used, " (needed)");
  else if (row->initial && row->type != OPTION_FLAG && used < sizeof help)
    snprintf(help + used, sizeof help - used, " [%s]", row->initial);
  int column = fprintf(out, "  %s%s%s", name, *value ? " " : "", value);
  write_wrapped(out, help, column + 2 > HELP_COLUMN ? HELP_COLUMN : column);
}

void options_help(const option *rows, FILE *out) {
  char name[OPTION_NAME_BYTES];
  for
    OPTIONS_EACH(row, rows) {
      if (row->type == OPTION_GROUP) options_help(row->fields, out);
      if (!row->flag) continue;
      snprintf(name, sizeof name, "--%s", row->flag);
      write_row(row, name, row->type == OPTION_FLAG ? "" : option_placeholder(row), out);
    }
}

static void write_keys(const option *rows, const char *before, FILE *out) {
  char name[OPTION_NAME_BYTES];
  for
    OPTIONS_EACH(row, rows) {
      snprintf(name, sizeof name, "%s%s", before, row->key ? row->key : "");
      if (row->key && row->type != OPTION_GROUP) write_row(row, name, "", out);
      if (!row->fields || (row->type == OPTION_ITEMS && !row->key)) continue;
      if (row->key) strncat(name, row->type == OPTION_ITEMS ? "[]." : ".", sizeof name - strlen(name) - 1);
      write_keys(row->fields, name, out);
    }
}

void options_help_keys(const option *rows, FILE *out) {
  write_keys(rows, "", out);
}
